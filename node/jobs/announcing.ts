/**
 * DRIVER of the announce machine, one for the whole node: provides what it keeps on the DHT, looks for peers, takes records back.
 */
import { formatCid, RAW, rendezvousDigest } from '../../protocol/cid.ts'
import { ANNOUNCE, WAITS } from '../../protocol/limits.ts'
import { Announce, type AnnounceAction, type AnnounceEvent, type AnnounceKeys } from '../../protocol/swarm/announce.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import type { Log } from '../log.ts'
import { type FoundPeer, phaseOf, placeOf, type Stack } from '../network/stack.ts'
import type { Records } from '../storage/records.ts'
import type { Holding } from './holding.ts'
import type { LiveShare } from './live-share.ts'

type ProvideAction = Extract<AnnounceAction, { type: 'provide' }>

export interface AnnouncingParts {
  /** Null without a network: then nothing happens at all. */
  stack: Stack | null
  records: Records
  log: Log
  /** Whether small shares get a record for each block as well. */
  keys: AnnounceKeys
  now(): number
  holding(cid: string): Holding | undefined
  liveOf(holding: Holding): Promise<LiveShare>
  onFound(holding: Holding, found: FoundPeer): void
  /** A share was opened for its names and may not be needed any more. */
  onIdle(holding: Holding): void
  track(task: Promise<void>): void
  signal: AbortSignal
}

export class Announcing {
  readonly #parts: AnnouncingParts
  readonly #machine: Announce
  #timer: NodeJS.Timeout | undefined
  /** Of the wall clock over the monotonic one, which stands still while the computer sleeps. */
  #offsetMs: number

  constructor(parts: AnnouncingParts) {
    this.#parts = parts
    this.#machine = new Announce(ANNOUNCE, Math.random, parts.keys, parts.stack === null ? 0 : phaseOf(parts.stack.peerIdBytes))
    this.#offsetMs = Date.now() - parts.now()
  }

