/**
 * The home folder of a node: who may look into it, where things stand in it, and the few small files that must never be half-written.
 *
 * It holds keys, so it belongs to its user alone; a home that others can enter is refused, with the command that mends it, and not
 * repaired in silence. Blocks and records have files of their own (blocks.ts, records.ts).
 */
import { randomBytes } from 'node:crypto'
import { mkdir, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { STORAGE } from '../../protocol/limits.ts'
import { Secret } from '../../protocol/secret.ts'
import { FileError, naming, systemCode } from './file-error.ts'
import { diskFileSystem as fs } from './fs.ts'

/** Where things stand in a home folder. */
export interface Home {
  dir: string
  /** For openRecords. */
  recordsFile: string
  /** The node's Ed25519 identity, raw bytes; for readOrCreateFile. */
  identityFile: string
  logFile: string
  configFile: string
}

/** Makes the home folder with its subfolders, for this user alone. FileError INSECURE when others can enter an existing one. */
export async function prepareHome(dir: string): Promise<Home> {
  const home = resolve(dir)
  await naming('preparing the home folder', home, async () => {
    await mkdir(home, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
      if (systemCode(error) === 'EEXIST') throw new FileError('IO', `the home ${home} is not a folder`, { path: home })
      throw error
    })
    await assertPrivate(home, 'folder')
    for (const folder of ['blocks', 'tmp', 'quarantine']) await mkdir(join(home, folder), { recursive: true, mode: 0o700 })
    await fs.syncDirectory(home)
  })
  return {
    dir: home,
    recordsFile: join(home, 'records.db'),
    identityFile: join(home, 'identity'),
    logFile: join(home, 'daemon.log'),
    configFile: join(home, 'config.json'),
  }
}

/** Where the token of the local API over HTTP stands. */
export const httpTokenFile = (dir: string): string => join(resolve(dir), 'http-token')

/** The secret of `sizeBytes` random bytes kept as HOME/name; created at first use. FileError CORRUPT when its size is wrong. */
export async function loadOrCreateSecret(home: Home, name: string, sizeBytes: number): Promise<Secret> {
  const path = join(home.dir, name)
  const bytes = await readOrCreateFile(path, async () => new Uint8Array(randomBytes(sizeBytes)))
  if (bytes.length !== sizeBytes) {
    throw new FileError('CORRUPT', `${path} holds ${bytes.length} bytes, expected ${sizeBytes}: restore it from a backup`, { path })
  }
  return new Secret(bytes)
}

/** The bytes of a private file (mode 0600); when it is missing, what `make` gives is stored first. It exists whole or not at all, and
 *  where two processes create it at once both get the bytes of the one that was first. */
export async function readOrCreateFile(path: string, make: () => Promise<Uint8Array>): Promise<Uint8Array> {
  const found = await naming('reading', path, () => readPrivate(path))
  if (found !== null) return found
  const bytes = await make()
  await naming('writing', path, () => createDurably(path, bytes))
  const stored = await naming('reading', path, () => readPrivate(path))
  if (stored === null) throw new FileError('NOT_FOUND', `${path} vanished while it was created`, { path })
  return stored
}

async function readPrivate(path: string): Promise<Uint8Array | null> {
  try {
    const file = await fs.open(path, 'read')
    try {
      const { kind, sizeBytes, mode } = await file.stat()
      if (kind !== 'file') throw new FileError('UNSAFE', `${path} is not a file`, { path })
      if (process.platform !== 'win32' && (mode & 0o077) !== 0) throw insecure(path, '600')
      if (sizeBytes > STORAGE.secretFileBytesMax) {
        throw new FileError('CORRUPT', `${path} holds ${sizeBytes} bytes, limit ${STORAGE.secretFileBytesMax}`, { path })
      }
      const bytes = new Uint8Array(sizeBytes)
      return bytes.subarray(0, await file.read(bytes, 0))
    } finally {
      await file.close()
    }
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null
    throw error
  }
}

async function createDurably(path: string, bytes: Uint8Array): Promise<void> {
  const folder = dirname(path)
  const prefix = `.${basename(path)}.`
  const temporary = join(folder, `${prefix}${randomBytes(16).toString('hex')}.tmp`)
  const file = await fs.open(temporary, 'create', 0o600)
  try {
    try {
      await file.write(bytes, 0)
      await file.datasync()
    } finally {
      await file.close()
    }
    await publish(temporary, path)
  } catch (error) {
    await fs.remove(temporary, 'tree')
    throw error
  }
  // A run that was killed in the middle leaves a file that nobody ever used; it may hold a secret, so it does not stay.
  for (const name of await fs.list(folder))
    if (name.startsWith(prefix) && name.endsWith('.tmp')) await fs.remove(join(folder, name), 'tree')
  await fs.syncDirectory(folder)
}

async function publish(temporary: string, path: string): Promise<void> {
  try {
    // A link, unlike a rename, never replaces what another process has just stored there.
    await fs.link(temporary, path)
  } catch (error) {
    const code = systemCode(error) ?? ''
    if (['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes(code)) return fs.rename(temporary, path)
    // Both mean that another one was first: its file stands there, or it has cleared ours away after publishing its own.
    if (code !== 'EEXIST' && code !== 'ENOENT') throw error
  }
  await fs.remove(temporary, 'tree')
}

async function assertPrivate(path: string, what: string): Promise<void> {
  const stats = await stat(path)
  if (!stats.isDirectory()) throw new FileError('UNSAFE', `${path} is not a ${what}`, { path })
  if (process.platform === 'win32') return
  if (stats.uid !== process.geteuid?.()) throw new FileError('INSECURE', `${path} belongs to another user: choose another home`, { path })
  if ((stats.mode & 0o077) !== 0) throw insecure(path, '700')
}

function insecure(path: string, mode: string): FileError {
  const quoted = `'${path.replaceAll("'", `'\\''`)}'`
  return new FileError('INSECURE', `other users can open ${path}, which holds keys; mend it with: chmod ${mode} ${quoted}`, { path })
}
