/**
 * What a node does for its store by itself, quietly: finishes a deletion that was cut off, and now and then deletes what nobody needs.
 */
import { NODE } from '../../protocol/limits.ts'
import { JobError } from '../control/api.ts'
import type { JobEnvironment } from './environment.ts'
import { finishDeletion, gcJob } from './gc.ts'

export class Upkeep {
  readonly #env: JobEnvironment
  readonly #isOneShot: boolean
  readonly #stopped = new AbortController()
  readonly #running = new Set<Promise<void>>()
  #timer: NodeJS.Timeout | undefined

  constructor(env: JobEnvironment, options: { isOneShot: boolean }) {
    this.#env = env
    this.#isOneShot = options.isOneShot
  }

  start(): void {
    this.#run('finishing a deletion', () => finishDeletion(this.#env, this.#stopped.signal))
    if (!this.#isOneShot) this.#collectIn(NODE.gcFirstMs)
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new JobError('STOPPED', 'the node was stopped'))
    clearTimeout(this.#timer)
    await Promise.all(this.#running)
  }

  #collectIn(waitMs: number): void {
    this.#timer = setTimeout(() => {
      this.#run('deleting what nobody needs', async () => {
        const { blocks, bytes } = await gcJob(this.#env, { dryRun: false }, () => {}, this.#stopped.signal)
        if (blocks > 0) this.#env.log.info('blocks that nobody needs were deleted', { blocks, bytes })
      })
      this.#collectIn(NODE.gcAgainMs)
    }, waitMs)
    this.#timer.unref()
  }

  #run(what: string, work: () => Promise<void>): void {
    const running = work()
      .catch((error: unknown) => {
        if (!this.#stopped.signal.aborted) this.#env.log.warn('upkeep failed', { what, error })
      })
      .finally(() => this.#running.delete(running))
    this.#running.add(running)
  }
}
