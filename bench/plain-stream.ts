/**
 * One plain TCP stream, as a process: what a line gives to any program, for the wan benchmark.
 *
 * Usage: plain-stream.ts serve ADDRESS BYTES (prints {"port"}), or fetch ADDRESS PORT BYTES (prints {"seconds"} from connected to the last
 * byte).
 */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

const CHUNK = new Uint8Array(64 * 1024).fill(1)
const [role, address = '', ...numbers] = process.argv.slice(2)

function* chunksOf(bytes: number): Generator<Uint8Array> {
  for (let left = bytes; left > 0; left -= CHUNK.byteLength) yield CHUNK.subarray(0, Math.min(left, CHUNK.byteLength))
}

async function serve(bytes: number): Promise<void> {
  const server = createServer((socket) => {
    // Whoever fetched may go.
    pipeline(Readable.from(chunksOf(bytes)), socket).catch(() => {})
  })
  server.listen(0, address)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo // a TCP server has an AddressInfo
  process.stdout.write(`${JSON.stringify({ port })}\n`)
}

async function fetchAll(port: number, bytes: number): Promise<void> {
  const socket = connect(port, address)
  await once(socket, 'connect')
  const since = performance.now()
  let received = 0
  for await (const chunk of socket) received += (chunk as Buffer).byteLength // no encoding: Buffers
  if (received !== bytes) throw new Error(`${received} bytes of ${bytes}`)
  process.stdout.write(`${JSON.stringify({ seconds: (performance.now() - since) / 1000 })}\n`)
}

if (role === 'serve') await serve(Number(numbers[0]))
else await fetchAll(Number(numbers[0]), Number(numbers[1]))
