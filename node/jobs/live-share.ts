/**
 * One share in memory: its tree, which blocks we hold, the peers that are connected for it, and the engine that fetches.
 *
 * It joins the swarm machine (what to ask of whom), peer links (the wire), the block store and the crypto pool. It decides nothing about
 * peers by itself: the machines do. Jobs (get, seed, list) say what they want and wait; uploads.ts serves from it.
 */
import type { ShareCid } from '../../protocol/cid.ts'
import type { ShareDag } from '../../protocol/dag.ts'
import { FormatError } from '../../protocol/errors.ts'
import { FORMAT, SWARM, WAITS } from '../../protocol/limits.ts'
import { Swarm, type SwarmAction, type SwarmEvent } from '../../protocol/swarm/swarm.ts'
import type { ExchangedPeer } from '../../protocol/wire/messages.ts'
import type { CryptoPool } from '../crypto/pool.ts'
import type { Log } from '../log.ts'
import type { CloseReason, Have, PeerLink, PeerLinkHandlers } from '../network/peer-link.ts'
import type { BlockStore } from '../storage/blocks.ts'
import { type Bitfield, runsOfBits, runsWhere } from './bitfield.ts'
import { type Claim, claimedBlocks, countClaimed, HaveTeller } from './have-teller.ts'
import { Held, type LeafSource } from './held.ts'
import type { ItemMap } from './item-map.ts'
import { Arrivals, isSunk, type LeafListener, type LeafSink, receive } from './leaf-sink.ts'
import { listen } from './listen.ts'
import type { SealedCache } from './sealed-cache.ts'
import { BlockIntake } from './stored.ts'
import { Waiters } from './waiters.ts'

export interface LiveShareParts {
  blocks: BlockStore
  cache: SealedCache
  pool: CryptoPool
  log: Log
  /** Monotonic milliseconds. */
  now(): number
  /** [0, 1). */
  random(): number
  /** A peer asked for a block that we hold: uploads.ts decides when it goes out. */
  onRequest(share: LiveShare, link: PeerLink, level: number, index: number): void
  onCancel(share: LiveShare, link: PeerLink, level: number, index: number): void
  /** We became the only one in sight who has everything; or with 0 no longer are. */
  onSole(share: LiveShare, leafCount: number): void
  onPeers(share: LiveShare, link: PeerLink, peers: ExchangedPeer[]): void
  /** The peer sent a block that is not what its name says. */
  onBadBlock(share: LiveShare, link: PeerLink): void
}

export class LiveShare implements PeerLinkHandlers {
  readonly cid: ShareCid
  readonly #parts: LiveShareParts
  readonly #claims = new Map<string, Claim>()
  readonly #waiters = new Waiters()
  readonly #arrivals = new Arrivals()
  readonly #teller: HaveTeller
  readonly #listeners = new Set<LeafListener>()
  readonly #finders = new Set<(position: number) => void>()
  readonly #failures = new Set<(error: Error) => void>()
  readonly #held: Held
  #engine: Swarm | null = null
  /** Wishes for leaves that may have no names yet, by what they say. */
  readonly #wanted = new Map<string, { first: number; count: number; priority: number }>()
  #isSole = false
  #timer: NodeJS.Timeout | undefined
  /** What came over the wire since this share was opened, verified. */
  fetchedBlocks = 0
  fetchedBytes = 0
  /** How far the jobs that read in order look ahead. */
  readonly windows = new Set<{ covers(position: number): boolean }>()
  /** Where leaves go that come in: a job that writes them into files. */
  sink: LeafSink | null = null
  /** What was stored in this session: dropped again where a share is not kept. */
  readonly intake: BlockIntake
  /** When a peer was connected, and when a byte of a block came, for the last time. */
  lastLinkedAt: number
  lastBytesAt: number

  constructor(cid: ShareCid, parts: LiveShareParts) {
    this.cid = cid
    this.#parts = parts
    this.intake = new BlockIntake(parts.blocks)
    this.#held = new Held(cid, parts.blocks, parts.cache, () => this.#claims.size > 1)
    this.#teller = new HaveTeller(this.#claims, this)
    this.lastLinkedAt = this.lastBytesAt = parts.now()
  }

  get dag(): ShareDag | null {
    return this.#held.dag
  }

