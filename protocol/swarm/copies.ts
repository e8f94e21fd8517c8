/** Endgame, stealing and deadlines: which item under way is worth asking a second peer for, and whose place that one takes. */
import type { Flight } from './flight.ts'
import type { Items } from './items.ts'
import { headSilentMs, isHolder, type SwarmPeer } from './peers.ts'
import type { SwarmLimits } from './swarm-events.ts'
import { ownWaitMs, waitMs } from './windows.ts'

/** What a stalled, busy or much slower peer was asked for and this one could give sooner. -1 when there is none, or `open` is better. */
export function pickCopy(
  limits: SwarmLimits,
  items: Items,
  flights: ReadonlyMap<number, Flight>,
  peer: SwarmPeer,
  open: number,
  now: number,
): number {
  let best = -1
  let bestWaitMs = 1.5 * ownWaitMs(limits, peer)
  for (const [item, flight] of flights) {
    const { holders } = flight
    if (flight.checking.length > 0 || !items.isBefore(item, open)) continue
    if (holders.length >= limits.endgameCopiesMax && (!peer.isProven || replaceable(limits, flight, item, now) === undefined)) continue
    if (holders[0] === peer || holders[1] === peer || !isHolder(peer, item)) continue
    let expectedMs = Number.POSITIVE_INFINITY
    for (const holder of holders) expectedMs = Math.min(expectedMs, waitMs(limits, holder, item, now))
    if (expectedMs <= bestWaitMs) continue
    best = item
    bestWaitMs = expectedMs
  }
  return best
}

/** The holder whose place a peer that delivers may take: one that never delivered and is silent, or the last asked, whose turn has not come. */
export function replaceable(limits: SwarmLimits, { holders, askedMs }: Flight, item: number, now: number): SwarmPeer | undefined {
  for (const holder of holders) if (!holder.isProven && headSilentMs(holder, now) >= limits.coldMs) return holder
  const last = holders[holders.length - 1]
  const isWaiting = last !== undefined && now - askedMs >= limits.quietMs && (last.queue[0] !== item || last.headBytes === 0)
  return isWaiting ? last : undefined
}
