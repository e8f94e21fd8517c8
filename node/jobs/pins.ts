/**
 * Blocks that a job under way counts on though no record names them yet: what `share` wrote or found stored. They are not deleted.
 *
 * A sweep is a deletion that has looked at the records already: pins of a job that ends meanwhile hold until the sweep is over.
 */
import { DigestSet } from '../storage/digest-set.ts'

export class Pins {
  readonly #sets = new Set<DigestSet>()
  readonly #released = new Set<DigestSet>()
  #sweeps = 0

  /** Pins for one job; `release` when its record is saved, or it failed. Add before the store is asked. */
  open(): { add(digest: Uint8Array): void; release(): void } {
    const set = new DigestSet()
    this.#sets.add(set)
    return {
      add: (digest) => void set.add(digest),
      release: () => {
        if (this.#sweeps > 0) this.#released.add(set)
        else this.#sets.delete(set)
      },
    }
  }

  has(digest: Uint8Array): boolean {
    for (const set of this.#sets) if (set.has(digest)) return true
    return false
  }

  /** Runs a deletion, from the look at the records to the last block. */
  async sweep<T>(work: () => Promise<T>): Promise<T> {
    this.#sweeps++
    try {
      return await work()
    } finally {
      if (--this.#sweeps === 0) {
        for (const set of this.#released) this.#sets.delete(set)
        this.#released.clear()
      }
    }
  }
}
