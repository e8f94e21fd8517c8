/**
 * The thread that owns the records' SQLite file: opens and locks it, brings its tables up to date, answers requests in order.
 *
 * Requests that arrived together are one transaction, so that many small writes of libp2p cost one sync; no reply leaves before that
 * is committed. When the disk is full the reserve makes room for it once. After a failed sync the connection is given up: nothing is
 * acknowledged until the file was opened anew and all that its log holds was written to the file itself and synced.
 *
 * Why a power cut loses nothing: with synchronous FULL each commit syncs the log before it returns, every frame of the log carries a
 * checksum over all before it, and a torn or stale end of it is left out when the file is opened.
 */

import { accessSync, constants } from 'node:fs'
import { dirname, join } from 'node:path'
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'
import { fillSums, findDamage, renewSums, SUMMED, type SummedTable, salvage, sumOf } from './records-check.ts'
import type { RecordReply, RecordRequest, ShareRow } from './records-messages.ts'
import { Reserve } from './records-reserve.ts'
import { dumpTables, refillTables, type TableDump, TableError } from './records-tables.ts'

// Early releases of Node 24 print one warning when SQLite is first loaded; only that one is kept back.
const emitWarning = process.emitWarning
process.emitWarning = ((warning: string | Error, ...rest: []) => {
  if (!String(warning).includes('SQLite is an experimental feature')) emitWarning.call(process, warning, ...rest)
}) as typeof process.emitWarning

/** Each step brings the tables from version i to i + 1. Never change one that was released. */
const MIGRATIONS = [
  `CREATE TABLE share (
     cid TEXT PRIMARY KEY, role TEXT NOT NULL, readKey BLOB, scopeKind TEXT, scopeId TEXT, scopeSecret BLOB, label TEXT,
     files INTEGER, sizeBytes INTEGER, wireBytes INTEGER, blockCount INTEGER, state TEXT NOT NULL, addedMs INTEGER NOT NULL,
     announcedMs INTEGER
   ) STRICT;
   CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
   CREATE TABLE datastore (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;`,
  `CREATE TABLE keeping (
     cid TEXT PRIMARY KEY, isCached INTEGER NOT NULL, keepUntilMs INTEGER, usedOrder INTEGER NOT NULL, cachedBytes INTEGER NOT NULL,
     isDamaged INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID;`,
  'ALTER TABLE share ADD COLUMN inPlace INTEGER NOT NULL DEFAULT 0',
  `ALTER TABLE share ADD COLUMN sum INTEGER; ALTER TABLE keeping ADD COLUMN sum INTEGER; ALTER TABLE setting ADD COLUMN sum INTEGER`,
]

/** From this version on the number of the version stands in two places: one changed bit must not make a file look newer. */
const TWICE_FROM = 4

const SHARE_COLUMNS = [...SUMMED.share, 'announcedMs'] as const satisfies (keyof ShareRow)[]

class Refused extends Error {
  readonly code: string
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

function open(file: string, salvageFrom: string | null): DatabaseSync {
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite')
  const db = new DatabaseSync(file)
  try {
    bringUpToDate(db, salvageFrom)
    return db
  } catch (error) {
    db.close() // a connection left half-open would stand in the way of the next one
    // Our own statements are right: what they stumble over is the file.
    if (error instanceof Error && 'errcode' in error && error.errcode === 1) throw new Refused('CORRUPT', 'records: the file is damaged')
    throw error
  }
}

function bringUpToDate(db: DatabaseSync, salvageFrom: string | null): void {
  db.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON')
  // The first transaction takes the lock, and exclusive mode keeps it; setting WAL is part of that.
  db.exec('PRAGMA journal_mode = WAL; BEGIN EXCLUSIVE')
  const version = Number(db.prepare('PRAGMA user_version').get()?.user_version)
  const twin = Number(db.prepare('PRAGMA application_id').get()?.application_id)
  if ((version >= TWICE_FROM || twin !== 0) && twin !== version)
    throw new Refused('CORRUPT', 'records: the number of their version was changed')
  if (version > MIGRATIONS.length) {
    throw new Refused('NEWER', `the records are of version ${version}, this Shoal knows ${MIGRATIONS.length}: use a newer Shoal`)
  }
  for (const step of MIGRATIONS.slice(version)) db.exec(step)
  if (version < TWICE_FROM) fillSums(db)
  const damage = findDamage(db)
  if (damage !== null) throw new Refused('CORRUPT', `records: ${damage}`)
  if (salvageFrom !== null) salvage(db, salvageFrom)
  // Only where it changes: a node must be able to start on a full disk.
  if (version < MIGRATIONS.length) db.exec(`PRAGMA user_version = ${MIGRATIONS.length}; PRAGMA application_id = ${MIGRATIONS.length}`)
  db.exec('COMMIT')
}

/** Answers single requests; all statements are prepared once. */
class Tables {
  readonly #db: DatabaseSync
  readonly #prepared = new Map<string, StatementSync>()

