/**
 * A whole node in a simulated network: Swarm, Upload, Score and CreditBudget as in production, driven as node/jobs drives them (live-share.ts,
 * uploads.ts, have-teller.ts, swarm-host.ts), and what it is up to when it is not honest. Everything is checked after every event.
 */
import { asRuns, Bitfield, runsOfBits } from '../../node/jobs/bitfield.ts'
import { assert } from '../../protocol/errors.ts'
import { SCORE, SWARM, WAITS } from '../../protocol/limits.ts'
import { Score } from '../../protocol/swarm/score.ts'
import { Swarm, type SwarmAction, type SwarmEvent } from '../../protocol/swarm/swarm.ts'
import { CreditBudget } from '../../protocol/wire/credit.ts'
import { type HaveForm, ROOT_LEVEL } from '../../protocol/wire/messages.ts'
import { checkCounts, checkWire } from './checks.ts'
import { Alarm, randomFrom } from './clock.ts'
import { type End, Link, type LinkHandlers, placeKey } from './link.ts'
import type { NodePlan } from './plan.ts'
import type { Claim, Surroundings } from './surroundings.ts'
import { SimTeller, type Teller } from './teller.ts'
import { type Server, SimUploads } from './uploads.ts'
import type { Connection, Uplink } from './wire.ts'

const SHARE = 'share'
const RETRY_DIAL_MS = 30_000
const LOOK_MS = 5_000
const RUDE_MS = 3_000
const SWARM_LIMITS = { ...SWARM, blockMs: WAITS.blockMs }

/** A node, and what is on its disk between two lives of it. */
export class SimNode implements LinkHandlers, Server, Teller {
  readonly plan: NodePlan
  readonly id: string
  readonly isHonest: boolean
  readonly uplink: Uplink
  readonly claims = new Map<string, Claim>()
  readonly leaves: Bitfield
  readonly #around: Surroundings
  readonly #random: () => number
  readonly #alarms: { engine: Alarm; dialler: Alarm }
  readonly #teller: SimTeller
  readonly #dialling = new Set<string>()
  readonly #retryAt = new Map<string, number>()
  #isSole = false
  #engine: Swarm | null = null
  #uploads: SimUploads
  score = new Score(SCORE)
  budget: CreditBudget
  /** How often it was started; what belongs to an earlier life is void. */
  life = 0
  isUp = false
  isPaused = false
  knowsShape: boolean
  isDiskFull = false
  /** Positions whose stored bytes are damaged, unknown to the node. */
  readonly damaged = new Set<number>()
  /** Held once, found damaged, not got back: nobody who is connected may have it. */
  readonly lostNow = new Set<number>()
  /** Who gave it a bad block in this life. */
  readonly #liars = new Set<string>()
  /** When each peer broke a rule in this life. */
  readonly #faults = new Map<string, number[]>()

