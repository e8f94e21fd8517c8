/** What every job gets: the parts of the node it may use, by name. Composed in main.ts. */
import type { Budgets } from '../budgets/budgets.ts'
import type { CryptoPool } from '../crypto/pool.ts'
import type { Log } from '../log.ts'
import type { BlockStore } from '../storage/blocks.ts'
import type { DeleteLog } from '../storage/delete-log.ts'
import type { Records } from '../storage/records.ts'
import type { SourceDisk, SourceFolders } from '../storage/source-disk.ts'
import type { Damage } from './damage.ts'
import type { Holding } from './holding.ts'
import type { Keeping } from './keeping.ts'
import type { LiveShare } from './live-share.ts'
import type { Pins } from './pins.ts'
import type { Sources } from './sources.ts'
import type { SwarmHost } from './swarm-host.ts'

/** All but the cache, which is made of it. */
export interface StoreEnvironment {
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
  /** The disk that the user's files lie on, where not the real one. */
  userFiles?: SourceDisk & SourceFolders
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

export interface JobEnvironment extends StoreEnvironment {
  cache: ShareCache
}

/** A share that a job holds. */
export interface HeldShare {
  holding: Holding
  live: LiveShare
}

/** What was read here and is not pinned: see disk-cache.ts. */
export interface ShareCache {
  /** What it takes now. */
  use(): { shares: number; bytes: number }
  /** Looks after the room while a share is read; `end` when that is over: what came stays. Positions from `dataBlocks` on are its index. */
  follow(read: HeldShare, dataBlocks: number): { end(): Promise<void> }
  /** A share that was pinned for a job only becomes cached, with what is here of it in sealed blocks; one that is kept
   *  for good by then stays so. */
  demote(read: HeldShare): Promise<void>
  /** Lets go of what there is no room for any more. */
  settle(): Promise<void>
  /** Lets go of so many bytes, as far as there are, for somebody who pins something. */
  makeRoom(bytes: number): Promise<void>
  /** Holds the records against the store, as after a crash, and settles. */
  reconcile(signal: AbortSignal): Promise<void>
}
