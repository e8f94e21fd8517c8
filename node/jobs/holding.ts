/** What the node has of one share: kept (a record), or open for a job, or both. The swarm host owns them all. */
import type { ShareCid } from '../../protocol/cid.ts'
import type { ShareRecord } from '../storage/records.ts'
import type { Dialling } from './dialling.ts'
import type { LiveShare } from './live-share.ts'
import type { ShareLeaves } from './share-leaves.ts'

/** One share that this node knows. */
export interface Holding {
  readonly cid: ShareCid
  readonly rendezvous: Uint8Array
  record: ShareRecord | null
  live: LiveShare | null
  loading: Promise<LiveShare> | null
  /** Of an open share that is kept in place: the leaves that are made from files. */
  leaves: ShareLeaves | null
  /** Jobs that work on it. */
  holders: number
  /** Links that are about to be attached. */
  linking: number
  /** Its peers, for as long as it is open; null without a network. */
  dialling: Dialling | null
  findsRunning: number
  findsDone: number
}

export const newHolding = (cid: ShareCid, rendezvous: Uint8Array): Holding => ({
  cid,
  rendezvous,
  record: null,
  live: null,
  loading: null,
  leaves: null,
  holders: 0,
  linking: 0,
  dialling: null,
  findsRunning: 0,
  findsDone: 0,
})

/** The leaves of an open share that are made from files: these and no others from here on. */
export function useLeaves(holding: Holding, leaves: ShareLeaves | null): void {
  const { live, leaves: before } = holding
  if (live === null) return
  holding.leaves = leaves
  if (leaves !== null) {
    leaves.onChange = (runs) => live.refresh(runs)
    live.addSource(leaves)
  }
  if (before !== null) live.removeSource(before)
}
