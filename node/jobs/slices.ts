/** Long work on the main thread in slices: a few milliseconds each, so that peers and jobs never wait for it. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { STORAGE } from '../../protocol/limits.ts'

/** Call `turn` after each small step. */
export class Slices {
  readonly #signal: AbortSignal
  #since = performance.now()

  constructor(signal: AbortSignal) {
    this.#signal = signal
  }

  /** Whether it is time to let others have their turn: then await `turn`. Cheaper than an await for every step. */
  get isOver(): boolean {
    return performance.now() - this.#since >= STORAGE.sliceMs
  }

  /** Throws the reason of the signal. */
  async turn(): Promise<void> {
    this.#signal.throwIfAborted()
    if (!this.isOver) return
    await nextTurn()
    this.#signal.throwIfAborted()
    this.#since = performance.now()
  }
}
