/**
 * What the swarm machine knows of each item: wanted how much, had or not, asked for or not, and how many known peers have it.
 *
 * An item is in exactly one of: unwanted, open (in one bucket), taken (somebody was asked, or is being checked), had. Plain bookkeeping.
 */
import { assert } from '../errors.ts'
import type { IndexSets } from './index-sets.ts'
import { OpenItems, ORDERED_PRIORITIES, PRIORITIES } from './open-items.ts'

/** The priority of what nobody wants: after all others. */
const UNWANTED = PRIORITIES

/** In the word of an item: the priority, two bits that make it larger than any priority, and how many have it. */
const PRIORITY = 0x3f
const TAKEN = 0x40
const HAD = 0x80
const STATE = PRIORITY | TAKEN | HAD
const HOLDER = 0x100

export class Items {
  readonly count: number
  /** One word for each item, so that a look costs one; behind them how many taken ones there are of each priority and unwanted. */
  readonly #words: Uint32Array
  readonly #sets: IndexSets
  readonly #open: OpenItems
  #had = 0
  #missing = 0

  /** `sets` are over all items. */
  constructor(count: number, sets: IndexSets) {
    this.count = count
    this.#words = new Uint32Array(count + PRIORITIES + 1).fill(UNWANTED, 0, count)
    this.#sets = sets
    this.#open = new OpenItems(sets)
  }

  get hadCount(): number {
    return this.#had
  }

  /** Wanted and not had. */
  get missing(): number {
    return this.#missing
  }

  isHad(item: number): boolean {
    return (this.#words[item]! & HAD) !== 0
  }

  isTaken(item: number): boolean {
    return (this.#words[item]! & TAKEN) !== 0
  }

  isMissing(item: number): boolean {
    return (this.#words[item]! & (PRIORITY | HAD)) < UNWANTED
  }

  priorityOf(item: number): number {
    return this.#words[item]! & PRIORITY
  }

  /** How many peers that deliver have it, those with everything left out. */
  holdersOf(item: number): number {
    return this.#words[item]! >>> 8
  }

  /** Whether it is taken in the order of the items, not of rarity. */
  isOrdered(item: number): boolean {
    return this.priorityOf(item) < ORDERED_PRIORITIES
  }

  want(item: number, priority: number): void {
    if (this.isHad(item)) return
    const isOpen = !this.isTaken(item)
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
    this.#words[item]! |= TAKEN
    this.#countTaken(item, 1)
  }

  /** Nobody works on it any more. True when it is open again. */
  giveBack(item: number): boolean {
    if (this.isTaken(item)) this.#countTaken(item, -1)
    this.#words[item]! &= ~TAKEN
    if (!this.isMissing(item)) return false
    this.#reopen(item)
    return true
  }

  /** It is on disk now. False when it was already. */
  gain(item: number): boolean {
    if (this.isHad(item)) return false
    if (this.#isOpen(item)) this.#close(item)
    if (this.priorityOf(item) !== UNWANTED) this.#missing--
    this.#words[item]! |= HAD
    this.#had++
    return true
  }

  /** It is gone from the disk. True when it is wanted again. */
  lose(item: number): boolean {
    if (!this.isHad(item)) return false
    this.#words[item]! &= ~HAD
    this.#had--
    if (this.priorityOf(item) === UNWANTED) return false
    this.#missing++
    this.#reopen(item)
    return true
  }

  /** One known holder more or less. */
  changeHolders(item: number, change: 1 | -1): void {
    const before = this.holdersOf(item)
    this.#words[item]! += change * HOLDER
    if (this.#isOpen(item)) this.#open.move(item, this.priorityOf(item), before, before + change)
  }

  /** One known holder more or less, which has all of a set. */
  changeHoldersOfAll(set: number, change: 1 | -1): void {
    for (let item = this.#sets.findFrom(set, 0, null, null), last = -1; item > last; ) {
      last = item
      this.changeHolders(item, change)
      item = this.#sets.findFrom(set, item + 1, null, null)
    }
  }

  /** The open item to be asked next of a peer that has `within` (null: everything) but `without`; -1 when there is none. */
  pick(from: number, within: number | null, without: number | null): number {
    return this.#open.count === 0 ? -1 : this.#open.pick(from, within, without)
  }

  /** Whether `item` is open and, as far as known, nobody but seeders has it: it can be asked for in the place of `other`. */
  isAsRare(item: number, other: number): boolean {
    const priority = this.priorityOf(item)
    return priority >= ORDERED_PRIORITIES && priority === this.priorityOf(other) && this.holdersOf(item) === 0 && this.#isOpen(item)
  }

  /** Whether `item` comes before `other` (-1: nothing) by priority, or by order where that counts. */
  isBefore(item: number, other: number): boolean {
    const priority = this.priorityOf(item)
    const otherPriority = other < 0 ? UNWANTED : this.priorityOf(other)
    return priority < otherPriority || (priority === otherPriority && priority < ORDERED_PRIORITIES && item < other)
  }

  /** Whether any item that is taken may come before `other`. */
  isAnyTakenBefore(other: number): boolean {
    const priority = this.priorityOf(other)
    for (let before = 0; before < priority; before++) if (this.#words[this.count + before] !== 0) return true
    return priority < ORDERED_PRIORITIES && this.#words[this.count + priority] !== 0
  }

  /** For tests: O(items). `holdersOf` counts anew. */
  checkInvariants(isTaken: (item: number) => boolean, holdersOf: (item: number) => number): void {
    let [open, missing, had] = [0, 0, 0]
    const taken = new Array<number>(PRIORITIES + 1).fill(0)
    for (let item = 0; item < this.count; item++) {
      const isOpen = this.isMissing(item) && !isTaken(item)
      this.#open.checkItem(item, isOpen, this.priorityOf(item), this.holdersOf(item))
      assert(this.isTaken(item) === isTaken(item), `item ${item} is taken`)
      assert(!isTaken(item) || !this.isHad(item), `item ${item} is had and asked`)
      assert(this.holdersOf(item) === holdersOf(item), `holders of item ${item}`)
      if (isTaken(item)) taken[this.priorityOf(item)]!++
      if (isOpen) open++
      if (this.isHad(item)) had++
      if (this.isMissing(item)) missing++
    }
    assert(open === this.#open.count, 'open count')
    assert(
      taken.every((count, priority) => count === this.#words[this.count + priority]),
      'taken by priority',
    )
    assert(missing === this.#missing && had === this.#had, 'missing count')
  }

  #isOpen(item: number): boolean {
    return (this.#words[item]! & STATE) < UNWANTED
  }

  #setPriority(item: number, priority: number): void {
    if (this.isTaken(item)) this.#countTaken(item, -1)
    this.#words[item] = (this.#words[item]! & ~PRIORITY) | priority
    if (this.isTaken(item)) this.#countTaken(item, 1)
  }

  #countTaken(item: number, change: 1 | -1): void {
    this.#words[this.count + this.priorityOf(item)]! += change
  }

  #close(item: number): void {
    this.#open.delete(item, this.priorityOf(item), this.holdersOf(item))
  }

  #reopen(item: number): void {
    this.#open.add(item, this.priorityOf(item), this.holdersOf(item))
  }
}
