import { createHash, createHmac } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { PeerLink, type PeerLinkHandlers } from '../../node/network/peer-link.ts'
import { RateLimiter } from '../../node/network/rate-limiter.ts'
import type { Remote } from '../../node/network/remote.ts'
import { WIRE } from '../../protocol/limits.ts'
import type { Primitives } from '../../protocol/primitives.ts'
import { CreditBudget } from '../../protocol/wire/credit.ts'
import { channelPair, type MemoryChannel } from './channel-pair.ts'

const MIB = 2 ** 20
const NONE = { uploadBytesPerSecond: null, downloadBytesPerSecond: null }
const primitives = {
  hmac: (key: Uint8Array, bytes: Uint8Array) => Uint8Array.from(createHmac('sha256', key).update(bytes).digest()),
} as Primitives // the hello needs nothing else
const rootMultihash = Uint8Array.of(0x12, 0x20, ...createHash('sha256').update('root').digest())
const rendezvous = Uint8Array.from(createHash('sha256').update('rendezvous').digest())
const never = new AbortController().signal
const remote = (peerIdBytes: Uint8Array, direction: Remote['direction']): Remote => ({
  peerId: `peer${peerIdBytes[0]}`,
  peerIdBytes,
  address: '/ip4/127.0.0.1/tcp/1',
  isRelayed: false,
  direction,
})

/** A node with links to several others in this process; both ends of a link run until the test is over. */
class Hub {
  readonly limiter: RateLimiter
  readonly links: { mine: PeerLink; theirs: PeerLink; end: MemoryChannel }[] = []
  /** Bytes of blocks that came in anywhere: who, which block, when. */
  readonly progress: { peer: number; index: number; bytes: number; at: number }[] = []
  readonly #budget: CreditBudget
  readonly #runs: Promise<unknown>[] = []

  constructor(caps: typeof NONE | { uploadBytesPerSecond: number | null; downloadBytesPerSecond: number | null }) {
    this.limiter = new RateLimiter(caps)
    this.#budget = new CreditBudget(WIRE.creditBytesTotal, this.limiter.credit)
  }

