/**
 * All shares of this node as the network sees them: answers hellos, keeps the sessions and the score.
 *
 * It owns every LiveShare and what goes with it: dialling.ts has its peers, announcing.ts the DHT. Jobs hold a share while they work on
 * it; what is kept (has a record) is served and announced for as long as the node runs.
 */
import { toHex } from '../../protocol/bytes.ts'
import { multihashOf, parseCid, rendezvousDigest, type ShareCid } from '../../protocol/cid.ts'
import { REMOTE_CODES, RemoteError } from '../../protocol/errors.ts'
import { SCORE, SWARM, WIRE } from '../../protocol/limits.ts'
import type { ContactSource } from '../../protocol/swarm/contacts.ts'
import { Score } from '../../protocol/swarm/score.ts'
import { CreditBudget } from '../../protocol/wire/credit.ts'
import type { Held } from '../budgets/budgets.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import type { FrameStream } from '../network/frame-stream.ts'
import { isLocalNetwork } from '../network/local-network.ts'
import { groupOf } from '../network/peer-address.ts'
import { type LinkInit, PeerLink } from '../network/peer-link.ts'
import type { Remote } from '../network/remote.ts'
import type { FoundPeer, Stack } from '../network/stack.ts'
import type { ShareRecord } from '../storage/records.ts'
import { Announcing } from './announcing.ts'
import { Dialling } from './dialling.ts'
import { type Holding, newHolding, useLeaves } from './holding.ts'
import { HoldingBack } from './holding-back.ts'
import { HostMemory } from './host-memory.ts'
import type { HostParts } from './host-parts.ts'
import { keepConnected } from './keep-connected.ts'
import { LiveShare, type LiveShareParts } from './live-share.ts'
import { Liveness } from './liveness.ts'
import { NOBODY } from './nobody.ts'
import { type Rate, Rates, SAMPLE_MS } from './rates.ts'
import { Remembered } from './remembered.ts'
import { SealedCache } from './sealed-cache.ts'
import { isCrowded, replaces, type Seat } from './seats.ts'
import { Uploads } from './uploads.ts'

export class SwarmHost {
  readonly #parts: HostParts
  readonly #holdings = new Map<string, Holding>()
  readonly #byRendezvous = new Map<string, Holding>()
  readonly #announcing: Announcing
  readonly #score = new Score(SCORE)
  readonly #uploads: Uploads
  readonly #budget: CreditBudget
  readonly #rates = new Rates()
  readonly #cache: SealedCache
  readonly #remembered: Remembered
  readonly #sampler: NodeJS.Timeout
  readonly #holdingBack: HoldingBack
  readonly #liveness: Liveness
  readonly memory: HostMemory
  readonly #stopped = new AbortController()
  readonly #ended = { bytesIn: 0, bytesOut: 0 }
  readonly #tasks = new Set<Promise<void>>()
  /** Shares whose blocks are being taken away. */
  readonly #removals = new Map<string, Promise<void>>()

