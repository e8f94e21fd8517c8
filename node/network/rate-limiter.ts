/**
 * The user's caps on what the node sends and receives for its shares, and what really goes by. One for the whole node.
 *
 * It gives the rules (protocol/wire/rate-queue.ts) a clock and one timer. Up: every DATA frame takes its tokens, the block begun first
 * goes first. Down: credit takes them, so that nobody sends what we cannot take. Without a cap there is no timer and nobody waits.
 */
import { WIRE } from '../../protocol/limits.ts'
import { RateMeter, RateQueue, type Waiter } from '../../protocol/wire/rate-queue.ts'

/** Bytes a second, null: no cap. */
export interface RateCaps {
  uploadBytesPerSecond: number | null
  downloadBytesPerSecond: number | null
}

/** One direction, as it is now. */
export interface RateNow {
  capBytesPerSecond: number | null
  /** Over the last seconds. */
  bytesPerSecond: number
  /** Since the node started. */
  bytes: number
}

/** The length that goes before every frame. */
const LENGTH_BYTES = 4

/** What a link asks and tells. */
export type LinkLimiter = Pick<
  RateLimiter,
  'credit' | 'dataBytesMax' | 'beginBlock' | 'mayStartFrame' | 'countSent' | 'countReceived' | 'standAside' | 'creditChanged'
>

export class RateLimiter implements LinkLimiter {
  readonly #now: () => number
  readonly #up: RateQueue
  readonly #down: RateQueue
  readonly #sent: RateMeter
  readonly #received: RateMeter
  /** Bytes that count: those of exempt links do not. Called for every frame. */
  onCounted: (way: 'up' | 'down', bytes: number) => void = () => {}
  #isLanExempt = false
  #timer: NodeJS.Timeout | null = null
  #timerAt = Number.POSITIVE_INFINITY

  constructor(caps: RateCaps, now: () => number = () => performance.now()) {
    this.#now = now
    this.#up = new RateQueue(caps.uploadBytesPerSecond, now())
    this.#down = new RateQueue(caps.downloadBytesPerSecond, now())
    this.#sent = new RateMeter(now())
    this.#received = new RateMeter(now())
  }

  /** Where sessions get tokens for credit. */
  get credit(): RateQueue {
    return this.#down
  }

  /** Most DATA bytes of one frame. */
  get dataBytesMax(): number {
    return this.#up.stepBytes
  }

