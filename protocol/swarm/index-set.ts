/**
 * A set of small integers that finds its next member under a mask fast: 32 members a word, and three layers of summaries that skip what
 * is empty, so that a search costs a few words in a set of a million.
 *
 * The swarm machine keeps one for each rarity, and asks "the next of these that this peer has".
 */

/** Bits of layer n stand for words of layer n - 1; layer 0 holds the members. */
const LAYERS_MAX = 4

/** A set of indices below `size`. */
export class IndexSet {
  /** All layers behind each other in one array, layer 0 first: a lookup touches as little memory as can be. */
  readonly #words: Uint32Array
  /** Where the words of layers 1, 2 and 3 begin; the number of words where there is no such layer. */
  readonly #second: number
  readonly #third: number
  readonly #fourth: number
  #count = 0

  constructor(size: number) {
    const starts = [0]
    for (let bits = size; starts.length <= LAYERS_MAX; ) {
      const words = Math.max(1, Math.ceil(bits / 32))
      starts.push(starts.at(-1)! + words)
      if (words === 1) break
      bits = words
    }
    const end = starts.at(-1)!
    this.#words = new Uint32Array(end)
    this.#second = starts[1] ?? end
    this.#third = starts[2] ?? end
    this.#fourth = starts[3] ?? end
  }

  get count(): number {
    return this.#count
  }

  has(index: number): boolean {
    return (this.#words[index >>> 5]! & (1 << (index & 31))) !== 0
  }

  /** False when it was there already. */
  add(index: number): boolean {
    const words = this.#words
    let at = index >>> 5
    const word = words[at]!
    const bit = 1 << (index & 31)
    if ((word & bit) !== 0) return false
    words[at] = word | bit
    this.#count++
    // Where the word was not empty it is counted above already.
    for (let layer = 1, above = word; above === 0 && layer < LAYERS_MAX; layer++) {
      const place = this.#start(layer) + (at >>> 5)
      if (place >= words.length) break
      above = words[place]!
      words[place] = above | (1 << (at & 31))
      at >>>= 5
    }
    return true
  }

  /** False when it was not there. */
  delete(index: number): boolean {
    const words = this.#words
    let at = index >>> 5
    const word = words[at]!
    const bit = 1 << (index & 31)
    if ((word & bit) === 0) return false
    words[at] = word & ~bit
    this.#count--
    for (let layer = 1, left = word & ~bit; left === 0 && layer < LAYERS_MAX; layer++) {
      const place = this.#start(layer) + (at >>> 5)
      if (place >= words.length) break
      left = words[place]! & ~(1 << (at & 31))
      words[place] = left
      at >>>= 5
    }
    return true
  }

  /** The first member from `from` on, around the end, that is in `within` (null: all) and not in `without`; -1 when there is none. */
  findFrom(from: number, within: IndexSet | null, without: IndexSet | null): number {
    if (this.#count === 0 || (within !== null && within.count === 0)) return -1
    const top = this.#top
    const later = this.#search(top, 0, from, within, without)
    return later >= 0 || from === 0 ? later : this.#search(top, 0, 0, within, without)
  }

  get #top(): number {
    const end = this.#words.length
    return this.#second === end ? 0 : this.#third === end ? 1 : this.#fourth === end ? 2 : 3
  }

  #start(layer: number): number {
    return layer === 0 ? 0 : layer === 1 ? this.#second : layer === 2 ? this.#third : this.#fourth
  }

  /** The first match from `from` on below word `at` of a layer. */
  #search(layer: number, at: number, from: number, within: IndexSet | null, without: IndexSet | null): number {
    const words = this.#words
    const start = this.#start(layer)
    const shift = layer * 5
    // The top layer may be several words long in a very large set; those below are one word of 32 children.
    const isTop = layer === this.#top
    const end = isTop ? words.length - start : at + 1
    for (let word = isTop ? from >>> (shift + 5) : at; word < end; word++) {
      let bits = words[start + word]!
      if (within !== null) bits &= within.#words[start + word]!
      if (layer === 0 && without !== null) bits &= ~without.#words[word]!
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
