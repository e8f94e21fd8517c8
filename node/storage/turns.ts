/**
 * The one bounded queue of node/storage: at most so many works at once, at most so many waiting, first come first served.
 *
 * A peer can make us read or write, so nothing here may grow without end: one caller too many is told BUSY. Aborting ends the wait;
 * work that has begun is finished.
 */
import { FileError } from './file-error.ts'

interface Waiting {
  start(): void
}

/** Runs works with bounded concurrency and a bounded queue. */
export class Turns {
  readonly #atOnceMax: number
  readonly #waitingMax: number
  readonly #onFull: () => void
  readonly #waiting = new Set<Waiting>()
  #running = 0
  #idle: (() => void)[] = []

  /** `onFull`: somebody is told BUSY. */
  constructor(atOnceMax: number, waitingMax: number, onFull: () => void = () => {}) {
    this.#atOnceMax = atOnceMax
    this.#waitingMax = waitingMax
    this.#onFull = onFull
  }

  /** Runs `work` when its turn comes. Throws FileError BUSY when too many wait, the signal's reason when aborted before the start. */
  async run<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    signal.throwIfAborted()
    if (this.#running >= this.#atOnceMax) await this.#wait(signal)
    else this.#running += 1
    try {
      return await work()
    } finally {
      this.#leave()
    }
  }

  get waiting(): number {
    return this.#waiting.size
  }

  /** Resolves when nothing runs or waits. */
  async whenIdle(): Promise<void> {
    if (this.#running === 0) return
    await new Promise<void>((resolve) => this.#idle.push(resolve))
  }

  #wait(signal: AbortSignal): Promise<void> {
    if (this.#waiting.size >= this.#waitingMax) {
      this.#onFull()
      throw new FileError('BUSY', `${this.#waiting.size} file operations are waiting, limit ${this.#waitingMax}`)
    }
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiting.delete(waiting)
        reject(signal.reason)
      }
      const waiting: Waiting = {
        start: () => {
          signal.removeEventListener('abort', onAbort)
          resolve()
        },
      }
      this.#waiting.add(waiting)
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  // The place of a finished work passes straight to the first in the queue, so nobody can slip in between.
  #leave(): void {
    const [next] = this.#waiting
    if (next !== undefined) {
      this.#waiting.delete(next)
      next.start()
      return
    }
    this.#running -= 1
    if (this.#running > 0) return
    const idle = this.#idle
    this.#idle = []
    for (const resolve of idle) resolve()
  }
}

/** Runs `work` over all items, `atOnceMax` at a time; stops taking new ones at the first failure and throws it after the rest has ended. */
export async function forEachBounded<T>(items: Iterable<T>, atOnceMax: number, work: (item: T) => Promise<void>): Promise<void> {
  const iterator = items[Symbol.iterator]()
  let failed = false
  const lane = async (): Promise<void> => {
    while (!failed) {
      const next = iterator.next()
      if (next.done === true) return
      try {
        await work(next.value)
      } catch (error) {
        failed = true
        throw error
      }
    }
  }
  const lanes = await Promise.allSettled(Array.from({ length: atOnceMax }, lane))
  for (const result of lanes) if (result.status === 'rejected') throw result.reason
}