  constructor(plan: NodePlan, around: Surroundings, seed: number) {
    this.plan = plan
    this.id = plan.id
    this.isHonest = plan.manner === 'honest'
    this.#around = around
    this.#random = randomFrom(seed)
    this.uplink = { bytesPerMs: plan.uplinkBytesPerMs, freeMs: 0 }
    this.leaves = new Bitfield(around.shape.itemCount)
    for (const position of plan.holds) this.leaves.add(position)
    this.knowsShape = plan.holds.length > 0
    this.budget = new CreditBudget(around.shape.budgetBytes)
    this.#uploads = new SimUploads(this, around, this.#random)
    this.#teller = new SimTeller(this, around.clock)
    const { clock } = around
    this.#alarms = {
      engine: new Alarm(clock, () => this.#feed({ type: 'tick' })),
      dialler: new Alarm(clock, () => this.#look()),
    }
  }

  get isComplete(): boolean {
    return this.knowsShape && this.leaves.isFull
  }

  /** Whether it has got everything that it can be sure to get. */
  get isDone(): boolean {
    return this.knowsShape && this.leaves.held + this.lostNow.size >= this.leaves.count
  }

  /** Whether it holds a block that can be read. */
  holds(position: number): boolean {
    return this.leaves.has(position) && !this.damaged.has(position)
  }

  start(): void {
    assert(!this.isUp, `${this.id} is up`)
    this.isUp = true
    this.isPaused = false
    this.life++
    this.#uploads = new SimUploads(this, this.#around, this.#random)
    this.score = new Score(SCORE)
    this.budget = new CreditBudget(this.#around.shape.budgetBytes)
    this.#liars.clear()
    this.#faults.clear()
    this.#retryAt.clear()
    this.#dialling.clear()
    this.#around.trace(() => `${this.id} starts with ${this.leaves.held}`)
    if (this.isHonest && !this.isComplete) this.#want()
    this.#alarms.dialler.set(this.#around.clock.now)
  }

  /** The process ends, in good order or not. What is on disk stays. */
  stop(): void {
    this.isUp = false
    this.#around.trace(() => `${this.id} stops`)
    for (const { link, connection } of this.claims.values()) {
      link.vanish()
      connection.reset()
    }
    this.claims.clear()
    this.#uploads.stop()
    this.#engine = null
    this.#isSole = false
    this.#teller.stop()
    for (const alarm of Object.values(this.#alarms)) alarm.set(undefined)
  }

  /** The last job ends, or another begins. */
  pause(isPaused: boolean): void {
    if (!this.isUp || this.isPaused === isPaused || this.isComplete) return
    this.isPaused = isPaused
    if (isPaused) this.#feed({ type: 'unwantAll' })
    else this.#want()
  }

  /** A reader jumps somewhere else. */
  read(first: number, priority: number): void {
    if (!this.isUp || !this.knowsShape || this.isPaused || !this.isHonest || this.isComplete) return
    this.#wantMissing(first, Math.min(4, this.#around.shape.itemCount - first), priority)
  }

  // Links, as swarm-host.ts opens and closes them.

  isBanned(peer: string): boolean {
    return this.score.isBanned(peer, this.#around.groupOf(peer), this.#around.clock.now)
  }

  dialFailed(peer: string): void {
    this.#dialling.delete(peer)
    this.#retryAt.set(peer, this.#around.clock.now + RETRY_DIAL_MS)
  }

  /** A proved connection; null when it is not wanted (then a goodbye went out). */
  opened(connection: Connection, direction: 'inbound' | 'outbound', saidShape: boolean, peerKnowsShape: boolean): Link {
    const [dialler, listener] = connection.ends
    const peer = direction === 'outbound' ? listener : dialler
    const out = direction === 'outbound' ? connection.there : connection.back
    if (direction === 'outbound') this.#dialling.delete(peer)
    const { clock } = this.#around
    const init = { clock, peer, direction, out, budget: this.budget, saidShape, peerKnowsShape }
    const link = new Link({ ...init, handlers: this })
    if (this.isBanned(peer)) {
      link.goodbye() // its group came to be banned while it was dialled
      return link
    }
    const other = this.claims.get(peer)
    if (other !== undefined) {
      if (!this.#replaces(link, other.link)) {
        link.goodbye()
        return link
      }
      this.#around.note('replaced')
      other.link.goodbye()
      this.#detach(other)
    }
    this.#attach(link, connection)
    return link
  }

  #replaces(link: Link, other: Link): boolean {
    if (link.direction === other.direction) return true
    return (link.direction === 'outbound') === this.id < link.peer
  }

  #attach(link: Link, connection: Connection): void {
    const { peer } = link
    const { shape } = this.#around
    this.#around.trace(() => `${this.id} + ${peer} ${link.direction}`)
    assert(!this.isBanned(peer) && !this.#liars.has(peer), `${this.id} accepted ${peer}, which it banned`)
    const claim: Claim = {
      link,
      connection,
      hasAll: false,
      knowsShape: link.peerKnowsShape,
      toldAll: false,
      isProven: false,
      checking: new Set(),
    }
    this.claims.set(peer, claim)
    this.#uploads.feed({ type: 'peerJoined', peer, group: this.#around.groupOf(peer), share: SHARE, isReachable: true })
    if (this.knowsShape) link.learnShape(shape.itemCount, this.#expectedBytes)
    this.#feed({ type: 'peerJoined', peer })
    this.#peerHasRoot(claim)
    this.#teller.tellAll(claim)
    this.tellSole()
    if (this.plan.manner === 'rude') this.#around.clock.after(this.#random() * RUDE_MS, () => link.breakRules())
  }

  #detach(claim: Claim): void {
    const { peer } = claim.link
    if (this.claims.get(peer) !== claim) return
    this.claims.delete(peer)
    this.#around.trace(() => `${this.id} - ${peer}`)
    this.#feed({ type: 'peerLeft', peer })
    this.#uploads.left(peer)
    this.tellSole()
    this.#alarms.dialler.set(this.#around.clock.now)
  }

  onEnd(link: Link, end: End): void {
    const claim = this.claims.get(link.peer)
    this.#around.trace(() => `${this.id} / ${link.peer} ${end.code} ${end.message}`)
    if (claim?.link !== link) return
    this.#detach(claim)
    if (end.code !== 'NORMAL') claim.connection.reset()
    if (end.code === 'LOST' || end.code === 'TIMEOUT') this.#around.note('linkLost')
    if (end.strike !== 'none') this.#strike(link.peer, end.strike, end.message)
  }

  #strike(peer: string, kind: 'protocol' | 'fatal', why: string): void {
    assert(!this.#around.isHonest(peer), `${this.id} strikes ${peer}, which is honest: ${why}`)
    this.#around.trace(() => `${this.id} strikes ${peer} ${kind}`)
    const now = this.#around.clock.now
    const recent = [...(this.#faults.get(peer) ?? []), now].filter((atMs) => now - atMs < SCORE.strikeWindowMs)
    this.#faults.set(peer, recent)
    if (kind === 'protocol') this.#around.note('protocolStrike')
    this.score.strike(peer, this.#around.groupOf(peer), kind, this.#around.clock.now)
    this.score.checkInvariants()
    if (kind === 'fatal' || recent.length >= SCORE.strikesMax) assert(this.isBanned(peer), `${peer} is not banned`)
    if (this.isBanned(peer)) this.#around.disconnect(this.id, peer)
  }

  #look(): void {
    if (!this.isUp || this.plan.knows.length === 0) return
    const { clock } = this.#around
    if (!this.isHonest || (!this.isComplete && !this.isPaused)) {
      for (const peer of this.plan.knows) {
        if (this.claims.has(peer) || this.#dialling.has(peer) || (this.#retryAt.get(peer) ?? 0) > clock.now || this.isBanned(peer)) continue
        this.#dialling.add(peer)
        this.#around.dial(this.id, peer)
      }
    }
    this.#alarms.dialler.set(clock.now + LOOK_MS)
  }

  // What links tell, as in live-share.ts.

  onHave(link: Link, have: HaveForm): void {
    const claim = this.claims.get(link.peer)
    if (claim?.link !== link) return
    const isFirst = !claim.knowsShape
    claim.knowsShape = true
    this.#peerHasRoot(claim)
    if (have.kind === 'all') {
      claim.hasAll = true
      this.#feed({ type: 'peerHas', peer: link.peer, first: 0, count: this.#itemCount() })
      this.tellSole()
    } else if (have.kind === 'ranges') {
      for (const [first, count] of have.ranges) this.#peerHas(link.peer, first, count)
    } else if (have.kind === 'bitmap') this.#peerHasBitmap(link.peer, have.first, have.bits)
    if (isFirst) this.#teller.tellAll(claim)
  }

  onProgress(link: Link, level: number, index: number, bytes: number): void {
    if (level === ROOT_LEVEL && this.knowsShape) return
    this.#feed({ type: 'progress', peer: link.peer, item: index, bytes })
  }

  onBlock(link: Link, level: number, item: number, isDamaged: boolean, taken: () => void): void {
    const { peer } = link
    const engine = this.#engine
    const claim = this.claims.get(peer)
    const [life, { clock }] = [this.life, this.#around]
    if (engine === null || (level === ROOT_LEVEL && this.knowsShape)) {
      clock.after(0, taken)
      return
    }
    if (level === 0 || !this.knowsShape) claim?.checking.add(item)
    this.#feedTo(engine, { type: 'received', peer, item })
    clock.after(1 + this.#random() * this.plan.verifyMs, () => {
      claim?.checking.delete(item)
      if (life === this.life && this.isUp) this.#judge(engine, link, level, item, isDamaged)
      taken()
    })
  }

  #judge(engine: Swarm, link: Link, level: number, item: number, isDamaged: boolean): void {
    const { peer } = link
    if (isDamaged) {
      this.#around.note('badBlock')
      this.#liars.add(peer)
      this.#feedTo(engine, { type: 'rejected', peer, item, reason: 'hash' })
      this.#strike(peer, 'fatal', 'a bad block')
      link.goodbye() // also when the engine knows the peer no more, or by another link
      assert(this.claims.get(peer)?.link !== link || link.isClosing, `${peer} stays after a bad block`)
      return
    }
    if (level === 0 && this.leaves.has(item)) {
      this.#praise(engine, peer, item) // the second copy of an endgame
      return
    }
    if (this.claims.get(peer)?.link !== link) this.#around.note('lateVerdict')
    if (this.isDiskFull) {
      this.#around.note('storeFailed')
      this.#feedTo(engine, { type: 'rejected', peer, item, reason: 'store' })
      return
    }
    if (level === 0) {
      this.leaves.add(item)
      this.damaged.delete(item)
      this.lostNow.delete(item)
      this.#praise(engine, peer, item)
      this.#teller.note(item)
      if (this.isComplete) this.#around.trace(() => `${this.id} is complete`)
      return
    }
    if (!this.knowsShape) this.#openRoot()
    if (engine === this.#engine) this.#praise(engine, peer, item)
    if (!this.isPaused) this.#want()
    for (const other of this.claims.values()) this.#teller.tellAll(other)
  }

  #praise(engine: Swarm, peer: string, item: number): void {
    const claim = this.claims.get(peer)
    if (claim !== undefined && engine === this.#engine) claim.isProven = true
    this.#feedTo(engine, { type: 'verified', peer, item })
  }

  onSuggest(link: Link, index: number): void {
    if (this.knowsShape) this.#feed({ type: 'suggested', peer: link.peer, item: index })
  }

  onAbsent(link: Link, level: number, item: number): void {
    if (level === ROOT_LEVEL && this.knowsShape) return
    this.#around.note('absent')
    const claim = this.claims.get(link.peer)
    if (claim !== undefined) this.#teller.lacks(claim)
    this.#feed({ type: 'rejected', peer: link.peer, item, reason: 'absent' })
  }

  onRequest(link: Link, level: number, index: number): void {
    if (!this.offers(level, index)) link.absent(level, index)
    else {
      const bytes = this.#around.shape.bytesOf(level, index)
      this.#uploads.feed({ type: 'requested', peer: link.peer, level, index, bytes })
    }
  }

  onCancel(link: Link, level: number, index: number): void {
    this.#uploads.feed({ type: 'cancelled', peer: link.peer, level, index })
  }

  // The engine.

  readonly #expectedBytes = (level: number, index: number): number | null => (level === 0 ? this.#around.shape.bytesOf(level, index) : null)

  #itemCount(): number {
    return this.knowsShape ? this.#around.shape.itemCount : 1
  }

  #openRoot(): void {
    this.knowsShape = true
    this.#engine = null
    for (const claim of this.claims.values()) {
      claim.isProven = false
      claim.checking.clear()
    }
    for (const { link } of this.claims.values()) link.learnShape(this.#around.shape.itemCount, this.#expectedBytes)
    this.#around.trace(() => `${this.id} knows the shape`)
  }

  #want(): void {
    const engine = this.#ensureEngine()
    if (!this.knowsShape) {
      this.#feedTo(engine, { type: 'want', first: 0, count: 1, priority: 0 })
      return
    }
    for (const { first, count, priority } of this.plan.wants) this.#wantMissing(first, count, priority)
  }

  #wantMissing(first: number, count: number, priority: number): void {
    const missing: number[] = []
    for (let i = first; i < first + count; i++) if (!this.leaves.has(i)) missing.push(i)
    for (const [from, length] of asRuns(missing)) this.#feedTo(this.#ensureEngine(), { type: 'want', first: from, count: length, priority })
  }

  #ensureEngine(): Swarm {
    if (this.#engine !== null) return this.#engine
    const { shape } = this.#around
    const engine = new Swarm(this.#itemCount(), { ...SWARM_LIMITS, itemBytes: shape.blockBytes }, this.#random)
    this.#engine = engine
    if (this.knowsShape) for (const [first, count] of this.leaves.runs()) this.#feedTo(engine, { type: 'have', first, count })
    for (const [peer, claim] of this.claims) {
      this.#feedTo(engine, { type: 'peerJoined', peer })
      if (claim.hasAll) this.#feedTo(engine, { type: 'peerHas', peer, first: 0, count: this.#itemCount() })
      else this.#peerHasRoot(claim)
    }
    return engine
  }

  #peerHasRoot({ link, knowsShape }: Claim): void {
    if (!this.knowsShape && knowsShape) this.#feed({ type: 'peerHas', peer: link.peer, first: 0, count: 1 })
  }

  #peerHas(peer: string, first: number, count: number): void {
    if (!this.knowsShape || this.isComplete || !this.isHonest) return
    this.#feedTo(this.#ensureEngine(), { type: 'peerHas', peer, first, count })
  }

  #peerHasBitmap(peer: string, first: number, bits: Uint8Array): void {
    for (const [from, count] of runsOfBits(bits, this.leaves.count - first)) this.#peerHas(peer, first + from, count)
  }

  #feed(event: SwarmEvent): void {
    if (this.#engine !== null) this.#feedTo(this.#engine, event)
  }

  #feedTo(engine: Swarm, event: SwarmEvent): void {
    const actions = engine.handle(event, this.#around.clock.now)
    if (engine !== this.#engine) return
    for (const action of actions) this.#perform(action)
    if (event.type !== 'progress') {
      engine.checkInvariants()
      checkWire(this, engine)
      checkCounts(this)
    }
    const dueMs = engine.nextTimeout()
    this.#alarms.engine.set(dueMs === undefined ? undefined : Math.max(dueMs, this.#around.clock.now + 1))
  }

  #perform(action: SwarmAction): void {
    this.#around.trace(() => `${this.id} ${JSON.stringify(action)}`)
    if (action.type === 'done') return
    const claim = this.claims.get(action.peer)
    assert(claim !== undefined, `${action.type} for ${action.peer}, which is not there`)
    if (action.type === 'dropPeer') {
      assert(!this.#around.isHonest(action.peer), `${this.id} drops ${action.peer}, which is honest`)
      claim.link.goodbye()
      return
    }
    const level = this.knowsShape ? 0 : ROOT_LEVEL
    if (action.type === 'cancel') {
      this.#around.note('cancel')
      claim.link.cancel(level, action.item)
      return
    }
    assert(level !== 0 || !this.leaves.has(action.item), `${this.id} asks for ${action.item}, which it holds`)
    assert(!this.isPaused, `${this.id} asks for what nobody wants`)
    for (const { link } of this.claims.values()) if (link.asked.has(placeKey(level, action.item))) this.#around.note('copy')
    claim.link.request(level, action.item)
  }

  /** Reading a block back showed that it is damaged: the job that runs wants it again. */
  lost(index: number): void {
    if (!this.leaves.remove(index)) return
    this.lostNow.add(index)
    this.#around.note('lost')
    this.#around.trace(() => `${this.id} lost ${index}`)
    this.#teller.lost()
    this.#feed({ type: 'lost', item: index })
    if (this.isHonest && !this.isPaused) this.#wantMissing(index, 1, 2)
    this.#alarms.dialler.set(this.#around.clock.now)
  }

  offers(level: number, index: number): boolean {
    return level === ROOT_LEVEL ? this.knowsShape : this.leaves.has(index)
  }

  /** Whether nobody in sight has everything beside us: told to the upload machine when it changes. */
  tellSole(): void {
    const isSole = this.isComplete && this.claims.size > 0 && ![...this.claims.values()].some(({ hasAll }) => hasAll)
    if (isSole === this.#isSole) return
    this.#isSole = isSole
    this.#uploads.feed({ type: 'sole', share: SHARE, leafCount: isSole ? this.leaves.count : 0 })
  }
}
