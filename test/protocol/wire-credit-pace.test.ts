import { describe, expect, it } from 'vitest'
import { FORMAT, RATE, WIRE } from '../../protocol/limits.ts'
import { CreditBudget } from '../../protocol/wire/credit.ts'
import { RateQueue } from '../../protocol/wire/rate-queue.ts'
import { Session, type SessionEvent } from '../../protocol/wire/session.ts'

const BLOCK = FORMAT.blockBytes
const MIB = 2 ** 20
const STEP_MS = 5

/** A session of ours and the peer behind it, which sends what it has credit for, `delayMs` after the credit was granted. */
class Peer {
  receivedBytes = 0
  readonly session: Session
  readonly #world: World
  readonly #delayMs: number
  /** Credit on its way to the peer. */
  readonly #grants: { at: number; bytes: number }[] = []
  #credit = 0
  #asked = 0
  #index = 0
  #offset = 0

  constructor(world: World, delayMs: number) {
    this.#world = world
    this.#delayMs = delayMs
    const waiter = { wake: () => this.feed({ type: 'turn' }) }
    this.session = new Session({ now: 0, budget: world.budget, saidShape: true, peerKnowsShape: true, waiter })
    this.session.learnShape({ blockCount: 1000, expectedBytes: () => BLOCK })
    for (let i = 0; i < 4; i++) this.request()
  }

  request(): void {
    this.feed({ type: 'request', level: 0, index: this.#asked++ % 1000 })
  }

  feed(event: SessionEvent): void {
    for (const action of this.session.handle(event, this.#world.now)) {
      if (action.type === 'send' && action.message.type === 'credit')
        this.#grants.push({ at: this.#world.now + this.#delayMs, bytes: action.message.bytes })
      if (action.type !== 'chunk' || !action.isLast) continue
      this.request()
      this.feed({ type: 'released', bytes: action.total })
    }
    this.session.checkInvariants()
    this.#world.pace.checkInvariants()
  }

  send(): void {
    while (this.#grants[0] !== undefined && this.#grants[0].at <= this.#world.now) this.#credit += this.#grants.shift()!.bytes
    while (this.#credit > 0) {
      const bytes = new Uint8Array(Math.min(this.#credit, WIRE.dataBytesSent, BLOCK - this.#offset))
      const message = { type: 'data', level: 0, index: this.#index % 1000, total: BLOCK, offset: this.#offset, bytes } as const
      this.#credit -= bytes.byteLength
      this.receivedBytes += bytes.byteLength
      this.#offset = (this.#offset + bytes.byteLength) % BLOCK
      if (this.#offset === 0) this.#index++
      this.feed({ type: 'received', message })
    }
  }
}

class World {
  now = 0
  readonly pace: RateQueue
  readonly budget: CreditBudget
  readonly peers: Peer[]

  constructor(cap: number | null, delaysMs: number[]) {
    this.pace = new RateQueue(cap, 0)
    this.budget = new CreditBudget(WIRE.creditBytesTotal, this.pace)
    this.peers = delaysMs.map((delayMs) => new Peer(this, delayMs))
  }

  get receivedBytes(): number {
    return this.peers.reduce((sum, peer) => sum + peer.receivedBytes, 0)
  }

  get exposureBytes(): number {
    return this.peers.reduce((sum, { session }) => sum + session.exposureBytes, 0)
  }

  run(untilMs: number, each: () => void = () => {}): void {
    for (; this.now < untilMs; this.now += STEP_MS) {
      for (let first = this.pace.ready(this.now); first !== null; first = this.pace.ready(this.now)) first.wake()
      for (const peer of this.peers) peer.send()
      each()
    }
  }
}

const cases: [string, number, number[]][] = [
  ['one near peer', 4 * MIB, [0]],
  ['one peer far away', 4 * MIB, [300]],
  ['near and far peers', 4 * MIB, [0, 50, 150, 300]],
  ['thirty peers', MIB, Array.from({ length: 30 }, (_, i) => i * 5)],
  ['a small cap and eight peers', 64 * 1024, Array.from({ length: 8 }, () => 20)],
]

describe('credit under a download cap', () => {
  it.each(cases)('%s: never more than the cap and a burst, and within 5 % of it over 30 s', (_, cap, delaysMs) => {
    const world = new World(cap, delaysMs)
    world.run(30_000, () => {
      expect(world.receivedBytes).toBeLessThanOrEqual((cap * world.now) / 1000 + world.pace.burstBytes)
    })
    const share = world.receivedBytes / (cap * 30)
    expect(share).toBeGreaterThan(0.95)
    expect(share).toBeLessThan(1.05)
  })

  it.each(cases)('%s: all peers together hold about a second of credit at most', (_, cap, delaysMs) => {
    const world = new World(cap, delaysMs)
    const most = Math.max((cap * RATE.creditMs) / 1000, delaysMs.length * world.pace.stepBytes)
    world.run(10_000, () => expect(world.exposureBytes).toBeLessThanOrEqual(most))
  })

  it('every one of many peers gets its turn', () => {
    const world = new World(
      MIB,
      Array.from({ length: 30 }, () => 10),
    )
    world.run(30_000)
    for (const peer of world.peers) expect(peer.receivedBytes).toBeGreaterThan(MIB / 2)
  })

  it('peers that hold credit and send nothing do not slow the others down', () => {
    const world = new World(4 * MIB, [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 100])
    world.run(30_000)
    expect(world.receivedBytes / (4 * MIB * 30)).toBeGreaterThan(0.94) // their credit was paid for once
  })

  it('a peer that leaves the line, or the session, makes way', () => {
    const world = new World(RATE.bytesPerSecondMin, [0, 0])
    expect(world.pace.waiting).toBe(2)
    for (let i = 0; i < 4; i++) world.peers[0]!.feed({ type: 'received', message: { type: 'absent', level: 0, index: i } })
    expect(world.pace.waiting).toBe(1)
    world.peers[1]!.session.close()
    expect(world.pace.waiting).toBe(0)
  })

  it('a cap that is lifted gives everybody the credit that was held back', () => {
    const world = new World(RATE.bytesPerSecondMin, [0, 0])
    world.pace.setCap(null, 0)
    for (const waiter of world.pace.clear()) waiter.wake()
    for (const { session } of world.peers) expect(session.exposureBytes).toBe(WIRE.creditBytesStart)
  })
})
