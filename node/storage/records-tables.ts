/**
 * Tables of the records as plain rows, for `export` and `import`: all of them and whatever columns they have, so that a table that is added
 * later is not forgotten. Called by the records' worker alone.
 */
import type { DatabaseSync, SQLInputValue } from 'node:sqlite'

/** Rows by table; values as SQLite gives them. */
export interface TableDump {
  /** Of the tables: how many steps of the migrations they have seen. */
  version: number
  tables: Record<string, Record<string, unknown>[]>
}

/** Notes of libp2p on peers and routes are this machine's, and grow again. */
const LEFT_OUT = new Set(['datastore'])

export class TableError extends Error {}

const tableNames = (db: DatabaseSync): string[] =>
  db
    .prepare(`SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name`)
    .all()
    .map(({ name }) => String(name))
    .filter((name) => !LEFT_OUT.has(name))

/** Every row but those of LEFT_OUT. */
export function dumpTables(db: DatabaseSync): TableDump {
  const version = Number(db.prepare('PRAGMA user_version').get()?.user_version)
  const tables = Object.fromEntries(tableNames(db).map((name) => [name, db.prepare(`SELECT * FROM "${name}"`).all()]))
  return { version, tables }
}

/**
 * Makes empty tables anew at the version that rows were dumped from, fills them, and brings them up to date by the later `steps`. Shares come
 * back as partial, because their blocks do not come with them. Throws TableError for tables, columns or values that do not belong there;
 * the tables are then as before.
 */
export function refillTables(db: DatabaseSync, dump: TableDump, steps: readonly string[]): void {
  db.exec('SAVEPOINT refill')
  try {
    for (const name of tableNames(db)) {
      if (db.prepare(`SELECT 1 FROM "${name}" LIMIT 1`).get() !== undefined) throw new TableError('the records are not empty')
    }
    for (const name of [...tableNames(db), ...LEFT_OUT]) db.exec(`DROP TABLE "${name}"`)
    for (const step of steps.slice(0, dump.version)) db.exec(step)
    fillTables(db, dump)
    for (const step of steps.slice(dump.version)) db.exec(step)
    db.exec('RELEASE refill')
  } catch (error) {
    db.exec('ROLLBACK TO refill; RELEASE refill')
    throw error
  }
}

function fillTables(db: DatabaseSync, { tables }: TableDump): void {
  const known = new Set(tableNames(db))
  for (const [table, rows] of Object.entries(tables)) {
    if (!known.has(table)) throw new TableError(`an unknown table of records`)
    const columns = new Set(
      db
        .prepare(`PRAGMA table_info("${table}")`)
        .all()
        .map(({ name }) => String(name)),
    )
    for (const row of rows) insert(db, table, columns, row)
  }
  db.exec(`UPDATE share SET state = 'partial'`)
}

function insert(db: DatabaseSync, table: string, columns: ReadonlySet<string>, row: Record<string, unknown>): void {
  const names = Object.keys(row)
  // Names stand in the statement itself, so only those of the table may.
  if (names.length === 0 || !names.every((name) => columns.has(name))) throw new TableError('an unknown column of records')
  const values = names.map((name) => row[name])
  if (!values.every(isValue)) throw new TableError('a value that records do not hold')
  const places = names.map(() => '?').join(', ')
  try {
    db.prepare(`INSERT INTO "${table}" (${names.map((name) => `"${name}"`).join(', ')}) VALUES (${places})`).run(...values)
  } catch (cause) {
    throw new TableError('a row that does not fit its table', { cause })
  }
}

const isValue = (value: unknown): value is SQLInputValue =>
  value === null || typeof value === 'string' || typeof value === 'number' || typeof value === 'bigint' || value instanceof Uint8Array
