/**
 * Composition of a node: builds its parts in order and stops them in reverse.
 *
 * This build holds no composed node yet: the types are what the command line codes against, opening one is refused.
 */
import type { Config } from './config.ts'
import { JobError, type ShoalApi } from './control/api.ts'
import type { Log } from './log.ts'

export interface NodeOptions {
  /** Ends when its last job does. */
  oneShot: boolean
  /** Opens the home and nothing else: no packet leaves. */
  offline?: boolean
  log: Log
}

/** A running node. */
export interface ShoalNode {
  api: ShoalApi
  peerId: string
  addresses(): string[]
  socketPath: string
  stop(): Promise<void>
  whenIdle(): Promise<void>
  whenStopped(): Promise<void>
}

/** Opens the node of `config.home`. Throws JobError HOME_LOCKED when another process holds it. */
export async function openNode(_config: Config, _options: NodeOptions): Promise<ShoalNode> {
  throw new JobError('BUG', 'this build of Shoal holds no node')
}
