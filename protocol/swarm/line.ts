/**
 * Peers that may have room for a request: those that have delivered, the quickest first, and those that have yet to, in turn.
 *
 * A peer that answered quickly has a short queue, so asking it first evens out the queues of a swarm. What is known of a peer grows old:
 * one that was not asked for a while counts as quicker again.
 */
import { assert } from '../errors.ts'
import { ASKED, HEAD_SINCE, IN_LINE, type Peers, PROVEN, RATE, ROW, STATE, type SwarmPeer } from './peers.ts'
import { isAwaited } from './windows.ts'

const PROVEN_IN_LINE = PROVEN | IN_LINE
const UNKNOWN = -1

export class Line {
  readonly #peers: Peers
  readonly #forgetMs: number
  /** Of those that have delivered: their rows say which. */
  #provenCount = 0
  readonly #others: SwarmPeer[] = []
  /** Since somebody entered the rows have been gone through at this time, and what they say has been listed, as long as more are taken. */
  #seenMs = UNKNOWN
  #listedMs = UNKNOWN
  readonly #listed: number[] = []
  readonly #ranks: number[] = []
  #turn = 0

  /** After `forgetMs` without a request a peer counts as twice as quick as it was. */
  constructor(peers: Peers, forgetMs: number) {
    this.#peers = peers
    this.#forgetMs = forgetMs
  }

  get isEmpty(): boolean {
    return this.#provenCount + this.#others.length === 0
  }

  /** At the end, unless it stands there already. */
  enter(peer: SwarmPeer): void {
    this.#forgetRanks()
    if (peer.isInLine || peer.isGone) return
    peer.isInLine = true
    peer.turn = this.#turn++
    if (peer.isProven) this.#provenCount++
    else this.#others.push(peer)
  }

  leave(peer: SwarmPeer): void {
    if (!peer.isInLine) return
    peer.isInLine = false
    this.#forgetRanks()
    if (peer.isProven) this.#provenCount--
    else this.#others.splice(this.#others.indexOf(peer), 1)
  }

  /** Lets the quickest of those out that have delivered, of equals who came first; null when there is none. */
  takeProven(now: number): SwarmPeer | null {
    if (this.#provenCount === 0) return null
    // Most often one is enough. Only where more are wanted their ranks are noted down.
    if (this.#listedMs !== now && this.#seenMs === now) this.#list(now)
    const at = this.#listedMs === now ? this.#takeListed() : this.#quickest(now)
    const peer = this.#peers.list[at / ROW]!
    peer.isInLine = false
    this.#provenCount--
    return peer
  }

  get hasOthers(): boolean {
    return this.#others.length > 0
  }

  /** Lets the first of the others out; there must be one. */
  takeOther(): SwarmPeer {
    const first = this.#others.shift()
    assert(first !== undefined, 'nobody is in line')
    first.isInLine = false
    return first
  }

  /** Takes out those of some who have delivered and would rather be asked for something. */
  takeAwaited(suggesting: readonly SwarmPeer[]): SwarmPeer[] {
    const awaited = suggesting.filter((peer) => isAwaited(peer) && peer.isInLine && peer.isProven)
    return awaited.sort((a, b) => a.turn - b.turn).map((peer) => this.#take(peer))
  }

  checkInvariants(): void {
    const { list } = this.#peers
    const proven = list.filter((peer) => peer.isInLine && peer.isProven)
    assert(proven.length === this.#provenCount, 'proven ones in line')
    for (const peer of list) assert(this.#others.includes(peer) === (peer.isInLine && !peer.isProven), `${peer.key} in line`)
    assert(proven.length + this.#others.length <= list.length, 'somebody who left is in line')
  }

  #forgetRanks(): void {
    this.#seenMs = UNKNOWN
    this.#listedMs = UNKNOWN
  }

  #quickest(now: number): number {
    const { rows, list } = this.#peers
    let best = -1
    let bestRank = -1
    for (let at = 0; at < list.length * ROW; at += ROW) {
      if ((rows[at + STATE]! & PROVEN_IN_LINE) !== PROVEN_IN_LINE) continue
      const rank = rankOf(rows, at, now, this.#forgetMs)
      if (rank <= bestRank) continue
      best = at
      bestRank = rank
    }
    this.#seenMs = now
    return best
  }

  #list(now: number): void {
    const { rows, list } = this.#peers
    let count = 0
    for (let at = 0; at < list.length * ROW; at += ROW) {
      if ((rows[at + STATE]! & PROVEN_IN_LINE) !== PROVEN_IN_LINE) continue
      this.#listed[count] = at
      this.#ranks[count++] = rankOf(rows, at, now, this.#forgetMs)
    }
    this.#listed.length = count
    this.#ranks.length = count
    this.#listedMs = now
  }

  #takeListed(): number {
    const [listed, ranks] = [this.#listed, this.#ranks]
    let best = 0
    for (let place = 1; place < listed.length; place++) {
      if (ranks[place]! > ranks[best]! || (ranks[place] === ranks[best] && listed[place]! < listed[best]!)) best = place
    }
    const at = listed[best]!
    listed[best] = listed.at(-1)!
    ranks[best] = ranks.at(-1)!
    listed.pop()
    ranks.pop()
    return at
  }

  #take(peer: SwarmPeer): SwarmPeer {
    this.leave(peer)
    return peer
  }
}

function rankOf(rows: Float64Array, at: number, now: number, forgetMs: number): number {
  const asked = rows[at + ASKED]!
  const rate = rows[at + RATE]!
  return asked > 0 ? rate / (asked + 1) : rate * (1 + (now - rows[at + HEAD_SINCE]!) / forgetMs)
}
