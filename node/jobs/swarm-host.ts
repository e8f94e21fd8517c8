/**
 * All shares of this node as the network sees them: answers hellos, finds and dials peers, announces, keeps score.
 *
 * It drives the announce and score machines and owns every LiveShare. Jobs hold a share while they work on it; what is kept (has a
 * record) is served and announced for as long as the node runs.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { toHex } from '../../protocol/bytes.ts'
import { multihashOf, parseCid, rendezvousDigest, type ShareCid } from '../../protocol/cid.ts'
import { ANNOUNCE, NETWORK, SCORE, SWARM, WAITS, WIRE } from '../../protocol/limits.ts'
import { Announce, type AnnounceAction, type AnnounceEvent } from '../../protocol/swarm/announce.ts'
import { Score } from '../../protocol/swarm/score.ts'
import { CreditBudget } from '../../protocol/wire/credit.ts'
import type { CryptoPool } from '../crypto/pool.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import type { Log } from '../log.ts'
import type { FrameStream } from '../network/frame-stream.ts'
import { groupOf } from '../network/peer-address.ts'
import { type LinkInit, PeerLink } from '../network/peer-link.ts'
import type { RateLimiter } from '../network/rate-limiter.ts'
import type { Remote } from '../network/remote.ts'
import type { Stack, SwarmTarget } from '../network/stack.ts'
import type { BlockStore } from '../storage/blocks.ts'
import type { Records, ShareRecord } from '../storage/records.ts'
import { LiveShare, type LiveShareParts } from './live-share.ts'
import { NOBODY } from './nobody.ts'
import { Uploads } from './uploads.ts'

export interface HostParts {
  stack: Stack | null
  blocks: BlockStore
  records: Records
  pool: CryptoPool
  limiter: RateLimiter
  log: Log
  groupPrivate: boolean
}

/** One share that this node knows: kept (a record), or open for a job, or both. */
export interface Holding {
  readonly cid: ShareCid
  readonly rendezvous: Uint8Array
  record: ShareRecord | null
  live: LiveShare | null
  loading: Promise<LiveShare> | null
  holders: number
  /** Links that are about to be attached. */
  linking: number
  /** Peers being dialled for it, and until when a failed one is left alone. */
  readonly dialling: Set<string>
  readonly retryAt: Map<string, number>
  findsRunning: number
  findsDone: number
  /** Aborts when it is let go of: a dial that came late would push the link of the next job aside. */
  readonly ended: AbortController
}

const DIALS_AT_ONCE_MAX = 8
const RETRY_DIAL_MS = 30_000
const RECONNECT_MIN_MS = 2_000
const RECONNECT_MAX_MS = 60_000

export class SwarmHost {
  readonly #parts: HostParts
  readonly #holdings = new Map<string, Holding>()
  readonly #byRendezvous = new Map<string, Holding>()
  readonly #announce: Announce
  readonly #score = new Score(SCORE)
  readonly #uploads: Uploads
  readonly #budget: CreditBudget
  readonly #stopped = new AbortController()
  readonly #ended = { bytesIn: 0, bytesOut: 0 }
  readonly #tasks = new Set<Promise<void>>()
  /** Shares whose blocks are being taken away. */
  readonly #removals = new Map<string, Promise<void>>()
  #timer: NodeJS.Timeout | undefined

