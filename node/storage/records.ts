/**
 * The node's records: which shares it keeps, with which keys, its settings, and libp2p's datastore; one SQLite file.
 *
 * SQLite blocks the thread that calls it, so it runs in a worker of its own (records-worker.ts); here are the typed calls and the
 * bounded queue before it. The worker holds an exclusive lock on the file, which the kernel gives back when the process ends, however
 * it ends: two nodes on one home are impossible. Never open the file by other means in this process, closing it would drop the lock.
 */
import { closeSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { Datastore } from 'interface-datastore'
import { STORAGE } from '../../protocol/limits.ts'
import { Secret } from '../../protocol/secret.ts'
import type { Log } from '../log.ts'
import { RecordsDatastore } from './datastore.ts'
import { type FileCode, FileError, naming, systemCode } from './file-error.ts'
import { diskFileSystem } from './fs.ts'
import type { KeepingRow, RecordReply, RecordRequest, ShareRow } from './records-messages.ts'
import type { TableDump } from './records-tables.ts'
import { Turns } from './turns.ts'

/** What this node knows of one share. `readKey` is null for a blind seeder; `scope` is null for shares of others. */
export interface ShareRecord {
  cid: string
  role: 'owner' | 'reader' | 'blind'
  readKey: Secret | null
  scope: { kind: 'lineage' | 'node' | 'random' | 'public'; id: string | null; secret: Secret | null } | null
  label: string | null
  files: number | null
  sizeBytes: number | null
  wireBytes: number | null
  blockCount: number | null
  state: 'partial' | 'complete'
  /** Its data lies in the user's files and not in the block store; where, is kept in HOME/sources. */
  inPlace: boolean
  addedMs: number
  announcedMs: number | null
}

/** How a share is kept. Without a word on it, until it is unseeded. */
export interface KeepingRecord {
  cid: string
  /** Not kept at all: it stays as long as there is room, and goes by who was used last. */
  isCached: boolean
  /** By the wall clock. */
  keepUntilMs: number | null
  /** The higher, the later it was used. */
  usedOrder: number
  /** What a cached share takes. */
  cachedBytes: number
  /** Blocks that were here are lost: they are fetched again. */
  isDamaged: boolean
}

/** All changes are synced to disk when they resolve. FileError NO_SPACE, DENIED, IO, BUSY, CLOSED. */
export interface Records {
  listShares(): Promise<ShareRecord[]>
  getShare(cid: string): Promise<ShareRecord | null>
  /** Adds or replaces. */
  saveShare(record: ShareRecord): Promise<void>
  /** False when there was none. */
  removeShare(cid: string): Promise<boolean>
  setAnnounced(cid: string, atMs: number): Promise<void>
  listKeeping(): Promise<KeepingRecord[]>
  /** Adds or replaces, all in one. Removing the share removes it. */
  saveKeeping(records: readonly KeepingRecord[]): Promise<void>
  getSetting(name: string): Promise<string | null>
  setSetting(name: string, value: string): Promise<void>
  /** Every row but notes on peers, for `export`. */
  dump(): Promise<TableDump>
  /** Puts dumped rows into records that are empty; FileError NEWER, CORRUPT. The shares come back as partial. */
  fill(dump: TableDump): Promise<void>
  /** For libp2p: a key-value table in the same file. */
  datastore(): Datastore
  /** Waits for what is under way, then gives the lock back. */
  close(): Promise<void>
}

/** Opens or creates the records. FileError LOCKED when another process holds them, NEWER when a later version of Shoal wrote them. */
export async function openRecords(init: { file: string; log: Log; salvageFrom?: string; onFull?: () => void }): Promise<Records> {
  await createFile(init.file)
  const worker = new RecordsWorker(init.file, init.log, init.salvageFrom ?? null, init.onFull)
  await worker.opened
  return new SqliteRecords(worker)
}

async function createFile(file: string): Promise<void> {
  await naming('creating', file, async () => {
    try {
      // Only ever creates: opening and closing an existing file would drop the lock of another Records of this process.
      closeSync(openSync(file, 'wx', 0o600))
    } catch (error) {
      if (systemCode(error) === 'EEXIST') return
      throw error
    }
    await diskFileSystem.syncDirectory(dirname(file))
  })
}

/** Sends requests to the worker, at most so many at once, and matches the replies. A worker that ended by itself fails what it was
 *  asked; the next request starts another one. */
export class RecordsWorker {
  readonly opened: Promise<void>
  readonly #file: string
  readonly #log: Log
  readonly #turns: Turns
  #thread: RecordsThread
  #isClosing = false

  constructor(file: string, log: Log, salvageFrom: string | null = null, onFull: () => void = () => {}) {
    this.#file = file
    this.#log = log
    this.#turns = new Turns(STORAGE.recordRequestsMax, STORAGE.recordRequestsWaitingMax, onFull)
    this.#thread = new RecordsThread(file, salvageFrom)
    this.opened = this.#thread.opened
  }

  /** Asks the worker; `transfer` are buffers of the request that may move there. */
  async ask<T>(request: RecordRequest, transfer: ArrayBuffer[] = [], signal: AbortSignal = NEVER): Promise<T> {
    if (this.#isClosing) throw new FileError('CLOSED', 'the records are closed')
    return this.#turns.run(signal, async () => {
      await this.#revive()
      return await this.#thread.send<T>(request, transfer)
    })
  }

  async close(): Promise<void> {
    if (!this.#isClosing) {
      this.#isClosing = true
      await this.#turns.whenIdle()
      // When the worker has ended by itself there is nothing left to close.
      if (!this.#thread.hasEnded) await this.#thread.send<null>({ op: 'close' }, []).catch(() => {})
    }
    await this.#thread.exited
  }

  async #revive(): Promise<void> {
    if (this.#thread.hasEnded) {
      const ended = this.#thread
      // The lock goes with the old thread; no other one may begin before.
      await ended.exited
      if (this.#thread === ended) {
        this.#log.error('the records worker ended and is started again', { error: ended.failure })
        this.#thread = new RecordsThread(this.#file, null)
      }
    }
    await this.#thread.opened
  }
}

