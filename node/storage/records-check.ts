/**
 * Whether the records are as they were written: SQLite notices a broken structure, but not one changed bit in the middle of a value.
 *
 * So each row that matters carries a checksum, looked at when the file is opened. Runs in the records' thread. What libp2p keeps in the
 * table `datastore` is not among it: a wrong address in there costs a dial.
 */
import type { DatabaseSync, SQLInputValue, SQLOutputValue } from 'node:sqlite'
import { crc32 } from 'node:zlib'

/** What the checksum of a row covers, in this order. Never change a list: rows that were written before would seem damaged. */
export const SUMMED = {
  share: [
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
  ],
  keeping: ['cid', 'isCached', 'keepUntilMs', 'usedOrder', 'cachedBytes', 'isDamaged'],
  setting: ['name', 'value'],
} as const satisfies Record<string, readonly string[]>

export type SummedTable = keyof typeof SUMMED

type Row = Record<string, SQLInputValue | SQLOutputValue | undefined>

/** The checksum of a row: CRC-32, which every change of up to 32 bits in a row differs in. */
export function sumOf(table: SummedTable, row: Row): number {
  const values = SUMMED[table].map((name) => {
    const value = row[name] ?? null
    return value instanceof Uint8Array ? `x${Buffer.from(value).toString('hex')}` : `${typeof value} ${String(value)}`
  })
  return crc32(JSON.stringify([table, ...values]))
}

/** Gives every row that has none yet its checksum. */
export function fillSums(db: DatabaseSync): void {
  for (const table of TABLES) {
    const [key] = SUMMED[table]
    const update = db.prepare(`UPDATE ${table} SET sum = ? WHERE ${key} = ?`)
    for (const row of db.prepare(`SELECT * FROM ${table} WHERE sum IS NULL`).all()) update.run(sumOf(table, row), row[key] ?? null)
  }
}

/** Gives every row its checksum anew, after rows were changed as a whole. */
export function renewSums(db: DatabaseSync): void {
  for (const table of TABLES) db.exec(`UPDATE ${table} SET sum = NULL`)
  fillSums(db)
}

/** What is wrong with the file, null when nothing is. May throw SQLite's own errors. */
export function findDamage(db: DatabaseSync): string | null {
  const [found] = db.prepare('PRAGMA quick_check(1)').all()
  if (found?.quick_check !== 'ok') return 'its structure is broken'
  for (const table of TABLES) {
    for (const row of db.prepare(`SELECT * FROM ${table}`).iterate())
      if (row.sum !== sumOf(table, row)) return `a row of "${table}" was changed`
  }
  return null
}

/** Takes over every row of a damaged file that can be read and is as it was written. Resolves to how many. */
export function salvage(db: DatabaseSync, file: string): number {
  const { DatabaseSync } = process.getBuiltinModule('node:sqlite')
  let rows = 0
  let old: DatabaseSync
  try {
    old = new DatabaseSync(file)
  } catch {
    return 0 // nothing of it can be read
  }
  try {
    for (const table of TABLES) {
      const names = [...SUMMED[table], 'sum']
      const insert = db.prepare(`INSERT OR IGNORE INTO ${table} (${names.join(', ')}) VALUES (${names.map(() => '?').join(', ')})`)
      // From both ends: what cannot be read stands somewhere between.
      for (const order of ['ASC', 'DESC']) {
        try {
          for (const row of old.prepare(`SELECT * FROM ${table} ORDER BY ${SUMMED[table][0]} ${order}`).iterate()) {
            if (row.sum !== sumOf(table, row)) continue
            rows += Number(insert.run(...names.map((name) => row[name] ?? null)).changes)
          }
        } catch {
          // The rest of the table, from this end, is lost.
        }
      }
    }
  } finally {
    old.close()
  }
  return rows
}

// Object.keys knows the names only as strings.
const TABLES = Object.keys(SUMMED) as SummedTable[]
