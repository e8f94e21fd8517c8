/** Seats at a share: of two streams between the same two peers one stays, and some seats are for those whom we dial. */
import { CONTACTS, SWARM } from '../../protocol/limits.ts'
import type { CloseReason, PeerLink } from '../network/peer-link.ts'
import type { Dialling } from './dialling.ts'
import type { LiveShare } from './live-share.ts'

/** What a link that was taken works with. */
export interface Seat {
  live: LiveShare
  contacts: Dialling | null
  /** Until the link has ended. */
  running: Promise<CloseReason>
}

/** Who opens a second one has lost the first, unless both were opened at the same time: then bytes have come over it just now. */
const SILENT_MS = 3_000

/**
 * Whether `link` takes the place of `other`: the one that the smaller peer id opened stays, and both sides decide alike. One over which
 * nothing came for a while gives way: its owner has another address, or lost it without our hearing of it.
 */
export function replaces(link: PeerLink, other: PeerLink, self: Uint8Array, silentMs: number): boolean {
  if (link.remote.direction === other.remote.direction) return true // the old one is dead, and its owner knows
  if (silentMs >= SILENT_MS) return true
  const weAreSmaller = Buffer.compare(self, link.remote.peerIdBytes) < 0
  return (link.remote.direction === 'outbound') === weAreSmaller
}

/** Whether those who dialled us have all the seats that are for them. */
export const isCrowded = ({ remote }: PeerLink, links: readonly PeerLink[]): boolean =>
  remote.direction === 'inbound' &&
  links.filter((other) => other.remote.direction === 'inbound').length >= SWARM.peersPerShareMax - CONTACTS.neighboursDialled
