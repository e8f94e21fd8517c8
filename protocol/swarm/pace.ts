/** How many bytes a second pass, smoothed over some seconds. Counts only; whoever owns it says when time has passed. */

const SPAN_MS = 1_000
const KEPT = 0.7

/** A rate that follows what is counted within a few seconds. */
export class Pace {
  #bytes = 0
  #sinceMs: number | null = null
  #rate = 0

  /** Bytes per second; 0 until a first span has passed. */
  get bytesPerSecond(): number {
    return this.#rate
  }

  /** True when the rate is another one now. */
  count(bytes: number, now: number): boolean {
    this.#sinceMs ??= now
    this.#bytes += bytes
    return this.look(now)
  }

  /** Time has passed, perhaps with nothing to count. True when the rate is another one now. */
  look(now: number): boolean {
    if (this.#sinceMs === null) return false
    const spanMs = now - this.#sinceMs
    if (spanMs < SPAN_MS) return false
    const rate = (this.#bytes * 1000) / spanMs
    const kept = this.#rate === 0 ? 0 : KEPT ** (spanMs / SPAN_MS)
    this.#rate = this.#rate * kept + rate * (1 - kept)
    this.#bytes = 0
    this.#sinceMs = now
    return true
  }
}
