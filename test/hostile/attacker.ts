/**
 * A hostile peer: runs as a process of its own, speaks raw DHT messages and raw streams over real libp2p, and reports to the test.
 * Started by kit.ts alone, against nodes on loopback alone.
 */
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import type { Libp2p, Stream } from '@libp2p/interface'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { lpStream } from '@libp2p/utils'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { type DhtCodec, type DhtPeer, dhtMessageUrl } from '../../node/network/dht-decode.ts'
import { fakeSeeders, surround } from './crowds.ts'
import { type Attack, DHT_PROTOCOL, type Report, SWARM_PROTOCOL } from './kit.ts'

const attack = JSON.parse(process.argv[2] ?? '{}') as Attack // written by kit.ts
const { Message } = (await import(dhtMessageUrl())) as { Message: DhtCodec } // the library hides this type

const report = (message: Report): void => {
  process.send?.(message)
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

const createNode = (listen: string[]): Promise<Libp2p> =>
  createLibp2p({
    addresses: { listen },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionMonitor: { enabled: false },
    services: { identify: identify(), ping: ping() },
  }) as unknown as Promise<Libp2p>

const keyBytes = (): Uint8Array => Uint8Array.from([0x12, 0x20, ...Buffer.from(attack.key ?? '00'.repeat(32), 'hex')])

/** A peer id in the form of an Ed25519 one, and an address of somebody else. */
const fakePeer = (): DhtPeer => ({
  id: Uint8Array.from([0x00, 0x24, 0x08, 0x01, 0x12, 0x20, ...randomBytes(32)]),
  multiaddrs: [multiaddr(`/ip4/${attack.sink?.host ?? '127.9.9.9'}/tcp/${attack.sink?.port ?? 9}`).bytes],
})

/** Answers every DHT message with a list of fake closer peers. */
async function closerBomb(): Promise<void> {
  const node = await createNode(['/ip4/127.0.2.1/tcp/0'])
  const closer = Array.from({ length: attack.count }, fakePeer)
  let sent = 0
  await node.handle(
    DHT_PROTOCOL,
    async (stream) => {
      const messages = lpStream(stream)
      for (;;) {
        const request = Message.decode(await messages.read())
        await messages.write(Message.encode({ type: request.type, key: request.key ?? new Uint8Array(), closer, providers: [] }))
        report({ type: 'done', sent: ++sent, refused: 0 })
      }
    },
    { maxInboundStreams: 1000 },
  )
  report({ type: 'ready', address: node.getMultiaddrs()[0]!.toString() })
}

const offer = (node: Libp2p, key: Uint8Array, addresses: Uint8Array[]): Uint8Array =>
  Message.encode({ type: 'ADD_PROVIDER', key, closer: [], providers: [{ id: node.peerId.toMultihash().bytes, multiaddrs: addresses }] })

/** One provider record with thousands of addresses, then many with as many as fit. */
async function addressBomb(): Promise<void> {
  const node = await createNode([])
  const many = Array.from({ length: attack.count }, (_, i) => multiaddr(`/ip4/127.${i >> 16}.${(i >> 8) & 255}.${i & 255}/tcp/4001`).bytes)
  let refused = 0
  for (const addresses of [many, many.slice(0, 5_000), ...new Array<Uint8Array[]>(100).fill(many.slice(0, 64))]) {
    try {
      const stream = await node.dialProtocol(multiaddr(attack.target!), DHT_PROTOCOL)
      await lpStream(stream).write(offer(node, keyBytes(), addresses))
      await stream.close()
    } catch {
      refused++ // what a limit looks like from this side
    }
  }
  report({ type: 'done', sent: 102, refused })
}

/** Provider records for ever new keys, down one stream, then on new ones while the door is open. */
async function recordFlood(): Promise<void> {
  const node = await createNode([])
  const address = [multiaddr('/ip4/127.0.2.1/tcp/4001').bytes]
  let sent = 0
  let refused = 0
  let stream: Stream | undefined
  let messages: ReturnType<typeof lpStream> | undefined
  while (sent < attack.count && refused < 5) {
    try {
      if (stream?.status !== 'open') {
        stream = await node.dialProtocol(multiaddr(attack.target!), DHT_PROTOCOL)
        messages = lpStream(stream)
      }
      await messages!.write(offer(node, Uint8Array.from([0x12, 0x20, ...randomBytes(32)]), address))
      sent++
      if (sent % 100 === 0) await sleep(1)
    } catch {
      refused++ // the stream was reset
    }
    if (stream?.status !== 'open') refused++
  }
  report({ type: 'done', sent, refused })
}

/** Announces the key with a dead address and is gone. */
async function announceAndLeave(): Promise<void> {
  const node = await createNode([])
  const stream = await node.dialProtocol(multiaddr(attack.target!), DHT_PROTOCOL)
  await lpStream(stream).write(offer(node, keyBytes(), [multiaddr('/ip4/127.0.2.9/tcp/9999').bytes]))
  await stream.close()
  await sleep(200)
  await node.stop()
  report({ type: 'done', sent: 1, refused: 0 })
}

/** TCP connections from many hosts that never say a word. */
async function silentSockets(): Promise<void> {
  const components = multiaddr(attack.target!).getComponents()
  const host = components[0]!.value!
  const port = Number(components[1]!.value)
  let refused = 0
  for (let i = 0; i < attack.count; i++) {
    const socket = connect({ host, port, localAddress: `127.4.${(i / 8) & 255}.${1 + (i % 8)}` })
    socket.on('error', () => {})
    socket.on('close', () => refused++)
    if (i === 100) report({ type: 'ready', address: '' })
    await sleep(1000 / (attack.perSecond ?? 50))
  }
  report({ type: 'done', sent: attack.count, refused })
}

/** Many identities, each with as many streams as it gets, each stream filled and never read by the other side. */
async function unreadStreams(): Promise<void> {
  const streams: Stream[] = []
  const fill = async (stream: Stream): Promise<void> => {
    const chunk = new Uint8Array(64 * 1024)
    stream.send(Uint8Array.of(0, 1, 0, 0)) // the length of a frame that never becomes complete
    for (let bytes = 0; bytes < 8 * 1024 * 1024 && stream.status === 'open'; bytes += chunk.byteLength) {
      if (!stream.send(chunk)) await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  for (let i = 0; i < attack.count; i++) {
    const node = await createNode([])
    const connection = await node.dial(multiaddr(attack.target!))
    for (let j = 0; j < (attack.streams ?? 32); j++) {
      try {
        const stream = await connection.newStream(SWARM_PROTOCOL, { maxOutboundStreams: 1000 })
        streams.push(stream)
        fill(stream).catch(() => {}) // reset while writing: counted by its status below
      } catch {
        // not even opened
      }
    }
  }
  await sleep(1_000)
  report({ type: 'done', sent: streams.length, refused: streams.filter(({ status }) => status !== 'open').length })
}

const ATTACKS = {
  ...{ closerBomb, addressBomb, recordFlood, announceAndLeave, silentSockets, unreadStreams },
  surround: () => surround(attack, Message, report),
  fakeSeeders: () => fakeSeeders(attack, Message, report),
}
await ATTACKS[attack.kind]()
// Stays until it is ended from outside, so that its connections do.
setInterval(() => {}, 60_000)
