/**
 * A swarm in a box: the production machine, a virtual clock, and peers that are slow, lie, stall or leave. One seed, one history.
 *
 * Peers serve their queue one item at a time, at their own rate, after their own latency. After every event the machine's invariants hold
 * and its view of what is under way equals that of the wire.
 */
import { createHash } from 'node:crypto'
import { SWARM, WAITS } from '../../protocol/limits.ts'
import { Swarm, type SwarmAction, type SwarmEvent, type SwarmLimits } from '../../protocol/swarm/swarm.ts'
import { randomFrom } from './clock.ts'

/** 1 MiB, as in life. */
export const ITEM_BYTES = 1024 * 1024

export const SWARM_LIMITS: SwarmLimits = { ...SWARM, blockMs: WAITS.blockMs, itemBytes: ITEM_BYTES }

export interface PeerPlan {
  key: string
  joinMs: number
  leaveMs?: number
  latencyMs: number
  bytesPerMs: number
  /** Probability that an item it has is there; 1 = it has all and says so. */
  share: number
  /** What it has not, it gets one by one, so long after each other, and says so. */
  gainMs?: number
  /** Probability that a block is corrupt, never comes, or is not there after all. */
  lies?: number
  stalls?: number
  absents?: number
}

export interface Outcome {
  finishedMs: number
  requests: number
  dropped: string[]
  served: Map<string, number>
  trace: string
  copiesMax: number
}

interface Live {
  plan: PeerPlan
  queue: number[]
  isBusy: boolean
  isMute: boolean
}

interface Due {
  atMs: number
  order: number
  run: () => void
}

type Watch = (event: SwarmEvent, now: number, actions: readonly SwarmAction[]) => void

/** Runs until every item is had; throws when nothing moves any more, or an invariant breaks. */
export class World {
  readonly swarm: Swarm
  readonly #itemCount: number
  readonly #random: () => number
  readonly #live = new Map<string, Live>()
  readonly #due: Due[] = []
  readonly #trace = createHash('sha256')
  readonly #outcome: Outcome = { finishedMs: -1, requests: 0, dropped: [], served: new Map(), trace: '', copiesMax: 0 }
  readonly #watch: Watch
  #now = 0
  #order = 0

  /** `watch` is told of everything that is fed to the machine, and what it answered. */
  constructor(seed: number, itemCount: number, plans: PeerPlan[], watch: Watch = () => {}) {
    this.#itemCount = itemCount
    this.#watch = watch
    this.#random = randomFrom(seed)
    this.swarm = new Swarm(itemCount, SWARM_LIMITS, randomFrom(seed ^ 0x5eed))
    for (const plan of plans) {
      this.#at(plan.joinMs, () => this.#join(plan))
      if (plan.leaveMs !== undefined) this.#at(plan.leaveMs, () => this.#leave(plan.key))
    }
  }

  run(): Outcome {
    const indexCount = Math.min(3, this.#itemCount)
    this.#feed({ type: 'want', first: 0, count: this.#itemCount, priority: 2 })
    this.#feed({ type: 'want', first: this.#itemCount - indexCount, count: indexCount, priority: 0 })
    for (let steps = 0; this.#outcome.finishedMs < 0; steps++) {
      if (steps > 200_000) throw new Error(`no progress, ${this.swarm.wantedMissing} missing`)
      this.#step()
    }
    this.#outcome.trace = this.#trace.digest('hex')
    return this.#outcome
  }

  #step(): void {
    const timeoutMs = this.swarm.nextTimeout()
    const next = this.#due[0]
    if (timeoutMs !== undefined && (next === undefined || timeoutMs <= next.atMs)) {
      this.#now = Math.max(this.#now, timeoutMs)
      this.#feed({ type: 'tick' })
      return
    }
    if (next === undefined) throw new Error(`stuck, ${this.swarm.wantedMissing} missing`)
    this.#due.shift()
    this.#now = next.atMs
    next.run()
  }

  #at(atMs: number, run: () => void): void {
    const order = this.#order++
    let place = this.#due.length
    while (place > 0 && this.#due[place - 1]!.atMs > atMs) place--
    this.#due.splice(place, 0, { atMs, order, run })
  }