  constructor(parts: HostParts) {
    this.#parts = parts
    this.#budget = new CreditBudget(WIRE.creditBytesTotal, parts.limiter.credit)
    this.#announce = new Announce(ANNOUNCE, Math.random)
    this.#uploads = new Uploads({
      blocks: parts.blocks,
      log: parts.log,
      now: this.now,
      groupPrivate: parts.groupPrivate,
    })
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
      if (record.state === 'complete') this.#announceShare(holding)
    }
    if (this.#parts.stack === null) return
    await this.#parts.stack.handleSwarm((frames, remote, signal) => this.#inbound(frames, remote, signal))
    this.#track(this.#keepConnected(this.#parts.stack))
  }

  async stop(): Promise<void> {
    const reason = new Error('the node is stopping')
    this.#stopped.abort(reason)
    clearTimeout(this.#timer)
    this.#uploads.stop()
    for (const holding of this.#holdings.values()) holding.live?.close(reason)
    await Promise.allSettled(this.#tasks)
  }

  holding(cid: string): Holding | undefined {
    return this.#holdings.get(cid)
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

  /** Opens a share for a job; `release` when the job ends. The live share is loaded from the store. */
  async hold(cid: ShareCid, signal: AbortSignal): Promise<{ holding: Holding; live: LiveShare; release: () => void }> {
    let holding = await this.#register(cid)
    for (let removal = this.#removals.get(cid.text); removal !== undefined || this.#holdings.get(cid.text) !== holding; ) {
      await removal
      holding = await this.#register(cid)
      removal = this.#removals.get(cid.text)
    }
    holding.holders++
    let released = false
    const release = (): void => {
      if (released) return
      released = true
      holding.holders--
      if (holding.holders === 0) {
        this.#feed({ type: 'enoughPeers', cid: cid.text })
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
    if (record.state === 'complete') this.#announceShare(holding)
  }

  /** For records made outside of a hold, as by `share`. A live copy that knew less is thrown away. */
  async added(record: ShareRecord): Promise<void> {
    const holding = await this.#register(parseCid(record.cid))
    if (holding.live !== null && !holding.live.isComplete && holding.holders === 0) this.#closeLive(holding)
    this.kept(holding, record)
  }

  /** Stops serving and announcing a share. */
  async removed(cid: string): Promise<void> {
    const holding = this.#holdings.get(cid)
    if (holding === undefined) return
    holding.record = null
    this.#feed({ type: 'shareRemoved', cid })
    await this.#parts.stack?.stopProviding(holding.rendezvous)
    this.#dropUnused(holding)
  }

  /** Looks for peers until `release`, dialling `hints` first. */
  seek(holding: Holding, hints: SwarmTarget[]): void {
    if (this.#parts.stack === null) return
    for (const hint of hints) this.#consider(holding, hint)
    this.#feed({ type: 'shareAdded', cid: holding.cid.text, role: 'downloader', announcedMs: null, wallNow: Date.now() })
    this.#feed({ type: 'wantPeers', cid: holding.cid.text })
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
    })
    if (accepted === null) return
    await this.#runLink(accepted.share.holding, accepted.link, accepted.share.knowsShape)
  }

  #linkInit(stack: Stack, frames: FrameStream, remote: Remote): LinkInit {
    const { pool, limiter } = this.#parts
    const shared = { budget: this.#budget, limiter, allocate: pool.buffers.take, primitives: nodePrimitives }
    return { frames, remote, self: stack.peerIdBytes, ...shared }
  }

  #lookup(rendezvous: Uint8Array): { rootMultihash: Uint8Array; knowsShape: boolean; holding: Holding } | null {
    const holding = this.#byRendezvous.get(toHex(rendezvous))
    if (holding === undefined) return null
    const knowsShape = holding.record?.state === 'complete' || holding.live?.knowsShape() === true
    return { rootMultihash: multihashOf(holding.cid), knowsShape, holding }
  }

  async #runLink(holding: Holding, link: PeerLink, saidShape: boolean): Promise<void> {
    const peer = link.remote.peerId
    holding.linking++
    const live = await this.#welcome(holding, link, saidShape)
    if (live === null || holding.live !== live) {
      holding.linking--
      this.#dropUnused(holding)
      link.goodbye(0).catch(() => {}) // heard of by the line below
      await link.run(NOBODY, this.#stopped.signal)
      return
    }
    this.#parts.stack?.trust(peer)
    this.#uploads.join(live, link)
    this.#parts.log.debug('peer joined', { peer, direction: link.remote.direction })
    try {
      const running = live.attach(link, this.#stopped.signal)
      holding.linking--
      if (holding.record === null && holding.holders === 0) this.#dropUnused(holding) // the last job ended meanwhile
      const reason = await running
      if (reason.strike !== 'none') this.#strike(link, reason.strike)
    } finally {
      this.#uploads.leave(live, link)
      this.#ended.bytesIn += link.stats.bytesIn
      this.#ended.bytesOut += link.stats.bytesOut
      this.#dropUnused(holding)
    }
  }

  /** The live share that a link is to be attached to, at once; null when the link is not wanted. */
  async #welcome(holding: Holding, link: PeerLink, saidShape: boolean): Promise<LiveShare | null> {
    let live: LiveShare
    try {
      live = await this.#liveOf(holding)
    } catch (error) {
      this.#parts.log.warn('a share could not be opened for a peer', { error })
      return null
    }
    const { peerId } = link.remote
    for (let other = live.linkOf(peerId); other !== undefined; other = live.linkOf(peerId)) {
      if (!this.#replaces(link, other)) return null
      await other.goodbye(0)
    }
    if (this.#holdings.get(holding.cid.text) !== holding) return null // let go of meanwhile
    return live.links.length < SWARM.peersPerShareMax && (!saidShape || live.knowsShape()) ? live : null
  }

  /** Of two streams between the same peers, the one that the smaller peer id opened stays; both sides decide alike. */
  #replaces(link: PeerLink, other: PeerLink): boolean {
    if (link.remote.direction === other.remote.direction) return true // the old one is dead, and its owner knows
    const self = this.#parts.stack?.peerIdBytes ?? new Uint8Array(0)
    const weAreSmaller = Buffer.compare(self, link.remote.peerIdBytes) < 0
    return (link.remote.direction === 'outbound') === weAreSmaller
  }

  #strike(link: PeerLink, kind: 'protocol' | 'fatal'): void {
    const { peerId, address } = link.remote
    const now = this.now()
    const group = groupOf(address, this.#parts.groupPrivate)
    this.#score.strike(peerId, group, kind, now)
    this.#parts.log.info('a peer broke the rules', { peer: peerId, kind })
    if (this.#score.isBanned(peerId, group, now)) this.#parts.stack?.ban(peerId, now + (kind === 'fatal' ? SCORE.banFatalMs : SCORE.banMs))
  }

  /** Takes note of a possible peer and dials it if there is room. */
  #consider(holding: Holding, found: SwarmTarget): void {
    const stack = this.#parts.stack
    if (stack === null || found.peerId === stack.peerId || this.#stopped.signal.aborted) return
    const now = this.now()
    if ((holding.retryAt.get(found.peerId) ?? 0) > now || holding.dialling.has(found.peerId)) return
    if (holding.live?.linkOf(found.peerId) !== undefined || holding.dialling.size >= DIALS_AT_ONCE_MAX) return
    if ((holding.live?.links.length ?? 0) >= SWARM.peersPerShareMax || this.#score.isBanned(found.peerId, '', now)) return
    if (holding.retryAt.size >= NETWORK.dialsPerFindMax * 4) holding.retryAt.clear()
    holding.dialling.add(found.peerId)
    this.#track(this.#dial(stack, holding, found))
  }

  async #dial(stack: Stack, holding: Holding, found: SwarmTarget): Promise<void> {
    let link: PeerLink | null = null
    let saidShape = false
    holding.linking++
    try {
      const signal = AbortSignal.any([this.#stopped.signal, holding.ended.signal, AbortSignal.timeout(WAITS.dialMs)])
      const { frames, remote } = await stack.openSwarm(found, signal)
      saidShape = (await this.#liveOf(holding)).knowsShape()
      link = await PeerLink.connect({
        ...this.#linkInit(stack, frames, remote),
        rootMultihash: multihashOf(holding.cid),
        rendezvous: holding.rendezvous,
        knowsShape: saidShape,
        signal,
      })
    } catch (error) {
      this.#parts.log.debug('a peer could not be reached', { peer: found.peerId, error })
      holding.retryAt.set(found.peerId, this.now() + RETRY_DIAL_MS)
    } finally {
      holding.dialling.delete(found.peerId)
      holding.linking--
    }
    if (link === null) this.#dropUnused(holding)
    else this.#track(this.#runLink(holding, link, saidShape))
  }

  /** Dials the entrances of the network whenever the node stands alone. */
  async #keepConnected(stack: Stack): Promise<void> {
    const { signal } = this.#stopped
    for (let waitMs = RECONNECT_MIN_MS; !signal.aborted; waitMs = Math.min(waitMs * 2, RECONNECT_MAX_MS)) {
      if (stack.connections().length > 0) waitMs = RECONNECT_MIN_MS
      else await stack.connectBootstrap(AbortSignal.any([signal, AbortSignal.timeout(WAITS.dialMs)])).catch(() => 0) // tried again below
      await delay(waitMs, undefined, { signal, ref: false }).catch(() => {}) // aborted: the loop ends
    }
  }

  // Announcing and finding.

  #announceShare(holding: Holding): void {
    const { cid, record } = holding
    this.#feed({ type: 'shareAdded', cid: cid.text, role: 'seeder', announcedMs: record?.announcedMs ?? null, wallNow: Date.now() })
  }

  #feed(event: AnnounceEvent): void {
    if (this.#parts.stack === null || this.#stopped.signal.aborted) return
    for (const action of this.#announce.handle(event, this.now())) this.#perform(this.#parts.stack, action)
    clearTimeout(this.#timer)
    const at = this.#announce.nextTimeout()
    if (at === undefined) return
    const waitMs = Math.min(2 ** 31 - 1, Math.max(1, Math.ceil(at - this.now())))
    this.#timer = setTimeout(() => this.#feed({ type: 'tick' }), waitMs)
    this.#timer.unref()
  }

  #perform(stack: Stack, action: AnnounceAction): void {
    const holding = this.#holdings.get(action.cid)
    if (holding === undefined) return
    if (action.type === 'provide') this.#track(this.#provide(stack, holding))
    else if (action.type === 'find') this.#track(this.#find(stack, holding))
    else this.#track(stack.stopProviding(holding.rendezvous))
  }

  async #provide(stack: Stack, holding: Holding): Promise<void> {
    let told = 0
    try {
      told = await stack.provide(holding.rendezvous, AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(WAITS.provideMs)]))
    } catch (error) {
      this.#parts.log.debug('announcing failed', { error })
    }
    if (this.#stopped.signal.aborted) return
    if (this.#holdings.get(holding.cid.text) !== holding) return await stack.stopProviding(holding.rendezvous) // let go of meanwhile
    if (told > 0 && holding.record !== null) {
      holding.record = { ...holding.record, announcedMs: Date.now() }
      await this.#parts.records.setAnnounced(holding.cid.text, holding.record.announcedMs ?? 0)
    }
    this.#feed({ type: 'provideDone', cid: holding.cid.text, ok: told > 0 })
  }

  async #find(stack: Stack, holding: Holding): Promise<void> {
    holding.findsRunning++
    try {
      const signal = AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(WAITS.findMs)])
      if (stack.connections().length === 0) await stack.connectBootstrap(signal)
      for await (const found of stack.find(holding.rendezvous, signal)) this.#consider(holding, found)
    } catch (error) {
      this.#parts.log.debug('looking for seeders failed', { error })
    } finally {
      holding.findsRunning--
      holding.findsDone++
    }
    this.#feed({ type: 'findDone', cid: holding.cid.text, live: (holding.live?.links.length ?? 0) + holding.dialling.size })
  }

  // Bookkeeping.

  async #register(cid: ShareCid): Promise<Holding> {
    const known = this.#holdings.get(cid.text)
    if (known !== undefined) return known
    const rendezvous = await rendezvousDigest(nodePrimitives, cid)
    const raced = this.#holdings.get(cid.text)
    if (raced !== undefined) return raced
    const holding: Holding = {
      cid,
      rendezvous,
      record: null,
      live: null,
      loading: null,
      holders: 0,
      linking: 0,
      dialling: new Set(),
      retryAt: new Map(),
      findsRunning: 0,
      findsDone: 0,
      ended: new AbortController(),
    }
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
        holding.live = live
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
      pool: this.#parts.pool,
      log: this.#parts.log,
      now: this.now,
      random: Math.random,
      onRequest: (share, link, level, index) => this.#uploads.requested(share, link, level, index),
      onCancel: (share, link, level, index) => this.#uploads.cancelled(share, link, level, index),
      onSole: (share, leafCount) => this.#uploads.sole(share, leafCount),
      onBadBlock: (_share, link) => {
        this.#strike(link, 'fatal')
        this.#track(link.goodbye(0))
      },
    }
  }

  /** Frees what nobody uses: a live share with no job and no peer; the whole holding when it is not kept either. */
  #dropUnused(holding: Holding): void {
    if (holding.holders > 0) return
    if (holding.record !== null && (holding.linking > 0 || (holding.live?.links.length ?? 0) > 0)) return
    this.#closeLive(holding)
    if (holding.record !== null || holding.loading !== null || this.#holdings.get(holding.cid.text) !== holding) return
    this.#feed({ type: 'shareRemoved', cid: holding.cid.text })
    holding.ended.abort(new Error('the share was let go of'))
    this.#holdings.delete(holding.cid.text)
    this.#byRendezvous.delete(toHex(holding.rendezvous))
  }

  #closeLive(holding: Holding): void {
    const live = holding.live
    if (live === null) return
    holding.live = null
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