  /** From here on; what was handed out or promised before is not taken back. */
  setCaps(caps: RateCaps): void {
    const now = this.#now()
    for (const [queue, cap] of [
      [this.#up, caps.uploadBytesPerSecond],
      [this.#down, caps.downloadBytesPerSecond],
    ] as const) {
      if (queue.cap === cap) continue
      queue.setCap(cap, now)
      for (const waiter of queue.clear()) waiter.wake() // who still needs it asks again, at its old place
    }
    this.#look()
  }

  /** Whether links on the local network are exempt from the caps. */
  get isLanExempt(): boolean {
    return this.#isLanExempt
  }

  set isLanExempt(isExempt: boolean) {
    if (isExempt === this.#isLanExempt) return
    this.#isLanExempt = isExempt
    for (const queue of [this.#up, this.#down]) for (const waiter of queue.clear()) waiter.wake() // who still needs it asks again
    this.#look()
  }

  /** The limiter for a link on the local network. */
  lan(): LinkLimiter {
    return new LanLimiter(this)
  }

  /** The place of a block in the line of those that go out. */
  beginBlock(): number {
    return this.#up.nextOrder()
  }

  /** Whether this DATA frame, heads included, may go now. If not, `block` is woken when it may. */
  mayStartFrame(block: Waiter, order: number, frameBytes: number): boolean {
    const now = this.#now()
    const bytes = frameBytes + LENGTH_BYTES
    if (!this.#up.take(block, order, bytes, now)) {
      this.#look()
      return false
    }
    this.#sent.count(bytes, now)
    this.onCounted('up', bytes)
    if (this.#up.waiting > 0) this.#look()
    return true
  }

  /** A small frame goes: it never waits. */
  countSent(frameBytes: number): void {
    const now = this.#now()
    this.#up.spend(frameBytes + LENGTH_BYTES, now)
    this.#sent.count(frameBytes + LENGTH_BYTES, now)
    this.onCounted('up', frameBytes + LENGTH_BYTES)
  }

  /** A frame came, with so many bytes of blocks in it, which have paid as credit. */
  countReceived(frameBytes: number, dataBytes: number): void {
    const now = this.#now()
    this.#down.spend(frameBytes + LENGTH_BYTES - dataBytes, now)
    this.#received.count(frameBytes + LENGTH_BYTES, now)
    this.onCounted('down', frameBytes + LENGTH_BYTES)
  }

  /** A frame of an exempt link went by: it is part of the rate, and of nothing else. */
  countExempt(way: 'up' | 'down', frameBytes: number): void {
    const meter = way === 'up' ? this.#sent : this.#received
    meter.count(frameBytes + LENGTH_BYTES, this.#now())
  }

  /** This block cannot use tokens now: those behind it may. */
  standAside(block: Waiter): void {
    if (this.#up.waiting === 0) return
    this.#up.leave(block)
    this.#look()
  }

  /** A session may have got in line for credit, or left it. */
  creditChanged(): void {
    if (this.#down.waiting > 0) this.#look()
  }

  /** How often somebody had to wait for a cap. */
  get waits(): { up: number; down: number } {
    return { up: this.#up.waits, down: this.#down.waits }
  }

  state(): { up: RateNow; down: RateNow; atMs: number } {
    const now = this.#now()
    const of = (queue: RateQueue, meter: RateMeter): RateNow => ({
      capBytesPerSecond: queue.cap,
      bytesPerSecond: meter.bytesPerSecond(now),
      bytes: meter.totalBytes,
    })
    return { up: of(this.#up, this.#sent), down: of(this.#down, this.#received), atMs: now }
  }

  stop(): void {
    clearTimeout(this.#timer ?? undefined)
    this.#timer = null
    this.#timerAt = Number.POSITIVE_INFINITY
  }

  /** Sees to it that the timer goes off when the next one can go on. One that goes off too early looks again. */
  #look(): void {
    const at = Math.min(this.#up.nextTimeout() ?? Number.POSITIVE_INFINITY, this.#down.nextTimeout() ?? Number.POSITIVE_INFINITY)
    if (at >= this.#timerAt) return
    clearTimeout(this.#timer ?? undefined)
    this.#timerAt = at
    this.#timer = setTimeout(() => this.#wake(), Math.max(1, Math.ceil(at - this.#now())))
    this.#timer.unref()
  }

  #wake(): void {
    this.stop()
    const now = this.#now()
    for (const queue of [this.#up, this.#down]) {
      let last: Waiter | null = null
      // A session takes its credit at once, a writer a moment later: then it is still the first, and the next is woken after it.
      for (let i = queue.waiting; i > 0; i--) {
        const first = queue.ready(now)
        if (first === null || first === last) break
        last = first
        first.wake()
      }
    }
    this.#look()
  }
}

/** Asks the caps only while links on the local network are not exempt. */
class LanLimiter implements LinkLimiter {
  readonly #limiter: RateLimiter

  constructor(limiter: RateLimiter) {
    this.#limiter = limiter
  }

  get credit(): RateQueue {
    return this.#limiter.credit
  }

  get dataBytesMax(): number {
    return this.#limiter.isLanExempt ? WIRE.dataBytesSent : this.#limiter.dataBytesMax
  }

  beginBlock(): number {
    return this.#limiter.beginBlock()
  }

  mayStartFrame(block: Waiter, order: number, frameBytes: number): boolean {
    if (!this.#limiter.isLanExempt) return this.#limiter.mayStartFrame(block, order, frameBytes)
    this.#limiter.countExempt('up', frameBytes)
    return true
  }

  countSent(frameBytes: number): void {
    if (this.#limiter.isLanExempt) this.#limiter.countExempt('up', frameBytes)
    else this.#limiter.countSent(frameBytes)
  }

  countReceived(frameBytes: number, dataBytes: number): void {
    if (this.#limiter.isLanExempt) this.#limiter.countExempt('down', frameBytes)
    else this.#limiter.countReceived(frameBytes, dataBytes)
  }

  standAside(block: Waiter): void {
    this.#limiter.standAside(block)
  }

  creditChanged(): void {
    this.#limiter.creditChanged()
  }
}
