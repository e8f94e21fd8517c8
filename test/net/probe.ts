/**
 * The smallest program that shows what a network does with a connection: `listen PORT` says who came, one "address port" a line;
 * `dial ADDRESS PORT FROM` connects from the port FROM and says "open" or how it failed.
 */
import { connect, createServer } from 'node:net'

const DIAL_MS = 2_000
const [what, first = '', port = '', from = ''] = process.argv.slice(2)

if (what === 'listen') {
  const server = createServer((socket) => {
    console.log(`${socket.remoteAddress} ${socket.remotePort}`)
    socket.on('error', () => {}) // whoever dialled goes away at once
    socket.end()
  })
  server.listen(Number(first), '0.0.0.0', () => console.log('ready'))
} else {
  const socket = connect({ host: first, port: Number(port), ...(from === '' ? {} : { localPort: Number(from) }), timeout: DIAL_MS })
  const say = (outcome: string): void => {
    console.log(outcome)
    process.exit(0)
  }
  socket.on('connect', () => say('open'))
  socket.on('timeout', () => say('timeout'))
  socket.on('error', (error: NodeJS.ErrnoException) => say(error.code ?? 'error'))
}
