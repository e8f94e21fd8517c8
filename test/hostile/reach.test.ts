/** Strangers at the doors that reachability opened: dialling others back, relaying, and being relayed. */
import { createServer, type Server } from 'node:net'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import type { Libp2p, Stream } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { pbStream } from '@libp2p/utils'
import { multiaddr } from '@multiformats/multiaddr'
import { MemoryDatastore } from 'datastore-core'
import { Key } from 'interface-datastore'
import { createLibp2p } from 'libp2p'
import { afterEach, describe, expect, it } from 'vitest'
import { silentLog } from '../../node/log.ts'
import { DIAL_REQUEST } from '../../node/network/reach/dial-back.ts'
import { type CheckMessage, loadCodecs } from '../../node/network/reach/messages.ts'
import { createIdentity, createStack, type Stack, type StackOptions } from '../../node/network/stack.ts'
import { CHECKING } from '../../protocol/limits.ts'

const NETWORK = 'hostile-reach'
const SWARM = `/shoal/net/${NETWORK}/swarm/1`
const HOP = '/libp2p/circuit/relay/0.2.0/hop'
const STOP = '/libp2p/circuit/relay/0.2.0/stop'
const WAIT = { timeout: 20_000, interval: 50 }
const endings: (() => unknown)[] = []
const codecs = await loadCodecs()
const patience = (): AbortSignal => AbortSignal.timeout(15_000)

afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end()
})

async function startStack(options: Partial<StackOptions> = {}): Promise<Stack> {
  const stack = await createStack({
    ...{ identity: await createIdentity(), network: NETWORK, listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap: [], mdns: false },
    ...{ datastore: new MemoryDatastore(), log: silentLog, groupPrivate: true, isLoopbackFar: true, ...options },
  })
  endings.push(() => stack.stop())
  await stack.handleSwarm(async (frames) => void (await frames.read(patience())))
  return stack
}

/** A node with nothing of ours in it; `protocols` are what it says it speaks. */
async function startStranger(protocols: string[] = [], listen: string[] = []): Promise<Libp2p> {
  const node = await createLibp2p({
    ...{ addresses: { listen }, transports: [tcp()], connectionEncrypters: [noise()], streamMuxers: [yamux()] },
    ...{ connectionMonitor: { enabled: false }, services: { identify: identify() } },
  })
  for (const protocol of protocols) await node.handle(protocol, (stream) => void stream.close())
  endings.push(() => node.stop())
  return node as unknown as Libp2p // with fewer services
}

/** Counts who connects to it. */
async function startVictim(host: string): Promise<{ port: number; arrivals: () => number }> {
  let count = 0
  const server: Server = createServer((socket) => {
    count++
    socket.destroy()
  })
  await new Promise<void>((resolve) => server.listen(0, host, resolve))
  endings.push(() => new Promise((resolve) => server.close(resolve)))
  const address = server.address()
  return { port: typeof address === 'object' && address !== null ? address.port : 0, arrivals: () => count }
}

/** Asks a node to dial addresses; `data` is sent when it wants to be paid. */
async function ask(stranger: Libp2p, target: Stack, addresses: string[], dataBytes = 0): Promise<CheckMessage | null> {
  const stream = await stranger.dialProtocol(multiaddr(target.addresses()[0]!), DIAL_REQUEST, { signal: patience() })
  const messages = pbStream(stream).pb(codecs.check)
  try {
    await messages.write(
      { dialRequest: { addrs: addresses.map((address) => multiaddr(address).bytes), nonce: 7n } },
      { signal: patience() },
    )
    const answer = await messages.read({ signal: patience() })
    if (answer.dialDataRequest === undefined || dataBytes === 0) return answer
    for (let sent = 0; sent < dataBytes; sent += 4096) await messages.write({ dialDataResponse: { data: new Uint8Array(4096) } })
    return await messages.read({ signal: patience() })
  } catch {
    return null // the stream was reset
  } finally {
    stream.abort(new Error('done'))
  }
}

