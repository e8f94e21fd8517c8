/** What every job gets: the parts of the node it may use, by name. Composed in main.ts. */
import type { Budgets } from '../budgets/budgets.ts'
import type { CryptoPool } from '../crypto/pool.ts'
import type { Log } from '../log.ts'
import type { BlockStore } from '../storage/blocks.ts'
import type { DeleteLog } from '../storage/delete-log.ts'
import type { Records } from '../storage/records.ts'
import type { Damage } from './damage.ts'
import type { Keeping } from './keeping.ts'
import type { Pins } from './pins.ts'
import type { Sources } from './sources.ts'
import type { SwarmHost } from './swarm-host.ts'

export interface JobEnvironment {
  home: string
  peerId: string
  /** Where this node listens or is reached, with its peer id. */
  addresses(): string[]
  /** Never leaves the node: scopes are derived from it. */
  nodeSecret: Uint8Array
  host: SwarmHost
  blocks: BlockStore
  records: Records
  pool: CryptoPool
  /** Shares whose data lies in the user's files. */
  sources: Sources
  /** Blocks that jobs under way rely on. */
  pins: Pins
  /** How each share is kept. */
  keeping: Keeping
  deleteLog: DeleteLog
  /** The settings in force, and the volume of the month. */
  budgets: Pick<Budgets, 'current' | 'month' | 'held' | 'hit'>
  /** Which shares miss blocks that were here. */
  damage: Damage
  log: Log
  /** A one-shot node drops what it fetched once the files are written, unless told to keep it. */
  isOneShot: boolean
}
