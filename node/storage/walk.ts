/**
 * The walk over what the user named to be shared: every file and empty folder below it, in the order that the share format asks for.
 *
 * Names are read as bytes and must be UTF-8; they are stated in NFC while files are opened under the names they really have. Nothing
 * is left out in silence: what cannot be a part of a share is a warning (links, devices, ...) or an error that names it. Reading the
 * files' content is source.ts.
 */
import { basename, join, resolve, sep } from 'node:path'
import { InputError } from '../../protocol/errors.ts'
import { FORMAT, STORAGE } from '../../protocol/limits.ts'
import { naming, showPath } from './file-error.ts'
import { compareUtf8, dirFault, nameFault } from './names.ts'
import { type SourceFolders, type SourceStat, sourceDisk } from './source-disk.ts'
import { forEachBounded } from './turns.ts'

/** A file to share. `dir` and `name` are NFC, as the share states them; `path` is what to open. */
export interface SourceFile {
  dir: string
  name: string
  path: string
  sizeBytes: number
  executable: boolean
}

/** All that was named. `lineageId` is the sorted absolute real paths; `topNames` are in the order in which they were named. */
export interface WalkedTree {
  /** Strictly ascending by (dir, name) as UTF-8 bytes; a name of '' is an empty folder. */
  entries: (SourceFile | { dir: string; name: '' })[]
  files: number
  sizeBytes: number
  warnings: string[]
  lineageId: string
  topNames: string[]
}

/** Walks files and folders given by absolute paths. InputError BAD_NAME, COLLISION, EMPTY_NAME, TOO_LARGE; FileError names what
 *  could not be read. */
export async function walkSources(paths: string[], signal: AbortSignal, disk: SourceFolders = sourceDisk): Promise<WalkedTree> {
  const walk = new Walk(disk, signal)
  const realPaths: string[] = []
  const topNames: string[] = []
  for (const path of paths) {
    const named = resolve(path)
    const name = topName(named)
    if (topNames.includes(name)) throw new InputError('COLLISION', `two of the named paths are called ${showPath(name)}`)
    topNames.push(name)
    const real = await realPathOf(disk, named)
    realPaths.push(real)
    await walk.addTop(name, real)
  }
  await walk.finishFolders()
  const { entries, files, sizeBytes, warnings } = walk.result()
  return { entries, files, sizeBytes, warnings, lineageId: realPaths.sort(compareUtf8).join('\0'), topNames }
}

function topName(named: string): string {
  const name = basename(named).normalize('NFC')
  if (name === '') throw new InputError('EMPTY_NAME', `${named} has no name of its own: share a folder inside it`)
  const fault = nameFault(name)
  if (fault !== null) throw new InputError('BAD_NAME', `${showPath(named)} cannot be shared under its name: ${fault}`)
  return name
}

async function realPathOf(disk: SourceFolders, named: string): Promise<string> {
  const bytes = await naming('reading', named, () => disk.realpath(named))
  const real = decodeStrictly(bytes)
  if (real === null) throw new InputError('BAD_NAME', `the real path of ${showPath(named)} is not UTF-8: ${showBytes(bytes)}`)
  if (basename(real) === '') throw new InputError('EMPTY_NAME', `${named} has no name of its own: share a folder inside it`)
  return real
}

interface Folder {
  dir: string
  path: string
}

class Walk {
  readonly #disk: SourceFolders
  readonly #signal: AbortSignal
  // Files by the dir that the share states; an empty list is an empty folder.
  readonly #byDir = new Map<string, SourceFile[]>()
  readonly #due: Folder[] = []
  readonly #warnings: string[] = []
  #skipped = 0
  #files = 0
  #sizeBytes = 0

  constructor(disk: SourceFolders, signal: AbortSignal) {
    this.#disk = disk
    this.#signal = signal
  }

