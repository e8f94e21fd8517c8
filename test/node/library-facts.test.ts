/** Facts of the libraries that our code stands on. One that fails after an upgrade names the code to look at. */
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import type { Libp2p, Stream } from '@libp2p/interface'
import { type KadDHT, kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { MemoryDatastore } from 'datastore-core'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'
import { create as createDigest } from 'multiformats/hashes/digest'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { limitDhtDecoding } from '../../node/network/dht-decode.ts'
import { NETWORK } from '../../protocol/limits.ts'

const MIB = 2 ** 20
const patience = (): AbortSignal => AbortSignal.timeout(10_000)
const nodes: Libp2p[] = []
let dialer: Libp2p
let listener: Libp2p
const datastore = new MemoryDatastore()

const create = async (services: object = {}, options: object = {}): Promise<Libp2p> => {
  const node = (await createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux({ maxInboundStreams: 64 })],
    services: { identify: identify(), ping: ping(), ...services },
    ...options,
  })) as unknown as Libp2p
  nodes.push(node)
  return node
}

beforeAll(async () => {
  dialer = await create()
  listener = await create()
})

afterAll(async () => {
  await Promise.all(nodes.map((node) => node.stop()))
})

const open = async (protocol: string, serve: (stream: Stream) => void): Promise<Stream> => {
  await listener.handle(protocol, serve, { maxInboundStreams: 2 })
  return dialer.dialProtocol(listener.getMultiaddrs(), protocol)
}

describe('streams (frame-stream.ts)', () => {
  test('send takes everything at once and says by false that a drain must be awaited', async () => {
    const stream = await open('/fact/drain', (raw) => raw.pause())
    let count = 0
    while (stream.send(new Uint8Array(MIB))) expect(++count).toBeLessThan(100)
    expect(stream.writableNeedsDrain).toBe(true)
    stream.abort(new Error('done'))
  })

  test('over the inbound limit a stream opens and is reset afterwards', async () => {
    await open('/fact/limit', () => {})
    await dialer.dialProtocol(listener.getMultiaddrs(), '/fact/limit')
    const third = await dialer.dialProtocol(listener.getMultiaddrs(), '/fact/limit').catch(() => null)
    if (third !== null) await expect.poll(() => third.status).toBe('reset')
  })

  test('a handler that throws resets its stream and nothing else', async () => {
    const stream = await open('/fact/throws', () => {
      throw new Error('a fault')
    })
    await expect.poll(() => stream.status).toBe('reset')
    expect(dialer.getConnections()).toHaveLength(1)
  })
})

