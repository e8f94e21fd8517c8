/** What `export` is answered with: types alone, as in api.ts. */

/** Bytes in JSON. */
export interface Base64 {
  base64: string
}

/** A home without its blocks, keys included: for `export`, over the control socket only. */
export interface HomeBundle {
  shoal: 'home'
  /** Of this form. */
  version: number
  homeVersion: number
  madeMs: number
  identity: Base64
  nodeSecret: Base64
  /** The text of config.json; null: there is none. */
  config: string | null
  /** All tables but notes on peers; bytes are Base64. */
  records: { version: number; tables: Record<string, Record<string, unknown>[]> }
}
