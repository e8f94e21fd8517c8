/**
 * The user's own files and folders, as an interface, and the real disk behind it: opened without following a link, named in bytes as the
 * system has them, and with a state that is exact to the nanosecond, so that a change between two looks shows. Whatever reads them goes
 * through a SourceDisk or its folders, so that tests can fail or change them.
 *
 * Reads only. A file may change at any time; callers compare states before and after, and never trust bytes that were not checked.
 */
import { type BigIntStats, constants, type Stats } from 'node:fs'
import { type FileHandle, lstat, open, readdir, realpath } from 'node:fs/promises'
import { readFully } from './fs.ts'

/** One state of a file. Two equal states of one path are, as far as the file system tells, the same content. */
export interface FileState {
  device: bigint
  inode: bigint
  sizeBytes: bigint
  modifiedNs: bigint
  changedNs: bigint
}

/** A user's file, open for reading; close it once. */
export interface OpenSource {
  /** Null when it is no regular file. */
  state(): Promise<FileState | null>
  /** Fills `target` from `positionBytes` on; returns less than its length only at the end of the file. */
  read(target: Uint8Array, positionBytes: number): Promise<number>
  close(): Promise<void>
}

/** What stands at a path, as far as a share says it. */
export interface SourceStat {
  kind: 'file' | 'folder' | 'symbolic link' | 'pipe' | 'socket' | 'device'
  sizeBytes: number
  isExecutable: boolean
}

/** The folders of a disk as a walk sees them; errors are the system's own. */
export interface SourceFolders {
  /** The path with every symlink resolved, in bytes: it may be anything. */
  realpath(path: string): Promise<Uint8Array>
  /** The names in a folder, in bytes. */
  list(path: string): Promise<Uint8Array[]>
  /** Follows no link in the last component. */
  stat(path: string): Promise<SourceStat>
}

/** The disk as sources see it; errors are the system's own. */
export interface SourceDisk {
  /** Follows no link in the last component (ELOOP), and does not wait at a pipe. */
  open(path: string): Promise<OpenSource>
  /** Null when it is no regular file. */
  lookAt(path: string): Promise<FileState | null>
}

const FLAGS = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0)

/** The disk of this machine. */
export const sourceDisk: SourceDisk & SourceFolders = {
  realpath: (path) => realpath(path, { encoding: 'buffer' }),
  list: (path) => readdir(path, { encoding: 'buffer' }),
  stat: async (path) => describe(await lstat(path)),
  open: async (path) => new Opened(await open(path, FLAGS)),
  lookAt: async (path) => stateOf(await lstat(path, { bigint: true })),
}

function describe(stats: Stats): SourceStat {
  const isExecutable = process.platform !== 'win32' && (stats.mode & constants.S_IXUSR) !== 0
  return { kind: kindOf(stats), sizeBytes: stats.size, isExecutable }
}

function kindOf(stats: Stats): SourceStat['kind'] {
  if (stats.isFile()) return 'file'
  if (stats.isDirectory()) return 'folder'
  if (stats.isSymbolicLink()) return 'symbolic link'
  if (stats.isFIFO()) return 'pipe'
  return stats.isSocket() ? 'socket' : 'device'
}

class Opened implements OpenSource {
  readonly #handle: FileHandle

  constructor(handle: FileHandle) {
    this.#handle = handle
  }

  async state(): Promise<FileState | null> {
    return stateOf(await this.#handle.stat({ bigint: true }))
  }

  read(target: Uint8Array, positionBytes: number): Promise<number> {
    return readFully(this.#handle, target, positionBytes)
  }

  close(): Promise<void> {
    return this.#handle.close()
  }
}

/** The state in what the system says of a file; null when that is no regular file. */
export function stateOf(stats: BigIntStats): FileState | null {
  if (!stats.isFile()) return null
  const { dev, ino, size, mtimeNs, ctimeNs } = stats
  return { device: dev, inode: ino, sizeBytes: size, modifiedNs: mtimeNs, changedNs: ctimeNs }
}

/** Whether nothing shows that the file changed. */
export const isSameState = (a: FileState, b: FileState): boolean =>
  a.device === b.device &&
  a.inode === b.inode &&
  a.sizeBytes === b.sizeBytes &&
  a.modifiedNs === b.modifiedNs &&
  a.changedNs === b.changedNs
