/** Endgame, stealing and deadlines: which item under way is worth asking a second peer for, and whose place that one takes. */
import type { Items } from './items.ts'
import { type Flight, headSilentMs, isHolder, type SwarmPeer } from './peers.ts'
import type { SwarmLimits } from './swarm-events.ts'
import { ownWaitMs, waitMs } from './windows.ts'

/** What a stalled, busy or much slower peer was asked for and this one could give sooner. Null when there is none, or `open` is better. */
export function pickCopy(
  limits: SwarmLimits,
  items: Items,
  flights: readonly Flight[],
  peer: SwarmPeer,
  open: number,
  provenCount: number,
  now: number,
): Flight | null {
  // Most often: nothing under way matters more than any open item.
  if (open >= 0 && !items.isAnyTakenBefore(open)) return null
  let best: Flight | null = null
  let bestWaitMs = 1.5 * ownWaitMs(limits, peer)
  const isAnybodyProven = provenCount > 0
  for (const flight of flights) {
    const { item, peers: holders } = flight
    if (flight.checking > 0 || !items.isBefore(item, open)) continue
    if (holders[0] === peer || holders[1] === peer || !isHolder(peer, item)) continue
    if (holders.length >= limits.endgameCopiesMax && replaceable(limits, flight, peer, provenCount, now) === undefined) continue
    let expectedMs = Number.POSITIVE_INFINITY
    for (const holder of holders) {
      const isMute = !isAnybodyProven && holder.headBytes === 0 && headSilentMs(holder, now) >= limits.tickMs
      if (!isMute) expectedMs = Math.min(expectedMs, waitMs(limits, holder, flight, now))
    }
    if (expectedMs <= bestWaitMs) continue
    best = flight
    bestWaitMs = expectedMs
  }
  return best
}

/**
 * The holder whose place `peer` may take. One that delivers takes that of one that never did and is silent, or of the last asked, whose
 * turn has not come. One that never delivered takes only that of another like it, which must have been silent for longer; but while nobody
 * has delivered anything a second is enough: else two that say nothing would hold up the first block of all until their time is over.
 */
export function replaceable(limits: SwarmLimits, flight: Flight, peer: SwarmPeer, provenCount: number, now: number): SwarmPeer | undefined {
  const { peers: holders, askedMs } = flight
  const silentMs = peer.isProven ? limits.coldMs : 2 * limits.coldMs
  for (const holder of holders) {
    const mayBeMuteMs = provenCount === 0 && holder.headBytes === 0 ? limits.tickMs : silentMs
    if (!holder.isProven && headSilentMs(holder, now) >= mayBeMuteMs) return holder
  }
  if (!peer.isProven) return undefined
  const last = holders[holders.length - 1]
  const isWaiting = last !== undefined && now - askedMs >= limits.quietMs && (last.queue[0] !== flight || last.headBytes === 0)
  return isWaiting ? last : undefined
}