/** One worker thread, from its start to its end. */
class RecordsThread {
  readonly opened: Promise<void>
  readonly exited: Promise<void>
  failure: FileError | null = null
  readonly #worker: Worker
  readonly #pending = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>()
  #nextId = 1

  constructor(file: string, salvageFrom: string | null) {
    // Node runs the source as it is, and the compiled form beside this file's compiled form.
    const ending = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    const script = new URL(`./records-worker.${ending}`, import.meta.url)
    // Flags of the main thread (--input-type, --test, ...) mean nothing to it.
    this.#worker = new Worker(script, { workerData: { file, salvageFrom }, name: 'records', execArgv: [] })
    this.opened = new Promise((resolve, reject) => this.#pending.set(0, { resolve: () => resolve(), reject }))
    this.opened.catch(() => {}) // told to each who waits for it
    this.#worker.on('message', (reply: RecordReply) => this.#settle(reply))
    this.#worker.on('error', (error) => this.#fail(new FileError('IO', 'the records worker failed: try again', { cause: error })))
    this.exited = new Promise((resolve) => {
      this.#worker.once('exit', () => {
        this.#fail(new FileError('IO', 'the records worker ended: try again'))
        resolve()
      })
    })
  }

  get hasEnded(): boolean {
    return this.failure !== null
  }

  send<T>(request: RecordRequest, transfer: ArrayBuffer[]): Promise<T> {
    if (this.failure !== null) return Promise.reject(this.failure)
    const id = this.#nextId
    this.#nextId += 1
    return new Promise<T>((resolve, reject) => {
      // The worker answers each request with the type that its op stands for (records-messages.ts).
      this.#pending.set(id, { resolve: (value) => resolve(value as T), reject })
      this.#worker.postMessage({ id, request }, transfer)
    })
  }

  #settle(reply: RecordReply): void {
    const waiting = this.#pending.get(reply.id)
    this.#pending.delete(reply.id)
    if (reply.ok) waiting?.resolve(reply.value)
    else waiting?.reject(new FileError(reply.code as FileCode, reply.message))
  }

  #fail(error: FileError): void {
    this.failure ??= error
    for (const { reject } of this.#pending.values()) reject(this.failure)
    this.#pending.clear()
  }
}

