/** What must hold of the peers of a swarm machine and of what is under way with them. For tests: it looks at everything. */
import { assert } from '../errors.ts'
import type { Flight } from './flight.ts'
import type { SwarmPeer } from './peers.ts'
import type { SwarmLimits } from './swarm-events.ts'

/** Checks every peer against every flight and counts anew what the machine counts as it goes. */
export function checkPeers(
  { requestsPerPeerMax, requestsTotalMax, endgameCopiesMax }: SwarmLimits,
  peers: readonly SwarmPeer[],
  flights: ReadonlyMap<number, Flight>,
): { proven: number; requests: number; trials: number; suggesting: number } {
  for (const [item, { holders, checking }] of flights) {
    assert(holders.length + checking.length > 0 && holders.length + checking.length <= endgameCopiesMax, `copies of item ${item}`)
    for (const peer of holders) assert(!peer.isGone && peer.queue.includes(item), `item ${item} is not with ${peer.key}`)
    for (const peer of checking) assert(!peer.isGone && peer.checking.includes(item), `item ${item} is not from ${peer.key}`)
  }
  let [proven, requests, trials, suggesting] = [0, 0, 0, 0]
  for (const peer of peers) {
    const asked = peer.queue.length + peer.checking.length
    assert(asked <= (peer.isProven ? requestsPerPeerMax + requestsTotalMax : 1), `requests to ${peer.key}`)
    assert(peer.queue.length <= requestsPerPeerMax, `queue of ${peer.key}`)
    assert(peer.suggested.length + peer.suggestedEarly.length <= requestsPerPeerMax, `suggestions of ${peer.key}`)
    for (const item of peer.queue) assert(flights.get(item)?.holders.includes(peer) === true, `item ${item} of ${peer.key}`)
    for (const item of peer.checking) assert(flights.get(item)?.checking.includes(peer) === true, `item ${item} from ${peer.key}`)
    if (peer.suggested.length > 0) suggesting++
    if (peer.isProven) proven++
    if (peer.isProven) requests += asked
    if (peer.isTrial) trials++
  }
  return { proven, requests, trials, suggesting }
}
