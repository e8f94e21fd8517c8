/**
 * The process-wide budget behind credit, and the token bucket behind every "at most so many a second".
 *
 * Credit is a promise to hold what comes: all sessions together promise at most `bytesMax`, beside a small floor for each, so that a few
 * idle peers can use nothing up that others need. Plain counters: no timers, no waiting.
 */

/** Shared by all sessions of a process. */
export class CreditBudget {
  readonly bytesMax: number
  #used = 0

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax
  }

  get used(): number {
    return this.#used
  }

  /** What may still be promised. */
  get free(): number {
    return Math.max(0, this.bytesMax - this.#used)
  }

  /** A session's share of it changed by `bytes` (negative: less). The floor may take the sum above `bytesMax`. */
  change(bytes: number): void {
    this.#used += bytes
  }
}

/** Allows `perSecond` events a second, with bursts of as many. */
export class TokenBucket {
  readonly #perSecond: number
  #tokens: number
  #at: number

  constructor(perSecond: number, now: number) {
    this.#perSecond = perSecond
    this.#tokens = perSecond
    this.#at = now
  }

  /** False when there was one too many. */
  take(now: number): boolean {
    this.#tokens = Math.min(this.#perSecond, this.#tokens + ((now - this.#at) / 1000) * this.#perSecond)
    this.#at = now
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}