describe('dialling others back', () => {
  it('dials nobody else before the asker has paid with data, and then once, by the budget of all dials', async () => {
    const victim = await startVictim('127.0.7.7')
    const stack = await startStack()
    const stranger = await startStranger()
    const address = `/ip4/127.0.7.7/tcp/${victim.port}`
    const unpaid = await ask(stranger, stack, [address])
    expect(Number(unpaid?.dialDataRequest?.numBytes)).toBeGreaterThanOrEqual(CHECKING.dataBytesMin)
    expect(victim.arrivals()).toBe(0)
    const paid = await ask(stranger, stack, new Array<string>(16).fill(address), CHECKING.dataBytesMax)
    expect(paid?.dialResponse?.dialStatus).toBe('E_DIAL_ERROR')
    expect(victim.arrivals()).toBe(1)
  })

  it('dials no address that names another peer than the asker', async () => {
    const stack = await startStack()
    const stranger = await startStranger()
    const other = await startStranger([], ['/ip4/127.0.0.1/tcp/0'])
    expect((await ask(stranger, stack, [other.getMultiaddrs()[0]!.toString()]))?.dialResponse?.status).toBe('E_DIAL_REFUSED')
    expect(other.getConnections()).toEqual([])
  })

  it('remembers nobody for having dialled him back', async () => {
    const datastore = new MemoryDatastore()
    const stack = await startStack({ datastore })
    const stranger = await startStranger([], ['/ip4/127.0.0.1/tcp/0'])
    const answer = await ask(stranger, stack, [stranger.getMultiaddrs()[0]!.toString()])
    expect(answer?.dialResponse?.dialStatus).toBe('E_DIAL_BACK_ERROR') // dialled, and does not speak of it
    await stack.stop()
    const known = new TextDecoder().decode(await datastore.get(new Key('/shoal/known-peers')))
    expect(known).not.toContain(stranger.peerId.toString())
  })

  it('asks so often and no more', async () => {
    const stack = await startStack()
    const stranger = await startStranger()
    const statuses: (string | undefined)[] = []
    for (let i = 0; i <= CHECKING.perHostPerMinuteMax; i++)
      statuses.push((await ask(stranger, stack, ['/ip4/127.0.0.1/tcp/22']))?.dialResponse?.status)
    expect(statuses).toEqual([...new Array<string>(CHECKING.perHostPerMinuteMax).fill('E_DIAL_REFUSED'), 'E_REQUEST_REJECTED'])
  })

  it('dials no private address, and nobody for peers of the local network', async () => {
    const stack = await startStack({ isLoopbackFar: false })
    expect((await ask(await startStranger(), stack, ['/ip4/5.9.0.2/tcp/4801']))?.dialResponse?.status).toBe('E_REQUEST_REJECTED')
    const far = await startStack()
    const addresses = [
      '/ip4/192.168.1.1/tcp/4801',
      '/ip4/10.0.0.1/tcp/4801',
      '/dns4/localhost/tcp/4801',
      `/ip4/5.9.0.2/tcp/4801/p2p/${far.peerId}/p2p-circuit`,
    ]
    expect((await ask(await startStranger(), far, addresses))?.dialResponse?.status).toBe('E_DIAL_REFUSED')
  })
})

describe('being dialled back', () => {
  /** A checker that brings the number to an address of its choice. */
  async function startChecker(stack: Stack, choose: (asked: string) => string): Promise<string[]> {
    const brought: string[] = []
    let last: Promise<unknown> = Promise.resolve()
    const checker = await startStranger()
    await checker.handle(DIAL_REQUEST, async (stream) => {
      const messages = pbStream(stream).pb(codecs.check)
      const { dialRequest } = await messages.read({ signal: patience() })
      const address = multiaddr(choose(multiaddr(dialRequest!.addrs[0]!).toString()))
      // One after another: a second dial to one peer would be joined to the first.
      const dialled = last.then(() => checker.dial(address, { force: true, signal: patience() }))
      last = dialled
      const connection = await dialled
      const back = pbStream(await connection.newStream('/libp2p/autonat/2/dial-back', { signal: patience() }))
      await back.write({ nonce: dialRequest!.nonce }, codecs.dialBack, { signal: patience() })
      const taken = back.read(codecs.dialBackResponse, { signal: patience() }).then(
        () => 'taken',
        () => 'refused',
      )
      brought.push(await taken)
      await messages.write({ dialResponse: { status: 'OK', addrIdx: 0, dialStatus: 'OK' } }, { signal: patience() })
      await stream.close({ signal: patience() })
    })
    await checker.dial(multiaddr(stack.addresses()[0]!), { signal: patience() })
    return brought
  }

  it('proves nothing when it came to another address than the one asked about', async () => {
    for (const isHonest of [true, false]) {
      const stack = await startStack({ listen: ['/ip4/127.0.0.1/tcp/0', '/ip4/127.0.0.2/tcp/0'] })
      const all = stack.addresses()
      const brought = await startChecker(stack, (asked) => all.find((address) => address.startsWith(asked) === isHonest)!)
      await expect.poll(() => brought, WAIT).toEqual(isHonest ? ['taken', 'taken'] : ['refused', 'refused'])
      await expect.poll(() => stack.reach().addresses.filter(({ verdict }) => verdict === 'open').length, WAIT).toBe(isHonest ? 2 : 0)
    }
  })
})

