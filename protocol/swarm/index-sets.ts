/**
 * Sets of small integers, all of one size, that find their next member under a mask fast: 32 members a word, and three layers of
 * summaries that skip what is empty, so that a search costs a few words in a set of a million.
 *
 * The swarm machine keeps one for each rarity and one for each peer, and asks "the next of these that this peer has". They stand in one
 * array, for what is asked for at a time is close together there: with thousands of peers in a process, fetching memory is what costs.
 */
import { assert } from '../errors.ts'

/** Bits of layer n stand for words of layer n - 1; layer 0 holds the members. */
const LAYERS_MAX = 4
/** Room from the start for so many sets, as long as they are small: what grows is moved away from what it is needed with. */
const SETS_AT_FIRST = 48
const WORDS_AT_FIRST_MAX = 8192

/** Sets of indices below `size`. A set is a number, valid from `make` to `drop`. */
export class IndexSets {
  /** One set behind the other, each with all its layers, layer 0 first. A set's number is where it begins. */
  #words: Uint32Array
  readonly #width: number
  /** Where the words of layers 1, 2 and 3 begin in a set; its width where there is no such layer. */
  readonly #second: number
  readonly #third: number
  readonly #fourth: number
  #end = 0
  readonly #dropped: number[] = []

  constructor(size: number) {
    const starts = [0]
    for (let bits = size; starts.length <= LAYERS_MAX; ) {
      const words = Math.max(1, Math.ceil(bits / 32))
      starts.push(starts.at(-1)! + words)
      if (words === 1) break
      bits = words
    }
    this.#width = starts.at(-1)!
    this.#second = starts[1] ?? this.#width
    this.#third = starts[2] ?? this.#width
    this.#fourth = starts[3] ?? this.#width
    const setsAtFirst = Math.max(1, Math.min(SETS_AT_FIRST, Math.floor(WORDS_AT_FIRST_MAX / this.#width)))
    this.#words = new Uint32Array(this.#width * setsAtFirst)
  }

  /** A new set, empty. */
  make(): number {
    const set = this.#dropped.pop()
    if (set !== undefined) return set
    const made = this.#end
    this.#end += this.#width
    if (this.#end <= this.#words.length) return made
    const words = new Uint32Array(this.#end + this.#width * Math.ceil(this.#end / this.#width / 2))
    words.set(this.#words)
    this.#words = words
    return made
  }

  /** The set is of no use any more. */
  drop(set: number): void {
    this.#words.fill(0, set, set + this.#width)
    this.#dropped.push(set)
  }

  isEmpty(set: number): boolean {
    for (let at = this.#start(this.#top); at < this.#width; at++) if (this.#words[set + at] !== 0) return false
    return true
  }

  has(set: number, index: number): boolean {
    return (this.#words[set + (index >>> 5)]! & (1 << (index & 31))) !== 0
  }

  /** False when it was there already. */
  add(set: number, index: number): boolean {
    const words = this.#words
    let at = index >>> 5
    const word = words[set + at]!
    const bit = 1 << (index & 31)
    if ((word & bit) !== 0) return false
    words[set + at] = word | bit
    // Where the word was not empty it is counted above already.
    for (let layer = 1, above = word; above === 0 && layer < LAYERS_MAX; layer++) {
      const place = this.#start(layer) + (at >>> 5)
      if (place >= this.#width) break
      above = words[set + place]!
      words[set + place] = above | (1 << (at & 31))
      at >>>= 5
    }
    return true
  }

  /** False when it was not there. */
  delete(set: number, index: number): boolean {
    const words = this.#words
    let at = index >>> 5
    const word = words[set + at]!
    const bit = 1 << (index & 31)
    if ((word & bit) === 0) return false
    words[set + at] = word & ~bit
    for (let layer = 1, left = word & ~bit; left === 0 && layer < LAYERS_MAX; layer++) {
      const place = this.#start(layer) + (at >>> 5)
      if (place >= this.#width) break
      left = words[set + place]! & ~(1 << (at & 31))
      words[set + place] = left
      at >>>= 5
    }
    return true
  }

  /** The first member from `from` on, around the end, that is in `within` (null: all) and not in `without`; -1 when there is none. */
  findFrom(set: number, from: number, within: number | null, without: number | null): number {
    const top = this.#top
    const later = this.#search(top, 0, from, set, within, without)
    return later >= 0 || from === 0 ? later : this.#search(top, 0, 0, set, within, without)
  }

  /** For tests: a dropped set is empty, and every layer says what is below it. O(sets × words). */
  checkInvariants(): void {
    for (const set of this.#dropped) assert(this.isEmpty(set), 'a dropped set has members')
    for (let set = 0; set < this.#end; set += this.#width) {
      for (let layer = 1; layer <= this.#top; layer++) {
        for (let word = 0; this.#start(layer - 1) + word < this.#start(layer); word++) {
          const isSaid = (this.#words[set + this.#start(layer) + (word >>> 5)]! & (1 << (word & 31))) !== 0
          assert(isSaid === (this.#words[set + this.#start(layer - 1) + word] !== 0), 'a summary of a set is wrong')
        }
      }
    }
  }

  get #top(): number {
    const end = this.#width
    return this.#second === end ? 0 : this.#third === end ? 1 : this.#fourth === end ? 2 : 3
  }

  #start(layer: number): number {
    return layer === 0 ? 0 : layer === 1 ? this.#second : layer === 2 ? this.#third : this.#fourth
  }

  /** The first match from `from` on below word `at` of a layer. */
  #search(layer: number, at: number, from: number, set: number, within: number | null, without: number | null): number {
    const words = this.#words
    const start = this.#start(layer)
    const shift = layer * 5
    // The top layer may be several words long in a very large set; those below are one word of 32 children.
    const isTop = layer === this.#top
    const end = isTop ? this.#width - start : at + 1
    for (let word = isTop ? from >>> (shift + 5) : at; word < end; word++) {
      let bits = words[set + start + word]!
      if (within !== null) bits &= words[within + start + word]!
      if (layer === 0 && without !== null) bits &= ~words[without + word]!
      const first = from >>> shift
      if (first >>> 5 === word) bits &= -1 << (first & 31)
      else if (first >>> 5 > word) bits = 0
      for (; bits !== 0; bits &= bits - 1) {
        const child = word * 32 + lowest(bits)
        if (layer === 0) return child
        const found = this.#search(layer - 1, child, from, set, within, without)
        if (found >= 0) return found
      }
    }
    return -1
  }
}

/** Position of the lowest bit of a word that is not 0. */
const lowest = (word: number): number => 31 - Math.clz32(word & -word)