  get #dag(): ShareDag | null {
    return this.#held.dag
  }

  get #map(): ItemMap {
    return this.#held.map
  }

  get links(): PeerLink[] {
    return [...this.#claims.values()].map((claim) => claim.link)
  }

  get leaves(): Bitfield {
    return this.#held.leaves
  }

  get heldBlocks(): number {
    return this.leaves.held
  }

  get isComplete(): boolean {
    return this.#held.isComplete
  }

  /** Whether something is wanted from peers and not here yet. */
  get isWanting(): boolean {
    return (this.#engine?.wantedMissing ?? 0) > 0
  }

  /** How many blocks a connected peer says that it has; null is all of them. */
  blocksOf(peerId: string): number | null {
    return claimedBlocks(this.#claims.get(peerId), this.leaves.count)
  }

  linkOf(peerId: string): PeerLink | undefined {
    return this.#claims.get(peerId)?.link
  }

  /** Reads from the store what is already there of the tree. */
  async load(signal: AbortSignal): Promise<void> {
    await this.#held.load(signal)
  }

  /** Leaves can be made by `source` from here on; it says by `refresh` what comes and goes. */
  addSource(source: LeafSource): void {
    this.#held.addSource(source)
    if (this.#engine === null && this.#claims.size === 0) this.#held.markHeld()
    else this.refresh([[0, this.#map.leafCount]])
  }

  removeSource(source: LeafSource): void {
    this.#held.removeSource(source)
    this.refresh([[0, this.#map.leafCount]])
  }

  /** Looks again which of these leaves are here. */
  refresh(runs: Iterable<[first: number, count: number]>): void {
    for (const [first, count] of runs) {
      for (let index = first; index < first + count && index < this.#map.leafCount; index++) {
        const isHere = this.#held.isHere(index)
        if (isHere && this.leaves.add(index)) this.#found(index)
        else if (!isHere && this.leaves.has(index)) this.lost(index)
      }
    }
  }

  /** Serves and fetches through `link` until it closes. */
  async attach(link: PeerLink, signal: AbortSignal): Promise<CloseReason> {
    const peer = link.remote.peerId
    const claim: Claim = { link, hasAll: false, knowsShape: link.peerKnowsShape, toldAll: false, told: 0, hasNodes: false }
    this.#claims.set(peer, claim)
    this.lastLinkedAt = this.#parts.now()
    if (this.#dag !== null) link.learnShape(this.#dag.shape.blockCount, this.#expectedBytes)
    this.#feed({ type: 'peerJoined', peer })
    this.#peerHasRoot(claim)
    this.#teller.tellAll(claim)
    this.#tellSole()
    try {
      const reason = await link.run(this, signal)
      this.#parts.log.debug('peer left', { peer, code: reason.code })
      return reason
    } finally {
      if (this.#claims.get(peer) === claim) {
        this.#claims.delete(peer)
        this.lastLinkedAt = this.#parts.now()
        this.#feed({ type: 'peerLeft', peer })
        this.#tellSole()
      }
    }
  }

  /** Wants leaves: 0 is the most urgent priority, 3 the least. What is held is passed over; what has no name yet is asked for when it has. */
  wantLeaves(first: number, count: number, priority: number): void {
    if (!this.#wantKnown(first, count, priority)) this.#wanted.set(`${first} ${count} ${priority}`, { first, count, priority })
  }

  /** Wants every inner node that has a name: without them the leaves have none. */
  wantTree(): void {
    const { leafCount, itemCount } = this.#map
    this.#wantWhere(leafCount, itemCount, 0, (item) => {
      const { level, index } = this.#map.placeOf(item)
      return !this.#held.nodes.has(item - leafCount) && this.digestOf(level, index) !== null
    })
  }

  /** Resolves once the shape of the share is known (its root node was verified). */
  async shapeKnown(signal: AbortSignal): Promise<ShareDag> {
    while (this.#dag === null) {
      this.wantTree()
      await this.#waiters.wait(-1, signal)
    }
    return this.#dag
  }

  /** Resolves once every leaf has a name. Leaves that another share brought in are noticed until then without any news of them. */
  async treeKnown(signal: AbortSignal): Promise<void> {
    const dag = await this.shapeKnown(signal)
    while (dag.missingNodes > 0) {
      this.wantTree()
      await this.#waiters.wait(-1, signal)
    }
  }

  /** The last job ended: what peers were asked for is called off. */
  stopWanting(): void {
    this.#wanted.clear()
    this.#feed({ type: 'unwantAll' })
  }

  /** The bytes of a leaf, fetched at `priority` when it is not here. */
  async block(position: number, priority: number, signal: AbortSignal): Promise<Uint8Array> {
    await this.shapeKnown(signal)
    for (;;) {
      while (!this.leaves.has(position)) {
        this.wantLeaves(position, 1, priority)
        await this.#waiters.wait(position, signal)
      }
      const bytes = await this.#held.take(position, signal)
      if (bytes !== null) return bytes
      this.lost(position) // damaged on disk: it is fetched again
    }
  }

  /** The bytes of a block, borrowed; null when it is not here after all: then it is not offered any more. */
  async read(level: number, index: number, signal: AbortSignal): Promise<Uint8Array | null> {
    const bytes = await this.#held.read(level, index, signal)
    if (bytes === null && level === 0) this.lost(index)
    return bytes
  }

  has(level: number, index: number): boolean {
    return this.#held.has(level, index)
  }

  digestOf(level: number, index: number): Uint8Array | null {
    return this.#held.digestOf(level, index)
  }

  /** A block that we thought we held cannot be read, or was dropped because nobody wants it: do not offer it any more. */
  lost(index: number, isDropped = false): void {
    if (this.leaves.remove(index)) this.#teller.lost()
    this.#feed({ type: 'lost', item: index, isDropped }) // nothing to it where it was lost before
  }

  readonly onLeaf = (listener: LeafListener): (() => void) => listen(this.#listeners, listener)
  /** Leaves that turn out to be here: they are not asked for any more, and no LeafListener hears of them. */
  readonly onFound = (listener: (position: number) => void): (() => void) => listen(this.#finders, listener)
  readonly onFailure = (listener: (error: Error) => void): (() => void) => listen(this.#failures, listener)

  /** Stops all waits and timers; links are closed by whoever attached them. */
  close(reason: Error): void {
    this.intake.close()
    clearTimeout(this.#timer)
    this.#teller.close()
    this.#fail(reason)
  }

  isTold = ({ link }: Claim, index: number): boolean => this.#engine?.isTold(link.remote.peerId, index) === true

  knowsShape = (): boolean => this.#dag !== null

  onHave(link: PeerLink, have: Have): void {
    const peer = link.remote.peerId
    const claim = this.#claims.get(peer)
    if (claim?.link !== link) return
    const first = !claim.knowsShape
    claim.knowsShape = true
    countClaimed(claim, have)
    this.#peerHasRoot(claim)
    if (have.kind === 'all') {
      claim.hasAll = true
      this.#tellSole()
      this.#feed({ type: 'peerHas', peer, first: 0, count: this.#map.itemCount })
    } else if (have.kind === 'range') {
      this.#peerHas(claim, have.first, have.count)
    } else if (have.kind === 'bitmap') {
      for (const [first, count] of runsOfBits(have.bits, this.#map.leafCount - have.first)) this.#peerHas(claim, have.first + first, count)
    }
    if (first) this.#teller.tellAll(claim)
  }

  onProgress(link: PeerLink, level: number, index: number, bytes: number): void {
    if (this.#isLateRoot(level)) return
    this.lastBytesAt = this.#parts.now()
    this.#feed({ type: 'progress', peer: link.remote.peerId, item: this.#map.itemOf(level, index), bytes })
  }

  async onBlock(link: PeerLink, level: number, index: number, given: Uint8Array): Promise<void> {
    const peer = link.remote.peerId
    const item = this.#map.itemOf(level, index)
    const engine = this.#engine
    if (engine === null || this.#isLateRoot(level)) return
    this.#feedTo(engine, { type: 'received', peer, item })
    const expected = this.digestOf(level, index)
    const key = level === 0 && expected !== null ? ((await this.sink?.keyOf(index)) ?? null) : null
    const received = await receive(this.#parts.pool, given, expected, key)
    const { bytes } = received
    if (expected === null || !received.isRight) {
      this.#feedTo(engine, { type: 'rejected', peer, item, reason: 'hash' })
      this.#parts.onBadBlock(this, link) // also when the peer has left meanwhile
      return
    }
    if (this.has(level, index)) {
      this.#feedTo(engine, { type: 'verified', peer, item }) // the second copy of an endgame
      return
    }
    try {
      const keep = async () => (await isSunk(this.sink, index, received)) || (await this.intake.put(expected, bytes))
      if (!(await this.#arrivals.first(item, keep))) return this.#feedTo(engine, { type: 'verified', peer, item })
      if (received.opened !== null && this.#claims.size > 1) this.#held.remember(expected, bytes)
    } catch (error) {
      this.#feedTo(engine, { type: 'rejected', peer, item, reason: 'store' })
      this.#fail(error instanceof Error ? error : new Error(String(error)))
      return
    }
    this.fetchedBlocks++
    link.stats.verifiedBlocks++
    this.fetchedBytes += bytes.byteLength
    await this.#accepted(engine, peer, item, level, index, bytes)
  }

  onSuggest(link: PeerLink, index: number): void {
    if (this.#dag !== null) this.#feed({ type: 'suggested', peer: link.remote.peerId, item: index })
  }

  onAbsent(link: PeerLink, level: number, index: number): void {
    if (this.#isLateRoot(level)) return
    const claim = this.#claims.get(link.remote.peerId)
    this.#teller.lacks(claim)
    if (claim !== undefined && level > 0) claim.hasNodes = false
    this.#feed({ type: 'rejected', peer: link.remote.peerId, item: this.#map.itemOf(level, index), reason: 'absent' })
  }

  onRequest(link: PeerLink, level: number, index: number): void {
    if (!this.has(level, index)) link.absent(level, index)
    else this.#parts.onRequest(this, link, level, index)
  }

  onCancel(link: PeerLink, level: number, index: number): void {
    this.#parts.onCancel(this, link, level, index)
  }

  readonly onPeers = (link: PeerLink, peers: ExchangedPeer[]): void => this.#parts.onPeers(this, link, peers)

  /** A second copy of the root node, asked for before the first came: it is no item of the engine any more. */
  readonly #isLateRoot = (level: number): boolean => level === 255 && this.#dag !== null

  #tellSole(): void {
    const isSole = this.isComplete && this.#claims.size > 0 && ![...this.#claims.values()].some(({ hasAll }) => hasAll)
    if (isSole === this.#isSole) return
    this.#isSole = isSole
    this.#parts.onSole(this, isSole ? this.leaves.count : 0)
  }

  readonly #expectedBytes = (level: number, index: number): number | null => this.#dag?.bytesOf(level, index) ?? null

  async #openRoot(bytes: Uint8Array): Promise<void> {
    if (!(await this.#held.openRoot(bytes))) return
    this.#engine = null // items mean something else from here on
    for (const claim of this.#claims.values()) claim.link.learnShape(this.#map.leafCount, this.#expectedBytes)
  }

  /** A leaf turned out to be here. */
  #found(index: number): void {
    this.#feed({ type: 'have', first: index, count: 1 })
    this.#teller.note(index)
    this.#waiters.wake(index)
    for (const listener of [...this.#finders]) listener(index)
  }

  async #accepted(engine: Swarm, peer: string, item: number, level: number, index: number, bytes: Uint8Array): Promise<void> {
    if (level === 0 && this.#dag !== null) {
      this.leaves.add(index)
      this.#feedTo(engine, { type: 'verified', peer, item })
      this.#teller.note(index)
      this.#waiters.wake(index)
      await this.#tellListeners(index, bytes)
      return
    }
    const isFirst = this.#dag === null
    try {
      if (isFirst) await this.#openRoot(bytes)
      else for (const leaf of await this.#held.acceptNode(level, index, bytes)) this.#teller.note(leaf)
    } catch (error) {
      if (!(error instanceof FormatError)) throw error
      this.#feedTo(engine, { type: 'verified', peer, item }) // the hash was right: the publisher made it so, not this peer
      this.#fail(error)
      return
    }
    if (engine === this.#engine) this.#feedTo(engine, { type: 'verified', peer, item })
    this.#ensureEngine()
    for (const [key, want] of this.#wanted) if (this.#wantKnown(want.first, want.count, want.priority)) this.#wanted.delete(key)
    if (isFirst) this.#teller.tellEverybody()
    this.#waiters.wakeAll()
  }

  async #tellListeners(position: number, bytes: Uint8Array): Promise<void> {
    let block = bytes
    for (const listener of [...this.#listeners]) block = await listener(position, block)
    this.#parts.pool.buffers.give(block)
  }

  /** The engine, made on first use with all that is known of peers and of what is held. */
  #ensureEngine(): Swarm {
    if (this.#engine !== null) return this.#engine
    const engine = new Swarm(this.#map.itemCount, SWARM_LIMITS, this.#parts.random)
    this.#engine = engine
    if (this.#dag !== null) {
      for (const [first, count] of this.leaves.runs()) this.#feedTo(engine, { type: 'have', first, count })
      for (const [first, count] of this.#held.nodes.runs())
        this.#feedTo(engine, { type: 'have', first: this.#map.leafCount + first, count })
    }
    for (const [peer, claim] of this.#claims) {
      this.#feedTo(engine, { type: 'peerJoined', peer })
      if (claim.hasAll) this.#feedTo(engine, { type: 'peerHas', peer, first: 0, count: this.#map.itemCount })
      else this.#peerHasRoot(claim)
    }
    return engine
  }

  // Whoever knows the shape has the root: all that there is to ask for before we know it too.
  #peerHasRoot({ link, knowsShape }: Claim): void {
    if (this.#dag === null && knowsShape) this.#feed({ type: 'peerHas', peer: link.remote.peerId, first: 0, count: 1 })
  }

  #peerHas(claim: Claim, first: number, count: number): void {
    if (this.#dag === null || this.isComplete) return
    const engine = this.#ensureEngine() // made now if need be: a peer says only once what it has
    const { peerId: peer } = claim.link.remote
    // Absent ones are answered so. Once is enough: there may be thousands of nodes, and of ranges in one frame.
    if (this.#held.nodes.count > 0 && !claim.hasNodes)
      this.#feedTo(engine, { type: 'peerHas', peer, first: this.#map.leafCount, count: this.#held.nodes.count })
    claim.hasNodes = true
    this.#feedTo(engine, { type: 'peerHas', peer, first, count })
  }

  /** Wants those leaves of the range that have names and are not held, and the nodes that name the others; true when all have names. */
  #wantKnown(first: number, count: number, priority: number): boolean {
    const dag = this.#dag
    if (dag === null) return false
    const end = Math.min(first + count, this.#map.leafCount)
    this.#wantWhere(first, end, priority, (leaf) => !this.leaves.has(leaf) && dag.isLeafKnown(leaf))
    let isKnown = true
    for (let leaf = first; leaf < end; leaf = (Math.floor(leaf / FORMAT.nodeWidth) + 1) * FORMAT.nodeWidth) {
      if (dag.isLeafKnown(leaf)) continue
      isKnown = false
      let level = dag.shape.depth - 1
      while (this.has(level, Math.floor(leaf / FORMAT.nodeWidth ** level))) level--
      const node = this.#map.itemOf(level, Math.floor(leaf / FORMAT.nodeWidth ** level))
      this.#wantWhere(node, node + 1, 0, () => true)
    }
    return isKnown
  }

  #wantWhere(first: number, end: number, priority: number, isMissing: (item: number) => boolean): void {
    for (const [from, count] of runsWhere(first, end, isMissing))
      this.#feedTo(this.#ensureEngine(), { type: 'want', first: from, count, priority })
  }

  #feed(event: SwarmEvent): void {
    if (this.#engine !== null) this.#feedTo(this.#engine, event)
  }

  #feedTo(engine: Swarm, event: SwarmEvent): void {
    const actions = engine.handle(event, this.#parts.now())
    if (engine !== this.#engine) return // the shape became known meanwhile: the old engine's wishes are void
    for (const action of actions) this.#perform(action)
    this.#schedule()
  }

  #perform(action: SwarmAction): void {
    if (action.type === 'done' || action.type === 'dropPeer') return // onBlock has told of the bad block
    const link = this.linkOf(action.peer)
    const { level, index } = this.#map.placeOf(action.item)
    if (action.type === 'request') link?.request(level, index)
    else link?.cancel(level, index)
  }

  #schedule(): void {
    clearTimeout(this.#timer)
    const at = this.#engine?.nextTimeout()
    if (at !== undefined)
      this.#timer = setTimeout(() => this.#feed({ type: 'tick' }), Math.max(1, Math.ceil(at - this.#parts.now()))).unref()
  }

  #fail(error: Error): void {
    this.#waiters.failAll(error)
    for (const listener of [...this.#failures]) listener(error)
  }
}

const SWARM_LIMITS = { ...SWARM, blockMs: WAITS.blockMs, itemBytes: FORMAT.blockBytes }