describe('kad-dht (dht-decode.ts, dht-guard.ts, dht.ts)', () => {
  const protocol = '/fact/kad/1.0.0'
  type Dht = KadDHT & { routingTable: { size: number } } // private, but what tells when a query can start
  const dhtOf = (node: Libp2p): Dht => (node.services as unknown as { dht: Dht }).dht // as given below

  test('decodes with the very codec that we limit: a reply over our limits ends a query of the library', async () => {
    const codec = await limitDhtDecoding()
    expect(await limitDhtDecoding()).toBe(codec)
    const client = await create({ dht: kadDHT({ protocol, peerInfoMapper: passthroughMapper, allowQueryWithZeroPeers: true }) })
    const server = await create({ dht: kadDHT({ protocol, peerInfoMapper: passthroughMapper, clientMode: false }) })
    await client.dial(server.getMultiaddrs())
    await expect.poll(() => dhtOf(client).routingTable.size).toBe(1)
    const decode = codec.decode
    let decoded = 0
    codec.decode = (bytes) => {
      decoded++
      return decode(bytes)
    }
    for await (const _ of dhtOf(client).getClosestPeers(new Uint8Array(32), { signal: patience() }));
    codec.decode = decode
    expect(decoded).toBeGreaterThan(0)
  })

  test('refuses by our codec what is over the limits, and leaves out what does not parse', async () => {
    const codec = await limitDhtDecoding()
    const id = Uint8Array.from([0, 0x24, 8, 1, 0x12, 0x20, ...new Uint8Array(32).fill(5)])
    const peer = (addresses: number) => ({
      id,
      multiaddrs: new Array<Uint8Array>(addresses).fill(Uint8Array.of(4, 5, 6, 7, 8, 6, 15, 161)),
    })
    const reply = (closer: ReturnType<typeof peer>[]) => codec.encode({ type: 'FIND_NODE', closer, providers: [] })
    expect(() => codec.decode(reply(new Array(NETWORK.dhtCloserMax + 1).fill(peer(1))))).toThrow()
    expect(() => codec.decode(reply([peer(NETWORK.dhtAddressesPerEntryMax + 1)]))).toThrow()
    expect(() => codec.decode(reply([{ id, multiaddrs: [new Uint8Array(NETWORK.dhtReplyBytesMax)] }]))).toThrow()
    const broken = { id: Uint8Array.of(9, 9), multiaddrs: [] }
    const kept = codec.decode(reply([broken, peer(20), { id, multiaddrs: [Uint8Array.of(255, 255), ...peer(1).multiaddrs] }]))
    expect(kept.closer.map(({ multiaddrs }) => multiaddrs.length)).toEqual([NETWORK.providerAddressesMax, 1])
    expect(codec.decode(reply(new Array(NETWORK.dhtCloserMax).fill(peer(1)))).closer).toHaveLength(NETWORK.dialsPerResponderMax)
  })

  test('hands our own option through to openStream, where a query is charged for its dials', async () => {
    const seen: unknown[] = []
    const client = await create({
      dht: (components: Parameters<ReturnType<typeof kadDHT>>[0]) => {
        const { connectionManager } = components
        const openStream: typeof connectionManager.openStream = (peer, name, options) => {
          seen.push((options as { dials?: unknown } | undefined)?.dials)
          return connectionManager.openStream(peer, name, options)
        }
        const manager = new Proxy(connectionManager, {
          get: (target, name) => (name === 'openStream' ? openStream : bound(target, Reflect.get(target, name))),
        })
        const own = new Proxy(components, { get: (target, name) => (name === 'connectionManager' ? manager : Reflect.get(target, name)) })
        return kadDHT({ protocol: '/fact/option/1.0.0', peerInfoMapper: passthroughMapper, allowQueryWithZeroPeers: true })(own)
      },
    })
    const server = await create({ dht: kadDHT({ protocol: '/fact/option/1.0.0', peerInfoMapper: passthroughMapper, clientMode: false }) })
    await client.dial(server.getMultiaddrs())
    await expect.poll(() => dhtOf(client).routingTable.size).toBe(1)
    const dials = { left: 9 }
    const cid = CID.createV1(0x55, createDigest(0x12, new Uint8Array(32).fill(3)))
    for await (const _ of dhtOf(client).findProviders(cid, { signal: patience(), ...{ dials } }));
    expect(seen).toContain(dials)
    const before = seen.length
    for await (const _ of dhtOf(client).provide(cid, { signal: patience(), ...{ dials } }));
    expect(seen.slice(before).filter((value) => value === dials).length).toBeGreaterThanOrEqual(2)
  })

  test('re-announces nothing by itself with threshold 0 and a validity without end, however old our record is', async () => {
    const node = await create(
      {
        dht: kadDHT({
          protocol: '/fact/old/1.0.0',
          clientMode: false,
          reprovide: { threshold: 0, validity: 1e15 },
          allowQueryWithZeroPeers: true,
        }),
      },
      { datastore },
    )
    const { reprovider } = dhtOf(node) as unknown as { reprovider: { shouldReprovide(isSelf: boolean, expires: number): boolean } } // private
    expect(reprovider.shouldReprovide(true, 0 + 1e15)).toBe(false)
    expect(reprovider.shouldReprovide(true, Date.now() + 1e15)).toBe(false)
    expect(reprovider.shouldReprovide(true, Date.now() - 1)).toBe(true)
  })
})

const bound = (target: object, value: unknown): unknown => (typeof value === 'function' ? value.bind(target) : value)

test('a connection of the transport has its socket in a public field', async () => {
  const { upgradeOutbound } = (dialer as unknown as { components: { upgrader: { upgradeOutbound(...all: unknown[]): Promise<unknown> } } })
    .components.upgrader
  expect(upgradeOutbound).toBeTypeOf('function')
  const transport = tcp()((dialer as unknown as { components: Parameters<ReturnType<typeof tcp>>[0] }).components)
  let given: unknown
  const upgrader = {
    upgradeOutbound: async (maConn: { socket: unknown; abort(error: Error): void }) => {
      given = maConn.socket
      maConn.abort(new Error('enough'))
    },
  }
  const address = listener.getMultiaddrs()[0]!
  await transport.dial(address, { upgrader, signal: patience() } as unknown as Parameters<typeof transport.dial>[1])
  expect(given).toHaveProperty('pause')
  expect(given).toHaveProperty('remotePort')
})
