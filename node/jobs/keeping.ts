/**
 * How each share is kept: until unseeded (which needs no record), until a time, or as cache only; and whether blocks of it were lost.
 *
 * All of it is in memory, so that everybody can ask at once; changes are on disk when they resolve. It decides nothing: gc.ts, disk-cache.ts,
 * expiry.ts and damage.ts do.
 */
import type { KeepingRecord, Records, ShareRecord } from '../storage/records.ts'

/** Whether a share is our own, or one that was got and kept: no job that only passes by takes its record away. */
export const isKeptForGood = (record: ShareRecord | null): boolean =>
  record !== null && (record.role === 'owner' || (record.role === 'reader' && record.state === 'complete'))

export class Keeping {
  readonly #records: Records
  readonly #known: Map<string, KeepingRecord>

  private constructor(records: Records, known: Map<string, KeepingRecord>) {
    this.#records = records
    this.#known = known
  }

  static async open(records: Records): Promise<Keeping> {
    return new Keeping(records, new Map((await records.listKeeping()).map((record) => [record.cid, record])))
  }

  of(cid: string): Readonly<KeepingRecord> {
    return this.#known.get(cid) ?? { cid, isCached: false, keepUntilMs: null, usedOrder: 0, cachedBytes: 0, isDamaged: false }
  }

  /** Whether it is kept, and not only here as cache. */
  isPinned(cid: string): boolean {
    return !this.of(cid).isCached
  }

  /** From here on it is kept, where it was only cached. */
  async pin(cid: string): Promise<void> {
    if (this.of(cid).isCached) await this.change(cid, { isCached: false, usedOrder: 0, cachedBytes: 0 })
  }

  /** Those on which there is something to say. */
  all(): Readonly<KeepingRecord>[] {
    return [...this.#known.values()]
  }

  /** On disk when it resolves; in memory at once. */
  async change(cid: string, change: Partial<Omit<KeepingRecord, 'cid'>>): Promise<void> {
    const record = { ...this.of(cid), ...change }
    this.#known.set(cid, record)
    await this.#records.saveKeeping([record])
  }

  /** The share is gone, and its record with it. */
  forget(cid: string): void {
    this.#known.delete(cid)
  }
}
