/**
 * What the swarm machine knows of each item: wanted how much, had or not, asked for or not, and how many known peers have it.
 *
 * An item is in exactly one of: unwanted, open (in one bucket), taken (somebody was asked, or is being checked), had. Plain bookkeeping.
 */
import { assert } from '../errors.ts'
import type { IndexSet } from './index-set.ts'
import { OpenItems, ORDERED_PRIORITIES, PRIORITIES } from './open-items.ts'

/** The priority of what nobody wants: after all others. */
export const UNWANTED = PRIORITIES

/** In the byte of an item: the priority, and two bits that make it larger than any priority. An open item is its priority alone. */
const PRIORITY = 0x3f
const TAKEN = 0x40
const HAD = 0x80

export class Items {
  readonly count: number
  /** The priority, and above it what becomes of the item: one byte each, so that a look costs one. */
  readonly #state: Uint8Array
  readonly #holders: Uint16Array
  readonly #open: OpenItems
  #had = 0
  #missing = 0

  constructor(count: number) {
    this.count = count
    this.#state = new Uint8Array(count).fill(UNWANTED)
    this.#holders = new Uint16Array(count)
    this.#open = new OpenItems(count)
  }

  get hadCount(): number {
    return this.#had
  }

  /** Wanted and not had. */
  get missing(): number {
    return this.#missing
  }

  isHad(item: number): boolean {
    return (this.#state[item]! & HAD) !== 0
  }

  isMissing(item: number): boolean {
    return (this.#state[item]! & ~TAKEN) < UNWANTED
  }

  priorityOf(item: number): number {
    return this.#state[item]! & PRIORITY
  }

  /** Whether it is taken in the order of the items, not of rarity. */
  isOrdered(item: number): boolean {
    return this.priorityOf(item) < ORDERED_PRIORITIES
  }

  want(item: number, priority: number): void {
    if (this.isHad(item)) return
    const isOpen = !this.#isTaken(item)
    if (this.priorityOf(item) === UNWANTED) this.#missing++
    else if (isOpen) this.#close(item)
    this.#setPriority(item, priority)
    if (isOpen) this.#reopen(item)
  }

  unwant(item: number): void {
    if (this.priorityOf(item) === UNWANTED) return
    if (this.#isOpen(item)) this.#close(item)
    if (!this.isHad(item)) this.#missing--
    this.#setPriority(item, UNWANTED)
  }

  /** Asked for: no longer open. */
  take(item: number): void {
    this.#close(item)
    this.#state[item]! |= TAKEN
  }

  /** Nobody works on it any more. True when it is open again. */
  giveBack(item: number): boolean {
    this.#state[item]! &= ~TAKEN
    if (!this.isMissing(item)) return false
    this.#reopen(item)
    return true
  }

  /** It is on disk now. False when it was already. */
  gain(item: number): boolean {
    if (this.isHad(item)) return false
    if (this.#isOpen(item)) this.#close(item)
    if (this.priorityOf(item) !== UNWANTED) this.#missing--
    this.#state[item]! |= HAD
    this.#had++
    return true
  }

  /** It is gone from the disk. True when it is wanted again. */
  lose(item: number): boolean {
    if (!this.isHad(item)) return false
    this.#state[item]! &= ~HAD
    this.#had--
    if (this.priorityOf(item) === UNWANTED) return false
    this.#missing++
    this.#reopen(item)
    return true
  }

  /** One known holder more or less. */
  changeHolders(item: number, change: 1 | -1): void {
    const before = this.#holders[item]!
    this.#holders[item] = before + change
    if (this.#isOpen(item)) this.#open.move(item, this.priorityOf(item), before, before + change)
  }

  /** The open item to be asked next of a peer that has `within` (null: everything) but `without`; -1 when there is none. */
  pick(from: number, within: IndexSet | null, without: IndexSet | null): number {
    return this.#open.count === 0 ? -1 : this.#open.pick(from, within, without)
  }

  /** Whether `item` is open and, as far as known, nobody but seeders has it: it can be asked for in the place of `other`. */
  isAsRare(item: number, other: number): boolean {
    const priority = this.priorityOf(item)
    return priority >= ORDERED_PRIORITIES && priority === this.priorityOf(other) && this.#holders[item] === 0 && this.#isOpen(item)
  }

  /** Whether `item` comes before `other` (-1: nothing) by priority, or by order where that counts. */
  isBefore(item: number, other: number): boolean {
    const priority = this.priorityOf(item)
    const otherPriority = other < 0 ? UNWANTED : this.priorityOf(other)
    return priority < otherPriority || (priority === otherPriority && priority < ORDERED_PRIORITIES && item < other)
  }

  /** For tests: O(items). `holdersOf` counts anew. */
  checkInvariants(isTaken: (item: number) => boolean, holdersOf: (item: number) => number): void {
    let [open, missing, had] = [0, 0, 0]
    for (let item = 0; item < this.count; item++) {
      const isOpen = this.isMissing(item) && !isTaken(item)
      this.#open.checkItem(item, isOpen, this.priorityOf(item), this.#holders[item]!)
      assert(this.#isTaken(item) === isTaken(item), `item ${item} is taken`)
      assert(!isTaken(item) || !this.isHad(item), `item ${item} is had and asked`)
      assert(this.#holders[item] === holdersOf(item), `holders of item ${item}`)
      if (isOpen) open++
      if (this.isHad(item)) had++
      if (this.isMissing(item)) missing++
    }
    assert(open === this.#open.count, 'open count')
    assert(missing === this.#missing && had === this.#had, 'missing count')
  }

  #isOpen(item: number): boolean {
    return this.#state[item]! < UNWANTED
  }

  #isTaken(item: number): boolean {
    return (this.#state[item]! & TAKEN) !== 0
  }

  #setPriority(item: number, priority: number): void {
    this.#state[item] = (this.#state[item]! & ~PRIORITY) | priority
  }

  #close(item: number): void {
    this.#open.delete(item, this.priorityOf(item), this.#holders[item]!)
  }

  #reopen(item: number): void {
    this.#open.add(item, this.priorityOf(item), this.#holders[item]!)
  }
}
