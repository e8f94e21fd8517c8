/**
 * A set of small integers that finds its next member under a mask fast: 32 members a word, and a summary that skips empty words.
 *
 * The swarm machine keeps one for each rarity, and asks "the next of these that this peer has".
 */

/** A set of indices below `size`. */
export class IndexSet {
  readonly words: Uint32Array
  readonly #summary: Uint32Array
  #count = 0

  constructor(size: number) {
    this.words = new Uint32Array(Math.ceil(size / 32))
    this.#summary = new Uint32Array(Math.ceil(this.words.length / 32))
  }

  get count(): number {
    return this.#count
  }

  has(index: number): boolean {
    return (this.words[index >>> 5]! & (1 << (index & 31))) !== 0
  }

  /** False when it was there already. */
  add(index: number): boolean {
    if (this.has(index)) return false
    const at = index >>> 5
    this.words[at]! |= 1 << (index & 31)
    this.#summary[at >>> 5]! |= 1 << (at & 31)
    this.#count++
    return true
  }

  /** False when it was not there. */
  delete(index: number): boolean {
    if (!this.has(index)) return false
    const at = index >>> 5
    this.words[at]! &= ~(1 << (index & 31))
    if (this.words[at] === 0) this.#summary[at >>> 5]! &= ~(1 << (at & 31))
    this.#count--
    return true
  }

  /** The first member from `from` on, around the end, that is in `within` (null: all) and not in `without`; -1 when there is none. */
  findFrom(from: number, within: IndexSet | null, without: IndexSet | null): number {
    if (this.#count === 0) return -1
    const first = from >>> 5
    const head = this.#bits(first, within, without) & (-1 << (from & 31))
    if (head !== 0) return first * 32 + lowest(head)
    const later = this.#scan(first + 1, this.words.length, within, without)
    return later >= 0 ? later : this.#scan(0, first + 1, within, without)
  }

  #bits(at: number, within: IndexSet | null, without: IndexSet | null): number {
    const word = this.words[at]!
    return (within === null ? word : word & within.words[at]!) & (without === null ? -1 : ~without.words[at]!)
  }

  #scan(from: number, to: number, within: IndexSet | null, without: IndexSet | null): number {
    for (let group = from >>> 5; group * 32 < to; group++) {
      let filled = this.#summary[group]!
      if (group === from >>> 5) filled &= -1 << (from & 31)
      for (; filled !== 0; filled &= filled - 1) {
        const at = group * 32 + lowest(filled)
        if (at >= to) return -1
        const word = this.#bits(at, within, without)
        if (word !== 0) return at * 32 + lowest(word)
      }
    }
    return -1
  }
}

/** Position of the lowest bit of a word that is not 0. */
const lowest = (word: number): number => 31 - Math.clz32(word & -word)
