/**
 * The part of a home router that answers UPnP and NAT-PMP, for the test bed: run inside of a router's namespace, it passes ports on with
 * iptables as it is asked. `router.ts HOME-ADDRESS OUTSIDE-DEVICE OUTSIDE-ADDRESS [--lies ADDRESS] [--only upnp|pmp]`; --lies: it says that this is its
 * address outside. Prints "ready", then a line for each port.
 */
import { execFile } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { createServer } from 'node:http'
import { promisify } from 'node:util'

const run = promisify(execFile)
const [home = '', device = '', outside = '', ...options] = process.argv.slice(2)
const option = (name: string): string | undefined => (options.includes(name) ? options[options.indexOf(name) + 1] : undefined)
const says = option('--lies') ?? outside
const only = option('--only')
const SERVICE = 'urn:schemas-upnp-org:service:WANIPConnection:1'

async function passOn(port: number, host: string, inside: number, isWanted: boolean): Promise<void> {
  const match = ['-i', device, '-p', 'tcp', '--dport', String(port), '-j', 'DNAT', '--to-destination', `${host}:${inside}`]
  await run('iptables', ['-t', 'nat', isWanted ? '-A' : '-D', 'PREROUTING', ...match])
  const forward = ['-i', device, '-p', 'tcp', '-d', host, '--dport', String(inside), '-j', 'ACCEPT']
  await run('iptables', [isWanted ? '-I' : '-D', 'FORWARD', ...forward])
  console.log(`${isWanted ? 'open' : 'closed'} ${port} ${host}`)
}

/** By port outside: whom it goes to. */
const passed = new Map<number, { host: string; inside: number }>()

async function set(port: number, host: string, inside: number): Promise<void> {
  const before = passed.get(port)
  if (before !== undefined && before.host !== host) throw new Error('ConflictInMappingEntry')
  if (before === undefined) await passOn(port, host, inside, true)
  passed.set(port, { host, inside })
}

async function drop(port: number): Promise<void> {
  const before = passed.get(port)
  passed.delete(port)
  if (before !== undefined) await passOn(port, before.host, before.inside, false)
}

function answerUpnp(): void {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => void chunks.push(chunk))
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString()
      const field = (name: string): string => new RegExp(`<${name}>([^<]*)</${name}>`).exec(body)?.[1] ?? ''
      const done = (text: string): void => void response.setHeader('content-type', 'text/xml').end(text)
      const failed = (error: unknown): void => {
        response.statusCode = 500
        done(`<errorDescription>${error instanceof Error ? error.message : ''}</errorDescription>`)
      }
      if (request.url === '/desc.xml') {
        const service = `<service><serviceType>${SERVICE}</serviceType><controlURL>/control</controlURL></service>`
        return done(`<root><device><serviceList>${service}</serviceList></device></root>`)
      }
      const port = Number(field('NewExternalPort'))
      if (body.includes('u:AddPortMapping')) {
        set(port, field('NewInternalClient'), Number(field('NewInternalPort'))).then(() => done('<ok/>'), failed)
      } else if (body.includes('u:DeletePortMapping')) drop(port).then(() => done('<ok/>'), failed)
      else done(`<NewExternalIPAddress>${says}</NewExternalIPAddress>`)
    })
  })
  server.listen(5000, home)
  const socket = createSocket({ type: 'udp4', reuseAddr: true })
  socket.on('message', (message, { address, port }) => {
    if (!message.toString().includes('InternetGatewayDevice:1')) return
    socket.send(`HTTP/1.1 200 OK\r\nLOCATION: http://${home}:5000/desc.xml\r\nST: upnp:rootdevice\r\n\r\n`, port, address)
  })
  socket.bind(1900, () => socket.addMembership('239.255.255.250', home))
}

function answerPmp(): void {
  const socket = createSocket('udp4')
  socket.on('message', (message, { address, port }) => {
    const answer = Buffer.alloc(message[1] === 0 ? 12 : 16)
    answer[1] = 128 + (message[1] ?? 0)
    if (message[1] === 0) {
      answer.set(says.split('.').map(Number), 8)
      socket.send(answer, port, address)
      return
    }
    const inside = message.readUInt16BE(4)
    const lifetime = message.readUInt32BE(8)
    answer.writeUInt16BE(inside, 8)
    answer.writeUInt16BE(inside, 10)
    answer.writeUInt32BE(lifetime, 12)
    const work = lifetime === 0 ? drop(inside) : set(inside, address, inside)
    work.then(() => socket.send(answer, port, address)).catch((error: unknown) => console.log('failed', error))
  })
  socket.bind(5351, home)
}

if (only !== 'pmp') answerUpnp()
if (only !== 'upnp') answerPmp()
console.log('ready')
