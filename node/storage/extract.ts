/**
 * Extraction of a share to disk, in two phases. `plan` looks at every name, size and place before anything is created; then the blocks
 * come in any order and are written into a temporary folder, and `finish` moves whole files to their places.
 *
 * A block that cannot be opened costs the files that use it, no others. A failed write ends this extraction: abandon it, mend the
 * cause, and plan anew (the blocks are still in the store). It does not fetch, decrypt or ask the user anything.
 */
import { createHash } from 'node:crypto'
import { join, resolve } from 'node:path'
import { isZero } from '../../protocol/bytes.ts'
import type { Entry } from '../../protocol/entry.ts'
import { assert, type FormatError } from '../../protocol/errors.ts'
import { FORMAT, STORAGE } from '../../protocol/limits.ts'
import { PartFolder } from './extract-files.ts'
import type { Leftover } from './extract-leftover.ts'
import { moveInto } from './extract-move.ts'
import { Placed } from './extract-placed.ts'
import { type Plan, readPlan } from './extract-plan.ts'
import { assertFree, assertRoom, findTarget, foldsCase, type Target } from './extract-target.ts'
import { Bits, type Use } from './extract-uses.ts'
import { naming, toFileError } from './file-error.ts'
import { diskFileSystem, type FileSystem } from './fs.ts'
import { type FileState, sourceDisk } from './source-disk.ts'
import { SourceTree } from './source-tree.ts'
import { forEachBounded, Turns } from './turns.ts'

export interface ExtractionInit {
  /** In the order of the share; entries outside `under` are passed over. */
  entries: AsyncIterable<Entry>
  outputDir: string
  /** '' for all, or a path in the share: that file or folder is written as outputDir/<its last component>. */
  under: string
  /** A name for the file of a single-file share. */
  rename?: string
  pieceBytes: number
  /** Positions 0 to dataBlocks - 1 are blocks; dataBlocks is the rest inside the root. */
  dataBlocks: number
  force: boolean
  /** Names the temporary folder: letters and digits, the same for repeated runs of one extraction, no secret. */
  tag: string
  /** Go on with what an interrupted run left. */
  resumes?: boolean
  /** Whether an earlier run of this extraction may have put files into this folder (all symlinks resolved). */
  hasBegunIn?: (dir: string) => boolean
  /** What is left is read, and nothing will be put in place: it does not matter what stands there, or whether there is room. */
  isOnlyRead?: boolean
  signal: AbortSignal
  /** The disk, where not the real one. */
  fs?: FileSystem
  /** What the file system does, where it is known: whether it ignores case, whether Windows' rules for names hold. */
  folds?: boolean
  isWindows?: boolean
}

export interface ExtractionResult {
  /** Absolute paths of what now stands in the output folder: files and folders at the top level. */
  written: string[]
  files: number
  /** Paths relative to the output folder. */
  damaged: { path: string; cause: string }[]
}

export class Extraction {
  readonly files: number
  readonly sizeBytes: number
  readonly #fs: FileSystem
  readonly #init: ExtractionInit
  readonly #plan: Plan
  readonly #target: Target
  readonly #wanted: Bits
  readonly #damaged = new Map<number, FormatError>()
  /** Positions of which every stretch is written. */
  readonly #written: Bits
  /** Blocks that these files hold every byte of. */
  readonly #whole: Bits
  #leftover: Leftover | null
  readonly #placed: Placed | null
  readonly #turns = new Turns(STORAGE.extractWritesMax, STORAGE.fileOperationsWaitingMax)
  #part: Promise<PartFolder> | null = null
  #failure: unknown = null
  #accepting = 0
  #missing = 0

