/**
 * How many blocks to have on their way at once: as few as carry as much as the line can take.
 *
 * Few slots let a block arrive soon, so that whoever has it can pass it on; slow readers need many. So it climbs: one slot more as long as
 * that carries noticeably more, one less when it does not, and a look upward now and then. Only time in which somebody waits counts.
 */
import { Pace } from './pace.ts'

export interface SlotLimits {
  slotsMin: number
  slotsMax: number
  /** Longest time that a block holds its slot. */
  slotMs: number
  /** Shortest time over which two numbers of slots are compared. */
  probeMs: number
}

const SLOT_MS_MIN = 5_000
/** Before any rate is known. */
const SLOT_MS_START = 10_000
/** What one slot more has to carry more to be kept. */
const GAIN = 1.05
const LOSS = 0.95
const PROBES_BETWEEN_LOOKS_UP = 4

export class Slots {
  readonly #limits: SlotLimits
  readonly #pace = new Pace()
  #open: number
  #sinceMs: number | null = null
  #bytes = 0
  #blocks = 0
  #lastRate = 0
  #step: 1 | 0 | -1 = 0
  #probes = 0

  constructor(limits: SlotLimits) {
    this.#limits = limits
    this.#open = Math.min(limits.slotsMax, limits.slotsMin + 1)
  }

  /** How many blocks may be on their way. */
  get open(): number {
    return this.#open
  }

  /** A block that takes longer than this no longer holds a slot: twice what it would take if all slots shared the line. */
  patienceMs(blockBytes: number): number {
    return Math.min(this.#limits.slotMs, Math.max(SLOT_MS_MIN, 2 * this.fairMs(blockBytes)))
  }

  /** What a block takes if all slots share the line. */
  fairMs(blockBytes: number): number {
    const rate = this.#pace.bytesPerSecond
    return rate === 0 ? SLOT_MS_START / 2 : (this.#open * blockBytes * 1000) / rate
  }

  /** A block has left, or what there was of it; `isContested`: others were waiting for the slot. */
  count(bytes: number, isContested: boolean, now: number): void {
    this.#pace.count(bytes, now)
    if (!isContested || this.#sinceMs === null) {
      this.#begin(now)
      return
    }
    this.#bytes += bytes
    this.#blocks++
    const spanMs = now - this.#sinceMs
    if (spanMs < this.#limits.probeMs || this.#blocks < 3 * this.#open) return
    this.#decide((this.#bytes * 1000) / spanMs)
    this.#begin(now)
  }

  #begin(now: number): void {
    this.#sinceMs = now
    this.#bytes = 0
    this.#blocks = 0
  }

  #decide(rate: number): void {
    const before = this.#lastRate
    this.#lastRate = rate
    if (this.#step === 1) this.#move(rate > before * GAIN ? 1 : -1)
    else if (this.#step === -1) this.#move(rate < before * LOSS ? 1 : -1)
    else if (++this.#probes >= PROBES_BETWEEN_LOOKS_UP || before === 0) this.#move(1)
  }

  /** At the lower end it rests for some probes. */
  #move(step: 1 | -1): void {
    const { slotsMin, slotsMax } = this.#limits
    const open = Math.min(slotsMax, Math.max(slotsMin, this.#open + step))
    this.#step = open === this.#open ? 0 : step
    if (this.#step === 0) this.#probes = 0
    this.#open = open
  }
}
