/**
 * The first phase of extraction, as far as it needs no disk: takes the entries of a share one by one, checks every name, size and
 * collision, and keeps what writing the files will need.
 *
 * The reader of the share has checked most of this; here stands the last line before the disk, so all is checked again. Whatever is
 * wrong throws a FormatError before anything was created.
 */
import { setImmediate } from 'node:timers/promises'
import type { Entry } from '../../protocol/entry.ts'
import { FormatError } from '../../protocol/errors.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { Column, UseTable } from './extract-uses.ts'
import { showPath } from './file-error.ts'
import { compareUtf8, dirFault, foldedName, nameFault, windowsFault } from './names.ts'

export interface PlanInit {
  entries: AsyncIterable<Entry>
  under: string
  rename?: string
  pieceBytes: number
  dataBlocks: number
  isWindows: boolean
  signal: AbortSignal
}

const ENTRIES_PER_TURN = 4096

/** Reads all entries into a plan. FormatError L4, P1, P2, P3, X5, X6. */
export async function readPlan(init: PlanInit): Promise<Plan> {
  const plan = new Plan(init)
  let count = 0
  for await (const entry of init.entries) {
    plan.add(entry)
    count += 1
    // Entries of one page come without a pause; the event loop gets its turn all the same.
    if (count % ENTRIES_PER_TURN !== 0) continue
    await setImmediate()
    init.signal.throwIfAborted()
  }
  plan.finish()
  return plan
}

/** Folders and files are numbered in the order of the share; folder 0 is the output folder itself. */
export class Plan {
  readonly uses: UseTable
  /** Folder paths relative to the output folder; a parent always comes before its children. */
  readonly dirs: string[] = ['']
  readonly names: string[] = []
  /** Bytes that take room on disk: all but the holes. */
  storedBytes = 0
  sizeBytes = 0
  readonly #init: PlanInit
  readonly #prefix: string
  readonly #dirIds = new Map<string, number>([['', 0]])
  readonly #parentOf = new Column(Uint32Array)
  readonly #filesFrom = new Column(Uint32Array)
  readonly #filesTo = new Column(Uint32Array)
  readonly #hasFolders = new Column(Uint8Array)
  readonly #markedEmpty: number[] = []
  readonly #dirOf = new Column(Uint32Array)
  readonly #sizes = new Column(Float64Array)
  readonly #remaining = new Column(Float64Array)
  readonly #stored = new Column(Float64Array)
  readonly #executable = new Column(Uint8Array)
  readonly #mtimes = new Map<number, number>()
  readonly #hashes = new Map<number, Uint8Array>()
  #last: { dir: string; name: string } | null = null

