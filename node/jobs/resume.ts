/**
 * What is fetched without anybody waiting for it. Blind seeding is a standing wish: shares whose `seed` was cut off by the end of the node
 * are fetched to their end when it runs again. And blocks of any kept share that were here and are lost are fetched again.
 *
 * One that the disk stopped (full, read-only, failing) is tried again every minute, and so goes on by itself when the cause is gone.
 *
 * A `get` is not taken up again: its output folder belongs to the command that was interrupted. What it had fetched is served, and the same
 * command goes on where it was.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { parseCid } from '../../protocol/cid.ts'
import { NODE } from '../../protocol/limits.ts'
import { formatLink, parseLink } from '../../protocol/link.ts'
import type { JobEvent, SeedRequest, SeedResult } from '../control/api.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import type { ShareRecord } from '../storage/records.ts'
import type { JobEnvironment } from './environment.ts'
import { seedJob } from './seed.ts'

/** Every share that is being fetched without anybody waiting for it. */
export class ResumedSeeds {
  readonly #env: JobEnvironment
  readonly #retryMs: number
  readonly #running = new Map<string, { stop: AbortController; ended: Promise<void> }>()
  readonly #waiting: string[] = []
  /** Running ones that lost more since. */
  readonly #again = new Set<string>()
  #isStopped = false

  constructor(env: JobEnvironment, retryMs: number = NODE.resumedRetryMs) {
    this.#env = env
    this.#retryMs = retryMs
  }

  get count(): number {
    return this.#running.size + this.#waiting.length
  }

  start(records: readonly ShareRecord[]): void {
    this.#env.damage.onMarked((cid) => this.#add(cid))
    for (const { cid, role, state } of records) {
      const { isCached, isDamaged } = this.#env.keeping.of(cid)
      if (!isCached && (isDamaged || (role === 'blind' && state === 'partial'))) this.#waiting.push(cid)
    }
    this.#next()
  }

  #add(cid: string): void {
    if (this.#env.keeping.of(cid).isCached) return
    if (this.#running.has(cid)) this.#again.add(cid)
    else if (!this.#waiting.includes(cid)) this.#waiting.push(cid)
    this.#next()
  }

  /** Runs a `seed`. Where the disk stops it, its user hears of it and it goes on by itself later. */
  async seed(request: SeedRequest, onEvent: (event: JobEvent) => void, signal: AbortSignal): Promise<SeedResult> {
    try {
      return await seedJob(this.#env, request, onEvent, signal)
    } catch (error) {
      if (isOfDisk(error) && !signal.aborted && !this.#env.isOneShot) {
        this.#takeUpLater((await parseLink(nodePrimitives, request.link)).cid.text)
      }
      throw error
    }
  }

  #takeUpLater(cid: string): void {
    if (this.#isStopped || this.#running.has(cid) || this.#waiting.includes(cid)) return
    if (this.#running.size >= NODE.resumedSeedsMax) {
      this.#waiting.push(cid)
      return
    }
    const stop = new AbortController()
    const ended = this.#after(cid, stop.signal).finally(() => this.#ended(cid))
    this.#running.set(cid, { stop, ended })
  }

  /** Lets go of one share, as before `unseed`. */
  async release(cid: string): Promise<void> {
    const at = this.#waiting.indexOf(cid)
    if (at >= 0) this.#waiting.splice(at, 1)
    const job = this.#running.get(cid)
    job?.stop.abort(new Error('the share is not to be kept any more'))
    await job?.ended
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    this.#waiting.length = 0
    await Promise.all([...this.#running.keys()].map((cid) => this.release(cid)))
  }

  #next(): void {
    while (!this.#isStopped && this.#running.size < NODE.resumedSeedsMax) {
      const cid = this.#waiting.shift()
      if (cid === undefined) return
      const stop = new AbortController()
      const ended = this.#run(cid, stop.signal).finally(() => this.#ended(cid))
      this.#running.set(cid, { stop, ended })
    }
  }

  #ended(cid: string): void {
    const wasStopped = this.#running.get(cid)?.stop.signal.aborted === true
    this.#running.delete(cid)
    if (this.#again.delete(cid) && !wasStopped) this.#waiting.push(cid)
    this.#next()
  }

  async #after(cid: string, signal: AbortSignal): Promise<void> {
    await sleep(this.#retryMs, undefined, { signal }).catch(() => {}) // the run below sees the signal
    await this.#run(cid, signal)
  }

  async #run(cid: string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const record = await this.#env.records.getShare(cid)
        if (record === null || (record.state !== 'partial' && !this.#env.keeping.of(cid).isDamaged)) return // let go, or complete by other means
        const link = await formatLink(nodePrimitives, { cid: parseCid(cid), readKey: null, peers: [], vias: [] })
        await seedJob(this.#env, { link, wait: true, peers: [] }, () => {}, signal)
        this.#env.log.info('a share that was cut off or had lost blocks is complete', { cid })
        return
      } catch (error) {
        if (signal.aborted) return
        // Its blocks stay and are served.
        this.#env.log.warn('a share that was cut off or lost blocks could not be fetched to its end', { cid, error })
        if (!isOfDisk(error)) return // the next start tries again
      }
      await sleep(this.#retryMs, undefined, { signal }).catch(() => {}) // the loop sees the signal
    }
  }
}

/** Failures that pass when somebody makes room, or the disk is mended. */
function isOfDisk(error: unknown): boolean {
  if (!(error instanceof Error) || !('code' in error)) return false
  return ['NO_SPACE', 'IO', 'DENIED', 'BUSY'].includes(String(error.code))
}
