/**
 * What the disk did to us: the one error class of node/storage, and the translation of system error codes into it.
 *
 * `code` is what callers and tests compare. The message is for the user and may name a path, so it goes to the terminal, and into
 * logs at level debug only. An aborted signal passes through untouched: it is nobody's fault.
 */

/** BUSY: a bounded queue is full. CHANGED: a source changed while it was read. NEWER: written by a later version of Shoal.
 *  TOO_LARGE: over a bound of this node. UNSAFE: a symlink or something foreign stands where we would write. */
export type FileCode =
  | 'BUSY'
  | 'CHANGED'
  | 'CLOSED'
  | 'CORRUPT'
  | 'DENIED'
  | 'EXISTS'
  | 'INSECURE'
  | 'IO'
  | 'LOCKED'
  | 'NEWER'
  | 'NOT_EMPTY'
  | 'NOT_FOUND'
  | 'NO_SPACE'
  | 'TOO_LARGE'
  | 'UNSAFE'

/** A failure of the file system, or something on it that we refuse to touch. */
export class FileError extends Error {
  override name = 'FileError'
  readonly code: FileCode
  declare readonly path?: string
  constructor(code: FileCode, message: string, options?: ErrorOptions & { path?: string }) {
    super(message, options)
    this.code = code
    if (options?.path !== undefined) this.path = options.path
  }
}

const SYSTEM_CODES: Record<string, [FileCode, string]> = {
  EACCES: ['DENIED', 'permission denied'],
  EDQUOT: ['NO_SPACE', 'disk quota used up'],
  EEXIST: ['EXISTS', 'already exists'],
  ELOOP: ['UNSAFE', 'is a symbolic link'],
  EMFILE: ['IO', 'too many open files'],
  ENFILE: ['IO', 'too many open files'],
  ENOENT: ['NOT_FOUND', 'not found'],
  ENOSPC: ['NO_SPACE', 'disk full'],
  ENOTDIR: ['UNSAFE', 'is not a folder'],
  ENOTEMPTY: ['NOT_EMPTY', 'folder not empty'],
  EPERM: ['DENIED', 'not permitted'],
  EROFS: ['DENIED', 'the file system is read-only'],
}

/** The system's own code of an error ('ENOENT'), or undefined when it has none. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}

/** The FileError for a failed system call; `doing` reads like 'writing a block'. Errors that are no system error come back as they are. */
export function toFileError(error: unknown, doing: string, path?: string): unknown {
  const code = systemCode(error)
  if (code === undefined || error instanceof FileError || !/^E[A-Z0-9]+$/.test(code)) return error
  const [fileCode, says] = SYSTEM_CODES[code] ?? ['IO', code]
  const where = path === undefined ? '' : ` ${showPath(path)}`
  return new FileError(fileCode, `${doing}${where}: ${says}`, { cause: error, ...(path === undefined ? {} : { path }) })
}

/** Runs `work`; system errors that come out of it become FileErrors that say what was being done. */
export async function naming<T>(doing: string, path: string | undefined, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw toFileError(error, doing, path)
  }
}

/** A path as it may be printed: control and direction characters written as escapes, so that a name cannot forge output. */
export function showPath(path: string): string {
  return path.replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\\]/g, (character) =>
    character === '\\' ? '\\\\' : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