  constructor(init: PlanInit) {
    this.#init = init
    this.uses = new UseTable(init.pieceBytes)
    this.#prefix = init.under.includes('/') ? init.under.slice(0, init.under.lastIndexOf('/') + 1) : ''
    for (const column of [this.#parentOf, this.#filesFrom, this.#filesTo, this.#hasFolders]) column.push(0)
  }

  get files(): number {
    return this.names.length
  }

  dirOf = (file: number): number => this.#dirOf.at(file)
  parentOf = (dir: number): number => this.#parentOf.at(dir)
  sizeOf = (file: number): number => this.#sizes.at(file)
  /** Bytes of a file that come out of blocks. */
  storedOf = (file: number): number => this.#stored.at(file)
  isExecutable = (file: number): boolean => this.#executable.at(file) === 1
  mtimeOf = (file: number): number | undefined => this.#mtimes.get(file)
  hashes = (): Iterable<[file: number, sha256: Uint8Array]> => this.#hashes

  /** Counts bytes of a file as written; true when that was the last of them. */
  countWritten(file: number, bytes: number): boolean {
    this.#remaining.set(file, this.#remaining.at(file) - bytes)
    return this.isWritten(file)
  }

  isWritten(file: number): boolean {
    return this.#remaining.at(file) === 0
  }

  /** Path of a file relative to the output folder. */
  pathOf(file: number): string {
    const dir = this.dirs[this.dirOf(file)]!
    return dir === '' ? this.names[file]! : `${dir}/${this.names[file]}`
  }

  /** Names directly in the output folder, files and folders. */
  *topNames(): Generator<{ name: string; isFolder: boolean }> {
    for (let file = this.#filesFrom.at(0); file < this.#filesTo.at(0); file += 1) yield { name: this.names[file]!, isFolder: false }
    for (let dir = 1; dir < this.dirs.length; dir += 1) {
      if (this.parentOf(dir) === 0) yield { name: this.dirs[dir]!, isFolder: true }
    }
  }

  /** The number of a folder or file by its path relative to the output folder; null when the plan has none there. */
  find(path: string, isFolder: boolean): number | null {
    if (isFolder) return this.#dirIds.get(path) ?? null
    const slash = path.lastIndexOf('/')
    const dir = this.#dirIds.get(slash < 0 ? '' : path.slice(0, slash))
    return dir === undefined ? null : this.#fileIn(dir, path.slice(slash + 1))
  }

  *filesIn(dir: number): Generator<number> {
    for (let file = this.#filesFrom.at(dir); file < this.#filesTo.at(dir); file += 1) yield file
  }

  add(entry: Entry): void {
    const { dir, name } = entry
    const fault = dirFault(dir) ?? (name === '' ? null : nameFault(name))
    if (fault !== null) throw new FormatError('P1', `the entry ${showPath(`${dir}/${name}`)} is refused: ${fault}`)
    if (this.#last !== null) this.#assertAscending(this.#last, entry)
    this.#last = { dir, name }
    const below = this.#below(dir, name)
    if (below === null) return
    const id = this.#folder(below)
    if (name === '') {
      if (entry.sizeBytes !== 0 || entry.extents.length > 0) throw new FormatError('X6', 'an empty folder with content')
      if (id !== 0) this.#markedEmpty.push(id)
    } else this.#addFile(id, entry)
  }

  /** Whole-plan checks, once all entries are in. */
  finish(): void {
    for (const dir of this.#markedEmpty) {
      if (this.#hasFolders.at(dir) === 1 || this.#filesFrom.at(dir) < this.#filesTo.at(dir)) {
        throw new FormatError('P2', `the folder ${showPath(this.dirs[dir]!)} is marked empty and has entries`)
      }
    }
    for (let dir = 1; dir < this.dirs.length; dir += 1) {
      const path = this.dirs[dir]!
      if (this.#fileIn(this.parentOf(dir), path.slice(path.lastIndexOf('/') + 1)) !== null) {
        throw new FormatError('P2', `${showPath(path)} is both a file and a folder`)
      }
    }
    this.#rename()
  }

  /** For file systems that fold case: FormatError P2 when two paths would be the same there. */
  assertNoFolding(): void {
    const seen = new Map<string, string>()
    const check = (parent: number, name: string, path: string): void => {
      const key = `${parent}/${foldedName(name)}`
      const other = seen.get(key)
      if (other !== undefined) {
        throw new FormatError('P2', `${showPath(other)} and ${showPath(path)} are the same file on this disk, which ignores case`)
      }
      seen.set(key, path)
    }
    for (let dir = 1; dir < this.dirs.length; dir += 1) {
      const path = this.dirs[dir]!
      check(this.parentOf(dir), path.slice(path.lastIndexOf('/') + 1), path)
    }
    for (let file = 0; file < this.files; file += 1) check(this.dirOf(file), this.names[file]!, this.pathOf(file))
  }

  #assertAscending(last: { dir: string; name: string }, entry: Entry): void {
    const order = last.dir === entry.dir ? compareUtf8(last.name, entry.name) : compareUtf8(last.dir, entry.dir)
    if (order >= 0) throw new FormatError('X5', `the entry ${showPath(`${entry.dir}/${entry.name}`)} is out of order`)
  }

  /** The folder below the output folder, or null for an entry outside of what was asked for. */
  #below(dir: string, name: string): string | null {
    const { under } = this.#init
    if (under === '') return dir
    const isInside = dir === under || dir.startsWith(`${under}/`)
    const isItself = name !== '' && (dir === '' ? name : `${dir}/${name}`) === under
    if (isInside) return dir.slice(this.#prefix.length)
    return isItself ? '' : null
  }

  #folder(path: string): number {
    const known = this.#dirIds.get(path)
    if (known !== undefined) return known
    const slash = path.lastIndexOf('/')
    const parent = this.#folder(slash < 0 ? '' : path.slice(0, slash))
    if (this.#init.isWindows) assertForWindows(path.slice(slash + 1))
    const id = this.dirs.length
    this.dirs.push(path)
    this.#dirIds.set(path, id)
    this.#parentOf.push(parent)
    this.#filesFrom.push(0)
    this.#filesTo.push(0)
    this.#hasFolders.push(0)
    this.#hasFolders.set(parent, 1)
    return id
  }

  #addFile(dir: number, entry: Entry): void {
    if (this.#init.isWindows) assertForWindows(entry.name)
    const file = this.files
    if (file >= FORMAT.filesMax) throw new FormatError('X4', `more than ${FORMAT.filesMax} files`)
    if (this.#filesFrom.at(dir) === this.#filesTo.at(dir)) this.#filesFrom.set(dir, file)
    this.#filesTo.set(dir, file + 1)
    const stored = this.#addExtents(file, entry)
    this.names.push(entry.name)
    this.#dirOf.push(dir)
    this.#sizes.push(entry.sizeBytes)
    this.#remaining.push(stored)
    this.#stored.push(stored)
    this.#executable.push(entry.executable ? 1 : 0)
    if (entry.mtimeSeconds !== undefined) this.#mtimes.set(file, entry.mtimeSeconds)
    if (entry.sha256 !== undefined) this.#hashes.set(file, entry.sha256)
    this.sizeBytes += entry.sizeBytes
    this.storedBytes += stored
  }

  /** Records where the file's bytes come from; returns how many of them are no hole. */
  #addExtents(file: number, { dir, name, sizeBytes, extents }: Entry): number {
    const { pieceBytes, dataBlocks } = this.#init
    const assertX6 = (ok: boolean, what: string): void => {
      if (!ok) throw new FormatError('X6', `${showPath(`${dir}/${name}`)}: ${what}`)
    }
    let at = 0
    let holes = 0
    for (const extent of extents) {
      let length = 0
      if (extent.kind === 'hole') {
        length = extent.lengthBytes
        holes += length
      } else if (extent.kind === 'blocks') {
        assertX6(extent.count >= 1 && extent.position >= 0 && extent.position + extent.count <= dataBlocks, 'blocks out of range')
        this.uses.addBlocks(file, at, extent.position, extent.count)
        length = extent.count * pieceBytes
      } else {
        const { position, offsetBytes, lengthBytes } = extent
        assertX6(position >= 0 && position <= dataBlocks && offsetBytes >= 0, 'a fragment out of range')
        assertX6(offsetBytes + lengthBytes <= pieceBytes, 'a fragment beyond its block')
        this.uses.addFragment(position, { file, fileOffsetBytes: at, blockOffsetBytes: offsetBytes, lengthBytes })
        length = lengthBytes
      }
      assertX6(length > 0, 'an extent without length')
      at += length
    }
    assertX6(at === sizeBytes && Number.isSafeInteger(at), `extents of ${at} bytes, size ${sizeBytes}`)
    return sizeBytes - holes
  }

  // Files of one folder stand together and in order, so a name is found by halving.
  #fileIn(dir: number, name: string): number | null {
    let low = this.#filesFrom.at(dir)
    let high = this.#filesTo.at(dir)
    while (low < high) {
      const middle = (low + high) >>> 1
      const order = compareUtf8(this.names[middle]!, name)
      if (order === 0) return middle
      if (order < 0) low = middle + 1
      else high = middle
    }
    return null
  }

  #rename(): void {
    const { rename } = this.#init
    if (rename === undefined) return
    if (this.files !== 1 || this.dirs.length !== 1) throw new FormatError('L4', 'a name is given for a share that is not one file')
    const fault = nameFault(rename)
    if (fault !== null) throw new FormatError('L4', `the name ${showPath(rename)} is refused: ${fault}`)
    if (this.#init.isWindows) assertForWindows(rename)
    this.names[0] = rename
  }
}

function assertForWindows(name: string): void {
  const fault = windowsFault(name)
  if (fault !== null) throw new FormatError('P3', `${showPath(name)} cannot be stored: ${fault}`)
}
