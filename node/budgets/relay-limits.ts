/**
 * What a node passes on for others: within the limits that its user set, and small beside its own transfers, which are looked at once a second.
 */
import { RELAY } from '../../protocol/limits.ts'
import type { RateLimiter } from '../network/rate-limiter.ts'
import type { Budgets } from './budgets.ts'

type Rates = ReturnType<RateLimiter['state']>

/** Bytes a second that may be passed on now: a part of the upload cap, and of what own transfers make while there are any. */
export function relayPace({ up, down }: Pick<Rates, 'up' | 'down'>): number {
  const own = Math.max(up.bytesPerSecond, down.bytesPerSecond)
  const beside = own >= RELAY.ownBytesPerSecondMin ? Math.max(RELAY.bytesPerSecondMin, own / RELAY.ownShare) : RELAY.bytesPerSecond
  const cap = up.capBytesPerSecond === null ? RELAY.bytesPerSecond : up.capBytesPerSecond / RELAY.ownShare
  return Math.min(RELAY.bytesPerSecond, beside, cap)
}

export interface RelayLimitsParts {
  budgets: Pick<Budgets, 'current' | 'held' | 'countRelayed'>
  limiter: Pick<RateLimiter, 'state'>
  set(bytesPerDay: number, bytesPerSecond: number): void
  /** All that was passed on since the node began; null: not known now. */
  passed(): number | null
}

/** Tells the network what it may pass on, and the budgets what it did, until it is stopped. */
export class RelayLimits {
  readonly #parts: RelayLimitsParts
  readonly #timer: NodeJS.Timeout
  #counted = 0

  constructor(parts: RelayLimitsParts) {
    this.#parts = parts
    this.#look()
    this.#timer = setInterval(() => this.#look(), RELAY.lookMs).unref()
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#count()
  }

  #look(): void {
    this.#count()
    const { budgets, limiter, set } = this.#parts
    // What is passed on comes in and goes out: nothing more of it once either volume of the month is used up.
    const isHeld = budgets.held.up || budgets.held.down
    set(isHeld ? 0 : budgets.current.relayBytesPerDay, relayPace(limiter.state()))
  }

  #count(): void {
    const passed = this.#parts.passed() ?? this.#counted
    if (passed > this.#counted) this.#parts.budgets.countRelayed(passed - this.#counted)
    this.#counted = Math.max(this.#counted, passed)
  }
}
