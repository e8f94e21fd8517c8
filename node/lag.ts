/** How late the event loop runs what is due: the delay that peers, jobs and the local API all feel. */
import { monitorEventLoopDelay } from 'node:perf_hooks'

/** Between two looks; a part of every measured delay, and taken off again. */
const RESOLUTION_MS = 10
/** Figures cover the present window and the one before. */
const WINDOW_MS = 60_000

export class LagMeter {
  readonly #histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  readonly #timer: NodeJS.Timeout
  #before = 0

  constructor() {
    this.#histogram.enable()
    this.#timer = setInterval(() => {
      this.#before = this.#now()
      this.#histogram.reset()
    }, WINDOW_MS)
    this.#timer.unref()
  }

  /** Of a hundred looks in the last minute or two, how late the latest but one was, at most. */
  get p99Ms(): number {
    return Math.max(this.#before, this.#now())
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#histogram.disable()
  }

  #now(): number {
    const { count } = this.#histogram
    return count === 0 ? 0 : Math.max(0, Math.round(this.#histogram.percentile(99) / 1e6) - RESOLUTION_MS)
  }
}
