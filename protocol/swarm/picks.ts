/** Which open item a peer is asked for next: by priority and rarity, in runs, and first what a sole seeder suggests. Part of the swarm machine. */
import type { Items } from './items.ts'
import { isHolder, type SwarmPeer } from './peers.ts'
import { removeFrom } from './short-lists.ts'
import { isAwaited } from './windows.ts'

export class Picks {
  readonly #items: Items
  readonly #random: () => number
  /** Where a pick begins to look: behind the last one, so that seeders are read in order. */
  #cursor: number
  /** Peers that would rather be asked for something. */
  readonly suggesting: SwarmPeer[] = []

  /** `random` returns a number in [0, 1). */
  constructor(items: Items, random: () => number) {
    this.#items = items
    this.#random = random
    this.#cursor = this.#anywhere()
  }

  /** The item to ask a peer for; -1 when nothing is open that it has. */
  next(peer: SwarmPeer): number {
    if (peer.isDry) return -1
    let item = this.#items.pick(this.#cursor, peer.have, peer.refused)
    peer.isDry = item < 0
    if (item < 0) return item
    if (this.#items.isOrdered(item)) return item
    // The run is over where somebody else has been: going on behind them would be asking for what they ask for next.
    if (item !== this.#cursor) item = this.#items.pick(this.#anywhere(), peer.have, peer.refused)
    this.#cursor = item
    while (peer.suggested.length > 0) {
      const suggested = peer.suggested[0]!
      if (this.#items.isAsRare(suggested, item) && isHolder(peer, suggested)) return suggested
      peer.suggested.shift()
      this.#forget(peer)
    }
    return item
  }

  /** An item was asked for: the run goes on behind it. */
  began(item: number): void {
    if (item === this.#cursor) this.#cursor = item + 1 === this.#items.count ? 0 : item + 1
  }

  /** A peer would rather be asked for an item; `max`: how many suggestions are kept. True when it can be asked for it now. */
  suggest(peer: SwarmPeer, item: number, max: number): boolean {
    if (this.#items.isHad(item) || peer.suggested.length + peer.suggestedEarly.length >= max) return false
    if (!this.#items.isMissing(item)) {
      peer.suggestedEarly.push(item)
      return false
    }
    peer.suggested.push(item)
    if (!peer.isSuggesting) this.suggesting.push(peer)
    peer.isSuggesting = true
    return true
  }

  /** Whether anybody would rather be asked for something now. */
  get isAnyAwaited(): boolean {
    for (const peer of this.suggesting) if (isAwaited(peer)) return true
    return false
  }

  leave(peer: SwarmPeer): void {
    peer.suggested.length = 0
    this.#forget(peer)
  }

  /** Once nothing is left of what it suggested. */
  #forget(peer: SwarmPeer): void {
    if (peer.suggested.length > 0) return
    peer.isSuggesting = false
    removeFrom(this.suggesting, peer)
  }

  /** Every instance reads elsewhere, so that downloaders of one seeder have something to give to each other. */
  #anywhere(): number {
    return Math.floor(this.#random() * this.#items.count)
  }
}
