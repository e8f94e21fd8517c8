/**
 * What a node does for its store by itself, quietly: finishes a deletion that was cut off, deletes what nobody needs, checks what is there.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { NODE } from '../../protocol/limits.ts'
import { JobError, type KeepingStatus } from '../control/api.ts'
import type { JobEnvironment } from './environment.ts'
import { finishDeletion, gcJob } from './gc.ts'
import { Scrub } from './scrub.ts'

export class Upkeep {
  readonly #env: JobEnvironment
  readonly #isOneShot: boolean
  readonly #scrub: Scrub
  readonly #stopped = new AbortController()
  readonly #running = new Set<Promise<void>>()

  /** `isBusy`: checking had better wait. */
  constructor(env: JobEnvironment, options: { isOneShot: boolean; isBusy: () => boolean }) {
    this.#env = env
    this.#isOneShot = options.isOneShot
    this.#scrub = new Scrub(env, options.isBusy, this.#stopped.signal)
  }

  start(): void {
    this.#run('finishing a deletion', (signal) => finishDeletion(this.#env, signal))
    if (this.#isOneShot) return
    this.#run('deleting what nobody needs', (signal) => this.#collect(signal))
    this.#run('checking what is stored', (signal) => this.#check(signal))
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new JobError('STOPPED', 'the node was stopped'))
    await Promise.all(this.#running)
    if (!this.#isOneShot) await this.#scrub.save()
  }

  status(): KeepingStatus {
    const damagedShares = this.#env.keeping.all().filter(({ isDamaged }) => isDamaged).length
    return { damagedShares, scrub: this.#isOneShot ? null : this.#scrub.status() }
  }

  async #collect(signal: AbortSignal): Promise<void> {
    for (let waitMs: number = NODE.gcFirstMs; ; waitMs = NODE.gcAgainMs) {
      await delay(waitMs, undefined, { signal, ref: false })
      try {
        const { blocks, bytes } = await gcJob(this.#env, { dryRun: false }, () => {}, signal)
        if (blocks > 0) this.#env.log.info('blocks that nobody needs were deleted', { blocks, bytes })
      } catch (error) {
        signal.throwIfAborted()
        this.#env.log.warn('blocks that nobody needs could not be deleted', { error }) // tried again tomorrow
      }
    }
  }

  async #check(signal: AbortSignal): Promise<void> {
    await this.#scrub.load()
    const marked = await this.#scrub.reconcile()
    if (marked > 0) this.#env.log.warn('blocks of kept shares are missing: they are fetched again', { shares: marked })
    for (;;) {
      await delay(this.#scrub.waitMs, undefined, { signal, ref: false })
      await this.#scrub.step()
    }
  }

  #run(what: string, work: (signal: AbortSignal) => Promise<void>): void {
    const { signal } = this.#stopped
    const running = work(signal)
      .catch((error: unknown) => {
        if (!signal.aborted) this.#env.log.warn('upkeep ended', { what, error })
      })
      .finally(() => this.#running.delete(running))
    this.#running.add(running)
  }
}
