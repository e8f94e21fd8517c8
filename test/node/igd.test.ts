/** Routers that answer UPnP, good and bad ones, on loopback. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { afterEach, describe, expect, it } from 'vitest'
import { describeGateway, externalHost, isRouterAt, mapPort, unmapPort } from '../../node/network/port-mapping/igd.ts'
import { mapByUpnp, Undos } from '../../node/network/port-mapping/port-mapper.ts'
import { MAPPING } from '../../protocol/limits.ts'

const SERVICE = 'urn:schemas-upnp-org:service:WANIPConnection:2'
const patience = (): AbortSignal => AbortSignal.timeout(10_000)
const servers: Server[] = []

afterEach(() => {
  for (const server of servers.splice(0)) server.close()
})

/** A server that answers each request with what `answer` makes of its body. */
async function startRouter(answer: (body: string, response: ServerResponse) => string): Promise<URL> {
  const server = createServer((request: IncomingMessage, response) => {
    let body = ''
    request.on('data', (chunk) => {
      body += chunk
    })
    request.on('end', () => void response.end(answer(body, response)))
  })
  servers.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  return new URL(`http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}/desc.xml`)
}

const description = (control: string, service = SERVICE): string =>
  `<root><device><serviceList><service><serviceType>urn:other:1</serviceType><controlURL>/x</controlURL></service>` +
  `<service><serviceType>${service}</serviceType><controlURL>${control}</controlURL></service></serviceList></device></root>`

const numberOf = (body: string, name: string): number => Number(new RegExp(`<${name}>(\\d+)<`).exec(body)?.[1])

describe('a router that passes ports on', () => {
  it('is found by its description, of either generation', async () => {
    for (const service of [SERVICE, 'urn:schemas-upnp-org:service:WANPPPConnection:1']) {
      const location = await startRouter(() => description('/control', service))
      expect(await describeGateway(location, patience())).toEqual({ control: new URL('/control', location), service })
    }
  })

  it('is none when it names another host, another scheme or no such service', async () => {
    for (const text of [
      description('http://10.0.0.9/control'),
      description('file:///etc/passwd'),
      description('/c', 'urn:x:1'),
      'nonsense',
    ])
      expect(await describeGateway(await startRouter(() => text), patience())).toBe(null)
  })

  it('is not read to the end of an endless answer, nor followed elsewhere', async () => {
    const long = await startRouter(() => 'x'.repeat(MAPPING.answerBytesMax + 1))
    await expect(describeGateway(long, patience())).rejects.toThrow('more than')
    const elsewhere = await startRouter((_, response) => {
      response.writeHead(302, { location: 'http://127.0.0.1:1/' })
      return ''
    })
    await expect(describeGateway(elsewhere, patience())).rejects.toThrow()
  })

  it('is asked for the next port when another computer has the first, and lets go of it again', async () => {
    const asked: string[] = []
    const control = await startRouter((body, response) => {
      const action = /<u:(\w+)/.exec(body)?.[1] ?? ''
      asked.push(`${action} ${numberOf(body, 'NewExternalPort')}`)
      if (action === 'GetExternalIPAddress') return '<NewExternalIPAddress>5.9.0.2</NewExternalIPAddress>'
      if (action !== 'AddPortMapping' || numberOf(body, 'NewExternalPort') !== 4801) return '<ok/>'
      response.statusCode = 500
      return '<errorDescription>ConflictInMappingEntry</errorDescription>'
    })
    const gateway = { control, service: SERVICE }
    expect(await mapPort(gateway, '192.168.1.2', 4801, patience())).toBe(4802)
    expect(await externalHost(gateway, patience())).toBe('5.9.0.2')
    await unmapPort(gateway, 4802, patience())
    expect(asked).toEqual(['AddPortMapping 4801', 'AddPortMapping 4802', 'GetExternalIPAddress NaN', 'DeletePortMapping 4802'])
  })

  it('that does not say where it is outside keeps nothing, and is asked for no other port', async () => {
    const asked: string[] = []
    const control = await startRouter((body, response) => {
      const action = /<u:(\w+)/.exec(body)?.[1] ?? ''
      asked.push(`${action} ${numberOf(body, 'NewExternalPort')}`)
      if (action === 'GetExternalIPAddress') response.statusCode = 500
      return ''
    })
    const undos = new Undos()
    await expect(mapByUpnp({ control, service: SERVICE }, '192.168.1.2', 4801, undos, patience())).rejects.toThrow('500')
    await undos.run()
    await undos.run()
    expect(asked).toEqual(['AddPortMapping 4801', 'GetExternalIPAddress NaN', 'DeletePortMapping 4801'])
  })

  it.each([
    ['http://192.168.7.1:5000/d.xml', '192.168.7.1', true],
    ['http://192.168.7.1/d.xml', '192.168.7.2', false],
    // Private, but not here; a neighbour of a server; this machine.
    ['http://10.0.0.1/d.xml', '10.0.0.1', false],
    ['http://203.0.114.8/d.xml', '203.0.114.8', false],
    ['http://127.0.0.1/d.xml', '127.0.0.1', false],
    ['http://router.local/d.xml', 'router.local', false],
  ])('is asked at %s when %s said so: %s', (location, sender, expected) => {
    expect(isRouterAt(new URL(location), sender, ['192.168.7.20/24', '203.0.114.7/24', '127.0.0.1/8'])).toBe(expected)
  })

  it('that refuses is asked so often and no more', async () => {
    let asked = 0
    const control = await startRouter((_, response) => {
      asked++
      response.statusCode = 500
      return ''
    })
    await expect(mapPort({ control, service: SERVICE }, '192.168.1.2', 4801, patience())).rejects.toThrow('500')
    expect(asked).toBe(MAPPING.portTriesMax)
  })
})
