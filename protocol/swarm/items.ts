/**
 * What the swarm machine knows of each item: wanted how much, had or not, asked for or not, and how many known peers have it.
 *
 * An item is in exactly one of: unwanted, open (in one bucket), taken (somebody was asked, or is being checked), had. Plain bookkeeping.
 */
import { assert } from '../errors.ts'
import { IndexSet } from './index-set.ts'
import { OpenItems, ORDERED_PRIORITIES, PRIORITIES } from './open-items.ts'

/** The priority of what nobody wants: after all others. */
export const UNWANTED = PRIORITIES

export class Items {
  readonly count: number
  readonly #priority: Uint8Array
  readonly #had: IndexSet
  readonly #taken: IndexSet
  readonly #holders: Uint16Array
  readonly #open: OpenItems
  #missing = 0

  constructor(count: number) {
    this.count = count
    this.#priority = new Uint8Array(count).fill(UNWANTED)
    this.#had = new IndexSet(count)
    this.#taken = new IndexSet(count)
    this.#holders = new Uint16Array(count)
    this.#open = new OpenItems(count)
  }

  get hadCount(): number {
    return this.#had.count
  }

  /** Wanted and not had. */
  get missing(): number {
    return this.#missing
  }

  isHad(item: number): boolean {
    return this.#had.has(item)
  }

  isMissing(item: number): boolean {
    return this.#priority[item] !== UNWANTED && !this.#had.has(item)
  }

  priorityOf(item: number): number {
    return this.#priority[item]!
  }

  /** Whether it is taken in the order of the items, not of rarity. */
  isOrdered(item: number): boolean {
    return this.#priority[item]! < ORDERED_PRIORITIES
  }

  want(item: number, priority: number): void {
    if (this.#had.has(item)) return
    const isOpen = !this.#taken.has(item)
    if (this.#priority[item] === UNWANTED) this.#missing++
    else if (isOpen) this.#close(item)
    this.#priority[item] = priority
    if (isOpen) this.#reopen(item)
  }

  unwant(item: number): void {
    if (this.#priority[item] === UNWANTED) return
    if (this.#isOpen(item)) this.#close(item)
    if (!this.#had.has(item)) this.#missing--
    this.#priority[item] = UNWANTED
  }

  /** Asked for: no longer open. */
  take(item: number): void {
    this.#close(item)
    this.#taken.add(item)
  }

  /** Nobody works on it any more. True when it is open again. */
  giveBack(item: number): boolean {
    this.#taken.delete(item)
    if (!this.isMissing(item)) return false
    this.#reopen(item)
    return true
  }

  /** It is on disk now. False when it was already. */
  gain(item: number): boolean {
    if (this.#had.has(item)) return false
    if (this.#isOpen(item)) this.#close(item)
    if (this.#priority[item] !== UNWANTED) this.#missing--
    this.#had.add(item)
    return true
  }

  /** It is gone from the disk. True when it is wanted again. */
  lose(item: number): boolean {
    if (!this.#had.delete(item) || this.#priority[item] === UNWANTED) return false
    this.#missing++
    this.#reopen(item)
    return true
  }

  /** One known holder more or less. */
  changeHolders(item: number, change: 1 | -1): void {
    const isOpen = this.#isOpen(item)
    if (isOpen) this.#close(item)
    this.#holders[item]! += change
    if (isOpen) this.#reopen(item)
  }

  /** The open item to be asked next of a peer that has `within` (null: everything) but `without`; -1 when there is none. */
  pick(from: number, within: IndexSet | null, without: IndexSet | null): number {
    return this.#open.count === 0 ? -1 : this.#open.pick(from, within, without)
  }

  /** Whether `item` is open and, as far as known, nobody but seeders has it: it can be asked for in the place of `other`. */
  isAsRare(item: number, other: number): boolean {
    const priority = this.#priority[item]!
    return priority >= ORDERED_PRIORITIES && priority === this.#priority[other] && this.#holders[item] === 0 && this.#isOpen(item)
  }

  /** Whether `item` comes before `other` (-1: nothing) by priority, or by order where that counts. */
  isBefore(item: number, other: number): boolean {
    const priority = this.#priority[item]!
    const otherPriority = other < 0 ? UNWANTED : this.#priority[other]!
    return priority < otherPriority || (priority === otherPriority && priority < ORDERED_PRIORITIES && item < other)
  }

  /** For tests: O(items). `holdersOf` counts anew. */
  checkInvariants(isTaken: (item: number) => boolean, holdersOf: (item: number) => number): void {
    let [open, missing] = [0, 0]
    for (let item = 0; item < this.count; item++) {
      const isOpen = this.isMissing(item) && !isTaken(item)
      this.#open.checkItem(item, isOpen, this.#priority[item]!, this.#holders[item]!)
      assert(this.#taken.has(item) === isTaken(item), `item ${item} is taken`)
      assert(!isTaken(item) || !this.#had.has(item), `item ${item} is had and asked`)
      assert(this.#holders[item] === holdersOf(item), `holders of item ${item}`)
      if (isOpen) open++
      if (this.isMissing(item)) missing++
    }
    assert(open === this.#open.count, 'open count')
    assert(missing === this.#missing, 'missing count')
  }

  #isOpen(item: number): boolean {
    return this.#priority[item] !== UNWANTED && !this.#had.has(item) && !this.#taken.has(item)
  }

  #close(item: number): void {
    this.#open.delete(item, this.#priority[item]!, this.#holders[item]!)
  }

  #reopen(item: number): void {
    this.#open.add(item, this.#priority[item]!, this.#holders[item]!)
  }
}