  constructor(parts: HostParts) {
    this.#parts = parts
    this.#cache = new SealedCache(parts.pool.buffers.take)
    this.#holdingBack = new HoldingBack(parts.limiter)
    this.#budget = new CreditBudget(WIRE.creditBytesTotal, parts.limiter.credit)
    this.#announcing = new Announcing({
      stack: parts.stack,
      records: parts.records,
      log: parts.log,
      keys: parts.announce,
      now: this.now,
      holding: (cid) => this.#holdings.get(cid),
      liveOf: (holding) => this.#liveOf(holding),
      onFound: (holding, found) => this.#contactsOf(holding)?.found(found, 'dht'),
      onIdle: (holding) => this.#dropUnused(holding),
      track: (task) => this.#track(task),
      signal: this.#stopped.signal,
    })
    this.#remembered = new Remembered(parts.records.datastore(), parts.log)
    this.#sampler = setInterval(() => this.#sample(), SAMPLE_MS)
    this.#sampler.unref()
    this.#uploads = new Uploads({
      log: parts.log,
      now: this.now,
      groupPrivate: parts.groupPrivate,
      isExempt: this.#holdingBack.isExempt,
    })
    this.#liveness = new Liveness({
      ...{ now: this.now, log: parts.log, track: (task: Promise<void>) => this.#track(task) },
      endDead: (peerId, isHeard) => parts.stack?.endDead(peerId, isHeard) ?? Promise.resolve(0),
    })
    this.memory = new HostMemory(this.#uploads, this.#budget)
  }

  readonly now = (): number => performance.now()

  get isOnline(): boolean {
    return this.#parts.stack !== null
  }

  /** Registers every kept share and begins to answer, find and announce. */
  async start(): Promise<void> {
    for (const record of await this.#parts.records.listShares()) {
      const holding = await this.#register(parseCid(record.cid))
      holding.record = record
      this.#announcing.add(holding)
    }
    if (this.#parts.stack === null) return
    this.#parts.stack.onAddressesChanged(() => this.#announcing.readdress())
    this.#parts.stack.onMoved(() => {
      for (const { dialling } of this.#holdings.values()) dialling?.moved()
    })
    this.#parts.stack.onListens((peerId) => {
      for (const { dialling } of this.#holdings.values()) dialling?.listens(peerId)
    })
    await this.#parts.stack.handleSwarm((frames, remote, signal) => this.#inbound(frames, remote, signal))
    this.#track(keepConnected(this.#parts.stack, this.#stopped.signal))
  }

  async stop(): Promise<void> {
    const reason = new Error('the node is stopping')
    this.#stopped.abort(reason)
    clearInterval(this.#sampler)
    this.#announcing.stop()
    this.#uploads.stop()
    for (const holding of this.#holdings.values()) {
      holding.dialling?.stop()
      holding.live?.close(reason)
    }
    await Promise.allSettled(this.#tasks)
  }

  holding(cid: string): Holding | undefined {
    return this.#holdings.get(cid)
  }

  /** Serves and fetches nothing from now on, one way or both, but with exempt peers; or goes on. */
  holdBack(held: Held): void {
    this.#holdingBack.now = held
    this.#uploads.holdBack(held.up)
    for (const { live } of this.#holdings.values())
      for (const link of live?.links ?? []) if (live !== null && this.#holdingBack.refuses(live, link)) this.#track(link.goodbye(0))
  }

  /** Bytes that went over the wire since the node started, sessions that ended included. */
  totals(): { bytesIn: number; bytesOut: number } {
    const sum = { ...this.#ended }
    for (const { live } of this.#holdings.values()) {
      for (const link of live?.links ?? []) {
        sum.bytesIn += link.stats.bytesIn
        sum.bytesOut += link.stats.bytesOut
      }
    }
    return sum
  }

  holdings(): Holding[] {
    return [...this.#holdings.values()]
  }

  /** Of a link, over the last seconds. */
  rateOf(link: PeerLink): Rate {
    return this.#rates.of(link, this.now())
  }

  /** Opens a share for a job; `release` when the job ends. The live share is loaded from the store, `anew` where more came to that. */
  async hold(cid: ShareCid, signal: AbortSignal, anew = false): Promise<{ holding: Holding; live: LiveShare; release: () => void }> {
    let holding = await this.#register(cid)
    for (let removal = this.#removals.get(cid.text); removal !== undefined || this.#holdings.get(cid.text) !== holding; ) {
      await removal
      holding = await this.#register(cid)
      removal = this.#removals.get(cid.text)
    }
    if (anew) this.#closeStale(holding)
    holding.holders++
    let released = false
    const release = (): void => {
      if (released) return
      released = true
      holding.holders--
      if (holding.holders === 0) {
        holding.dialling?.want(false)
        holding.live?.stopWanting()
      }
      this.#dropUnused(holding)
    }
    try {
      signal.throwIfAborted()
      return { holding, live: await this.#liveOf(holding), release }
    } catch (error) {
      release()
      throw error
    }
  }

  /** Runs `work`, which keeps a share or takes it away, while no job can open it and nothing else does either. */
  async exclusively<T>(cid: string, work: () => Promise<T>): Promise<T> {
    for (let other = this.#removals.get(cid); other !== undefined; other = this.#removals.get(cid)) await other
    const running = work()
    this.#removals.set(
      cid,
      running.then(
        () => {},
        () => {}, // whoever asked for it hears of it
      ),
    )
    try {
      return await running
    } finally {
      this.#removals.delete(cid)
    }
  }

  /** A record was saved: the share is kept, served, and announced once it is complete. */
  kept(holding: Holding, record: ShareRecord): void {
    holding.record = record
    this.#announcing.add(holding)
  }

  /** For records of shares made here. A live copy that knew less is thrown away. */
  async added(record: ShareRecord): Promise<void> {
    const holding = await this.#register(parseCid(record.cid))
    this.#closeStale(holding)
    this.kept(holding, record)
    if (!record.inPlace) useLeaves(holding, null)
  }

  /** Stops serving and announcing a share. */
  async removed(cid: string): Promise<void> {
    const holding = this.#holdings.get(cid)
    if (holding === undefined) return
    const blockCount = holding.record?.blockCount ?? null
    holding.record = null
    this.#announcing.remove(holding)
    await this.#announcing.takeBack(holding, blockCount)
    await this.#remembered.forget(cid)
    this.#dropUnused(holding)
  }

  /** Looks for peers until `release`, trying those first that the user or the link names. */
  seek(holding: Holding, named: { peer: FoundPeer; source: ContactSource }[]): void {
    const contacts = this.#contactsOf(holding)
    if (contacts === null) return
    this.#announcing.add(holding)
    for (const { peer, source } of named) contacts.found(peer, source)
    contacts.want(true)
    if (holding.record === null) return
    const recall = async (): Promise<void> => {
      for (const peer of await this.#remembered.of(holding.cid.text)) contacts.found(peer, 'known')
    }
    this.#track(recall())
  }

  // Inbound and outbound sessions.

  async #inbound(frames: FrameStream, remote: Remote, signal: AbortSignal): Promise<void> {
    const group = groupOf(remote.address, this.#parts.groupPrivate)
    if (this.#parts.stack === null || this.#score.isBanned(remote.peerId, group, this.now())) {
      frames.abort(new Error('banned'))
      return
    }
    const accepted = await PeerLink.accept({
      ...this.#linkInit(this.#parts.stack, frames, remote),
      lookup: (rendezvous) => this.#lookup(rendezvous),
      signal: AbortSignal.any([signal, this.#stopped.signal]),
    }).catch((error: unknown) => {
      if (error instanceof RemoteError) this.#blame(remote, error)
      throw error
    })
    if (accepted === null) return
    await this.#runLink(accepted.share.holding, accepted.link, accepted.share.knowsShape)
  }

  #linkInit(stack: Stack, frames: FrameStream, remote: Remote): LinkInit {
    const { pool, limiter, pex, hit } = this.#parts
    const isLan = isLocalNetwork(remote.address)
    this.#liveness.follow(remote, frames)
    return {
      ...{
        frames,
        remote,
        self: stack.peerIdBytes,
        allocate: pool.buffers.take,
        primitives: nodePrimitives,
        isDiscreet: !pex,
        ...(hit && { hit }),
      },
      budget: isLan ? this.#budget.lane(() => limiter.isLanExempt) : this.#budget,
      limiter: isLan ? limiter.lan() : limiter,
    }
  }

  #lookup(rendezvous: Uint8Array): { rootMultihash: Uint8Array; knowsShape: boolean; holding: Holding } | null {
    const holding = this.#byRendezvous.get(toHex(rendezvous))
    if (holding === undefined) return null
    const knowsShape = holding.record?.state === 'complete' || holding.live?.knowsShape() === true
    return { rootMultihash: multihashOf(holding.cid), knowsShape, holding }
  }

  async #runLink(holding: Holding, link: PeerLink, saidShape: boolean): Promise<void> {
    holding.linking++
    const seat = await this.#welcome(holding, link, saidShape)
    holding.linking--
    if (seat === null || seat === 'full') {
      if (seat === 'full') this.#parts.hit?.('peersPerShare')
      const others = holding.dialling?.refused(link, seat === 'full') ?? []
      this.#dropUnused(holding)
      link.goodbye(0, others).catch(() => {}) // heard of by the line below
      await link.run(NOBODY, this.#stopped.signal)
      return
    }
    const { live, contacts, running } = seat
    try {
      if (holding.record === null && holding.holders === 0) this.#dropUnused(holding) // the last job ended meanwhile
      const reason = await running
      if (reason.strike !== 'none') this.#strike(link.remote, reason.strike, `${reason.code}: ${reason.message}`)
    } finally {
      this.#uploads.leave(live, link)
      contacts?.left(link)
      this.#ended.bytesIn += link.stats.bytesIn
      this.#ended.bytesOut += link.stats.bytesOut
      this.#dropUnused(holding)
    }
  }

  /** Gives a link its seat; null when the link is not wanted. */
  async #welcome(holding: Holding, link: PeerLink, saidShape: boolean): Promise<Seat | 'full' | null> {
    let live: LiveShare
    try {
      live = await this.#liveOf(holding)
    } catch (error) {
      this.#parts.log.warn('a share could not be opened for a peer', { error })
      return null
    }
    const { peerId, address } = link.remote
    if (this.#score.isBanned(peerId, groupOf(address, this.#parts.groupPrivate), this.now())) return null // one of a banned group, dialled
    if (this.#holdingBack.refuses(live, link)) return null
    for (;;) {
      const other = live.linkOf(peerId)
      if (other !== undefined) {
        const silentMs = this.#liveness.silentMs(other.remote)
        if (!replaces(link, other, this.#parts.stack?.peerIdBytes ?? new Uint8Array(0), silentMs)) return null
        await other.goodbye(0)
      } else if (live.links.length >= SWARM.peersPerShareMax || (live.isWanting && isCrowded(link, live.links))) {
        // Two that have everything have nothing to say to each other.
        const idle = live.isComplete ? live.links.find(({ remote }) => live.blocksOf(remote.peerId) === null) : undefined
        if (idle === undefined) return 'full'
        await idle.goodbye(0)
      } else break
    }
    // From the last look on nothing is waited for: whoever comes next sees this seat taken.
    if (this.#holdings.get(holding.cid.text) !== holding || holding.live !== live) return null // let go of meanwhile
    return !saidShape || live.knowsShape() ? this.#seat(holding, live, link) : null
  }

  #seat(holding: Holding, live: LiveShare, link: PeerLink): Seat {
    const { peerId, direction } = link.remote
    this.#parts.stack?.trust(peerId)
    const contacts = this.#contactsOf(holding)
    this.#uploads.join(live, link, contacts?.isDialable(peerId) ?? true)
    this.#parts.log.debug('peer joined', { peer: peerId, direction })
    const running = live.attach(link, this.#stopped.signal)
    contacts?.joined(link)
    return { live, contacts, running }
  }

  #blame(remote: Remote, { code, limit, message }: RemoteError): void {
    const { strike } = REMOTE_CODES[code]
    if (limit !== null) this.#parts.hit?.(limit)
    if (strike !== 'none') this.#strike(remote, strike, `${code}: ${message}`)
  }

  #strike({ peerId, address }: Remote, kind: 'protocol' | 'fatal', why: string): void {
    const now = this.now()
    const group = groupOf(address, this.#parts.groupPrivate)
    this.#score.strike(peerId, group, kind, now)
    this.#parts.log.info('a peer broke the rules', { peer: peerId, kind, why })
    if (this.#score.isBanned(peerId, group, now)) this.#parts.stack?.ban(peerId, now + (kind === 'fatal' ? SCORE.banFatalMs : SCORE.banMs))
  }

  /** The peers of a share; null without a network, or when the share is not open any more. */
  #contactsOf(holding: Holding): Dialling | null {
    const { stack, log, pex } = this.#parts
    if (stack === null || this.#stopped.signal.aborted || this.#holdings.get(holding.cid.text) !== holding) return null
    holding.dialling ??= new Dialling(holding, {
      stack,
      linkInit: (frames, remote) => this.#linkInit(stack, frames, remote),
      log,
      now: this.now,
      isExchanging: pex,
      isBanned: (peerId) => this.#score.isBanned(peerId, '', this.now()),
      load: () => this.#liveOf(holding),
      onLink: (link, saidShape) => this.#track(this.#runLink(holding, link, saidShape)),
      onIdle: () => this.#dropUnused(holding),
      onWant: (isWanting) => this.#announcing.want(holding, isWanting),
      track: (task) => this.#track(task),
      signal: this.#stopped.signal,
    })
    return holding.dialling
  }

  /** Looks at how fast links are, and who is worth remembering. */
  #sample(): void {
    const waiting = [...this.#holdings.values()].flatMap(({ live }) => (live?.isWanting === true ? live.links : []))
    this.#liveness.look(waiting)
    for (const { cid, record, live, dialling } of this.#holdings.values()) {
      if (live === null || live.links.length === 0) continue
      this.#rates.sample(live.links, this.now())
      dialling?.look(live)
      if (record !== null && dialling !== null) this.#track(this.#remembered.note(cid.text, dialling.useful()))
    }
  }

  // Bookkeeping.

  async #register(cid: ShareCid): Promise<Holding> {
    const known = this.#holdings.get(cid.text)
    if (known !== undefined) return known
    const rendezvous = await rendezvousDigest(nodePrimitives, cid)
    const raced = this.#holdings.get(cid.text)
    if (raced !== undefined) return raced
    const holding = newHolding(cid, rendezvous)
    this.#holdings.set(cid.text, holding)
    this.#byRendezvous.set(toHex(rendezvous), holding)
    return holding
  }

  #liveOf(holding: Holding): Promise<LiveShare> {
    if (holding.live !== null) return Promise.resolve(holding.live)
    holding.loading ??= (async () => {
      try {
        const live = new LiveShare(holding.cid, this.#liveParts())
        await live.load(this.#stopped.signal)
        const { record } = holding
        const leaves = record?.inPlace && live.dag !== null ? await this.#parts.sources.open(record, live.dag, this.#stopped.signal) : null
        holding.live = live
        useLeaves(holding, leaves)
        return live
      } finally {
        holding.loading = null
      }
    })()
    return holding.loading
  }

  #liveParts(): LiveShareParts {
    return {
      blocks: this.#parts.blocks,
      cache: this.#cache,
      pool: this.#parts.pool,
      log: this.#parts.log,
      now: this.now,
      random: Math.random,
      onRequest: (share, link, level, index) => this.#uploads.requested(share, link, level, index),
      onCancel: (share, link, level, index) => this.#uploads.cancelled(share, link, level, index),
      onSole: (share, leafCount) => this.#uploads.sole(share, leafCount),
      onPeers: (share, link, peers) => this.#holdings.get(share.cid.text)?.dialling?.told(link, peers),
      onBadBlock: (_share, link) => {
        this.#strike(link.remote, 'fatal', 'a block that is not what was asked for')
        this.#track(link.goodbye(0))
      },
    }
  }

  /** Frees what nobody uses: a live share with no job and no peer; the whole holding when it is not kept either. */
  #dropUnused(holding: Holding): void {
    if (holding.holders > 0) return
    if (holding.record !== null && (holding.linking > 0 || (holding.live?.links.length ?? 0) > 0)) return
    if (holding.record !== null && holding.dialling?.isMissing === true) return
    this.#closeLive(holding)
    if (holding.record !== null || holding.loading !== null || this.#holdings.get(holding.cid.text) !== holding) return
    this.#announcing.remove(holding)
    this.#holdings.delete(holding.cid.text)
    this.#byRendezvous.delete(toHex(holding.rendezvous))
  }

  /** A live copy that knows less than the store does by now. */
  #closeStale(holding: Holding): void {
    if (holding.live !== null && !holding.live.isComplete && holding.holders === 0) this.#closeLive(holding)
  }

  #closeLive(holding: Holding): void {
    const live = holding.live
    holding.dialling?.stop()
    holding.dialling = null
    if (live === null) return
    holding.live = null
    if (holding.leaves !== null) this.#parts.sources.closed(holding.cid.text)
    holding.leaves = null
    live.close(new Error('the share was closed'))
    for (const link of live.links) this.#track(link.goodbye(0))
  }

  #track(task: Promise<void>): void {
    const tracked = task
      .catch((error: unknown) => this.#parts.log.debug('a task of the swarm ended with an error', { error }))
      .finally(() => this.#tasks.delete(tracked))
    this.#tasks.add(tracked)
  }
}
