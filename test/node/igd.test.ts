/** Routers that answer UPnP, good and bad ones, on loopback. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { afterEach, describe, expect, it } from 'vitest'
import { describeGateway, mapPort, unmapPort } from '../../node/network/port-mapping/igd.ts'
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
    expect(await mapPort(gateway, '192.168.1.2', 4801, patience())).toEqual({ host: '5.9.0.2', port: 4802 })
    await unmapPort(gateway, 4802, patience())
    expect(asked).toEqual(['AddPortMapping 4801', 'AddPortMapping 4802', 'GetExternalIPAddress NaN', 'DeletePortMapping 4802'])
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
