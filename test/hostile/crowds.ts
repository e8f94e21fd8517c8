/**
 * Crowds of strangers, as attacker.ts runs them: peers whose ids were made to lie around one key of the DHT and who know only each other,
 * and peers that announce a share which they do not have. Each is a host of its own. On loopback alone.
 */
import { createHash, generateKeyPairSync } from 'node:crypto'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import type { Libp2p, PrivateKey } from '@libp2p/interface'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { lpStream } from '@libp2p/utils'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import type { DhtCodec, DhtPeer } from '../../node/network/dht-decode.ts'
import { commonBits } from '../../node/network/provide-plan.ts'
import { type Attack, NETWORK_NAME, type Report } from './kit.ts'

/** Leading bits that an id has in common with the key: nearer than all honest ones of a network of some dozens, nearly always. */
const NEAR_BITS = 10
const CLOSER_MAX = 20

const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest()
const multihashOf = (attack: Attack): Uint8Array => Uint8Array.from([0x12, 0x20, ...Buffer.from(attack.key ?? '', 'hex')])

/** A key whose peer id lies beside the key of the DHT. */
async function keyBeside(target: Uint8Array): Promise<PrivateKey> {
  for (;;) {
    const { d = '', x = '' } = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' })
    const id = Uint8Array.from([0x00, 0x24, 0x08, 0x01, 0x12, 0x20, ...Buffer.from(x, 'base64url')])
    if (commonBits(sha256(id), target) >= NEAR_BITS) return generateKeyPairFromSeed('Ed25519', Buffer.from(d, 'base64url'))
  }
}

function createHostNode(host: string, privateKey?: PrivateKey): Promise<Libp2p> {
  const localAddress = { localAddress: host } as object // an option of the socket that the transport hands through
  return createLibp2p({
    ...(privateKey && { privateKey }),
    addresses: { listen: [`/ip4/${host}/tcp/0`] },
    transports: [tcp({ dialOpts: localAddress })],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionMonitor: { enabled: false },
    connectionGater: { denyDialMultiaddr: () => false },
    services: { identify: identify(), ping: ping() },
  }) as unknown as Promise<Libp2p>
}

const peerOf = (node: Libp2p): DhtPeer => ({
  id: node.peerId.toMultihash().bytes,
  multiaddrs: node.getMultiaddrs().map((address) => address.decapsulateCode(421).bytes),
})

/** Takes records and forgets them, tells of nobody but its own crowd, and gets into every table that lets it in. */
export async function surround(attack: Attack, codec: DhtCodec, report: (message: Report) => void): Promise<void> {
  const target = sha256(multihashOf(attack))
  const protocol = `/shoal/net/${attack.network ?? NETWORK_NAME}/kad/1.0.0`
  const nodes: Libp2p[] = []
  let asked = 0
  for (let i = 0; i < attack.count; i++) {
    const node = await createHostNode(`127.${100 + (i >> 7)}.${i & 127}.1`, await keyBeside(target))
    await node.handle(
      protocol,
      async (stream) => {
        const messages = lpStream(stream)
        for (;;) {
          const request = codec.decode(await messages.read())
          asked++
          if (request.type === 'ADD_PROVIDER') continue
          const closer = [...nodes].sort(() => Math.random() - 0.5).slice(0, CLOSER_MAX)
          await messages.write(
            codec.encode({ type: request.type, key: request.key ?? new Uint8Array(), closer: closer.map(peerOf), providers: [] }),
          )
        }
      },
      { maxInboundStreams: 1000 },
    )
    nodes.push(node)
  }
  for (const node of nodes)
    for (const address of attack.targets ?? []) await node.dial(multiaddr(address), { signal: AbortSignal.timeout(5_000) }).catch(() => {})
  report({ type: 'ready', address: nodes[0]?.getMultiaddrs()[0]?.toString() ?? '' })
  process.once('SIGTERM', () => report({ type: 'done', sent: asked, refused: 0 }))
}

/** Announces the share at all targets, lets everybody in, and says nothing. */
export async function fakeSeeders(attack: Attack, codec: DhtCodec, report: (message: Report) => void): Promise<void> {
  const network = attack.network ?? NETWORK_NAME
  let visited = 0
  for (let i = 0; i < attack.count; i++) {
    const node = await createHostNode(`127.${120 + (i >> 7)}.${i & 127}.1`)
    await node.handle(`/shoal/net/${network}/swarm/1`, () => void visited++, { maxInboundStreams: 1000 })
    const record = { type: 'ADD_PROVIDER', key: multihashOf(attack), closer: [], providers: [peerOf(node)] }
    for (const address of attack.targets ?? []) {
      const stream = await node.dialProtocol(multiaddr(address), `/shoal/net/${network}/kad/1.0.0`)
      await lpStream(stream).write(codec.encode(record))
      await stream.close()
    }
  }
  report({ type: 'ready', address: '' })
}
