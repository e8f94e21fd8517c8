/**
 * A set of 32-byte digests in one flat typed array: some 46 MiB for a million, where a Set of strings takes six times that.
 *
 * Open addressing with linear probing, growth by half, deletion by shifting back. The place of a digest depends on a random salt, so
 * that nobody can choose digests that crowd together. Used as the index of the block store and for the marks of garbage collection.
 */
const WORDS = 8
const SLOTS_MIN = 64
const FILL_MAX = 0.8

export class DigestSet {
  #slots = SLOTS_MIN
  #words = new Uint32Array(SLOTS_MIN * WORDS)
  #stored = 0
  // Eight zero words mark an empty slot, so the digest of zeros is kept apart.
  #hasZero = false
  readonly #saltA = randomOdd()
  readonly #saltB = randomOdd()
  readonly #bytes = new Uint8Array(4 * WORDS)
  readonly #key = new Uint32Array(this.#bytes.buffer)

  get size(): number {
    return this.#stored + (this.#hasZero ? 1 : 0)
  }

  /** Bytes that the table takes. */
  get memoryBytes(): number {
    return this.#words.byteLength
  }

  has(digest: Uint8Array): boolean {
    this.#load(digest)
    return this.#isZero() ? this.#hasZero : this.#find() >= 0
  }

  /** Adds a digest (borrowed); false when it was there. */
  add(digest: Uint8Array): boolean {
    this.#load(digest)
    if (this.#isZero()) {
      const isNew = !this.#hasZero
      this.#hasZero = true
      return isNew
    }
    if (this.#find() >= 0) return false
    if (this.#stored + 1 > this.#slots * FILL_MAX) this.#grow()
    this.#place(this.#key, 0)
    this.#stored += 1
    return true
  }

  /** Removes a digest; false when it was not there. */
  delete(digest: Uint8Array): boolean {
    this.#load(digest)
    if (this.#isZero()) {
      const was = this.#hasZero
      this.#hasZero = false
      return was
    }
    const slot = this.#find()
    if (slot < 0) return false
    this.#vacate(slot)
    this.#stored -= 1
    return true
  }

  /** Every digest once, each a copy, in no order; a snapshot: changes made meanwhile do not show. */
  *[Symbol.iterator](): Generator<Uint8Array> {
    const words = this.#words.slice()
    const bytes = new Uint8Array(words.buffer)
    if (this.#hasZero) yield new Uint8Array(4 * WORDS)
    for (let at = 0; at < words.length; at += WORDS) {
      if (!isEmpty(words, at)) yield bytes.slice(at * 4, (at + WORDS) * 4)
    }
  }

  /** Those that begin with this byte, joined, in order: a 256th of them at a time is what a pass over all can afford. */
  withFirstByte(first: number): Uint8Array {
    const bytes = new Uint8Array(this.#words.buffer)
    const found: Uint8Array[] = this.#hasZero && first === 0 ? [new Uint8Array(4 * WORDS)] : []
    for (let at = 0; at < this.#words.length; at += WORDS) {
      if (bytes[at * 4] === first && !isEmpty(this.#words, at)) found.push(bytes.subarray(at * 4, (at + WORDS) * 4))
    }
    found.sort(compareBytes)
    const joined = new Uint8Array(found.length * 4 * WORDS)
    for (const [i, digest] of found.entries()) joined.set(digest, i * 4 * WORDS)
    return joined
  }

  #load(digest: Uint8Array): void {
    if (digest.length !== 4 * WORDS) throw new RangeError(`digest of ${digest.length} bytes, expected ${4 * WORDS}`)
    this.#bytes.set(digest)
  }

  #isZero(): boolean {
    return isEmpty(this.#key, 0)
  }

  #home(words: Uint32Array, at: number): number {
    let hash = Math.imul(words[at]!, this.#saltA) ^ Math.imul(words[at + 1]!, this.#saltB)
    hash = Math.imul(hash ^ (hash >>> 16), 0x45d9f3b)
    return Math.floor((((hash ^ (hash >>> 15)) >>> 0) / 2 ** 32) * this.#slots)
  }

  /** The slot of the loaded key, or -1. */
  #find(): number {
    const words = this.#words
    for (let slot = this.#home(this.#key, 0); ; slot = slot + 1 === this.#slots ? 0 : slot + 1) {
      const at = slot * WORDS
      if (isEmpty(words, at)) return -1
      if (isEqual(words, at, this.#key)) return slot
    }
  }

  #place(from: Uint32Array, at: number): void {
    const words = this.#words
    let slot = this.#home(from, at)
    while (!isEmpty(words, slot * WORDS)) slot = slot + 1 === this.#slots ? 0 : slot + 1
    for (let i = 0; i < WORDS; i += 1) words[slot * WORDS + i] = from[at + i]!
  }

  #grow(): void {
    const old = this.#words
    this.#slots = Math.ceil(this.#slots * 1.5)
    this.#words = new Uint32Array(this.#slots * WORDS)
    for (let at = 0; at < old.length; at += WORDS) if (!isEmpty(old, at)) this.#place(old, at)
  }

  // Fills the gap from behind: each later entry of the run that may stand in the gap moves there and leaves a new gap.
  #vacate(slot: number): void {
    const words = this.#words
    let gap = slot
    let next = slot
    for (;;) {
      next = next + 1 === this.#slots ? 0 : next + 1
      if (isEmpty(words, next * WORDS)) break
      const home = this.#home(words, next * WORDS)
      const fromHome = (next - home + this.#slots) % this.#slots
      const fromGap = (next - gap + this.#slots) % this.#slots
      if (fromHome < fromGap) continue
      words.copyWithin(gap * WORDS, next * WORDS, (next + 1) * WORDS)
      gap = next
    }
    words.fill(0, gap * WORDS, (gap + 1) * WORDS)
  }
}

/** The digests in an array that holds one after another, each a view. */
export function* digestsIn(joined: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < joined.length; at += 4 * WORDS) yield joined.subarray(at, at + 4 * WORDS)
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length; i += 1) if (a[i] !== b[i]) return a[i]! - b[i]!
  return 0
}

const randomOdd = (): number => Math.floor(Math.random() * 2 ** 32) | 1

function isEmpty(words: Uint32Array, at: number): boolean {
  for (let i = 0; i < WORDS; i += 1) if (words[at + i] !== 0) return false
  return true
}

function isEqual(words: Uint32Array, at: number, key: Uint32Array): boolean {
  for (let i = 0; i < WORDS; i += 1) if (words[at + i] !== key[i]) return false
  return true
}
