/**
 * The process-wide budget behind credit, and the token bucket behind every "at most so many a second".
 *
 * Credit is a promise to hold what comes: all sessions together promise at most `bytesMax`, beside a small floor for each, so that a few
 * idle peers can use nothing up that others need. Plain counters: no timers, no waiting. Under a download cap credit is also what is paced:
 * nobody can send more than was granted.
 */
import { RATE } from '../limits.ts'
import type { RateQueue } from './rate-queue.ts'

/** Shared by all sessions of a process. */
export class CreditBudget {
  readonly bytesMax: number
  readonly #pace: RateQueue | null
  #used = 0
  #asked = 0

  /** `pace` gives the tokens for credit while a download cap is set. */
  constructor(bytesMax: number, pace: RateQueue | null = null) {
    this.bytesMax = bytesMax
    this.#pace = pace
  }

  /** Where tokens for credit come from; null when nothing is held back. */
  get pace(): RateQueue | null {
    return this.#pace === null || this.#pace.cap === null ? null : this.#pace
  }

  /** Under a cap: credit that one of the peers that were asked may hold, so that all together hold about RATE.creditMs worth. */
  get shareBytes(): number {
    const cap = this.#pace?.cap ?? null
    if (this.#pace === null || cap === null) return Number.POSITIVE_INFINITY
    return Math.max(this.#pace.stepBytes, Math.floor((cap * RATE.creditMs) / 1000 / Math.max(1, this.#asked)))
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

  /** A peer was asked for something (1), or owes nothing any more (-1). */
  countAsked(change: 1 | -1): void {
    this.#asked += change
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