  async connect(): Promise<number> {
    const peer = this.links.length
    const [near, far] = channelPair()
    const [self, other] = [Uint8Array.from({ length: 38 }, () => 1), Uint8Array.from({ length: 38 }, () => peer + 2)]
    const base = { primitives, signal: never }
    const [mine, accepted] = await Promise.all([
      PeerLink.connect({
        ...base,
        ...{ frames: near, remote: remote(other, 'outbound'), self, budget: this.#budget, limiter: this.limiter },
        ...{ rootMultihash, rendezvous, knowsShape: true },
      }),
      PeerLink.accept({
        ...base,
        ...{ frames: far, remote: remote(self, 'inbound'), self: other, budget: new CreditBudget(WIRE.creditBytesTotal) },
        lookup: () => ({ rootMultihash, knowsShape: true }),
      }),
    ])
    const theirs = accepted!.link
    const handlers: PeerLinkHandlers = {
      onHave: () => {},
      onProgress: (_, __, index, bytes) => void this.progress.push({ peer, index, bytes, at: performance.now() }),
      onBlock: async () => {},
      onSuggest: () => {},
      onAbsent: () => {},
      onRequest: (link, level, index) => void link.serve(level, index, new Uint8Array(MIB), never),
      onCancel: () => {},
      onPeers: () => {},
    }
    for (const link of [mine, theirs]) {
      link.learnShape(1000, () => MIB)
      this.#runs.push(link.run(handlers, never))
    }
    this.links.push({ mine, theirs, end: near })
    return peer
  }

  bytesOf(peer: number): number {
    return this.progress.filter((row) => row.peer === peer).reduce((sum, { bytes }) => sum + bytes, 0)
  }

  async end(): Promise<void> {
    const goodbyes = this.links.map(({ mine }) => mine.goodbye(0))
    await vi.advanceTimersByTimeAsync(5_000)
    await Promise.all([...goodbyes, ...this.#runs])
  }
}

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

describe('an upload cap over several links', () => {
  it('sends blocks one after another, in the order in which they were asked for', async () => {
    const hub = new Hub({ ...NONE, uploadBytesPerSecond: MIB })
    for (let i = 0; i < 4; i++) await hub.connect()
    for (let i = 0; i < 4; i++) {
      hub.links[i]!.theirs.request(0, i)
      await vi.advanceTimersByTimeAsync(1)
    }
    await vi.advanceTimersByTimeAsync(4_500)
    const order = hub.progress.map(({ index }) => index).filter((index, at, all) => index !== all[at - 1])
    expect(order).toEqual([0, 1, 2, 3])
    expect(hub.progress.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(4 * MIB)
    await hub.end()
    expect(vi.getTimerCount()).toBe(0)
  })

  it('a peer that does not read keeps nobody waiting', async () => {
    const hub = new Hub({ ...NONE, uploadBytesPerSecond: MIB })
    await hub.connect()
    await hub.connect()
    hub.links[0]!.theirs.request(0, 0)
    await vi.advanceTimersByTimeAsync(300)
    hub.links[1]!.theirs.request(0, 1)
    hub.links[0]!.end.stall()
    await vi.advanceTimersByTimeAsync(1_500)
    expect(hub.bytesOf(0)).toBeLessThan(MIB / 2)
    expect(hub.bytesOf(1)).toBe(MIB)
    hub.links[0]!.end.abort(new Error('gone'))
    await hub.end()
    expect(vi.getTimerCount()).toBe(0)
  })

  it('a block that is cancelled, and a link that ends, make way at once', async () => {
    const hub = new Hub({ ...NONE, uploadBytesPerSecond: 64 * 1024 })
    for (let i = 0; i < 3; i++) await hub.connect()
    for (const [i, { theirs }] of hub.links.entries()) theirs.request(0, i)
    await vi.advanceTimersByTimeAsync(1_000)
    expect([hub.bytesOf(0) > 0, hub.bytesOf(1), hub.bytesOf(2)]).toEqual([true, 0, 0])
    hub.links[0]!.theirs.cancel(0, 0)
    await vi.advanceTimersByTimeAsync(1_000)
    expect([hub.bytesOf(1) > 0, hub.bytesOf(2)]).toEqual([true, 0])
    void hub.links[1]!.mine.goodbye(0)
    await vi.advanceTimersByTimeAsync(1_000)
    expect(hub.bytesOf(2)).toBeGreaterThan(0)
    await hub.end()
  })

  it('changes at once, and lets everything through when it is taken away', async () => {
    const hub = new Hub({ ...NONE, uploadBytesPerSecond: 64 * 1024 })
    await hub.connect()
    for (let i = 0; i < 8; i++) hub.links[0]!.theirs.request(0, i)
    await vi.advanceTimersByTimeAsync(2_000)
    expect(hub.bytesOf(0)).toBeLessThan(192 * 1024)
    hub.limiter.setCaps({ ...NONE, uploadBytesPerSecond: 2 * MIB })
    await vi.advanceTimersByTimeAsync(1_000)
    expect(hub.bytesOf(0)).toBeGreaterThan(1.5 * MIB)
    expect(hub.limiter.state().up).toMatchObject({ capBytesPerSecond: 2 * MIB })
    hub.limiter.setCaps(NONE)
    await vi.advanceTimersByTimeAsync(200)
    expect(hub.bytesOf(0)).toBe(8 * MIB)
    await hub.end()
  })
})

describe('a download cap over several links', () => {
  it('holds for all of them together, and all get something', async () => {
    const hub = new Hub({ ...NONE, downloadBytesPerSecond: MIB })
    for (let i = 0; i < 4; i++) await hub.connect()
    for (const { mine } of hub.links) for (let i = 0; i < 4; i++) mine.request(0, i)
    await vi.advanceTimersByTimeAsync(8_000)
    const { down } = hub.limiter.state()
    expect(down.bytes).toBeLessThanOrEqual(8 * MIB + MIB / 4)
    expect(down.bytes).toBeGreaterThan(8 * MIB * 0.95)
    expect(Math.abs(down.bytesPerSecond / MIB - 1)).toBeLessThan(0.05)
    for (let i = 0; i < 4; i++) expect(hub.bytesOf(i)).toBeGreaterThan(MIB)
    await hub.end()
    expect(vi.getTimerCount()).toBe(0)
  })

  it('sends no other way than it receives: the other direction is not held back', async () => {
    const hub = new Hub({ ...NONE, downloadBytesPerSecond: 64 * 1024 })
    await hub.connect()
    for (let i = 0; i < 4; i++) hub.links[0]!.theirs.request(0, i)
    await vi.advanceTimersByTimeAsync(200)
    expect(hub.bytesOf(0)).toBe(4 * MIB)
    await hub.end()
  })

  it('counts without a cap too, and sets no timer then', async () => {
    const hub = new Hub(NONE)
    await hub.connect()
    hub.links[0]!.mine.request(0, 0)
    hub.links[0]!.theirs.request(0, 1)
    const before = vi.getTimerCount()
    await vi.advanceTimersByTimeAsync(200)
    const { up, down } = hub.limiter.state()
    expect(up.bytes).toBeGreaterThan(MIB)
    expect(down.bytes).toBeGreaterThan(MIB)
    expect(up.bytes).toBeLessThan(MIB + 2048)
    expect(vi.getTimerCount()).toBe(before)
    await hub.end()
  })
})