  async addTop(name: string, path: string): Promise<void> {
    const stat = await naming('reading', path, () => this.#disk.stat(path))
    if (stat.kind === 'folder') this.#due.push({ dir: name, path })
    else if (stat.kind === 'file') this.#addFile('', name, path, stat)
    else this.#skip(path, stat)
  }

  async finishFolders(): Promise<void> {
    // One lane ends when nothing is due, though another may still find folders; so the lanes start again until all is done.
    while (this.#due.length > 0) {
      await forEachBounded(this.#takeDue(), STORAGE.walkFoldersAtOnce, (folder) => this.#visit(folder))
    }
  }

  result(): Pick<WalkedTree, 'entries' | 'files' | 'sizeBytes' | 'warnings'> {
    const entries: WalkedTree['entries'] = []
    for (const dir of [...this.#byDir.keys()].sort(compareUtf8)) {
      const files = this.#byDir.get(dir) ?? []
      if (files.length === 0) entries.push({ dir, name: '' })
      files.sort((a, b) => compareUtf8(a.name, b.name))
      for (const file of files) entries.push(file)
    }
    const warnings = this.#warnings.sort()
    const more = this.#skipped - warnings.length
    if (more > 0) warnings.push(`${more} more were skipped`)
    return { entries, files: this.#files, sizeBytes: this.#sizeBytes, warnings }
  }

  *#takeDue(): Generator<Folder> {
    for (let folder = this.#due.pop(); folder !== undefined; folder = this.#due.pop()) yield folder
  }

  async #visit({ dir, path }: Folder): Promise<void> {
    this.#signal.throwIfAborted()
    const fault = dirFault(dir)
    if (fault !== null) throw new InputError('TOO_LARGE', `the folder ${showPath(path)} cannot be shared: ${fault}`)
    const found = await naming('reading the folder', path, () => this.#disk.list(path))
    const kept = new Set<string>()
    let folders = 0
    const before = this.#fileCountOf(dir)
    await forEachBounded(found, STORAGE.walkFilesAtOnce, async (bytes) => {
      const { name, own } = nameOf(bytes, path)
      const below = join(path, own)
      const stat = await naming('reading', below, () => this.#disk.stat(below))
      if (stat.kind !== 'file' && stat.kind !== 'folder') return this.#skip(below, stat)
      const nameProblem = nameFault(name)
      if (nameProblem !== null) throw new InputError('BAD_NAME', `${showPath(below)} cannot be shared under its name: ${nameProblem}`)
      if (kept.has(name)) throw new InputError('COLLISION', `two entries of ${showPath(path)} are the same name: ${showPath(name)}`)
      kept.add(name)
      if (stat.kind === 'file') this.#addFile(dir, name, below, stat)
      else {
        folders += 1
        this.#due.push({ dir: `${dir}/${name}`, path: below })
      }
    })
    if (folders === 0 && this.#fileCountOf(dir) === before) this.#byDir.set(dir, [])
  }

  #fileCountOf(dir: string): number {
    return this.#byDir.get(dir)?.length ?? 0
  }

  #addFile(dir: string, name: string, path: string, { sizeBytes, isExecutable }: SourceStat): void {
    this.#files += 1
    if (this.#files > FORMAT.filesMax) throw new InputError('TOO_LARGE', `more than ${FORMAT.filesMax} files in one share`)
    this.#sizeBytes += sizeBytes
    const file = { dir, name, path, sizeBytes, executable: isExecutable }
    const files = this.#byDir.get(dir)
    if (files === undefined) this.#byDir.set(dir, [file])
    else files.push(file)
  }

  #skip(path: string, { kind }: SourceStat): void {
    this.#skipped += 1
    if (this.#warnings.length < STORAGE.walkWarningsMax) this.#warnings.push(`skipped ${showPath(path)}: it is a ${kind}`)
  }
}

/** The name as the share states it (NFC) and as the disk has it. */
function nameOf(bytes: Uint8Array, folder: string): { name: string; own: string } {
  const own = decodeStrictly(bytes)
  if (own !== null) return { name: own.normalize('NFC'), own }
  throw new InputError('BAD_NAME', `the name of ${showPath(folder + sep)}${showBytes(bytes)} is not UTF-8`)
}

const strictDecoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function decodeStrictly(bytes: Uint8Array): string | null {
  try {
    return strictDecoder.decode(bytes)
  } catch {
    // The only failure of a fatal decoder: malformed bytes, which the caller reports with the file's place.
    return null
  }
}

const showBytes = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`)).join(
    '',
  )
