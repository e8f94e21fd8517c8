/** How much to ask: of one peer, of all, and of those that have yet to show what they are worth. Arithmetic of the swarm machine. */
import {
  ASKED,
  type Flight,
  HEAD_BYTES,
  HEAD_FIRST,
  HEAD_SINCE,
  headSilentMs,
  IN_LINE,
  PROVEN,
  RATE,
  STATE,
  SUGGESTING,
  type SwarmPeer,
  TRIAL,
} from './peers.ts'
import type { SwarmLimits } from './swarm-events.ts'

/** Rounds a window up from a quarter of an item on: a pause between two requests costs a round trip. */
const WINDOW_BIAS = 0.25
/** Requests beside the window for what a peer would rather be asked for: so that something else does not stand before it. */
const SUGGESTED_AHEAD = 1

/** Enough under way over all proven peers to cover some seconds at the present pace: more would only stand in other people's queues. */
export function totalWindow(limits: SwarmLimits, bytesPerSecond: number): number {
  const { requestsTotalMin, requestsTotalMax, totalAheadMs, itemBytes } = limits
  if (bytesPerSecond === 0) return requestsTotalMax
  return Math.min(requestsTotalMax, Math.max(requestsTotalMin, Math.ceil((bytesPerSecond * totalAheadMs) / 1000 / itemBytes)))
}

/** Beside peers that deliver, those that never did get a quarter of the places: promises must not crowd out deeds. */
export function trialsMax(limits: SwarmLimits, total: number, provenCount: number): number {
  return provenCount === 0 ? limits.requestsTotalMax : Math.max(2, total >>> 1)
}

/** Whether a peer has something to give that nobody else has, and was not asked for it: then it is asked beyond the total. */
export const isAwaited = (peer: SwarmPeer): boolean => peer.isSuggesting && peer.asked <= SUGGESTED_AHEAD

/** Enough to keep a peer busy for a while at its pace; one item for a peer that never delivered. */
export function windowOf(limits: SwarmLimits, peer: SwarmPeer): number {
  if (!peer.isProven) return 1 - peer.checking.length
  if (peer.rate === 0) return peer.window
  return Math.min(peer.window, paceWindow(limits, peer.rate) + (peer.isSuggesting ? SUGGESTED_AHEAD : 0))
}

const paceWindow = ({ queueAheadMs, itemBytes }: SwarmLimits, rate: number): number =>
  1 + Math.round((rate * queueAheadMs) / 1000 / itemBytes + WINDOW_BIAS)

/** Before this `isLate` is not true, nor a trial over, of the peer whose row begins at `at`: then nothing but the row need be looked at. */
export function lateFromMs(limits: SwarmLimits, rows: Float64Array, at: number): number {
  if (rows[at + ASKED] === 0) return Number.POSITIVE_INFINITY
  const sinceMs = rows[at + HEAD_SINCE]!
  const lateMs = rows[at + HEAD_BYTES] === 0 ? sinceMs + limits.patienceMs : rows[at + HEAD_FIRST]! + limits.blockMs
  return (rows[at + STATE]! & TRIAL) === 0 ? lateMs : Math.min(lateMs, sinceMs + limits.coldMs)
}

/** Whether a peer was asked for as much as `windowOf` allows: true only if its row alone says so. */
export function isFull(limits: SwarmLimits, rows: Float64Array, at: number): boolean {
  const asked = rows[at + ASKED]!
  const rate = rows[at + RATE]!
  const state = rows[at + STATE]!
  if (asked === 0) return false
  if ((state & PROVEN) === 0) return true
  return rate > 0 && asked >= paceWindow(limits, rate) + ((state & SUGGESTING) === 0 ? 0 : SUGGESTED_AHEAD)
}

/** Whether to look at a peer again at a tick: it is not in line, and could be asked for more. Strangers keep their turn in any case. */
export function isIdle(limits: SwarmLimits, rows: Float64Array, at: number): boolean {
  const state = rows[at + STATE]!
  return (state & IN_LINE) === 0 && ((state & PROVEN) === 0 || !isFull(limits, rows, at))
}

/** Whether what it was asked should be sought elsewhere. */
export function isLate(limits: SwarmLimits, peer: SwarmPeer, now: number): boolean {
  if (peer.queue.length === 0) return false
  // Before the first byte it may be serving others; once a block has begun it has to go on.
  if (peer.headBytes === 0) return headSilentMs(peer, now) >= limits.patienceMs
  const sinceFirstMs = now - peer.headFirstMs
  const isCrawling = sinceFirstMs >= limits.blockMs && peer.headBytes * 1000 < limits.rateMinBytesPerSecond * sinceFirstMs
  return isCrawling || headSilentMs(peer, now) >= limits.blockMs
}

/** How long an item will take where it was asked: for ever where no byte comes, not known (0) where the first ones still may. */
export function waitMs(limits: SwarmLimits, peer: SwarmPeer, flight: Flight, now: number): number {
  if (headSilentMs(peer, now) >= (peer.isProven && peer.headBytes === 0 ? limits.quietMs : limits.coldMs)) return Number.POSITIVE_INFINITY
  // A block that has been coming for a while shows the pace of now better than those before it.
  const sinceFirstMs = peer.headBytes === 0 ? 0 : now - peer.headFirstMs
  const rate = sinceFirstMs >= 1_000 ? (peer.headBytes * 1000) / sinceFirstMs : peer.rate
  if (rate === 0) return 0
  const aheadBytes = (peer.queue.indexOf(flight) + 1) * limits.itemBytes - peer.headBytes
  return (aheadBytes * 1000) / rate
}

/** How long one more item would take at this peer. */
export function ownWaitMs(limits: SwarmLimits, peer: SwarmPeer): number {
  if (peer.rate === 0) return limits.coldMs
  return ((peer.queue.length + 1) * limits.itemBytes * 1000) / peer.rate
}
