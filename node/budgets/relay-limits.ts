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

/** Tells the network what it may pass on, until it is stopped. */
export class RelayLimits {
  readonly #timer: NodeJS.Timeout

  constructor(
    budgets: Pick<Budgets, 'current' | 'held'>,
    limiter: Pick<RateLimiter, 'state'>,
    set: (bytesPerDay: number, bytesPerSecond: number) => void,
  ) {
    // Nothing is passed on once the volume of the month is used up.
    const look = (): void => set(budgets.held.up ? 0 : budgets.current.relayBytesPerDay, relayPace(limiter.state()))
    look()
    this.#timer = setInterval(look, RELAY.lookMs).unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }
}
