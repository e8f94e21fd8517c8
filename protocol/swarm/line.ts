/**
 * Peers that may have room for a request: those that have delivered, the quickest first, and those that have yet to, in turn.
 *
 * A peer that answered quickly has a short queue, so asking it first evens out the queues of a swarm. What is known of a peer grows old:
 * one that was not asked for a while counts as quicker again.
 */
import { assert } from '../errors.ts'
import type { SwarmPeer } from './peers.ts'
import { isAwaited } from './windows.ts'

export class Line {
  readonly #forgetMs: number
  readonly #proven: SwarmPeer[] = []
  readonly #others: SwarmPeer[] = []

  /** After `forgetMs` without a request a peer counts as twice as quick as it was. */
  constructor(forgetMs: number) {
    this.#forgetMs = forgetMs
  }

  get isEmpty(): boolean {
    return this.#proven.length + this.#others.length === 0
  }

  /** At the end, unless it stands there already. */
  enter(peer: SwarmPeer): void {
    if (peer.isInLine || peer.isGone) return
    peer.isInLine = true
    this.#sideOf(peer).push(peer)
  }

  leave(peer: SwarmPeer): void {
    if (!peer.isInLine) return
    peer.isInLine = false
    const side = this.#sideOf(peer)
    side.splice(side.indexOf(peer), 1)
  }

  /** Lets proven peers out, one at a time, as long as there is room for what they may be asked. They may enter again meanwhile. */
  serveProven(now: number, hasRoom: () => boolean, ask: (peer: SwarmPeer) => void): void {
    while (this.#proven.length > 0 && hasRoom()) {
      let best = 0
      let bestRank = -1
      for (let at = 0; at < this.#proven.length; at++) {
        const rank = this.#rankOf(this.#proven[at]!, now)
        if (rank <= bestRank) continue
        best = at
        bestRank = rank
      }
      const peer = this.#proven[best]!
      this.#proven.splice(best, 1)
      peer.isInLine = false
      ask(peer)
    }
  }

  /** The same for the others. */
  serveOthers(hasRoom: () => boolean, ask: (peer: SwarmPeer) => void): void {
    let at = 0
    for (; at < this.#others.length && hasRoom(); at++) {
      const peer = this.#others[at]!
      peer.isInLine = false
      ask(peer)
    }
    if (at > 0) this.#others.splice(0, at)
  }

  /** Takes out those who would rather be asked for something. */
  takeAwaited(): SwarmPeer[] {
    const awaited = this.#proven.filter(isAwaited)
    for (const peer of awaited) this.leave(peer)
    return awaited
  }

  checkInvariants(peers: SwarmPeer[]): void {
    for (const peer of peers) assert(peer.isInLine === this.#sideOf(peer).includes(peer), `${peer.key} in line`)
    assert(this.#proven.length + this.#others.length <= peers.length, 'somebody who left is in line')
  }

  #rankOf(peer: SwarmPeer, now: number): number {
    const asked = peer.queue.length
    return asked > 0 ? peer.rate / (asked + 1) : peer.rate * (1 + (now - peer.headSinceMs) / this.#forgetMs)
  }

  #sideOf(peer: SwarmPeer): SwarmPeer[] {
    return peer.isProven ? this.#proven : this.#others
  }
}
