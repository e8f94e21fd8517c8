/**
 * The items that wait to be asked for: one set for each priority and rarity, so that a pick never looks at all items.
 *
 * The first priorities are for reading in order: there rarity does not count, and the lowest number comes first.
 */
import { assert } from '../errors.ts'
import type { IndexSets } from './index-sets.ts'

/** How many priorities there are: 0 comes first. */
export const PRIORITIES = 4
/** Priorities below this one are taken in the order of the items, the others rarest first. */
export const ORDERED_PRIORITIES = 2
/** From so many known holders on, one more makes no difference. At most 32: a bit each in a word. */
const RARITIES = 16

const NO_SET = -1

/** Sets by priority and number of known holders; an item is in one of them at most. */
export class OpenItems {
  readonly #sets: IndexSets
  /** The sets, made when first needed. */
  readonly #buckets: number[] = new Array<number>(PRIORITIES * RARITIES).fill(NO_SET)
  /** By priority: bits of the rarities whose sets are not empty. */
  readonly #filled: number[] = new Array<number>(PRIORITIES).fill(0)
  #count = 0

  /** `sets` are over all items. */
  constructor(sets: IndexSets) {
    this.#sets = sets
  }

  get count(): number {
    return this.#count
  }

  add(item: number, priority: number, holders: number): void {
    this.#put(item, priority, rarityOf(priority, holders))
    this.#count++
  }

  delete(item: number, priority: number, holders: number): void {
    this.#drop(item, priority, rarityOf(priority, holders))
    this.#count--
  }

  /** From one rarity to another. */
  move(item: number, priority: number, from: number, to: number): void {
    const [before, after] = [rarityOf(priority, from), rarityOf(priority, to)]
    if (before === after) return
    this.#drop(item, priority, before)
    this.#put(item, priority, after)
  }

  /** The first by priority, then by rarity and order from `from` on (or by order alone); -1 when there is none. Sets as in `findFrom`. */
  pick(from: number, within: number | null, without: number | null): number {
    for (let priority = 0; priority < PRIORITIES; priority++) {
      const start = priority < ORDERED_PRIORITIES ? 0 : from
      for (let filled = this.#filled[priority]!; filled !== 0; filled &= filled - 1) {
        const rarity = 31 - Math.clz32(filled & -filled)
        const item = this.#sets.findFrom(this.#buckets[priority * RARITIES + rarity]!, start, within, without)
        if (item >= 0) return item
      }
    }
    return -1
  }

  /** Checks that an item is in its own bucket alone (`isOpen`), or in none. */
  checkItem(item: number, isOpen: boolean, priority: number, holders: number): void {
    const has = (bucket: number): boolean => bucket !== NO_SET && this.#sets.has(bucket, item)
    const places = this.#buckets.filter(has).length
    assert(places === (isOpen ? 1 : 0), `item ${item} is in ${places} buckets`)
    if (!isOpen) return
    const rarity = rarityOf(priority, holders)
    assert(has(this.#buckets[priority * RARITIES + rarity]!), `item ${item} is in a wrong bucket`)
    assert((this.#filled[priority]! & (1 << rarity)) !== 0, `the bucket of item ${item} counts as empty`)
  }

  #put(item: number, priority: number, rarity: number): void {
    const at = priority * RARITIES + rarity
    if (this.#buckets[at] === NO_SET) this.#buckets[at] = this.#sets.make()
    assert(this.#sets.add(this.#buckets[at]!, item), 'an item is opened twice')
    this.#filled[priority]! |= 1 << rarity
  }

  #drop(item: number, priority: number, rarity: number): void {
    const bucket = this.#buckets[priority * RARITIES + rarity]!
    assert(bucket !== NO_SET && this.#sets.delete(bucket, item), 'an item that is not open is closed')
    if (this.#sets.isEmpty(bucket)) this.#filled[priority]! &= ~(1 << rarity)
  }
}

const rarityOf = (priority: number, holders: number): number => (priority < ORDERED_PRIORITIES ? 0 : Math.min(holders, RARITIES - 1))
