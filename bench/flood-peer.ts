/**
 * What `npm run bench:flood` does to a node, in a process of its own: sockets that say nothing, dials that stop half way, connections that
 * lie idle, and honest dials. Usage: flood-peer.ts KIND ADDRESS COUNT SECONDS; prints one JSON line when it is done (idle: when all are up).
 *
 * Each socket comes from a host of its own in 127/8, so that no rule by host holds any of them back: as from a large number of computers.
 */
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { forEachOf } from './meters.ts'

const KINDS = { silent, dials, idle, honest }

const [kind = '', address = '', count = '0', seconds = '0'] = process.argv.slice(2)
const [host, port] = multiaddr(address)
  .getComponents()
  .map(({ value }) => value ?? '')
const sources = { next: 0 }

/** Its own host: 60,000 of them. */
function socketFrom(second: number): Socket {
  const number = sources.next++ % 60_000
  const socket = connect({ host: host ?? '', port: Number(port), localAddress: `127.${second}.${number >> 8}.${number & 255}` })
  socket.on('error', () => {})
  return socket
}

/** `work` so many times, evenly over the time. */
async function evenly(work: () => void): Promise<void> {
  const sinceMs = performance.now()
  for (let done = 0; done < Number(count); ) {
    const due = Math.min(Number(count), Math.ceil((Number(count) * (performance.now() - sinceMs)) / (1000 * Number(seconds))))
    for (; done < due; done++) work()
    await delay(5)
  }
}

async function silent(): Promise<object> {
  let closed = 0
  await evenly(() => void socketFrom(64).on('close', () => closed++))
  return { sent: Number(count), closed }
}

/** The first words of a handshake: all that the other side needs to make a key pair, an agreement and a signature. */
const FIRST = Buffer.concat([
  ...['/multistream/1.0.0\n', '/noise\n'].map((line) => Buffer.concat([Buffer.from([line.length]), Buffer.from(line)])),
  Buffer.from([0, 32]),
  randomBytes(32),
])

/** Dials that get an answer to their first message, and never send a second. */
async function dials(): Promise<object> {
  let answered = 0
  let refused = 0
  await evenly(() => {
    const socket = socketFrom(80)
    let bytes = 0
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.byteLength
      if (bytes < 100) return // not the answer of the handshake yet
      answered++
      socket.destroy()
    })
    socket.on('close', () => {
      if (bytes < 100) refused++
    })
    socket.write(FIRST)
  })
  await delay(500)
  return { sent: Number(count), answered, refused }
}

const light = () =>
  createLibp2p({
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionMonitor: { enabled: false },
    services: { identify: identify() },
  })

/** Connections of as many peers, which then lie there. */
async function idle(): Promise<object> {
  let open = 0
  const numbers = Array.from({ length: Number(count) }, (_, i) => i)
  await forEachOf(numbers, 4, async () => {
    const node = await light()
    for (let tries = 0; tries < 5; tries++) {
      try {
        await node.dial(multiaddr(address), { signal: AbortSignal.timeout(10_000) })
        open++
        return
      } catch {
        await delay(500) // one host, all of them: so many a second
      }
    }
  })
  return { open }
}

/** Newcomers one after the other, each told by the node who it is: how many of them got in. */
async function honest(): Promise<object> {
  let succeeded = 0
  const tookMs: number[] = []
  const pauseMs = (1000 * Number(seconds)) / Number(count)
  for (let i = 0; i < Number(count); i++) {
    const beganMs = performance.now()
    const node = await light()
    const identified = new Promise<void>((resolve) => node.addEventListener('peer:identify', () => resolve(), { once: true }))
    try {
      await node.dial(multiaddr(address), { signal: AbortSignal.timeout(5_000) })
      await Promise.race([identified, delay(5_000).then(() => Promise.reject(new Error('nothing was said')))])
      succeeded++
      tookMs.push(performance.now() - beganMs)
    } catch {
      // counted by its absence
    }
    await node.stop()
    await delay(Math.max(0, pauseMs - (performance.now() - beganMs)))
  }
  return { dialled: Number(count), succeeded, tookMs }
}

process.stdout.write(`${JSON.stringify(await KINDS[kind as keyof typeof KINDS]())}\n`) // a usage error ends it with a TypeError
if (kind === 'idle') setInterval(() => {}, 60_000)
else process.exit(0)
