/**
 * The home folder of a node: who may look into it, where things stand in it, and the few small files that must never be half-written.
 *
 * It holds keys, so it belongs to its user alone; a home that others can enter is refused, with the command that mends it, and not
 * repaired in silence. Blocks and records have files of their own (blocks.ts, records.ts).
 */
import { randomBytes } from 'node:crypto'
import { basename, dirname, join, resolve } from 'node:path'
import { STORAGE } from '../../protocol/limits.ts'
import { Secret } from '../../protocol/secret.ts'
import { FileError, naming, systemCode } from './file-error.ts'
import { diskFileSystem, type FileStat, type FileSystem } from './fs.ts'

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
export async function prepareHome(dir: string, fs: FileSystem = diskFileSystem): Promise<Home> {
  const home = resolve(dir)
  await naming('preparing the home folder', home, async () => {
    await makeFolders(fs, home)
    await assertPrivate(fs, home)
    // Whatever will be in it is as lasting as its own name: once, before anything is put there.
    if ((await kindOf(fs, join(home, 'blocks'))) === null) await syncAncestors(fs, home)
    for (const folder of ['blocks', 'tmp', 'quarantine']) await ensureFolder(fs, join(home, folder))
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
export async function loadOrCreateSecret(home: Home, name: string, sizeBytes: number, fs: FileSystem = diskFileSystem): Promise<Secret> {
  const path = join(home.dir, name)
  const bytes = await readOrCreateFile(path, async () => new Uint8Array(randomBytes(sizeBytes)), fs)
  if (bytes.length !== sizeBytes) {
    throw new FileError('CORRUPT', `${path} holds ${bytes.length} bytes, expected ${sizeBytes}: restore it from a backup`, { path })
  }
  return new Secret(bytes)
}

/** The bytes of a private file (mode 0600); when it is missing, what `make` gives is stored first. It exists whole or not at all, and
 *  where two processes create it at once both get the bytes of the one that was first. */
export async function readOrCreateFile(
  path: string,
  make: () => Promise<Uint8Array>,
  fs: FileSystem = diskFileSystem,
): Promise<Uint8Array> {
  const found = await naming('reading', path, () => readPrivate(fs, path))
  if (found !== null) {
    await naming('clearing leftovers of', path, () => clearTemporaries(fs, path))
    return found
  }
  const bytes = await make()
  await naming('writing', path, () => createDurably(fs, path, bytes))
  const stored = await naming('reading', path, () => readPrivate(fs, path))
  if (stored === null) throw new FileError('NOT_FOUND', `${path} vanished while it was created`, { path })
  return stored
}

async function readPrivate(fs: FileSystem, path: string): Promise<Uint8Array | null> {
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

async function createDurably(fs: FileSystem, path: string, bytes: Uint8Array): Promise<void> {
  const folder = dirname(path)
  const temporary = join(folder, `${temporaryPrefix(path)}${randomBytes(16).toString('hex')}.tmp`)
  const file = await fs.open(temporary, 'create', 0o600)
  let isPublished = false
  try {
    try {
      await file.write(bytes, 0)
      await file.datasync()
    } finally {
      await file.close()
    }
    isPublished = await publish(fs, temporary, path)
    await clearTemporaries(fs, path)
    await fs.syncDirectory(folder)
  } catch (error) {
    // What could not be synced may be gone tomorrow, so nobody may find it here today.
    if (isPublished) await fs.remove(path, 'tree')
    await fs.remove(temporary, 'tree')
    throw error
  }
}

const temporaryPrefix = (path: string): string => `.${basename(path)}.`

// A run that was killed in the middle leaves a file that nobody ever used; it may hold a secret, so it does not stay.
async function clearTemporaries(fs: FileSystem, path: string): Promise<void> {
  const [folder, prefix] = [dirname(path), temporaryPrefix(path)]
  for (const name of await fs.list(folder))
    if (name.startsWith(prefix) && name.endsWith('.tmp')) await fs.remove(join(folder, name), 'tree')
}

/** Whether `path` is ours now; false where another process was first. */
async function publish(fs: FileSystem, temporary: string, path: string): Promise<boolean> {
  let isOurs = true
  try {
    // A link, unlike a rename, never replaces what another process has just stored there.
    await fs.link(temporary, path)
  } catch (error) {
    const code = systemCode(error) ?? ''
    if (['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes(code)) {
      await fs.rename(temporary, path)
      return true
    }
    // Both mean that another one was first: its file stands there, or it has cleared ours away after publishing its own.
    if (code !== 'EEXIST' && code !== 'ENOENT') throw error
    isOurs = false
  }
  await fs.remove(temporary, 'tree')
  return isOurs
}

async function kindOf(fs: FileSystem, path: string): Promise<FileStat['kind'] | null> {
  try {
    return (await fs.lstat(path)).kind
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null
    throw error
  }
}

async function ensureFolder(fs: FileSystem, path: string): Promise<void> {
  try {
    await fs.mkdir(path, 0o700)
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error
  }
}

async function makeFolders(fs: FileSystem, path: string): Promise<void> {
  try {
    await ensureFolder(fs, path)
  } catch (error) {
    if (systemCode(error) !== 'ENOENT' || dirname(path) === path) throw error
    await makeFolders(fs, dirname(path))
    await ensureFolder(fs, path)
  }
}

async function syncAncestors(fs: FileSystem, path: string): Promise<void> {
  for (let folder = path; folder !== dirname(folder); ) {
    folder = dirname(folder)
    try {
      await fs.syncDirectory(folder)
    } catch (error) {
      // Not ours to open, so not ours to have made, nor anything above it; or of a kind that cannot be synced.
      if (['EACCES', 'EPERM', 'EROFS', 'EINVAL'].includes(systemCode(error) ?? '')) return
      throw error
    }
  }
}

async function assertPrivate(fs: FileSystem, path: string): Promise<void> {
  const stats = await fs.lstat(await fs.realpath(path))
  if (stats.kind !== 'folder') throw new FileError('IO', `the home ${path} is not a folder`, { path })
  if (process.platform === 'win32') return
  if (stats.uid !== process.geteuid?.()) throw new FileError('INSECURE', `${path} belongs to another user: choose another home`, { path })
  if ((stats.mode & 0o077) !== 0) throw insecure(path, '700')
}

function insecure(path: string, mode: string): FileError {
  const quoted = `'${path.replaceAll("'", `'\\''`)}'`
  return new FileError('INSECURE', `other users can open ${path}, which holds keys; mend it with: chmod ${mode} ${quoted}`, { path })
}
