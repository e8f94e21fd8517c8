/** What a simulated node knows of the world around it, and of one peer. */
import type { Clock } from './clock.ts'
import type { Link } from './link.ts'
import type { ShareShape } from './plan.ts'
import type { Connection } from './wire.ts'

/** One peer that is connected, as the live share knows it. */
export interface Claim {
  readonly link: Link
  readonly connection: Connection
  hasAll: boolean
  knowsShape: boolean
  toldAll: boolean
  /** It gave the present engine a good block. */
  isProven: boolean
  /** Items of it that are being verified. */
  readonly checking: Set<number>
}

/** What a node may ask of the world around it. */
export interface Surroundings {
  readonly clock: Clock
  readonly shape: ShareShape
  trace(line: () => string): void
  /** Opens a connection; tells the node by `opened` or `dialFailed`. */
  dial(from: string, to: string): void
  isHonest(id: string): boolean
  groupOf(id: string): string
  /** Breaks every connection between two nodes, those that are being opened too. */
  disconnect(a: string, b: string): void
  /** Counts what happened, so that a test can tell that it does happen. */
  note(what: Happening): void
}

export type Happening =
  | 'badBlock'
  | 'absent'
  | 'cancel'
  | 'copy'
  | 'lost'
  | 'storeFailed'
  | 'lateVerdict'
  | 'linkLost'
  | 'replaced'
  | 'protocolStrike'
  | 'suggested'