const NEVER = new AbortController().signal

class SqliteRecords implements Records {
  readonly #worker: RecordsWorker
  readonly #datastore: RecordsDatastore

  constructor(worker: RecordsWorker) {
    this.#worker = worker
    this.#datastore = new RecordsDatastore(worker)
  }

  async listShares(): Promise<ShareRecord[]> {
    const records: ShareRecord[] = []
    for (;;) {
      const after = records.at(-1)?.cid ?? ''
      const rows = await this.#worker.ask<ShareRow[]>({ op: 'listShares', after, limit: STORAGE.recordBatchMax })
      for (const row of rows) records.push(fromRow(row))
      if (rows.length < STORAGE.recordBatchMax) return records
    }
  }

  async getShare(cid: string): Promise<ShareRecord | null> {
    const row = await this.#worker.ask<ShareRow | null>({ op: 'getShare', cid })
    return row === null ? null : fromRow(row)
  }

  async saveShare(record: ShareRecord): Promise<void> {
    await this.#worker.ask<null>({ op: 'saveShare', row: toRow(record) })
  }

  removeShare(cid: string): Promise<boolean> {
    return this.#worker.ask<boolean>({ op: 'removeShare', cid })
  }

  async setAnnounced(cid: string, atMs: number): Promise<void> {
    await this.#worker.ask<null>({ op: 'setAnnounced', cid, atMs })
  }

  async listKeeping(): Promise<KeepingRecord[]> {
    const records: KeepingRecord[] = []
    for (;;) {
      const after = records.at(-1)?.cid ?? ''
      const rows = await this.#worker.ask<KeepingRow[]>({ op: 'listKeeping', after, limit: STORAGE.recordBatchMax })
      for (const row of rows) records.push({ ...row, isCached: row.isCached === 1, isDamaged: row.isDamaged === 1 })
      if (rows.length < STORAGE.recordBatchMax) return records
    }
  }

  async saveKeeping(records: readonly KeepingRecord[]): Promise<void> {
    const rows = records.map((record) => ({ ...record, isCached: Number(record.isCached), isDamaged: Number(record.isDamaged) }))
    for (let at = 0; at < rows.length; at += STORAGE.recordBatchMax) {
      await this.#worker.ask<null>({ op: 'saveKeeping', rows: rows.slice(at, at + STORAGE.recordBatchMax) })
    }
  }

  getSetting(name: string): Promise<string | null> {
    return this.#worker.ask<string | null>({ op: 'getSetting', name })
  }

  async setSetting(name: string, value: string): Promise<void> {
    await this.#worker.ask<null>({ op: 'setSetting', name, value })
  }

  dump(): Promise<TableDump> {
    return this.#worker.ask<TableDump>({ op: 'dump' })
  }

  async fill(dump: TableDump): Promise<void> {
    await this.#worker.ask<null>({ op: 'fill', dump })
  }

  datastore(): Datastore {
    return this.#datastore
  }

  async close(): Promise<void> {
    await this.#datastore.flush().catch(() => {}) // notes on peers; what matters is on disk already
    await this.#worker.close()
  }
}

const copyOf = (secret: Secret | null): Uint8Array | null => (secret === null ? null : new Uint8Array(secret.reveal()))
const secretOf = (bytes: Uint8Array | null): Secret | null => (bytes === null ? null : new Secret(bytes))

function toRow(record: ShareRecord): ShareRow {
  const { readKey, scope, ...plain } = record
  return {
    ...plain,
    inPlace: plain.inPlace ? 1 : 0,
    readKey: copyOf(readKey),
    scopeKind: scope?.kind ?? null,
    scopeId: scope?.id ?? null,
    scopeSecret: copyOf(scope?.secret ?? null),
  }
}

function fromRow(row: ShareRow): ShareRecord {
  const { readKey, scopeKind, scopeId, scopeSecret, ...plain } = row
  const scope = scopeKind === null ? null : { kind: scopeKind, id: scopeId, secret: secretOf(scopeSecret) }
  return { ...plain, inPlace: plain.inPlace !== 0, readKey: secretOf(readKey), scope }
}
