/**
 * The thread that owns the records' SQLite file: opens and locks it, brings its tables up to date, answers requests in order.
 *
 * Requests that arrived together are one transaction, so that many small writes of libp2p cost one sync; no reply leaves before that
 * is committed. After a failed sync nothing is acknowledged any more until the node is started anew.
 */
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'
import type { KeepingRow, RecordReply, RecordRequest, ShareRow } from './records-messages.ts'

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
]

const SHARE_COLUMNS = [
  'cid',
  'role',
  'readKey',
  'scopeKind',
  'scopeId',
  'scopeSecret',
  'label',
  'files',
  'sizeBytes',
  'wireBytes',
  'blockCount',
  'state',
  'inPlace',
  'addedMs',
  'announcedMs',
] as const satisfies (keyof ShareRow)[]

class Refused extends Error {
  readonly code: string
  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

function open(file: string): DatabaseSync {
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite')
  const db = new DatabaseSync(file)
  db.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON')
  // The first transaction takes the lock, and exclusive mode keeps it; setting WAL is part of that.
  db.exec('PRAGMA journal_mode = WAL; BEGIN EXCLUSIVE')
  const version = Number(db.prepare('PRAGMA user_version').get()?.user_version)
  if (version > MIGRATIONS.length) {
    db.close()
    throw new Refused('NEWER', `the records are of version ${version}, this Shoal knows ${MIGRATIONS.length}: use a newer Shoal`)
  }
  for (const step of MIGRATIONS.slice(version)) db.exec(step)
  db.exec(`PRAGMA user_version = ${MIGRATIONS.length}; COMMIT`)
  return db
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
        return this.#all('SELECT * FROM share WHERE cid > ? ORDER BY cid LIMIT ?', request.after, request.limit)
      case 'getShare':
        return this.#get('SELECT * FROM share WHERE cid = ?', request.cid)
      case 'saveShare':
        return this.#saveShare(request.row)
      case 'removeShare':
        this.#run('DELETE FROM keeping WHERE cid = ?', request.cid)
        return this.#run('DELETE FROM share WHERE cid = ?', request.cid) > 0
      case 'listKeeping':
        return this.#all('SELECT * FROM keeping WHERE cid > ? ORDER BY cid LIMIT ?', request.after, request.limit)
      case 'saveKeeping':
        for (const row of request.rows) this.#saveKeeping(row)
        return null
      case 'setAnnounced':
        this.#run('UPDATE share SET announcedMs = ? WHERE cid = ?', request.atMs, request.cid)
        return null
      case 'getSetting':
        return this.#get('SELECT value FROM setting WHERE name = ?', request.name)?.value ?? null
      case 'setSetting':
        this.#run('INSERT OR REPLACE INTO setting (name, value) VALUES (?, ?)', request.name, request.value)
        return null
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
      case 'close':
        return null
    }
  }

  #saveShare(row: ShareRow): null {
    const places = SHARE_COLUMNS.map(() => '?').join(', ')
    this.#run(`INSERT OR REPLACE INTO share (${SHARE_COLUMNS.join(', ')}) VALUES (${places})`, ...SHARE_COLUMNS.map((name) => row[name]))
    return null
  }

  #saveKeeping({ cid, isCached, keepUntilMs, usedOrder, cachedBytes, isDamaged }: KeepingRow): void {
    const sql = `INSERT OR REPLACE INTO keeping (cid, isCached, keepUntilMs, usedOrder, cachedBytes, isDamaged) VALUES (?, ?, ?, ?, ?, ?)`
    this.#run(sql, cid, isCached, keepUntilMs, usedOrder, cachedBytes, isDamaged)
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
  13: ['NO_SPACE', 'disk full'],
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
  readonly #db: DatabaseSync
  readonly #tables: Tables
  readonly #reply: (reply: RecordReply) => void
  #batch: Received[] = []
  #isBroken = false

  constructor(db: DatabaseSync, reply: (reply: RecordReply) => void) {
    this.#db = db
    this.#tables = new Tables(db)
    this.#reply = reply
  }

  receive(received: Received): void {
    if (this.#batch.length === 0) setImmediate(() => this.#flush())
    this.#batch.push(received)
  }

  #flush(): void {
    const batch = this.#batch
    this.#batch = []
    for (const reply of this.#isBroken ? batch.map(({ id }) => this.#broken(id)) : this.#transact(batch)) this.#reply(reply)
    if (!batch.some(({ request }) => request.op === 'close')) return
    this.#db.close()
    // Nothing else keeps this thread alive.
    parentPort?.close()
  }

  #broken(id: number): RecordReply {
    return { id, ok: false, code: 'IO', message: 'records: stopped after a failed write; start the node anew' }
  }

  #transact(batch: Received[]): RecordReply[] {
    try {
      this.#db.exec('BEGIN')
      const replies = batch.map(({ id, request }) => this.#answer(id, request))
      this.#db.exec('COMMIT')
      return replies
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK')
      const replies = batch.map(({ id }) => refusal(id, error))
      // A failed sync leaves open what the disk holds; a full disk does not.
      this.#isBroken = replies[0]?.code === 'IO'
      return replies
    }
  }

  #answer(id: number, request: RecordRequest): RecordReply {
    try {
      return { id, ok: true, value: this.#tables.answer(request) }
    } catch (error) {
      // Some failures roll the whole transaction back; then nothing of this batch may be acknowledged.
      if (!this.#db.isTransaction) throw error
      return refusal(id, error)
    }
  }
}

const port = parentPort
if (port === null) throw new Error('records-worker.ts runs as a worker only')
try {
  const service = new Service(open(workerData.file), (reply) => port.postMessage(reply))
  port.on('message', (received: Received) => service.receive(received))
  port.postMessage({ id: 0, ok: true, value: null })
} catch (error) {
  port.postMessage(refusal(0, error))
}
