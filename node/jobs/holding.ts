/** What the node has of one share: kept (a record), or open for a job, or both. The swarm host owns them all. */
import type { ShareCid } from '../../protocol/cid.ts'
import type { ShareRecord } from '../storage/records.ts'
import type { Dialling } from './dialling.ts'
import type { LiveShare } from './live-share.ts'

/** One share that this node knows. */
export interface Holding {
  readonly cid: ShareCid
  readonly rendezvous: Uint8Array
  record: ShareRecord | null
  live: LiveShare | null
  loading: Promise<LiveShare> | null
  /** Jobs that work on it. */
  holders: number
  /** Links that are about to be attached. */
  linking: number
  /** Its peers, for as long as it is open; null without a network. */
  dialling: Dialling | null
  findsRunning: number
  findsDone: number
}