  private constructor(
    init: ExtractionInit,
    fs: FileSystem,
    plan: Plan,
    target: Target,
    found: { leftover: Leftover | null; placed: Placed | null },
  ) {
    this.#init = init
    this.#fs = fs
    this.#plan = plan
    this.#target = target
    this.files = plan.files
    this.sizeBytes = plan.sizeBytes
    this.#leftover = found.leftover
    this.#placed = found.placed
    this.#wanted = plan.uses.seal(init.dataBlocks + 1)
    this.#written = new Bits(init.dataBlocks)
    // Of a part of a share, blocks that hold pieces of other files as well are not whole in these.
    this.#whole = init.under === '' ? plan.uses.seal(init.dataBlocks) : plan.uses.whole(init.dataBlocks)
    for (let at = this.#wanted.next(0); at >= 0; at = this.#wanted.next(at + 1)) this.#missing += 1
  }

  /** Phase one. Creates nothing. FormatError P1, P2, P3, L4, X5, X6; FileError EXISTS, UNSAFE, NO_SPACE, TOO_LARGE. */
  static async plan(init: ExtractionInit): Promise<Extraction> {
    init.signal.throwIfAborted()
    assert(/^[A-Za-z0-9]{1,64}$/.test(init.tag), 'a tag is letters and digits')
    assert(init.dataBlocks <= FORMAT.blocksMax, 'more blocks than a share has')
    const fs = init.fs ?? diskFileSystem
    const plan = await readPlan({ ...init, isWindows: init.isWindows ?? process.platform === 'win32' })
    const target = await findTarget(fs, init.outputDir)
    if (init.folds ?? (await foldsCase(fs, target))) plan.assertNoFolding()
    const hasBegun = init.isOnlyRead !== true && init.hasBegunIn?.(target.dir) === true
    if (init.isOnlyRead !== true && (!hasBegun || init.force)) await assertFree(fs, plan, target, init.force, init.signal)
    const leftover = init.resumes === true ? await PartFolder.findLeftover(fs, plan, target, init.tag) : null
    try {
      const others = leftover?.files ?? []
      const placed = hasBegun ? await Placed.find({ fs, plan, target, others, force: init.force }, init.signal) : null
      if (init.isOnlyRead !== true) await assertRoom(fs, plan, target, (leftover?.bytes ?? 0) + (placed?.sizeBytes ?? 0))
      return new Extraction(init, fs, plan, target, { leftover, placed })
    } catch (error) {
      if (leftover !== null) PartFolder.letGo(fs, leftover)
      throw error
    }
  }

  /** Nothing in the share is at the path that was asked for. */
  get isNothing(): boolean {
    return this.#plan.files === 0 && this.#plan.dirs.length === 1
  }

  /** Every position was accepted and written, or given up: `finish` may be called. */
  get isFilled(): boolean {
    if (this.#accepting > 0) return false
    return this.#missing === 0 || (this.#damaged.size > 0 && this.neededRanges().next().done === true)
  }

  /** How many positions are still to be accepted. */
  get missing(): number {
    return this.#missing
  }

  /** Whether the block at a position has still to be accepted for some file that is not given up. */
  needs(position: number): boolean {
    if (!this.#wanted.has(position)) return false
    if (this.#damaged.size === 0) return true
    for (const use of this.#plan.uses.at(position)) if (!this.#damaged.has(use.file)) return true
    return false
  }

  /** The positions still to be accepted, as ascending runs. */
  *neededRanges(): Generator<[first: number, count: number]> {
    for (let first = this.#wanted.next(0); first >= 0; ) {
      let end = first
      while (this.needs(end)) end += 1
      if (end > first) yield [first, end - first]
      first = this.#wanted.next(Math.max(end, first + 1))
    }
  }

  /** Whether there is something of an interrupted run to be looked through. */
  get hasLeftover(): boolean {
    return this.#leftover !== null || (this.#placed?.count ?? 0) > 0
  }

  /** What an interrupted run put in place already: to be held against the names of its blocks before anything else is done. */
  get placed(): Placed | null {
    return this.#placed
  }

  /** The part folder, made if need be. */
  async begin(): Promise<string> {
    return (await this.#start()).path
  }

  /** Whether the piece at a position can be made again from what is written. */
  holds(position: number): boolean {
    return this.#written.has(position) && this.#whole.has(position)
  }

  /** Whether all of the piece at a position that is not zero will be in these files; with an empty `piece`, whether it can be at all. */
  isWhole(position: number, piece: Uint8Array): boolean {
    if (!this.#whole.has(position)) return false
    let end = 0
    const uses = [...this.#plan.uses.at(position)].sort((a, b) => a.blockOffsetBytes - b.blockOffsetBytes)
    for (const { blockOffsetBytes, lengthBytes } of uses) {
      if (blockOffsetBytes > end && !isZero(piece.subarray(end, blockOffsetBytes))) return false
      end = Math.max(end, blockOffsetBytes + lengthBytes)
    }
    return isZero(piece.subarray(end))
  }

  /** The piece at a position as the files hold it now, in `into` (as long as a piece); false where they do not, or not the same everywhere.
   *  What a file holds may be anything. */
  async read(position: number, into: Uint8Array): Promise<boolean> {
    const part = await this.#start()
    into.fill(0)
    let end = 0
    const uses = [...this.#plan.uses.at(position)].sort((a, b) => a.blockOffsetBytes - b.blockOffsetBytes)
    for (const { file, fileOffsetBytes, blockOffsetBytes, lengthBytes } of uses) {
      if (this.#damaged.has(file) || !part.hasFile(file)) return false
      const isSecond = blockOffsetBytes < end
      const target = isSecond ? new Uint8Array(lengthBytes) : into.subarray(blockOffsetBytes, blockOffsetBytes + lengthBytes)
      if ((await part.withFile(file, (handle) => handle.read(target, fileOffsetBytes))) < lengthBytes) return false
      end = Math.max(end, blockOffsetBytes + lengthBytes)
      if (isSecond && Buffer.compare(target, into.subarray(blockOffsetBytes, blockOffsetBytes + lengthBytes)) !== 0) return false
    }
    return uses.length > 0
  }

  /** The piece that was read at a position is right: it need not be written again. */
  async found(position: number): Promise<void> {
    this.#assertSound()
    if (!this.#settle(position)) return
    this.#accepting += 1
    try {
      const part = await this.#start()
      for (const { file, lengthBytes } of this.#plan.uses.at(position)) await this.#count(part, file, lengthBytes)
      this.#written.set(position)
    } finally {
      this.#accepting -= 1
    }
  }

  /** Writes a block's bytes (borrowed until it settles) wherever they belong. A position that is not needed is passed over. */
  async accept(position: number, piece: Uint8Array, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    this.#assertSound()
    if (!this.#settle(position)) return
    this.#accepting += 1
    try {
      const part = await this.#start()
      await forEachBounded(this.#plan.uses.at(position), STORAGE.extractWritesMax, async (use) => {
        if (this.#damaged.has(use.file)) return
        await this.#turns.run(signal, () => this.#write(part, use, piece))
      })
      this.#written.set(position)
    } catch (error) {
      this.#failure ??= toFileError(error, 'writing the files')
      throw this.#failure
    } finally {
      this.#accepting -= 1
    }
  }

  /** Gives up the files that use this position: its block is sealed wrongly. */
  damage(position: number, cause: FormatError): void {
    this.#settle(position)
    for (const { file } of this.#plan.uses.at(position)) {
      if (!this.#damaged.has(file)) this.#damaged.set(file, cause)
    }
  }

  /** Moves all whole files into place, durably. Call it once, when nothing is needed and nothing is being accepted; what is still
   *  missing then counts as damaged. A file that is not what its stated hash says (X8) is kept and listed as damaged. */
  async finish(signal: AbortSignal): Promise<ExtractionResult> {
    signal.throwIfAborted()
    this.#assertSound()
    assert(this.#accepting === 0, 'finished while blocks were being written')
    try {
      const part = await this.#start()
      const causes = await this.#completeFiles(part, signal)
      await this.#checkHashes(part, causes, signal)
      await part.end()
      signal.throwIfAborted()
      await part.syncFolders()
      const moved = await moveInto(this.#fs, part.path, this.#target.dir, this.#init.force)
      await part.remove()
      const names = [...new Set([...moved, ...(this.#placed?.tops() ?? [])])].sort()
      const written = names.map((name) => join(resolve(this.#init.outputDir), name))
      const damaged = Array.from(causes, ([file, cause]) => ({ path: this.#plan.pathOf(file), cause }))
      return { written, files: this.files - damaged.length, damaged }
    } catch (error) {
      this.#failure ??= toFileError(error, 'putting the files in place')
      throw this.#failure
    }
  }

  /** Removes what was written so far; what `finish` has moved stays. */
  async abandon(): Promise<void> {
    this.#failure ??= new Error('this extraction was abandoned')
    await this.#turns.whenIdle()
    // A part folder that could not be made left nothing to remove.
    const part = await this.#part?.catch(() => null)
    await part?.remove()
  }

  /** Closes what was written so far and leaves it for the next run. */
  async leave(): Promise<void> {
    this.#failure ??= new Error('this extraction was interrupted')
    await this.#turns.whenIdle()
    const part = (await this.#part?.catch(() => null)) ?? null
    if (part === null && this.#leftover !== null) PartFolder.letGo(this.#fs, this.#leftover)
    await part?.leave()
  }

  /** Where the files stand after `finish`, and in which state; those that were given up are not watched. */
  async sources(damaged: ExtractionResult['damaged']): Promise<SourceTree> {
    const lost = new Set(damaged.map(({ path }) => path))
    const paths: string[] = []
    const states: (FileState | null)[] = []
    await forEachBounded(Array.from({ length: this.#plan.files }).keys(), STORAGE.extractWritesMax, async (file) => {
      const path = this.#plan.pathOf(file)
      paths[file] = join(this.#target.dir, path)
      states[file] = lost.has(path) ? null : await sourceDisk.lookAt(join(this.#target.dir, path))
    })
    return SourceTree.of(this.#init.under, paths, states)
  }

  /** Files in place that hold a wrong piece at a position are no part of this any more. FileError EXISTS without `force`. */
  async displace(position: number): Promise<void> {
    this.#placed?.displace(position)
    await (await this.#start()).closeAll() // they were open for reading
  }

  /** The position is not wanted any more; false when it was not wanted before. */
  #settle(position: number): boolean {
    if (!this.#wanted.has(position)) return false
    this.#wanted.clear(position)
    this.#missing -= 1
    return true
  }

  #assertSound(): void {
    if (this.#failure !== null) throw this.#failure
  }

  #start(): Promise<PartFolder> {
    const make = (): Promise<PartFolder> =>
      PartFolder.make(this.#fs, this.#plan, this.#target, this.#init.tag, this.#leftover, this.#placed)
    this.#part ??= naming('making the folder to write into', undefined, make)
    return this.#part
  }

  async #write(part: PartFolder, use: Use, piece: Uint8Array): Promise<void> {
    this.#assertSound()
    const { file, fileOffsetBytes, blockOffsetBytes, lengthBytes } = use
    assert(blockOffsetBytes + lengthBytes <= piece.length, `piece of ${piece.length} bytes, ${blockOffsetBytes + lengthBytes} used`)
    const bytes = piece.subarray(blockOffsetBytes, blockOffsetBytes + lengthBytes)
    if (this.#placed?.has(file) === true) await this.#compare(part, use, bytes)
    else await part.withFile(file, (handle) => handle.write(bytes, fileOffsetBytes))
    await this.#count(part, file, lengthBytes)
  }

  /** What stands in place is never written to. */
  async #compare(part: PartFolder, { file, fileOffsetBytes }: Use, bytes: Uint8Array): Promise<void> {
    const there = new Uint8Array(bytes.length)
    const count = await part.withFile(file, (handle) => handle.read(there, fileOffsetBytes))
    if (count < bytes.length || Buffer.compare(there, bytes) !== 0) throw this.#placed?.inTheWay(file) ?? new Error('nothing is in place')
  }

  async #count(part: PartFolder, file: number, lengthBytes: number): Promise<void> {
    if (this.#plan.countWritten(file, lengthBytes) && !this.#damaged.has(file)) await part.complete(file)
  }

  /** Files without stored bytes, empty folders, and the removal of what is not whole; returns the damaged ones with their causes. */
  async #completeFiles(part: PartFolder, signal: AbortSignal): Promise<Map<number, string>> {
    const causes = new Map<number, string>()
    const files = Array.from({ length: this.files }).keys()
    await forEachBounded(files, STORAGE.extractWritesMax, async (file) => {
      signal.throwIfAborted()
      const cause = this.#damaged.get(file)
      if (cause !== undefined || !this.#plan.isWritten(file)) {
        causes.set(file, cause === undefined ? 'not all of its blocks have come' : `${cause.code}: ${cause.message}`)
        await part.discard(file)
      } else if (this.#plan.storedOf(file) === 0) await part.complete(file)
    })
    await part.closeAll()
    await forEachBounded(this.#plan.dirs.keys(), STORAGE.extractWritesMax, (dir) => part.folder(dir))
    return causes
  }

  async #checkHashes(part: PartFolder, causes: Map<number, string>, signal: AbortSignal): Promise<void> {
    for (const [file, sha256] of this.#plan.hashes()) {
      if (causes.has(file)) continue
      const found = await part.withFile(file, (handle) => hashOf(handle, signal))
      if (Buffer.compare(found, sha256) !== 0) causes.set(file, 'X8: its content is not what its stated SHA-256 says')
    }
    await part.closeAll()
  }
}

async function hashOf(handle: { read(target: Uint8Array, position: number): Promise<number> }, signal: AbortSignal): Promise<Uint8Array> {
  const hash = createHash('sha256')
  const chunk = new Uint8Array(2 ** 20)
  for (let at = 0; ; at += chunk.length) {
    signal.throwIfAborted()
    const count = await handle.read(chunk, at)
    hash.update(chunk.subarray(0, count))
    if (count < chunk.length) return new Uint8Array(hash.digest())
  }
}