  /** A share is kept, or about to be fetched: it is announced in its time. */
  add({ cid, record, rendezvous }: Holding): void {
    const blockCount = record?.blockCount ?? null
    if (this.#parts.keys === 'blocks' && blockCount !== null && blockCount > ANNOUNCE.blockRecordsMax)
      this.#parts.log.warn('a share is too large for a record of each block: only the share is announced', { blockCount })
    this.#feed({
      type: 'shareAdded',
      cid: cid.text,
      role: record?.state === 'complete' ? 'seeder' : 'downloader',
      announcedMs: record?.announcedMs ?? null,
      wallNow: Date.now(),
      blockCount,
      place: placeOf(rendezvous),
    })
  }

  /** Whether the DHT is to be asked for peers, now and again. */
  want({ cid }: Holding, isWanting: boolean): void {
    this.#feed({ type: isWanting ? 'wantPeers' : 'enoughPeers', cid: cid.text })
  }

  /** What is announced names addresses that are ours no more. */
  readdress(): void {
    this.#feed({ type: 'addressesChanged' })
  }

  /** Announced no more. */
  remove({ cid }: Holding): void {
    this.#feed({ type: 'shareRemoved', cid: cid.text })
  }

  /** No DHT server of ours names us any more for this share and its blocks. */
  async takeBack(holding: Holding, blockCount: number | null): Promise<void> {
    const { stack, log } = this.#parts
    if (stack === null) return
    await stack.stopProviding(holding.rendezvous)
    if (blockCount === null || blockCount > ANNOUNCE.blockRecordsMax) return
    try {
      for (const key of await this.#blockKeys(holding)) await stack.stopProviding(key)
    } catch (error) {
      log.warn('the names of the blocks of a share could not be read: records of them end by their age', { error })
    }
  }

  stop(): void {
    clearTimeout(this.#timer)
  }

  #feed(event: AnnounceEvent): void {
    const { stack, signal, now } = this.#parts
    if (stack === null || signal.aborted) return
    const sleptMs = this.#sleptMs()
    const events: AnnounceEvent[] = sleptMs > 0 ? [{ type: 'slept', ms: sleptMs }, event] : [event]
    for (const each of events) for (const action of this.#machine.handle(each, now())) this.#perform(stack, action)
    clearTimeout(this.#timer)
    const at = this.#machine.nextTimeout()
    if (at === undefined) return
    const waitMs = Math.min(ANNOUNCE.clocksMs, Math.max(1, Math.ceil(at - now())))
    this.#timer = setTimeout(() => this.#feed({ type: 'tick' }), waitMs)
    this.#timer.unref()
  }

  /** Since the clocks were compared; 0 when none of it is worth telling. A wall clock that was set back only begins anew. */
  #sleptMs(): number {
    const offsetMs = Date.now() - this.#parts.now()
    const aheadMs = offsetMs - this.#offsetMs
    if (Math.abs(aheadMs) > ANNOUNCE.sleptMsMin) this.#offsetMs = offsetMs
    return aheadMs > ANNOUNCE.sleptMsMin ? aheadMs : 0
  }

  #perform(stack: Stack, action: AnnounceAction): void {
    const { holding: find, track } = this.#parts
    const holding = find(action.cid)
    if (holding === undefined) return
    if (action.type === 'provide') track(this.#provide(stack, holding, action))
    else if (action.type === 'find') track(this.#find(stack, holding))
    else track(stack.stopProviding(holding.rendezvous))
  }

  async #provide(stack: Stack, holding: Holding, { keys, also }: ProvideAction): Promise<void> {
    const { signal, log } = this.#parts
    const others = also.flatMap((cid) => this.#parts.holding(cid) ?? [])
    const deadline = (): AbortSignal => AbortSignal.any([signal, AbortSignal.timeout(WAITS.provideMs)])
    let told = 0
    let along: Holding[] = []
    try {
      const provided = await stack.provideAll(
        [holding, ...others].map(({ rendezvous }) => rendezvous),
        deadline(),
      )
      told = provided.told
      along = provided.covered.flatMap((index) => others[index] ?? [])
      if (keys === 'blocks' && told > 0) {
        for (const key of await this.#blockKeys(holding)) if ((await stack.provide(key, deadline())) === 0) break
        this.#parts.onIdle(holding)
      }
    } catch (error) {
      log.debug('announcing failed', { error })
    }
    if (signal.aborted) return
    try {
      for (const other of told > 0 ? [holding, ...along] : []) await this.#noteAnnounced(other)
      if (!this.#isHeld(holding)) await stack.stopProviding(holding.rendezvous) // let go of meanwhile
    } catch (error) {
      log.warn('the record of a share that was let go of ends by its age', { error })
    } finally {
      this.#feed({ type: 'provideDone', cid: holding.cid.text, ok: told > 0, also: along.map(({ cid }) => cid.text) })
    }
  }

  #isHeld(holding: Holding): boolean {
    return this.#parts.holding(holding.cid.text) === holding
  }

  async #noteAnnounced(holding: Holding): Promise<void> {
    if (holding.record === null || !this.#isHeld(holding)) return
    holding.record = { ...holding.record, announcedMs: Date.now() }
    try {
      await this.#parts.records.setAnnounced(holding.cid.text, holding.record.announcedMs ?? 0)
    } catch (error) {
      this.#parts.log.warn('when a share was announced could not be kept', { error }) // after a restart it is announced early
    }
  }

  /** The names in the DHT of the blocks of a small share, as far as they are known: made like that of the share. */
  async #blockKeys(holding: Holding): Promise<Uint8Array[]> {
    const live = await this.#parts.liveOf(holding)
    const blockCount = live.dag?.shape.blockCount ?? 0
    const keys: Uint8Array[] = []
    if (blockCount > ANNOUNCE.blockRecordsMax) return keys
    for (let index = 0; index < blockCount; index++) {
      const digest = live.digestOf(0, index)
      if (digest !== null && live.has(0, index)) keys.push(await rendezvousDigest(nodePrimitives, formatCid(RAW, digest)))
    }
    return keys
  }

  async #find(stack: Stack, holding: Holding): Promise<void> {
    const { signal: stopped, log, onFound } = this.#parts
    holding.findsRunning++
    let peers = 0
    try {
      const signal = AbortSignal.any([stopped, AbortSignal.timeout(WAITS.findMs)])
      if (stack.connections().length === 0) await stack.connectBootstrap(signal)
      for await (const found of stack.find(holding.rendezvous, signal)) {
        peers++
        onFound(holding, found)
      }
    } catch (error) {
      log.debug('looking for seeders failed', { error })
    } finally {
      holding.findsRunning--
      holding.findsDone++
      log.debug('looked for peers', { peers })
    }
    const live = (holding.live?.links.length ?? 0) + (holding.dialling?.count ?? 0)
    this.#feed({ type: 'findDone', cid: holding.cid.text, live })
  }
}
