/**
 * Which names a share may hold (rule P1), and the watch for paths that collide (rule P2, as far as one pass can see it).
 *
 * What a target file system cannot store (P3, case folding) is not decided here but where files are written.
 */
import { compareUtf8, utf8Length } from './bytes.ts'
import { FormatError } from './errors.ts'
import { FORMAT } from './limits.ts'

// Separators, C0, DEL and C1, the two line separators, bidirectional controls, the byte order mark.
const FORBIDDEN = /[\u0000-\u001f/\\\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/
const ASCII = /^[\u0020-\u007e]+$/

/** One component of a path. Throws FormatError P1. */
export function checkName(name: string): void {
  if (name === '' || name === '.' || name === '..') throw new FormatError('P1', `a path component may not be ${JSON.stringify(name)}`)
  if (FORBIDDEN.test(name)) throw new FormatError('P1', `path component with a forbidden character: ${JSON.stringify(name)}`)
  if (!ASCII.test(name)) {
    if (!name.isWellFormed()) throw new FormatError('P1', 'path component with a lone surrogate')
    if (name.normalize('NFC') !== name) throw new FormatError('P1', `path component is not in NFC: ${JSON.stringify(name)}`)
  }
  const bytes = utf8Length(name)
  if (bytes > FORMAT.nameBytesMax) throw new FormatError('P1', `path component of ${bytes} bytes, limit ${FORMAT.nameBytesMax}`)
}

/** The directory of an entry: "" for the top, else components joined by "/". Throws FormatError P1. */
export function checkDir(dir: string): void {
  if (dir === '') return
  // Cheap bound first: a text is at most as many units as bytes.
  const bytes = dir.length > FORMAT.dirBytesMax ? dir.length : utf8Length(dir)
  if (bytes > FORMAT.dirBytesMax) throw new FormatError('P1', `directory of ${bytes} bytes, limit ${FORMAT.dirBytesMax}`)
  const parts = dir.split('/')
  if (parts.length > FORMAT.depthMax) throw new FormatError('P1', `directory ${parts.length} deep, limit ${FORMAT.depthMax}`)
  for (const part of parts) checkName(part)
}

/** A path inside a share, of a file or a directory; not "". Throws FormatError P1. */
export function checkPath(path: string): void {
  const { dir, name } = splitPath(path)
  // Split like the name of an entry at the top, so its empty first part would go unseen.
  if (path.startsWith('/')) throw new FormatError('P1', 'a path may not begin with a slash')
  checkDir(dir)
  checkName(name)
}

/** The directory and the last component of a path. */
export function splitPath(path: string): { dir: string; name: string } {
  const slash = path.lastIndexOf('/')
  return slash < 0 ? { dir: '', name: path } : { dir: path.slice(0, slash), name: path.slice(slash + 1) }
}

/** The path of an entry; an empty directory (name "") is its own path. */
export function joinPath(dir: string, name: string): string {
  return name === '' ? dir : dir === '' ? name : `${dir}/${name}`
}

/** The order in which entries stand in a share: by directory, then by name, bytewise. */
export function comparePairs(a: { dir: string; name: string }, b: { dir: string; name: string }): number {
  return a.dir === b.dir ? compareUtf8(a.name, b.name) : compareUtf8(a.dir, b.dir)
}

/**
 * Notices, in one pass over sorted entries, a path that is both file and directory and a directory marked empty that has children.
 *
 * In this order the file or the mark always comes first. It remembers as many of the last ones as fit its memory; a larger share is watched
 * in part here, and fully where its files are created.
 */
export class PathWatch {
  readonly #childless = new Set<string>()
  readonly #bytesMax: number
  #bytes = 0
  #dir: string | null = null

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** Takes the next entry. The path that collides with an earlier one, or null. */
  add(dir: string, name: string): string | null {
    const collision = dir === this.#dir ? this.#collisionAt(dir) : this.#collisionAbove(dir)
    if (collision !== null) return collision
    this.#dir = dir
    const path = joinPath(dir, name)
    this.#childless.add(path)
    this.#bytes += costOf(path)
    for (const oldest of this.#childless) {
      if (this.#bytes <= this.#bytesMax) break
      this.#childless.delete(oldest)
      this.#bytes -= costOf(oldest)
    }
    return null
  }

  #collisionAt(dir: string): string | null {
    return this.#childless.has(dir) ? dir : null
  }

  #collisionAbove(dir: string): string | null {
    if (this.#childless.has('')) return ''
    for (let end = dir.indexOf('/'); end >= 0; end = dir.indexOf('/', end + 1)) {
      const above = dir.slice(0, end)
      if (this.#childless.has(above)) return above
    }
    return this.#collisionAt(dir)
  }
}

// Two bytes a character at most, and what a set needs for each text.
function costOf(path: string): number {
  return 2 * path.length + 64
}
