/**
 * A cap on bytes a second: a token bucket, the line of those who wait for tokens, and the meter of what really went by.
 *
 * Plain state, no clock and no timer: the owner (node/network/rate-limiter.ts) passes the time in, asks nextTimeout(), and wakes whoever
 * is first. A frame goes whole or not at all. Tokens are for the first in line as long as it can use them; one who cannot (its stream must
 * drain, its peer gave no credit) leaves the line and comes back to its old place.
 */
import { assert } from '../errors.ts'
import { RATE, WIRE } from '../limits.ts'

/** Somebody who may wait for tokens. Never called from here: the owner wakes it when its turn has come. */
export interface Waiter {
  readonly wake: () => void
}

interface Place {
  waiter: Waiter
  order: number
  bytes: number
}

/** Whether a value can be a cap: whole bytes a second, null for none. */
export const isCap = (value: unknown): value is number | null =>
  value === null || (typeof value === 'number' && Number.isSafeInteger(value) && value >= RATE.bytesPerSecondMin)

/** One direction of a node, all its links together. */
export class RateQueue {
  #cap: number | null = null
  #tokens = 0
  #at: number
  /** By order. */
  readonly #line: Place[] = []
  #lastOrder = 0
  /** How often somebody had to wait. */
  waits = 0

  constructor(cap: number | null, now: number) {
    this.#at = now
    this.setCap(cap, now)
  }

  /** Bytes a second, null when nothing is held back. */
  get cap(): number | null {
    return this.#cap
  }

  get waiting(): number {
    return this.#line.length
  }

  /** What goes out or is granted at once: smaller under a small cap, so that everybody gets something within a second or so. */
  get stepBytes(): number {
    if (this.#cap === null) return WIRE.dataBytesSent
    const step = Math.floor((this.#cap * RATE.stepMs) / 1000)
    return Math.min(WIRE.dataBytesSent, Math.max(RATE.stepBytesMin, step))
  }

  /** Most tokens that are saved up while nobody needs them. */
  get burstBytes(): number {
    return Math.max(((this.#cap ?? 0) * RATE.burstMs) / 1000, 2 * this.stepBytes)
  }

  /** Whoever waits stays in line; without a cap nobody has to: wake them all. */
  setCap(cap: number | null, now: number): void {
    assert(isCap(cap), `a cap of ${cap} bytes a second`)
    this.#refill(now)
    if (this.#cap === null) this.#tokens = 0
    this.#cap = cap
    this.#tokens = Math.min(this.#tokens, this.burstBytes)
  }

  /** A place behind everybody who has one. */
  nextOrder(): number {
    return ++this.#lastOrder
  }

  /** Takes the tokens for `bytes`, all or none. Who gets none stands in line at `order` from now on, until it takes or leaves. */
  take(waiter: Waiter, order: number, bytes: number, now: number): boolean {
    if (this.#cap === null) return true
    this.#refill(now)
    const first = this.#line[0]
    const isTurn = first === undefined || first.waiter === waiter || order < first.order
    if (!isTurn || this.#tokens < this.#needOf(bytes)) {
      this.#enter(waiter, order, bytes)
      return false
    }
    this.#tokens -= bytes
    this.leave(waiter)
    return true
  }

  /** Like `take`, for as much of `bytesMax` as there are tokens for, one step at least; only the step when others wait. */
  takeUpTo(waiter: Waiter, order: number, bytesMax: number, now: number): number {
    const least = Math.min(bytesMax, this.stepBytes)
    if (!this.take(waiter, order, least, now)) return 0
    if (this.#cap === null) return bytesMax
    if (this.#line.length > 0) return least
    const more = Math.min(bytesMax - least, Math.max(0, Math.floor(this.#tokens)))
    this.#tokens -= more
    return least + more
  }

  /** Small frames never wait, but what they take is missing afterwards. */
  spend(bytes: number, now: number): void {
    if (this.#cap === null) return
    this.#refill(now)
    this.#tokens -= bytes
  }

  /** It needs nothing, or cannot use it now. */
  leave(waiter: Waiter): void {
    const at = this.#line.findIndex((place) => place.waiter === waiter)
    if (at >= 0) this.#line.splice(at, 1)
  }

  /** Everybody in line, which is empty afterwards. */
  clear(): Waiter[] {
    return this.#line.splice(0).map(({ waiter }) => waiter)
  }

  /** Whose turn it is, null when nobody waits or there are not enough tokens yet. */
  ready(now: number): Waiter | null {
    const at = this.nextTimeout()
    return at === undefined || at > now ? null : (this.#line[0]?.waiter ?? null)
  }

  /** When the first in line can go on. */
  nextTimeout(): number | undefined {
    const first = this.#line[0]
    if (first === undefined) return undefined
    const missing = this.#cap === null ? 0 : Math.max(0, this.#needOf(first.bytes) - this.#tokens)
    return missing === 0 ? this.#at : this.#at + (missing / (this.#cap ?? 1)) * 1000
  }

  checkInvariants(): void {
    assert(this.#cap !== null || this.#tokens === 0, 'tokens without a cap')
    assert(this.#tokens <= this.burstBytes, `${this.#tokens} tokens, at most ${this.burstBytes}`)
    assert(
      this.#line.every(({ order }, i) => i === 0 || order > (this.#line[i - 1]?.order ?? order)),
      'the line is not in order',
    )
    assert(new Set(this.#line.map(({ waiter }) => waiter)).size === this.#line.length, 'somebody waits twice')
  }

  // A cap that was lowered meanwhile may save up less than was asked for.
  #needOf(bytes: number): number {
    return Math.min(bytes, this.burstBytes)
  }

  #refill(now: number): void {
    if (this.#cap !== null) this.#tokens = Math.min(this.burstBytes, this.#tokens + ((now - this.#at) / 1000) * this.#cap)
    this.#at = now
  }

  #enter(waiter: Waiter, order: number, bytes: number): void {
    const known = this.#line.find((place) => place.waiter === waiter)
    if (known !== undefined && known.order === order) {
      known.bytes = bytes
      return
    }
    this.leave(waiter)
    this.waits++
    const at = this.#line.findLastIndex((place) => place.order < order) + 1
    this.#line.splice(at, 0, { waiter, order, bytes })
  }
}

/** Bytes a second over the last seconds. */
export class RateMeter {
  readonly #slots = new Float64Array(RATE.meterSlots)
  readonly #startMs: number
  #slot: number
  totalBytes = 0

  constructor(now: number) {
    this.#startMs = now
    this.#slot = slotOf(now)
  }

  count(bytes: number, now: number): void {
    this.#advance(now)
    this.#slots[this.#slot % RATE.meterSlots]! += bytes
    this.totalBytes += bytes
  }

  /** Over the slots that are kept, the present one as far as it has gone; never over longer than the meter runs. */
  bytesPerSecond(now: number): number {
    this.#advance(now)
    const firstMs = Math.max(this.#startMs, (this.#slot - RATE.meterSlots + 1) * RATE.meterSlotMs)
    const sum = this.#slots.reduce((total, bytes) => total + bytes, 0)
    return Math.round((sum * 1000) / Math.max(RATE.meterSlotMs, now - firstMs))
  }

  #advance(now: number): void {
    const slot = slotOf(now)
    if (slot <= this.#slot) return
    for (let stale = Math.max(this.#slot + 1, slot - RATE.meterSlots + 1); stale <= slot; stale++) this.#slots[stale % RATE.meterSlots] = 0
    this.#slot = slot
  }
}

const slotOf = (now: number): number => Math.floor(now / RATE.meterSlotMs)
