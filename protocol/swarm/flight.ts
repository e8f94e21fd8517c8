/** An item under way, of the swarm machine. */
import type { SwarmPeer } from './peers.ts'

export interface Flight {
  /** Peers that have it in their queue. */
  holders: SwarmPeer[]
  /** Peers whose copy is being verified. */
  checking: SwarmPeer[]
  /** When it was asked for last. */
  askedMs: number
}

export function removeFrom(peers: SwarmPeer[], peer: SwarmPeer): void {
  const at = peers.indexOf(peer)
  if (at >= 0) peers.splice(at, 1)
}
