/**
 * Space that the records keep for a full disk: a file of random bytes beside them that is given up when nothing else makes room, so
 * that what a node must write down can still be written, and made again when there is space.
 *
 * Synchronous: it lives in the thread of the records.
 */
import { randomFillSync } from 'node:crypto'
import { rmSync, statfsSync, statSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { STORAGE } from '../../protocol/limits.ts'

/** One reserve file. */
export class Reserve {
  readonly #path: string
  #isThere = false
  #triedMs = Number.NEGATIVE_INFINITY

  constructor(path: string) {
    this.#path = path
    this.#isThere = (statSync(path, { throwIfNoEntry: false })?.size ?? 0) >= STORAGE.reserveBytes
  }

  /** Makes it where it is missing and the disk has room for several of them; looks at most once a second. */
  keep(): void {
    const nowMs = performance.now()
    if (this.#isThere || nowMs - this.#triedMs < STORAGE.reserveTriedMs) return
    this.#triedMs = nowMs
    try {
      const { bavail, bsize } = statfsSync(dirname(this.#path))
      if (bavail * bsize < 4 * STORAGE.reserveBytes) return
      // Random, because some file systems keep no zeros.
      writeFileSync(this.#path, randomFillSync(new Uint8Array(STORAGE.reserveBytes)), { mode: 0o600 })
      this.#isThere = true
    } catch {
      // Without it the records do as any other file does on a full disk. What was written of it makes no reserve.
      this.release()
    }
  }

  /** Gives its space back; false when there is nothing to give. */
  release(): boolean {
    const wasThere = this.#isThere
    this.#isThere = false
    this.#triedMs = performance.now()
    try {
      rmSync(this.#path, { force: true })
      return wasThere
    } catch {
      return false // a disk that removes nothing makes no room
    }
  }
}
