/** What must hold of the peers of a swarm machine and of what is under way with them. For tests: it looks at everything. */
import { assert } from '../errors.ts'
import type { IndexSets } from './index-sets.ts'
import type { Items } from './items.ts'
import { ASKED, indexOfItem, type Peers, STATE } from './peers.ts'
import type { SwarmLimits } from './swarm-events.ts'
import type { UnderWay } from './under-way.ts'

/** What the machine counts as it goes. */
export interface Counts {
  proven: number
  strangers: number
  requests: number
  trials: number
  suggesting: number
}

/** What is known of each item against who has it and what is under way. */
export function checkItems(sets: IndexSets, items: Items, { list }: Peers, { flights }: UnderWay): void {
  sets.checkInvariants()
  items.checkInvariants(
    (item) => indexOfItem(flights, item) >= 0,
    (item) => list.filter(({ isProven, have }) => isProven && have !== null && sets.has(have, item)).length,
  )
}

/** Every peer against what is under way, and what is counted against a new count. */
export function checkPeers(limits: SwarmLimits, { list: peers }: Peers, { flights }: UnderWay, kept: Counts): void {
  const { requestsPerPeerMax, requestsTotalMax, endgameCopiesMax } = limits
  for (const flight of flights) {
    const { item, peers: asked, checking } = flight
    assert(flights.filter((other) => other.item === item).length === 1, `item ${item} is under way twice`)
    assert(asked.length > 0 && asked.length <= endgameCopiesMax && new Set(asked).size === asked.length, `copies of item ${item}`)
    for (const peer of asked) {
      assert(!peer.isGone && peer.queue.includes(flight) !== peer.checking.includes(flight), `item ${item} is not with ${peer.key}`)
    }
    assert(asked.filter((peer) => peer.checking.includes(flight)).length === checking, `delivered copies of item ${item}`)
  }
  let [proven, requests, trials, suggesting] = [0, 0, 0, 0]
  for (const peer of peers) {
    const asked = peer.queue.length + peer.checking.length
    assert(asked <= (peer.isProven ? requestsPerPeerMax + requestsTotalMax : 1), `requests to ${peer.key}`)
    assert(peer.queue.length <= requestsPerPeerMax, `queue of ${peer.key}`)
    assert(peer.suggested.length + peer.suggestedEarly.length <= requestsPerPeerMax, `suggestions of ${peer.key}`)
    for (const flight of [...peer.queue, ...peer.checking]) {
      assert(flights.includes(flight) && flight.peers.includes(peer), `item ${flight.item} of ${peer.key}`)
    }
    assert(peer.rows[peer.at + ASKED] === peer.queue.length, `how much ${peer.key} was asked`)
    assert(peer.isSharing || peer.queue.every((flight) => flight.peers.length === 1), `what ${peer.key} shares`)
    assert(peer.rows[peer.at + STATE] === peer.state && peer.isSuggesting === peer.suggested.length > 0, `state of ${peer.key}`)
    assert(peer.headItem === (peer.queue[0]?.item ?? -1), `the head of the queue of ${peer.key}`)
    if (peer.suggested.length > 0) suggesting++
    if (peer.isProven) proven++
    if (peer.isProven) requests += asked
    if (peer.isTrial) trials++
  }
  const counted: Counts = { proven, strangers: peers.length - proven, requests, trials, suggesting }
  for (const name of Object.keys(counted) as (keyof Counts)[])
    assert(counted[name] === kept[name], `${name} ${kept[name]}, counted ${counted[name]}`)
  assert(requests <= requestsTotalMax, `${requests} requests`)
}
