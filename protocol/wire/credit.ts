/**
 * The process-wide budget behind credit, and the token bucket behind every "at most so many a second".
 *
 * Credit is a promise to hold what comes: all sessions together promise at most `bytesMax`, beside a small floor for each, so that a few
 * idle peers can use nothing up that others need. Plain counters: no timers, no waiting. Under a download cap credit is also what is paced:
 * nobody can send more than was granted.
 */
import { RATE } from '../limits.ts'
import type { RateQueue } from './rate-queue.ts'

/** What a session needs of the budget. */
export interface Credit {
  /** Where tokens for credit come from; null when nothing is held back. */
  readonly pace: RateQueue | null
  /** Under a cap: credit that one of the peers that were asked may hold, so that all together hold about RATE.creditMs worth. */
  readonly shareBytes: number
  /** What may still be promised. */
  readonly free: number
  /** A session's share of it changed by `bytes` (negative: less). The floor may take the sum above the budget. */
  change(bytes: number): void
  /** A peer was asked for something (1), or owes nothing any more (-1). */
  countAsked(change: 1 | -1): void
}

/** Shared by all sessions of a process. */
export class CreditBudget implements Credit {
  /** A smaller one is reached as what was promised is used up. */
  bytesMax: number
  readonly #pace: RateQueue | null
  #used = 0
  /** How often all of it was promised. */
  timesFull = 0
  #asked = 0

  /** `pace` gives the tokens for credit while a download cap is set. */
  constructor(bytesMax: number, pace: RateQueue | null = null) {
    this.bytesMax = bytesMax
    this.#pace = pace
  }

  get pace(): RateQueue | null {
    return this.#pace === null || this.#pace.cap === null ? null : this.#pace
  }

  get shareBytes(): number {
    const cap = this.#pace?.cap ?? null
    if (this.#pace === null || cap === null) return Number.POSITIVE_INFINITY
    return Math.max(this.#pace.stepBytes, Math.floor((cap * RATE.creditMs) / 1000 / Math.max(1, this.#asked)))
  }

  get used(): number {
    return this.#used
  }

  get free(): number {
    return Math.max(0, this.bytesMax - this.#used)
  }

  change(bytes: number): void {
    if (this.#used < this.bytesMax && this.#used + bytes >= this.bytesMax) this.timesFull++
    this.#used += bytes
  }

  countAsked(change: 1 | -1): void {
    this.#asked += change
  }

  /** The budget as a session sees it that no cap holds back as long as `isExempt` says so: the same memory, no pace. */
  lane(isExempt: () => boolean): Credit {
    return new Lane(this, isExempt)
  }
}

class Lane implements Credit {
  readonly #budget: CreditBudget
  readonly #isExempt: () => boolean
  /** Whether this one is among those that share the pace: it was asked while it was not exempt. */
  #isCounted = false

  constructor(budget: CreditBudget, isExempt: () => boolean) {
    this.#budget = budget
    this.#isExempt = isExempt
  }

  get pace(): RateQueue | null {
    return this.#isExempt() ? null : this.#budget.pace
  }

  get shareBytes(): number {
    return this.#isExempt() ? Number.POSITIVE_INFINITY : this.#budget.shareBytes
  }

  get free(): number {
    return this.#budget.free
  }

  change(bytes: number): void {
    this.#budget.change(bytes)
  }

  countAsked(change: 1 | -1): void {
    const isCounted = change === 1 && !this.#isExempt()
    if (isCounted !== this.#isCounted) this.#budget.countAsked(isCounted ? 1 : -1)
    this.#isCounted = isCounted
  }
}

/** Allows `perSecond` events a second, with bursts of as many. */
export class TokenBucket {
  readonly #perSecond: number
  readonly #burst: number
  #tokens: number
  #at: number

  /** `burst`: how many may come at once after a pause. Whoever stood still for a while finds all that came meanwhile. */
  constructor(perSecond: number, now: number, burst = perSecond) {
    this.#perSecond = perSecond
    this.#burst = burst
    this.#tokens = burst
    this.#at = now
  }

  /** False when there was one too many. */
  take(now: number): boolean {
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#at) / 1000) * this.#perSecond)
    this.#at = now
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}
