/** What `status` tells of who can reach the node. Types only, a part of api.ts. */

/** Whether an address of this node is dialled from outside, as far as its peers say; `reachedBy` and `failedBy` count neighbourhoods. */
export interface AddressReach {
  address: string
  verdict: 'unknown' | 'open' | 'closed'
  reachedBy: number
  failedBy: number
}

/** Who can reach this node, and for whom it relays. */
export interface ReachResult {
  /**
   * 'open': anybody; 'relayed': anybody, through a relay; 'closed': nobody from outside; 'checking': that is being found out; 'local': nobody
   * outside is connected who could tell.
   */
  kind: 'open' | 'relayed' | 'closed' | 'checking' | 'local'
  addresses: AddressReach[]
  /** Peer ids of the relays. */
  relays: string[]
  /** Null while this node does not relay for others. */
  relaying: { peers: number; circuits: number; bytesToday: number; bytesPerDay: number } | null
}
