/**
 * What the records' main side and its worker say to each other: plain data that can be cloned between threads.
 *
 * Request 0 is the opening itself. Replies to requests carry what the comment beside each op says.
 */

import type { TableDump } from './records-tables.ts'

/** A share as it stands in the table; secrets are bytes here. */
export interface ShareRow {
  cid: string
  role: 'owner' | 'reader' | 'blind'
  readKey: Uint8Array | null
  scopeKind: 'lineage' | 'node' | 'random' | 'public' | null
  scopeId: string | null
  scopeSecret: Uint8Array | null
  label: string | null
  files: number | null
  sizeBytes: number | null
  wireBytes: number | null
  blockCount: number | null
  state: 'partial' | 'complete'
  inPlace: number
  addedMs: number
  announcedMs: number | null
}

/** How a share is kept, where that differs from "until unseeded": numbers as SQLite holds them, 0 and 1 for no and yes. */
export interface KeepingRow {
  cid: string
  isCached: number
  keepUntilMs: number | null
  usedOrder: number
  cachedBytes: number
  isDamaged: number
}

/** One change of the key-value table; a null value deletes. */
export interface KeyChange {
  key: string
  value: Uint8Array | null
}

export type RecordRequest =
  | { op: 'listShares'; after: string; limit: number } // ShareRow[], by cid
  | { op: 'getShare'; cid: string } // ShareRow | null
  | { op: 'saveShare'; row: ShareRow } // null
  | { op: 'removeShare'; cid: string } // boolean; its row of keeping goes too
  | { op: 'listKeeping'; after: string; limit: number } // KeepingRow[], by cid
  | { op: 'saveKeeping'; rows: KeepingRow[] } // null
  | { op: 'setAnnounced'; cid: string; atMs: number } // null
  | { op: 'getSetting'; name: string } // string | null
  | { op: 'setSetting'; name: string; value: string } // null
  | { op: 'changeKeys'; changes: KeyChange[] } // null
  | { op: 'getKey'; key: string } // Uint8Array | null
  | { op: 'listKeys'; prefix: string; after: string | null; limit: number; withValues: boolean } // KeyChange[], by key
  | { op: 'dump' } // TableDump
  | { op: 'fill'; dump: TableDump } // null
  | { op: 'close' } // null; the worker ends

export type RecordReply = { id: number; ok: true; value: unknown } | { id: number; ok: false; code: string; message: string }
