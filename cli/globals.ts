/** What every verb is told. */
import type { LogLevel } from '../node/log.ts'

/** Options that every verb takes. */
export interface Globals {
  home: string | null
  json: boolean
  verbose: boolean
  network: string | null
  bootstrap: string[] | null
  listen: string[] | null
  mdns: boolean | null
  logLevel: LogLevel | null
  /** Port of the local API over HTTP. */
  http: number | null
  /** Caps in bytes a second; null: none, undefined: not given. */
  up: number | null | undefined
  down: number | null | undefined
  /** Whether the local network counts too; null: not given. */
  capLan: boolean | null
}