  constructor(db: DatabaseSync) {
    this.#db = db
  }

  answer(request: RecordRequest): unknown {
    switch (request.op) {
      case 'listShares':
        return this.#all(`SELECT ${SHARE_COLUMNS.join(', ')} FROM share WHERE cid > ? ORDER BY cid LIMIT ?`, request.after, request.limit)
      case 'getShare':
        return this.#get(`SELECT ${SHARE_COLUMNS.join(', ')} FROM share WHERE cid = ?`, request.cid)
      case 'saveShare':
        return this.#save('share', { ...request.row }, SHARE_COLUMNS)
      case 'removeShare':
        this.#run('DELETE FROM keeping WHERE cid = ?', request.cid)
        return this.#run('DELETE FROM share WHERE cid = ?', request.cid) > 0
      case 'listKeeping':
        return this.#all(
          `SELECT ${SUMMED.keeping.join(', ')} FROM keeping WHERE cid > ? ORDER BY cid LIMIT ?`,
          request.after,
          request.limit,
        )
      case 'saveKeeping':
        for (const row of request.rows) this.#save('keeping', { ...row })
        return null
      case 'setAnnounced':
        this.#run('UPDATE share SET announcedMs = ? WHERE cid = ?', request.atMs, request.cid)
        return null
      case 'getSetting':
        return this.#get('SELECT value FROM setting WHERE name = ?', request.name)?.value ?? null
      case 'setSetting':
        return this.#save('setting', { name: request.name, value: request.value })
      case 'getKey':
        return this.#get('SELECT value FROM datastore WHERE key = ?', request.key)?.value ?? null
      case 'changeKeys':
        for (const { key, value } of request.changes) {
          if (value === null) this.#run('DELETE FROM datastore WHERE key = ?', key)
          else this.#run('INSERT OR REPLACE INTO datastore (key, value) VALUES (?, ?)', key, value)
        }
        return null
      case 'listKeys':
        return this.#listKeys(request)
      case 'dump':
        return dumpTables(this.#db)
      case 'fill':
        return this.#fill(request.dump)
      case 'close':
        return null
    }
  }

  #fill(dump: TableDump): null {
    if (dump.version > MIGRATIONS.length) {
      throw new Refused('NEWER', `the exported records are of version ${dump.version}, this Shoal knows ${MIGRATIONS.length}`)
    }
    try {
      refillTables(this.#db, dump, MIGRATIONS)
      renewSums(this.#db) // their states have changed
      return null
    } catch (error) {
      throw error instanceof TableError ? new Refused('CORRUPT', `the exported records are damaged: ${error.message}`) : error
    }
  }

  #save(table: SummedTable, row: Record<string, SQLInputValue>, names: readonly string[] = SUMMED[table]): null {
    const columns = [...names, 'sum']
    const sql = `INSERT OR REPLACE INTO ${table} (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`
    this.#run(sql, ...names.map((name) => row[name] ?? null), sumOf(table, row))
    return null
  }

  // Keys are compared as bytes, so those with one prefix stand together, from the prefix itself on.
  #listKeys({ prefix, after, limit, withValues }: RecordRequest & { op: 'listKeys' }): unknown {
    const value = withValues ? 'value' : 'NULL AS value'
    const sql = `SELECT key, ${value} FROM datastore WHERE key ${after === null ? '>=' : '>'} ? ORDER BY key LIMIT ?`
    return this.#all(sql, after ?? prefix, limit).filter((row) => String(row.key).startsWith(prefix))
  }

  #statement(sql: string): StatementSync {
    const found = this.#prepared.get(sql) ?? this.#db.prepare(sql)
    this.#prepared.set(sql, found)
    return found
  }

  #all = (sql: string, ...values: SQLInputValue[]) => this.#statement(sql).all(...values)
  #get = (sql: string, ...values: SQLInputValue[]) => this.#statement(sql).get(...values) ?? null
  #run = (sql: string, ...values: SQLInputValue[]): number => Number(this.#statement(sql).run(...values).changes)
}

/** SQLite's result codes (the low byte of errcode) in the words of FileError. */
const CODES: Record<number, [string, string]> = {
  3: ['DENIED', 'permission denied'],
  5: ['LOCKED', 'another Shoal is running on this home folder'],
  8: ['DENIED', 'the file system is read-only'],
  11: ['CORRUPT', 'the file is damaged'],
  13: ['NO_SPACE', 'disk full; free some space, then try again'],
  14: ['DENIED', 'the file cannot be opened'],
  26: ['CORRUPT', 'the file is damaged'],
}

