/** Peers that may have room for a request, next first: those that have delivered, and those that have yet to. */
import { assert } from '../errors.ts'
import type { SwarmPeer } from './peers.ts'
import { isAwaited } from './windows.ts'

export class Line {
  readonly #proven: SwarmPeer[] = []
  readonly #others: SwarmPeer[] = []

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

  /** Lets peers out at the front, one at a time, as long as there is room for what they may be asked. They may enter again meanwhile. */
  serve(isProven: boolean, hasRoom: () => boolean, ask: (peer: SwarmPeer) => void): void {
    const side = isProven ? this.#proven : this.#others
    let at = 0
    for (; at < side.length && hasRoom(); at++) {
      const peer = side[at]!
      peer.isInLine = false
      ask(peer)
    }
    if (at > 0) side.splice(0, at)
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

  #sideOf(peer: SwarmPeer): SwarmPeer[] {
    return peer.isProven ? this.#proven : this.#others
  }
}
