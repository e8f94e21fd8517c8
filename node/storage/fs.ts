/**
 * The ten file operations that storage needs, as an interface, and the real disk behind it.
 *
 * Everything that stores or extracts goes through a FileSystem, so that tests can record, delay, fail or lose operations. No
 * operation follows a symbolic link in the last component of its path. Errors are the system's own (code 'ENOENT', ...); callers
 * turn them into FileErrors with words of their own.
 */
import { constants, type Stats } from 'node:fs'
import {
  type FileHandle,
  link as linkFile,
  lstat as lstatFile,
  mkdir as makeFolder,
  open as openFile,
  readdir,
  realpath as realPathOf,
  rename as renameFile,
  rm,
  rmdir,
  statfs,
  unlink,
} from 'node:fs/promises'
import { SOURCES } from '../../protocol/limits.ts'

/** What stands at a path. `identity` is equal for two paths exactly when they are the same file or folder. */
export interface FileStat {
  kind: 'file' | 'folder' | 'symlink' | 'other'
  sizeBytes: number
  mode: number
  /** The user it belongs to; 0 on Windows. */
  uid: number
  identity: string
  /** Names that it has. */
  links: number
  /** What it takes of the disk. */
  allocatedBytes: number
}

/** An open file; close it exactly once. */
export interface OpenFile {
  stat(): Promise<FileStat>
  /** Fills `target` from `positionBytes` on; returns less than its length only at the end of the file. */
  read(target: Uint8Array, positionBytes: number): Promise<number>
  /** Writes all of `bytes` (borrowed until resolved). */
  write(bytes: Uint8Array, positionBytes: number): Promise<void>
  truncate(sizeBytes: number): Promise<void>
  setModified(mtimeSeconds: number): Promise<void>
  /** fdatasync: when it resolves, content and size are on disk. When it fails nothing is known; never call it again on that file. */
  datasync(): Promise<void>
  close(): Promise<void>
}

/** How to open: 'create' makes a new file and fails where anything exists, 'update' opens an existing one for reading and writing. */
export type OpenMode = 'read' | 'create' | 'update'

export interface FileSystem {
  open(path: string, mode: OpenMode, permissions?: number): Promise<OpenFile>
  /** Replaces a file at `to`. */
  rename(from: string, to: string): Promise<void>
  /** A second name for a file; fails with EEXIST where anything stands at `to`. */
  link(from: string, to: string): Promise<void>
  /** Removes a file or symlink ('file'), an empty folder ('folder'), or a whole tree, which need not exist ('tree'). */
  remove(path: string, what: 'file' | 'folder' | 'tree'): Promise<void>
  mkdir(path: string, permissions: number): Promise<void>
  list(path: string): Promise<string[]>
  lstat(path: string): Promise<FileStat>
  /** The path with every symlink resolved. */
  realpath(path: string): Promise<string>
  /** Makes renames, links and removals in a folder durable. */
  syncDirectory(path: string): Promise<void>
  /** Room for us on the file system that holds `path`; `freeFiles` is null where it does not count files. */
  space(path: string): Promise<{ freeBytes: number; freeFiles: number | null }>
}

const FLAGS: Record<OpenMode, number> = {
  read: constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0),
  create: constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | (constants.O_NOFOLLOW ?? 0),
  update: constants.O_RDWR | (constants.O_NOFOLLOW ?? 0),
}

/** The file system of this machine. */
export const diskFileSystem: FileSystem = {
  open: async (path, mode, permissions = 0o600) => new DiskFile(await openFile(path, FLAGS[mode], permissions)),
  rename: (from, to) => renameFile(from, to),
  link: (from, to) => linkFile(from, to),
  remove: async (path, what) => {
    if (what === 'file') await unlink(path)
    else if (what === 'folder') await rmdir(path)
    else await rm(path, { recursive: true, force: true })
  },
  mkdir: async (path, permissions) => {
    await makeFolder(path, permissions)
  },
  list: (path) => readdir(path),
  lstat: async (path) => describe(await lstatFile(path)),
  realpath: (path) => realPathOf(path),
  syncDirectory,
  space: async (path) => {
    const { bavail, bsize, files, ffree } = await statfs(path)
    return { freeBytes: bavail * bsize, freeFiles: files === 0 ? null : ffree }
  },
}

class DiskFile implements OpenFile {
  readonly #handle: FileHandle

  constructor(handle: FileHandle) {
    this.#handle = handle
  }

  async stat(): Promise<FileStat> {
    return describe(await this.#handle.stat())
  }

  read(target: Uint8Array, positionBytes: number): Promise<number> {
    return readFully(this.#handle, target, positionBytes)
  }

  async write(bytes: Uint8Array, positionBytes: number): Promise<void> {
    let done = 0
    while (done < bytes.length) {
      const { bytesWritten } = await this.#handle.write(bytes, done, bytes.length - done, positionBytes + done)
      done += bytesWritten
    }
  }

  truncate(sizeBytes: number): Promise<void> {
    return this.#handle.truncate(sizeBytes)
  }

  setModified(mtimeSeconds: number): Promise<void> {
    return this.#handle.utimes(mtimeSeconds, mtimeSeconds)
  }

  datasync(): Promise<void> {
    return this.#handle.datasync()
  }

  close(): Promise<void> {
    return this.#handle.close()
  }
}

/** Reads until `target` is full or the file ends; how many bytes. */
export async function readFully(handle: FileHandle, target: Uint8Array, positionBytes: number): Promise<number> {
  let done = 0
  while (done < target.length) {
    const { bytesRead } = await handle.read(target, done, target.length - done, positionBytes + done)
    if (bytesRead === 0) break
    done += bytesRead
  }
  return done
}

function describe(stats: Stats): FileStat {
  const kind = stats.isFile() ? 'file' : stats.isDirectory() ? 'folder' : stats.isSymbolicLink() ? 'symlink' : 'other'
  const { size: sizeBytes, mode, uid, dev, ino, nlink: links, blocks } = stats
  return { kind, sizeBytes, mode: mode & 0o7777, uid, identity: `${dev}:${ino}`, links, allocatedBytes: SOURCES.diskSectorBytes * blocks }
}

async function syncDirectory(path: string): Promise<void> {
  // Windows has no way to sync a folder; NTFS journals its entries.
  if (process.platform === 'win32') return
  const handle = await openFile(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
