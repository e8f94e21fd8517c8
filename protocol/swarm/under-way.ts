/** What is asked of whom, and how much of it counts against which bound. Plain bookkeeping of the swarm machine. */
import { type Flight, indexOfItem, pushRequest, type SwarmPeer, takeRequest } from './peers.ts'
import { removeAt, removeFrom } from './short-lists.ts'

export class UnderWay {
  /** In the order in which they began. */
  readonly flights: Flight[] = []
  /** Asked of peers that have delivered, or being checked: these count against the total. */
  requests = 0
  /** First requests to peers that have yet to show what they are worth. */
  trials = 0

  /** The flight of an item, if it is under way. */
  of(item: number): Flight | undefined {
    return this.flights[indexOfItem(this.flights, item)]
  }

  /** A peer is asked for an item that nobody else is asked for. */
  begin(peer: SwarmPeer, item: number, now: number): void {
    const flight: Flight = { item, peers: [peer], checking: 0, askedMs: now }
    this.flights.push(flight)
    this.#ask(peer, flight, now)
  }

  /** One more peer is asked for it. */
  copy(peer: SwarmPeer, flight: Flight, now: number): void {
    flight.peers.push(peer)
    flight.askedMs = now
    this.#ask(peer, flight, now)
    for (const sharing of flight.peers) sharing.isSharing = true
  }

  end(flight: Flight): void {
    removeFrom(this.flights, flight)
  }

  /** All bytes are here. Null when it was not asked of this peer. */
  deliver(peer: SwarmPeer, item: number, now: number): Flight | null {
    const flight = takeRequest(peer, item, now)
    if (flight === null) return null
    flight.checking++
    peer.checking.push(flight)
    this.endTrial(peer)
    return flight
  }

  /** Takes it out of the hands of a peer that has it, delivered or not. */
  takeBack(peer: SwarmPeer, flight: Flight, now: number): void {
    const at = peer.checking.indexOf(flight)
    if (at >= 0) {
      removeAt(peer.checking, at)
      flight.checking--
    } else takeRequest(peer, flight.item, now)
    removeFrom(flight.peers, peer)
    if (peer.isProven) this.requests--
    this.endTrial(peer)
  }

  endTrial(peer: SwarmPeer): void {
    if (!peer.isTrial) return
    peer.isTrial = false
    this.trials--
  }

  /** A peer has delivered for the first time: from now on it counts among the proven. */
  prove(peer: SwarmPeer): void {
    this.endTrial(peer)
    peer.isProven = true
    this.requests += peer.queue.length + peer.checking.length
  }

  /** A peer is gone; what it had in hand, to be asked elsewhere. */
  leave(peer: SwarmPeer): Flight[] {
    this.endTrial(peer)
    if (peer.isProven) this.requests -= peer.queue.length + peer.checking.length
    for (const flight of peer.checking) flight.checking--
    const flights = [...peer.queue, ...peer.checking]
    for (const flight of flights) removeFrom(flight.peers, peer)
    return flights
  }

  #ask(peer: SwarmPeer, flight: Flight, now: number): void {
    pushRequest(peer, flight, now)
    if (peer.isProven) this.requests++
    else {
      peer.isTrial = true
      this.trials++
    }
  }
}
