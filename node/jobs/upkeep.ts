/**
 * What a node does for its store by itself, quietly: finishes a deletion that was cut off, deletes what nobody needs, checks what is there.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { KEEPING, NODE } from '../../protocol/limits.ts'
import { JobError, type KeepingStatus } from '../control/api.ts'
import type { JobEnvironment } from './environment.ts'
import { Expiry } from './expiry.ts'
import { finishDeletion, gcJob } from './gc.ts'
import { Scrub } from './scrub.ts'

export interface UpkeepOptions {
  isOneShot: boolean
  /** Checking had better wait. */
  isBusy: () => boolean
  /** Stops whatever the node does by itself with a share, and unseeds it. */
  letGo: (cid: string, signal: AbortSignal) => Promise<void>
}

export class Upkeep {
  readonly #env: JobEnvironment
  readonly #isOneShot: boolean
  readonly #letGo: UpkeepOptions['letGo']
  readonly #scrub: Scrub
  readonly #stopped = new AbortController()
  readonly #running = new Set<Promise<void>>()

  constructor(env: JobEnvironment, options: UpkeepOptions) {
    this.#env = env
    this.#isOneShot = options.isOneShot
    this.#letGo = options.letGo
    this.#scrub = new Scrub(env, options.isBusy, this.#stopped.signal)
  }

  start(): void {
    this.#run('finishing a deletion', (signal) => finishDeletion(this.#env, signal))
    if (this.#isOneShot) return
    this.#run('deleting what nobody needs', (signal) => this.#collect(signal))
    this.#run('bringing the cache to its size', (signal) => this.#cache(signal))
    this.#run('letting go of what is over', (signal) => this.#expire(signal))
    this.#run('checking what is stored', (signal) => this.#check(signal))
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new JobError('STOPPED', 'the node was stopped'))
    await Promise.all(this.#running)
    if (!this.#isOneShot) await this.#scrub.save()
  }

  /** The cache may have to be smaller now. */
  settleCache(): void {
    this.#run('bringing the cache to its size', () => this.#env.cache.settle())
  }

  status(): KeepingStatus {
    const damagedShares = this.#env.keeping.all().filter(({ isDamaged }) => isDamaged).length
    return { damagedShares, scrub: this.#isOneShot ? null : this.#scrub.status() }
  }

  async #collect(signal: AbortSignal): Promise<void> {
    for (let waitMs: number = NODE.gcFirstMs; ; waitMs = NODE.gcAgainMs) {
      await delay(waitMs, undefined, { signal, ref: false })
      try {
        const { blocks, bytes } = await gcJob(this.#env, { dryRun: false, consent: false }, () => {}, signal)
        if (blocks > 0) this.#env.log.info('blocks that nobody needs were deleted', { blocks, bytes })
      } catch (error) {
        signal.throwIfAborted()
        this.#env.log.info('blocks that nobody needs were not deleted', { error }) // tried again tomorrow
      }
    }
  }

  async #expire(signal: AbortSignal): Promise<void> {
    const expiry = new Expiry()
    for (;;) {
      for (const cid of expiry.look(this.#env.keeping.all(), performance.now(), Date.now())) {
        try {
          // What is our own by now, or was fetched to read, is kept for good.
          const role = (await this.#env.records.getShare(cid))?.role
          if (role !== 'blind') {
            await this.#env.keeping.change(cid, { keepUntilMs: null })
            continue
          }
          await this.#letGo(cid, signal)
          this.#env.log.info('a share was kept for as long as it was to be, and is not any more', { cid })
        } catch (error) {
          signal.throwIfAborted()
          this.#env.log.info('a share whose time is over is still in use', { cid, error }) // looked at again in a minute
        }
      }
      await delay(KEEPING.expiryLookMs, undefined, { signal, ref: false })
    }
  }

  /** Others write to the same disk: that is seen within a minute. */
  async #cache(signal: AbortSignal): Promise<void> {
    for (let isReconciled = false; ; ) {
      try {
        if (!isReconciled) await this.#env.cache.reconcile(signal)
        isReconciled = true
      } catch (error) {
        signal.throwIfAborted()
        this.#env.log.warn('what is cached could not be looked through', { error }) // tried again in a minute
      }
      await delay(KEEPING.expiryLookMs, undefined, { signal, ref: false })
      this.settleCache()
    }
  }

  async #check(signal: AbortSignal): Promise<void> {
    for (let isBegun = false; ; ) {
      let waitMs: number = KEEPING.scrubWaitMaxMs
      try {
        if (isBegun) await this.#scrub.step()
        else await this.#beginChecking()
        isBegun = true
        waitMs = this.#scrub.waitMs
      } catch (error) {
        signal.throwIfAborted()
        this.#env.log.warn('what is stored could not be checked', { error }) // gone on with after the longest wait
      }
      await delay(waitMs, undefined, { signal, ref: false })
    }
  }

  async #beginChecking(): Promise<void> {
    await this.#scrub.load()
    const marked = await this.#scrub.reconcile()
    if (marked > 0) this.#env.log.warn('blocks of kept shares are missing: they are fetched again', { shares: marked })
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
