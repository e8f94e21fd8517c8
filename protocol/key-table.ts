/**
 * The keys and digests of a share's data blocks while it is written: 64 bytes a block, and a hash table over the keys for looking them up.
 *
 * Keys are uniformly random to begin with, so their first four bytes are the hash.
 */
import { readU32 } from './bytes.ts'
import { assert } from './errors.ts'

const EMPTY = -1

/** Append-only; a position is the order of arrival. */
export class KeyTable {
  #keys = new Uint8Array(32 * 64)
  #digests = new Uint8Array(32 * 64)
  #slots = new Int32Array(128).fill(EMPTY)
  #count = 0

  get count(): number {
    return this.#count
  }

  /** All keys, a view of 32 bytes each. */
  get keys(): Uint8Array {
    return this.#keys.subarray(0, 32 * this.#count)
  }

  /** All digests, a view of 32 bytes each. */
  get digests(): Uint8Array {
    return this.#digests.subarray(0, 32 * this.#count)
  }

  /** The position of a key, or -1. */
  find(key: Uint8Array): number {
    return this.#slots[this.#slotOf(key)]!
  }

  /** Gives a new key the next position. Both arguments are copied. */
  add(key: Uint8Array, digest: Uint8Array): number {
    if (32 * this.#count === this.#keys.length) this.#grow()
    const position = this.#count++
    this.#keys.set(key, 32 * position)
    this.#digests.set(digest, 32 * position)
    this.#slots[this.#slotOf(key)] = position
    return position
  }

  // The slot that holds `key`, or the empty one where it would go.
  #slotOf(key: Uint8Array): number {
    const mask = this.#slots.length - 1
    let slot = readU32(key, 0) & mask
    for (;;) {
      const position = this.#slots[slot]!
      if (position === EMPTY || this.#holds(position, key)) return slot
      slot = (slot + 1) & mask
    }
  }

  #holds(position: number, key: Uint8Array): boolean {
    const start = 32 * position
    for (let i = 0; i < 32; i++) if (this.#keys[start + i] !== key[i]) return false
    return true
  }

  #grow(): void {
    this.#keys = enlarged(this.#keys)
    this.#digests = enlarged(this.#digests)
    this.#slots = new Int32Array(2 * this.#slots.length).fill(EMPTY)
    for (let position = 0; position < this.#count; position++) {
      const key = this.#keys.subarray(32 * position, 32 * position + 32)
      this.#slots[this.#slotOf(key)] = position
    }
  }
}

/** All digests of a share, 32 bytes each, `count` in all: lists of joined or single digests, in the order of the stream. */
export function joinDigests(count: number, parts: Uint8Array[][]): Uint8Array {
  const joined = new Uint8Array(32 * count)
  let at = 0
  for (const digests of parts) {
    for (const digest of digests) {
      joined.set(digest, at)
      at += digest.length
    }
  }
  assert(at === joined.length, `${at} bytes of digests for ${count} blocks`)
  return joined
}

function enlarged(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(2 * bytes.length)
  larger.set(bytes)
  return larger
}
