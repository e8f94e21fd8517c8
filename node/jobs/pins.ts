/**
 * Blocks that a job under way counts on though no record names them yet: what `share` wrote or found stored. They are not deleted.
 *
 * A sweep is a deletion that has looked at the records already: pins of a job that ends meanwhile hold until the sweep is over. Sweeps run
 * one after another.
 */
import { STORAGE } from '../../protocol/limits.ts'
import { DigestSet } from '../storage/digest-set.ts'
import { Turns } from '../storage/turns.ts'

export class Pins {
  readonly #sets = new Set<DigestSet>()
  readonly #released = new Set<DigestSet>()
  readonly #turns = new Turns(1, STORAGE.sweepsWaitingMax)
  #isSweeping = false

  /** Pins for one job; `release` when its record is saved, or it failed. Add before the store is asked. */
  open(): { add(digest: Uint8Array): void; release(): void } {
    const set = new DigestSet()
    this.#sets.add(set)
    return {
      add: (digest) => void set.add(digest),
      release: () => {
        if (this.#isSweeping) this.#released.add(set)
        else this.#sets.delete(set)
      },
    }
  }

  has(digest: Uint8Array): boolean {
    for (const set of this.#sets) if (set.has(digest)) return true
    return false
  }

  /** Runs a deletion, from the look at the records to the last block, when those before it are over. */
  async sweep<T>(work: () => Promise<T>): Promise<T> {
    return await this.#turns.run(NEVER, async () => {
      this.#isSweeping = true
      try {
        return await work()
      } finally {
        this.#isSweeping = false
        for (const set of this.#released) this.#sets.delete(set)
        this.#released.clear()
      }
    })
  }
}

const NEVER = new AbortController().signal
