/**
 * Opens the records, also where their file is damaged: it is set aside, never deleted, and what can be read of it is taken over.
 *
 * A row is taken over only as it was written (each carries a checksum). What is lost is the business of jobs/restore.ts, which knows what
 * lies in the store. Two nodes cannot do this at once: whoever holds the records holds a lock on the file, damaged or not.
 */
import { rename } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import type { Log } from '../log.ts'
import { FileError, naming, systemCode } from './file-error.ts'
import { diskFileSystem } from './fs.ts'
import { openRecords, type Records } from './records.ts'

export interface OpenedRecords {
  records: Records
  /** Where the damaged file is now; null when there was no damage. */
  setAside: string | null
}

/** Throws what openRecords throws, but for FileError CORRUPT. */
export async function openOrRebuildRecords(init: { file: string; log: Log; onFull?: () => void }): Promise<OpenedRecords> {
  // A rebuilding that was cut off: the damaged file is away, and the new one has nothing in it yet.
  const before = (await isEmpty(init.file)) ? await newestAway(init.file) : null
  if (before !== null) return { records: await openRecords({ ...init, salvageFrom: before }), setAside: before }
  try {
    return { records: await openRecords(init), setAside: null }
  } catch (error) {
    const isCorrupt = error instanceof FileError && error.code === 'CORRUPT'
    // SQLite takes one changed bit there for a file that must not be written.
    const isOdd = error instanceof FileError && error.code === 'DENIED' && (await hasOddHeader(init.file))
    if (!isCorrupt && !isOdd) throw error
  }
  const setAside = await naming('setting damaged records aside', init.file, () => moveAway(init.file))
  init.log.error('the records were damaged: they are set aside, and made anew from what can be read of them and from the store', {
    file: basename(setAside),
  })
  return { records: await openRecords({ ...init, salvageFrom: setAside }), setAside }
}

async function isEmpty(file: string): Promise<boolean> {
  try {
    return (await diskFileSystem.lstat(file)).sizeBytes === 0
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return true
    throw error
  }
}

/** Whether the two bytes that say how the file may be read and written are not those that SQLite writes. */
async function hasOddHeader(file: string): Promise<boolean> {
  const opened = await diskFileSystem.open(file, 'read')
  try {
    const bytes = new Uint8Array(2)
    return (await opened.read(bytes, 18)) < 2 || bytes.some((byte) => byte !== 1 && byte !== 2)
  } finally {
    await opened.close()
  }
}

const numbersAway = async (file: string): Promise<number[]> => {
  const names = await diskFileSystem.list(dirname(file)).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return []
    throw error
  })
  const start = `${basename(file)}.damaged-`
  return names
    .filter((name) => name.startsWith(start) && /^\d{1,9}$/.test(name.slice(start.length)))
    .map((name) => Number(name.slice(start.length)))
}

async function newestAway(file: string): Promise<string | null> {
  const numbers = await numbersAway(file)
  return numbers.length === 0 ? null : `${file}.damaged-${Math.max(...numbers)}`
}

/** Gives the file, and what SQLite keeps beside it, names that are free. */
async function moveAway(file: string): Promise<string> {
  const away = `${file}.damaged-${Math.max(0, ...(await numbersAway(file))) + 1}`
  for (const ending of ['-wal', '-shm', '']) {
    try {
      await rename(`${file}${ending}`, `${away}${ending}`)
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error
    }
  }
  await diskFileSystem.syncDirectory(dirname(file))
  return away
}
