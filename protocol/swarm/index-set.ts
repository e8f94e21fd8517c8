/**
 * A set of small integers that finds its next member under a mask fast: 32 members a word, and three layers of summaries that skip what
 * is empty, so that a search costs a few words in a set of a million.
 *
 * The swarm machine keeps one for each rarity, and asks "the next of these that this peer has".
 */

/** Bits of layer n stand for words of layer n - 1; layer 0 holds the members. */
const LAYERS = 4

/** A set of indices below `size`. */
export class IndexSet {
  readonly #layers: Uint32Array[] = []
  #count = 0

  constructor(size: number) {
    for (let bits = size; this.#layers.length < LAYERS; ) {
      const words = Math.max(1, Math.ceil(bits / 32))
      this.#layers.push(new Uint32Array(words))
      if (words === 1) break
      bits = words
    }
  }

  get count(): number {
    return this.#count
  }

  has(index: number): boolean {
    return (this.#layers[0]![index >>> 5]! & (1 << (index & 31))) !== 0
  }

  /** False when it was there already. */
  add(index: number): boolean {
    if (this.has(index)) return false
    let at = index
    for (const words of this.#layers) {
      const word = words[at >>> 5]!
      words[at >>> 5] = word | (1 << (at & 31))
      if (word !== 0) break // counted above already
      at >>>= 5
    }
    this.#count++
    return true
  }

  /** False when it was not there. */
  delete(index: number): boolean {
    if (!this.has(index)) return false
    let at = index
    for (const words of this.#layers) {
      const word = words[at >>> 5]! & ~(1 << (at & 31))
      words[at >>> 5] = word
      if (word !== 0) break
      at >>>= 5
    }
    this.#count--
    return true
  }

  /** The first member from `from` on, around the end, that is in `within` (null: all) and not in `without`; -1 when there is none. */
  findFrom(from: number, within: IndexSet | null, without: IndexSet | null): number {
    if (this.#count === 0 || (within !== null && within.count === 0)) return -1
    const top = this.#layers.length - 1
    const later = this.#search(top, 0, from, within, without)
    return later >= 0 || from === 0 ? later : this.#search(top, 0, 0, within, without)
  }

  /** The first match from `from` on below word `at` of a layer. */
  #search(layer: number, at: number, from: number, within: IndexSet | null, without: IndexSet | null): number {
    const words = this.#layers[layer]!
    const shift = layer * 5
    // The top layer may be several words long in a very large set; those below are one word of 32 children.
    const end = layer === this.#layers.length - 1 ? words.length : at + 1
    for (let word = layer === this.#layers.length - 1 ? from >>> (shift + 5) : at; word < end; word++) {
      let bits = words[word]!
      if (within !== null) bits &= within.#layers[layer]![word]!
      if (layer === 0 && without !== null) bits &= ~without.#layers[0]![word]!
      const first = from >>> shift
      if (first >>> 5 === word) bits &= -1 << (first & 31)
      else if (first >>> 5 > word) bits = 0
      for (; bits !== 0; bits &= bits - 1) {
        const child = word * 32 + lowest(bits)
        if (layer === 0) return child
        const found = this.#search(layer - 1, child, from, within, without)
        if (found >= 0) return found
      }
    }
    return -1
  }
}

/** Position of the lowest bit of a word that is not 0. */
const lowest = (word: number): number => 31 - Math.clz32(word & -word)