describe('relaying', () => {
  /** A relay that is on: somebody has dialled it back. */
  async function startRelay(): Promise<Stack> {
    const relay = await startStack()
    const helper = await startStack({ bootstrap: relay.addresses() })
    await helper.connectBootstrap(patience())
    await expect.poll(() => relay.reach().relaying, WAIT).not.toBe(null)
    return relay
  }

  async function hop(stranger: Libp2p, relay: Stack, message: Parameters<typeof codecs.hop.encode>[0]): Promise<string | undefined> {
    const stream = await stranger.dialProtocol(multiaddr(relay.addresses()[0]!), HOP, { signal: patience() })
    const messages = pbStream(stream).pb(codecs.hop)
    await messages.write(message, { signal: patience() })
    return await messages.read({ signal: patience() }).then(
      ({ status }) => status,
      () => 'reset',
    )
  }

  it('is for peers that speak the protocols of this network, and for nobody else', async () => {
    const relay = await startRelay()
    const [insider, outsider] = [await startStranger([SWARM]), await startStranger(['/other/1'])]
    expect(await hop(insider, relay, { type: 'RESERVE' })).toBe('OK')
    expect(await hop(outsider, relay, { type: 'RESERVE' })).toBe('PERMISSION_DENIED')
    const peer = { id: insider.peerId.toMultihash().bytes, addrs: [] }
    expect(await hop(outsider, relay, { type: 'CONNECT', peer })).toBe('PERMISSION_DENIED')
    expect(await hop(insider, relay, { type: 'CONNECT', peer: { id: relay.peerIdBytes, addrs: [] } })).toBe('NO_RESERVATION')
    expect(await hop(insider, relay, { type: 'CONNECT', peer: { id: new Uint8Array(3), addrs: [] } })).toBe('MALFORMED_MESSAGE')
  })

  it('a message that claims to be long is not waited for', async () => {
    const relay = await startRelay()
    const stream: Stream = await (await startStranger([SWARM])).dialProtocol(multiaddr(relay.addresses()[0]!), HOP, { signal: patience() })
    const closed = new Promise((resolve) => stream.addEventListener('close', resolve, { once: true }))
    stream.send(Uint8Array.of(0xff, 0xff, 0xff, 0x7f, 1, 2, 3))
    await closed
    expect(relay.reach().relaying).toMatchObject({ circuits: 0 })
  })
})

describe('being relayed', () => {
  it('a stranger that claims to pass somebody on is refused, and no place is taken there', async () => {
    const stack = await startStack({ listen: [] })
    const stranger = await startStranger([], ['/ip4/127.0.0.1/tcp/0'])
    let asked = 0
    await stranger.handle(HOP, (stream) => {
      asked++
      stream.abort(new Error('no place'))
    })
    await stack
      .openSwarm({ peerId: stranger.peerId.toString(), addresses: [stranger.getMultiaddrs()[0]!.toString()] }, patience())
      .catch(() => {}) // it does not speak of shares, and the connection stays
    const stream = await stranger.getConnections()[0]!.newStream(STOP, { signal: patience() })
    const messages = pbStream(stream).pb(codecs.hop)
    // CONNECT of the one protocol has the number that RESERVE has in the other.
    const answer = messages
      .write({ type: 'RESERVE', peer: { id: stack.peerIdBytes, addrs: [] } })
      .then(() => messages.read({ signal: patience() }))
    await expect(answer).rejects.not.toThrow(/timed out/i)
    expect(asked).toBe(0)
    expect(stack.addresses()).toEqual([])
  })
})
