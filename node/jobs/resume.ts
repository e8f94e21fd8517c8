/**
 * Blind seeding is a standing wish: shares whose `seed` was cut off by the end of the node are fetched to their end when it runs again.
 *
 * A `get` is not taken up again: its output folder belongs to the command that was interrupted. What it had fetched is served, and the same
 * command goes on where it was.
 */
import { parseCid } from '../../protocol/cid.ts'
import { NODE } from '../../protocol/limits.ts'
import { formatLink } from '../../protocol/link.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import type { ShareRecord } from '../storage/records.ts'
import type { JobEnvironment } from './environment.ts'
import { seedJob } from './seed.ts'

/** Every share that is being fetched without anybody waiting for it. */
export class ResumedSeeds {
  readonly #env: JobEnvironment
  readonly #running = new Map<string, { stop: AbortController; ended: Promise<void> }>()
  readonly #waiting: string[] = []
  #isStopped = false

  constructor(env: JobEnvironment) {
    this.#env = env
  }

  get count(): number {
    return this.#running.size + this.#waiting.length
  }

  start(records: readonly ShareRecord[]): void {
    for (const { cid, role, state } of records) if (role === 'blind' && state === 'partial') this.#waiting.push(cid)
    this.#next()
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
      const ended = this.#run(cid, stop.signal).finally(() => {
        this.#running.delete(cid)
        this.#next()
      })
      this.#running.set(cid, { stop, ended })
    }
  }

  async #run(cid: string, signal: AbortSignal): Promise<void> {
    try {
      const link = await formatLink(nodePrimitives, { cid: parseCid(cid), readKey: null, peers: [], vias: [] })
      await seedJob(this.#env, { link, wait: true, peers: [] }, () => {}, signal)
      this.#env.log.info('a share that was cut off is complete', { cid })
    } catch (error) {
      // Its blocks stay and are served; the next start tries again.
      if (!signal.aborted) this.#env.log.warn('a share that was cut off could not be fetched to its end', { cid, error })
    }
  }
}
