/** What is counted while a crowd runs, and the trace by which two runs are compared. Nothing in here decides anything. */
import { BLOCK_BYTES, hasBit, type Member, setBit } from './members.ts'

const BIN_MS = 1_000

export class Tally {
  /** Milliseconds of sending in each second, over all uplinks but the origin's. */
  readonly busyMs: number[] = []
  originBytes = 0
  /** What the origin had sent when every block had been verified by somebody else, and when that was; -1 before. */
  originBytesToAll = -1
  allElsewhereMs = -1
  /** Of blocks that the receiver had already or no longer wanted. */
  wastedBytes = 0
  receivedBytes = 0
  requests = 0
  cancels = 0
  blocks = 0
  finished = 0
  lastFinishedMs = 0
  readonly #elsewhere: Uint32Array
  #missingElsewhere: number
  #lowTrace = 0x811c9dc5 | 0
  #highTrace = 0x1b873593 | 0

  constructor(blockCount: number) {
    this.#elsewhere = new Uint32Array(Math.ceil(blockCount / 32))
    this.#missingElsewhere = blockCount
  }

  sent(sender: Member, startMs: number, endMs: number, bytes: number): void {
    if (sender.swarm === null) this.originBytes += bytes
    else this.#busy(startMs, endMs)
  }

  verified(block: number, now: number): void {
    this.blocks++
    if (this.#missingElsewhere === 0 || hasBit(this.#elsewhere, block)) return
    setBit(this.#elsewhere, block)
    if (--this.#missingElsewhere > 0) return
    this.originBytesToAll = this.originBytes
    this.allElsewhereMs = now
  }

  duplicate(): void {
    this.wastedBytes += BLOCK_BYTES
  }

  /** One action of a machine, in the order they are performed. */
  trace(now: number, member: number, what: number, item: number): void {
    this.#lowTrace = Math.imul(this.#lowTrace ^ now ^ (what << 28), 0x01000193) ^ (this.#lowTrace >>> 15)
    this.#highTrace = Math.imul(this.#highTrace ^ (member * 4099 + item), 0x85ebca6b) ^ (this.#highTrace >>> 13) ^ this.#lowTrace
  }

  digest(): string {
    return [this.#lowTrace, this.#highTrace].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('')
  }

  #busy(startMs: number, endMs: number): void {
    for (let at = startMs; at < endMs; ) {
      const bin = Math.floor(at / BIN_MS)
      const until = Math.min(endMs, (bin + 1) * BIN_MS)
      while (this.busyMs.length <= bin) this.busyMs.push(0)
      this.busyMs[bin]! += until - at
      at = until
    }
  }
}

/** The value below which `share` of a sorted list lies. */
export function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] ?? Number.NaN
}
