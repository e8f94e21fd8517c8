/** Two streams between the same two peers about the same share: which of them stays. */
import type { PeerLink } from '../network/peer-link.ts'

/** Whether `link` takes the place of `other`: the one that the smaller peer id opened stays, and both sides decide alike. */
export function replaces(link: PeerLink, other: PeerLink, self: Uint8Array): boolean {
  if (link.remote.direction === other.remote.direction) return true // the old one is dead, and its owner knows
  const weAreSmaller = Buffer.compare(self, link.remote.peerIdBytes) < 0
  return (link.remote.direction === 'outbound') === weAreSmaller
}
