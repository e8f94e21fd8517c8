/** The model behind the crowd: its lines, latencies and walls, and what a form of it has to hear. */
import type { Half, Member } from './members.ts'

/** Mbit/s of the lines. */
export const ORIGIN_UP = 20
export const HOME_UP = 5
export const HOME_DOWN = 20
/** In a flash crowd; in an hour the contacts machine decides. */
export const NEIGHBOURS_MAX = 30
/** Hashing a block. */
export const HASH_MS = 5
const LATENCY_MIN_MS = 10
const LATENCY_MAX_MS = 80
/** Two behind NAT cannot meet. */
export const NATED_SHARE = 0.3

/** What a form wants to hear of. */
export interface Form {
  finished(member: Member): void
  /** `member` got a block of that peer. */
  gained(member: Member, half: Half): void
  /** `member` has noticed that a peer is gone. */
  left(member: Member, half: Half): void
  /** An event of its own: lines.OTHER or above. */
  due(kind: number, a: number, b: number): void
}

/** One way, the same for the same two nodes. */
export function latencyOf(a: Member, b: Member): number {
  const mixed = Math.imul((a.skewMs ^ Math.imul(b.id, 0x85ebca6b)) + (b.skewMs ^ Math.imul(a.id, 0x85ebca6b)), 0x9e3779b1)
  return LATENCY_MIN_MS + ((mixed >>> 8) % (LATENCY_MAX_MS - LATENCY_MIN_MS + 1))
}
