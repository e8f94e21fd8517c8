/** What goes into the swarm machine and what comes out of it (swarm.ts): its limits, events and actions. */

/** Numbers of SWARM and WAITS that this machine needs, and the size of an item. */
export interface SwarmLimits {
  requestsPerPeerMin: number
  requestsPerPeerMax: number
  requestsTotalMin: number
  requestsTotalMax: number
  totalAheadMs: number
  endgameCopiesMax: number
  failsBeforeSnub: number
  snubMs: number
  blockMs: number
  patienceMs: number
  quietMs: number
  forgetMs: number
  coldMs: number
  coolMs: number
  tickMs: number
  queueAheadMs: number
  rateMinBytesPerSecond: number
  itemBytes: number
}

export type SwarmEvent =
  | { type: 'peerJoined'; peer: string }
  | { type: 'peerHas'; peer: string; first: number; count: number }
  | { type: 'peerLeft'; peer: string }
  /** The peer would rather be asked for this item than for another: nobody got it from there yet. */
  | { type: 'suggested'; peer: string; item: number }
  /** Priority 0 comes first, 3 last; 0 and 1 are taken in order, 2 and 3 rarest first. Asking again changes the priority of what is not had. */
  | { type: 'want'; first: number; count: number; priority: number }
  /** On disk already. */
  | { type: 'have'; first: number; count: number }
  /** Had once, and gone from the disk; `isDropped`: on purpose, nobody wants it any more. */
  | { type: 'lost'; item: number; isDropped?: boolean }
  /** Nobody wants anything any more. */
  | { type: 'unwantAll' }
  | { type: 'progress'; peer: string; item: number; bytes: number }
  /** All bytes are here; `verified` or `rejected` follows, even if the peer leaves. */
  | { type: 'received'; peer: string; item: number }
  | { type: 'verified'; peer: string; item: number }
  | { type: 'rejected'; peer: string; item: number; reason: 'hash' | 'absent' | 'store' }
  | { type: 'tick' }

export type SwarmAction =
  | { type: 'request' | 'cancel'; peer: string; item: number }
  | { type: 'dropPeer'; peer: string; reason: 'badBlock' }
  /** Every wanted item is had. May come again after more `want`. */
  | { type: 'done' }