  #join(plan: PeerPlan): void {
    const live: Live = { plan, queue: [], isBusy: false, isMute: false }
    const lacking: number[] = []
    this.#live.set(plan.key, live)
    this.#feed({ type: 'peerJoined', peer: plan.key })
    if (plan.share >= 1) {
      this.#feed({ type: 'peerHas', peer: plan.key, first: 0, count: this.#itemCount })
      return
    }
    for (let first = 0; first < this.#itemCount; first += 4) {
      const count = Math.min(4, this.#itemCount - first)
      if (this.#random() < plan.share) this.#feed({ type: 'peerHas', peer: plan.key, first, count })
      else if (plan.gainMs !== undefined) for (let item = first; item < first + count; item++) lacking.push(item)
    }
    for (let atMs = this.#now; lacking.length > 0; ) {
      const [item = 0] = lacking.splice(Math.floor(this.#random() * lacking.length), 1)
      atMs += plan.gainMs ?? 0
      this.#at(atMs, () => this.#gains(live, item))
    }
  }

  #gains(live: Live, item: number): void {
    const { key } = live.plan
    if (this.#live.get(key) === live) this.#feed({ type: 'peerHas', peer: key, first: item, count: 1 })
  }

  #leave(key: string): void {
    if (this.#live.delete(key)) this.#feed({ type: 'peerLeft', peer: key })
  }

  #feed(event: SwarmEvent): void {
    const actions = this.swarm.handle(event, this.#now)
    this.#watch(event, this.#now, actions)
    for (const action of actions) this.#perform(action)
    if (event.type === 'progress') return
    this.swarm.checkInvariants()
    const wire = [...this.#live].flatMap(([key, { queue }]) => queue.map((item) => `${key}/${item}`)).sort()
    const machine = this.swarm.inFlight()
    if (wire.join() !== machine.join()) throw new Error(`the wire has ${wire.join()}, the machine ${machine.join()}`)
    const copies = new Map<string, number>()
    for (const request of machine) {
      const item = request.slice(request.indexOf('/') + 1)
      copies.set(item, (copies.get(item) ?? 0) + 1)
      this.#outcome.copiesMax = Math.max(this.#outcome.copiesMax, copies.get(item)!)
    }
  }

  #perform(action: SwarmAction): void {
    this.#trace.update(`${this.#now} ${JSON.stringify(action)}\n`)
    if (action.type === 'done') {
      this.#outcome.finishedMs = this.#now
      return
    }
    const live = this.#live.get(action.peer)
    if (live === undefined) throw new Error(`${action.type} for ${action.peer}, which is not there`)
    if (action.type === 'dropPeer') {
      this.#outcome.dropped.push(action.peer)
      this.#live.delete(action.peer)
      return
    }
    if (action.type === 'cancel') {
      live.queue = live.queue.filter((item) => item !== action.item)
      return
    }
    if (this.swarm.has(action.item) || live.queue.includes(action.item)) throw new Error(`needless request for ${action.item}`)
    this.#outcome.requests++
    live.queue.push(action.item)
    this.#serve(live)
  }

  /** Starts on the head of a peer's queue, when the peer is not at work yet. */
  #serve(live: Live): void {
    const item = live.queue[0]
    if (item === undefined || live.isBusy || live.isMute) return
    const { plan } = live
    if (this.#random() < (plan.stalls ?? 0)) {
      live.isMute = true
      return
    }
    live.isBusy = true
    const isAbsent = this.#random() < (plan.absents ?? 0)
    const spanMs = plan.latencyMs + (isAbsent ? 0 : ITEM_BYTES / plan.bytesPerMs)
    const quarters = isAbsent ? [] : [1, 2, 3, 4]
    for (const quarter of quarters) {
      this.#at(this.#now + plan.latencyMs + ((spanMs - plan.latencyMs) * quarter) / 4, () => {
        if (this.#isAt(live, item)) this.#feed({ type: 'progress', peer: plan.key, item, bytes: ITEM_BYTES / 4 })
      })
    }
    this.#at(this.#now + spanMs, () => {
      live.isBusy = false
      if (this.#isAt(live, item)) this.#deliver(live, item, isAbsent)
      this.#serve(live)
    })
  }

  #isAt(live: Live, item: number): boolean {
    return this.#live.get(live.plan.key) === live && live.queue[0] === item
  }

  #deliver(live: Live, item: number, isAbsent: boolean): void {
    const peer = live.plan.key
    live.queue.shift()
    if (isAbsent) {
      this.#feed({ type: 'rejected', peer, item, reason: 'absent' })
      return
    }
    this.#outcome.served.set(peer, (this.#outcome.served.get(peer) ?? 0) + 1)
    const isLie = this.#random() < (live.plan.lies ?? 0)
    const isDiskTired = this.#random() < 0.01
    this.#feed({ type: 'received', peer, item })
    this.#at(this.#now + 5 + this.#random() * 30, () => {
      if (isLie) this.#feed({ type: 'rejected', peer, item, reason: 'hash' })
      else if (isDiskTired) this.#feed({ type: 'rejected', peer, item, reason: 'store' })
      else this.#feed({ type: 'verified', peer, item })
    })
  }
}
