/**
 * The version of a home folder: older homes are brought up to date step by step, newer ones are refused and left as they are.
 *
 * HOME/version holds a decimal number and a newline. Homes of Shoal 0.1.0 have no such file and count as version 1. The tables of the
 * records have a version of their own, inside their file, because only a transaction can change both (records-worker.ts).
 */
import { randomBytes } from 'node:crypto'
import { join, resolve } from 'node:path'
import { FileError, naming, systemCode } from './file-error.ts'
import { diskFileSystem, type FileSystem } from './fs.ts'

/** Step i brings a home from version i + 1 to i + 2. A step may be cut off anywhere and is then run again. Never change a released one. */
const STEPS: readonly ((home: string, fs: FileSystem) => Promise<void>)[] = [
  // From now on the version is written down; everything stays where 0.1.0 put it.
  async () => {},
]

/** What this Shoal writes. */
export const HOME_VERSION = STEPS.length + 1

const FIRST = 1
const FILE = 'version'
const TEXT = /^([1-9][0-9]{0,8})\n$/

/** Throws FileError NEWER for the home of a later Shoal, CORRUPT when its version cannot be read. Changes nothing. */
export async function assertHomeIsKnown(dir: string, fs: FileSystem = diskFileSystem): Promise<void> {
  await versionOf(resolve(dir), fs)
}

/** Brings a home up to date. Call it with the lock on the records held, and before anything of the home is read. */
export async function migrateHome(dir: string, fs: FileSystem = diskFileSystem): Promise<void> {
  const home = resolve(dir)
  const from = await versionOf(home, fs)
  if (from === HOME_VERSION) return
  await naming('bringing up to date', home, async () => {
    await clearLeftovers(home, fs)
    for (let version = from ?? FIRST; version < HOME_VERSION; version++) {
      await STEPS[version - FIRST]?.(home, fs)
      await writeVersion(home, version + 1, fs)
    }
  })
}

/** Null where none is written down. */
async function versionOf(home: string, fs: FileSystem): Promise<number | null> {
  const path = join(home, FILE)
  const text = await naming('reading', path, () => readText(path, fs))
  if (text === null) return null
  const version = Number(TEXT.exec(text)?.[1])
  if (!Number.isInteger(version)) throw new FileError('CORRUPT', `${path} holds no version number: restore it from a backup`, { path })
  if (version > HOME_VERSION) {
    const which = `the home ${home} is of version ${version}, this Shoal knows ${HOME_VERSION}`
    throw new FileError('NEWER', `${which}: use the newer Shoal, or another --home; nothing was changed`, { path })
  }
  return version
}

const TEXT_BYTES_MAX = 16

async function readText(path: string, fs: FileSystem): Promise<string | null> {
  try {
    const file = await fs.open(path, 'read')
    try {
      const bytes = new Uint8Array(TEXT_BYTES_MAX)
      return new TextDecoder().decode(bytes.subarray(0, await file.read(bytes, 0)))
    } finally {
      await file.close()
    }
  } catch (error) {
    const code = systemCode(error)
    if (code === 'ENOENT' || code === 'ENOTDIR') return null
    throw error
  }
}

async function writeVersion(home: string, version: number, fs: FileSystem): Promise<void> {
  const temporary = join(home, `.${FILE}.${randomBytes(16).toString('hex')}.tmp`)
  const file = await fs.open(temporary, 'create', 0o600)
  try {
    await file.write(new TextEncoder().encode(`${version}\n`), 0)
    await file.datasync()
  } finally {
    await file.close()
  }
  await fs.rename(temporary, join(home, FILE))
  await fs.syncDirectory(home)
}

/** What a run that was killed in the middle left behind. */
async function clearLeftovers(home: string, fs: FileSystem): Promise<void> {
  for (const name of await fs.list(home)) {
    if (name.startsWith(`.${FILE}.`) && name.endsWith('.tmp')) await fs.remove(join(home, name), 'file')
  }
}
