/**
 * The items that wait to be asked for: one set for each priority and rarity, so that a pick never looks at all items.
 *
 * The first priorities are for reading in order: there rarity does not count, and the lowest number comes first.
 */
import { assert } from '../errors.ts'
import { IndexSet } from './index-set.ts'

/** How many priorities there are: 0 comes first. */
export const PRIORITIES = 4
/** Priorities below this one are taken in the order of the items, the others rarest first. */
export const ORDERED_PRIORITIES = 2
/** From so many known holders on, one more makes no difference. */
const RARITIES = 16

/** Sets by priority and number of known holders; an item is in one of them at most. */
export class OpenItems {
  readonly #itemCount: number
  readonly #buckets: (IndexSet | undefined)[] = new Array(PRIORITIES * RARITIES)
  #count = 0

  constructor(itemCount: number) {
    this.#itemCount = itemCount
  }

  get count(): number {
    return this.#count
  }

  add(item: number, priority: number, holders: number): void {
    const at = place(priority, holders)
    let bucket = this.#buckets[at]
    if (bucket === undefined) {
      bucket = new IndexSet(this.#itemCount)
      this.#buckets[at] = bucket
    }
    assert(bucket.add(item), 'an item is opened twice')
    this.#count++
  }

  delete(item: number, priority: number, holders: number): void {
    assert(this.#buckets[place(priority, holders)]?.delete(item) === true, 'an item that is not open is closed')
    this.#count--
  }

  /** From one rarity to another. */
  move(item: number, priority: number, from: number, to: number): void {
    if (place(priority, from) === place(priority, to)) return
    this.delete(item, priority, from)
    this.add(item, priority, to)
  }

  /** The first by priority, then by rarity and order from `from` on (or by order alone); -1 when there is none. */
  pick(from: number, within: IndexSet | null, without: IndexSet | null): number {
    for (let at = 0; at < this.#buckets.length; at++) {
      const bucket = this.#buckets[at]
      if (bucket === undefined || bucket.count === 0) continue
      const item = bucket.findFrom(at < ORDERED_PRIORITIES * RARITIES ? 0 : from, within, without)
      if (item >= 0) return item
    }
    return -1
  }

  /** Checks that an item is in its own bucket alone (`isOpen`), or in none. */
  checkItem(item: number, isOpen: boolean, priority: number, holders: number): void {
    const places = this.#buckets.filter((bucket) => bucket?.has(item) === true).length
    assert(places === (isOpen ? 1 : 0), `item ${item} is in ${places} buckets`)
    if (isOpen) assert(this.#buckets[place(priority, holders)]?.has(item) === true, `item ${item} is in a wrong bucket`)
  }
}

const place = (priority: number, holders: number): number =>
  priority * RARITIES + (priority < ORDERED_PRIORITIES ? 0 : Math.min(holders, RARITIES - 1))
