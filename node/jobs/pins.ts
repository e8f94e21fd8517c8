/**
 * Blocks that a job under way counts on though no record names them yet: what `share` wrote or found stored. They are not deleted.
 */
import { DigestSet } from '../storage/digest-set.ts'

export class Pins {
  readonly #sets = new Set<DigestSet>()

  /** Pins for one job; `release` when its record is saved, or it failed. Add before the store is asked. */
  open(): { add(digest: Uint8Array): void; release(): void } {
    const set = new DigestSet()
    this.#sets.add(set)
    return { add: (digest) => void set.add(digest), release: () => void this.#sets.delete(set) }
  }

  has(digest: Uint8Array): boolean {
    for (const set of this.#sets) if (set.has(digest)) return true
    return false
  }
}
