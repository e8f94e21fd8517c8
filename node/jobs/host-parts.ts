/** What swarm-host.ts is made of; main.ts puts it together. */
import type { Hit } from '../../protocol/limit-table.ts'
import type { AnnounceKeys } from '../../protocol/swarm/announce.ts'
import type { CryptoPool } from '../crypto/pool.ts'
import type { Log } from '../log.ts'
import type { RateLimiter } from '../network/rate-limiter.ts'
import type { Stack } from '../network/stack.ts'
import type { BlockStore } from '../storage/blocks.ts'
import type { Records } from '../storage/records.ts'
import type { Sources } from './sources.ts'

export interface HostParts {
  stack: Stack | null
  blocks: BlockStore
  records: Records
  pool: CryptoPool
  sources: Sources
  limiter: RateLimiter
  log: Log
  groupPrivate: boolean
  /** Called when a peer runs into a limit. */
  hit?: Hit
  /** Tell peers of other peers, and take what they tell. */
  pex: boolean
  announce: AnnounceKeys
}
