/**
 * Shares that are kept for a time only: which of them are over.
 *
 * The wall clock may be wrong, above all right after a start, so a share is over when the clock has been past its time for an hour of running;
 * for a day where the clock was seen to jump. Pure: it is told both clocks, and holds no timer.
 */
import { KEEPING } from '../../protocol/limits.ts'

/** A share and until when it is kept, by the wall clock. */
export interface Kept {
  cid: string
  keepUntilMs: number | null
}

export class Expiry {
  /** Since when, on the monotonic clock, a share is seen past its time. Bounded by the shares that are asked about. */
  readonly #overdueSince = new Map<string, number>()
  #last: { nowMs: number; wallMs: number } | null = null
  #graceMs: number = KEEPING.overdueMs

  /** Those that are over. `nowMs` only runs forward, `wallMs` is what the wall clock says. */
  look(kept: readonly Kept[], nowMs: number, wallMs: number): string[] {
    if (this.#last !== null) {
      const jumpMs = wallMs - this.#last.wallMs - (nowMs - this.#last.nowMs)
      if (Math.abs(jumpMs) >= KEEPING.clockJumpMs) {
        this.#graceMs = KEEPING.overdueAfterJumpMs
        this.#overdueSince.clear()
      }
    }
    this.#last = { nowMs, wallMs }
    const over: string[] = []
    const seen = new Set<string>()
    for (const { cid, keepUntilMs } of kept) {
      if (keepUntilMs === null || wallMs < keepUntilMs) continue
      seen.add(cid)
      const since = this.#overdueSince.get(cid) ?? nowMs
      this.#overdueSince.set(cid, since)
      if (nowMs - since >= this.#graceMs) over.push(cid)
    }
    for (const cid of this.#overdueSince.keys()) if (!seen.has(cid)) this.#overdueSince.delete(cid)
    return over
  }
}
