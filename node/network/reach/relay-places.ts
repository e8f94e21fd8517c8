/**
 * The places at a relay, as the library's server keeps them: its timers outlive the places that they are for, and would take away the next
 * one of the same peer. A place is made anew each time, and its timer goes with it.
 */
import type { PeerId } from '@libp2p/interface'

/** What is used of the library's store. */
export interface Places {
  get(peer: PeerId): { signal: { clear(): void } } | undefined
  reserve(peer: PeerId, ...others: unknown[]): unknown
  removeReservation(peer: PeerId): void
  clear(): void
  reservations: { values(): Iterable<{ signal: { clear(): void } }> }
}

/**
 * Changes a store, for good. `hasRoom` is asked at the very moment when a place is given. Throws an Error when the library has moved something.
 */
export function tidyPlaces(places: Places, hasRoom: (peer: PeerId) => boolean): void {
  const methods = ['get', 'reserve', 'removeReservation', 'clear'] as const
  if (!methods.every((name) => typeof places[name] === 'function') || typeof places.reservations?.values !== 'function')
    throw new Error('the relay server has moved its places')
  const { reserve, removeReservation, clear } = places
  places.removeReservation = (peer) => {
    places.get(peer)?.signal.clear()
    removeReservation.call(places, peer)
  }
  places.reserve = (peer, ...others) => {
    if (!hasRoom(peer)) return { status: 'RESERVATION_REFUSED' }
    // A timer that was set again cannot be stopped any more.
    places.removeReservation(peer)
    return reserve.call(places, peer, ...others)
  }
  places.clear = () => {
    for (const { signal } of places.reservations.values()) signal.clear()
    clear.call(places)
  }
}