function refusal(id: number, error: unknown): RecordReply & { ok: false } {
  if (error instanceof Refused) return { id, ok: false, code: error.code, message: error.message }
  const number = error instanceof Error && 'errcode' in error ? Number(error.errcode) & 0xff : 0
  const [code, says] = CODES[number] ?? ['IO', error instanceof Error ? error.message : String(error)]
  return { id, ok: false, code, message: `records: ${says}` }
}

interface Received {
  id: number
  request: RecordRequest
}

class Service {
  readonly #file: string
  readonly #reserve: Reserve
  readonly #reply: (reply: RecordReply) => void
  #db: DatabaseSync
  #tables: Tables
  #batch: Received[] = []
  #isBroken = false

  constructor(file: string, salvageFrom: string | null, reply: (reply: RecordReply) => void) {
    this.#file = file
    this.#db = open(file, salvageFrom)
    this.#tables = new Tables(this.#db)
    this.#reserve = new Reserve(join(dirname(file), 'reserve'))
    this.#reserve.keep()
    this.#reply = reply
  }

  receive(received: Received): void {
    if (this.#batch.length === 0) setImmediate(() => this.#flush())
    this.#batch.push(received)
  }

  #flush(): void {
    const batch = this.#batch
    this.#batch = []
    for (const reply of this.#answerAll(batch)) this.#reply(reply)
    if (!batch.some(({ request }) => request.op === 'close')) return
    if (this.#db.isOpen) this.#db.close()
    // Nothing else keeps this thread alive.
    parentPort?.close()
  }

  #answerAll(batch: Received[]): RecordReply[] {
    try {
      if (this.#isBroken) this.#mend()
      return this.#transactWithReserve(batch)
    } catch (error) {
      // A failed write or sync leaves open what the disk holds; a full disk does not.
      if (refusal(0, error).code === 'IO') this.#isBroken = true
      return batch.map(({ id, request }) => this.#readOnly(id, request) ?? refusal(id, error))
    }
  }

  /** What was committed can be read though nothing can be written; null for a request that changes something. */
  #readOnly(id: number, request: RecordRequest): RecordReply | null {
    if (!/^(get|list)/.test(request.op) || !this.#db.isOpen) return null
    try {
      return { id, ok: true, value: this.#tables.answer(request) }
    } catch {
      return null // the error of the write says more
    }
  }

  /** After a failed sync the system may take lost pages of the log for written, so nothing is appended to that log any more: closing
   *  or, where that fails, the checkpoint writes what was committed to the file itself, and the next log begins from nothing. */
  #mend(): void {
    try {
      accessSync(dirname(this.#file), constants.W_OK)
    } catch (cause) {
      throw new Refused('DENIED', 'records: the file system is read-only', { cause })
    }
    if (this.#db.isOpen) this.#db.close()
    this.#db = open(this.#file, null)
    this.#tables = new Tables(this.#db)
    if (this.#db.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get()?.busy !== 0) throw new Refused('IO', 'records: the disk fails')
    this.#isBroken = false
  }

  #transactWithReserve(batch: Received[]): RecordReply[] {
    try {
      const replies = this.#transact(batch)
      this.#reserve.keep()
      return replies
    } catch (error) {
      if (refusal(0, error).code !== 'NO_SPACE' || !this.#reserve.release()) throw error
      return this.#transact(batch)
    }
  }

  #transact(batch: Received[]): RecordReply[] {
    try {
      this.#db.exec('BEGIN')
      const replies = batch.map(({ id, request }) => this.#answer(id, request))
      this.#db.exec('COMMIT')
      return replies
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK')
      throw error
    }
  }

  #answer(id: number, request: RecordRequest): RecordReply {
    try {
      return { id, ok: true, value: this.#tables.answer(request) }
    } catch (error) {
      // Some failures roll the whole transaction back; then nothing of this batch may be acknowledged. Nor may it after one of the disk.
      const refused = refusal(id, error)
      if (!this.#db.isTransaction || refused.code === 'IO' || refused.code === 'NO_SPACE') throw error
      return refused
    }
  }
}

const port = parentPort
if (port === null) throw new Error('records-worker.ts runs as a worker only')
try {
  const service = new Service(workerData.file, workerData.salvageFrom ?? null, (reply) => port.postMessage(reply))
  port.on('message', (received: Received) => service.receive(received))
  port.postMessage({ id: 0, ok: true, value: null })
} catch (error) {
  port.postMessage(refusal(0, error))
}
