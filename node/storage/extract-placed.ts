/**
 * Files that an earlier run of the same extraction put in place before it was killed: found where they stand, read there, and never written
 * or removed.
 *
 * That an earlier run began here does not say whose a file is: the owner of the extraction holds every piece against its name. What is not
 * right is in the way like any other file, or with `force` is replaced like one.
 */
import { join } from 'node:path'
import { isZero } from '../../protocol/bytes.ts'
import { STORAGE } from '../../protocol/limits.ts'
import { assertReal } from './extract-files.ts'
import type { Plan } from './extract-plan.ts'
import { lookAt, type Target } from './extract-target.ts'
import { FileError, showPath, systemCode } from './file-error.ts'
import type { FileSystem, OpenFile } from './fs.ts'
import { forEachBounded } from './turns.ts'

export class Placed {
  readonly #fs: FileSystem
  readonly #plan: Plan
  readonly #dir: string
  readonly #force: boolean
  readonly #files = new Set<number>()

  private constructor(fs: FileSystem, plan: Plan, dir: string, force: boolean) {
    this.#fs = fs
    this.#plan = plan
    this.#dir = dir
    this.#force = force
  }

  /** Files of the plan that stand in the output folder in their full size and are not among `others`. Without `force` FileError EXISTS where
   *  something stands at the top that is not all of one name of the plan. */
  static async find(
    parts: { fs: FileSystem; plan: Plan; target: Target; others: readonly number[]; force: boolean },
    signal: AbortSignal,
  ): Promise<Placed> {
    const { fs, plan, target, others, force } = parts
    const placed = new Placed(fs, plan, target.dir, force)
    if (target.missing.length > 0) return placed
    const elsewhere = new Set(others)
    await forEachBounded(Array.from({ length: plan.files }).keys(), STORAGE.walkFilesAtOnce, async (file) => {
      signal.throwIfAborted()
      if (elsewhere.has(file)) return
      const found = await lookBelow(fs, placed.pathOf(file))
      if (found?.kind === 'file' && found.sizeBytes === plan.sizeOf(file)) placed.#files.add(file)
    })
    if (!force) await placed.#assertWhole()
    return placed
  }

  /** What its files take on disk already. */
  get sizeBytes(): number {
    return Array.from(this.#files).reduce((sum, file) => sum + this.#plan.storedOf(file), 0)
  }

  get count(): number {
    return this.#files.size
  }

  has(file: number): boolean {
    return this.#files.has(file)
  }

  pathOf(file: number): string {
    return join(this.#dir, this.#plan.pathOf(file))
  }

  /** Whether a folder of the plan stands in place with all that is in it. With `force` folders are merged, as ever. */
  coversFolder(dir: number): boolean {
    const top = topOf(this.#plan.dirs[dir]!)
    return !this.#force && top !== '' && this.tops().includes(top)
  }

  /** Names at the top that files stand under, in order. */
  tops(): string[] {
    return [...new Set(Array.from(this.#files, (file) => topOf(this.#plan.pathOf(file))))].sort()
  }

  /** The data blocks of which some bytes stand in place. */
  positions(): Set<number> {
    const positions = new Set<number>()
    for (const file of this.#files)
      for (const [first, count] of this.#plan.uses.runsOf(file)) for (let i = 0; i < count; i++) positions.add(first + i)
    return positions
  }

  /** A piece is not what it should be: its files are in the way (FileError EXISTS), or with `force` will be replaced. */
  displace(position: number): void {
    for (const { file } of this.#plan.uses.at(position)) if (this.#files.has(file)) this.displaceFile(file)
  }

  displaceFile(file: number): void {
    if (!this.#force) throw this.inTheWay(file)
    this.#files.delete(file)
  }

  inTheWay(file: number): FileError {
    const path = this.pathOf(file)
    return new FileError('EXISTS', `${showPath(path)} exists already and is not what the share has there`, { path })
  }

  /** Displaces files that hold something where the share has nothing: no block of the share says so. */
  async checkHoles(signal: AbortSignal): Promise<void> {
    for (const file of [...this.#files]) {
      signal.throwIfAborted()
      if (this.#plan.storedOf(file) === this.#plan.sizeOf(file)) continue
      const handle = await this.open(file)
      try {
        if (!(await this.#areHolesEmpty(file, handle))) this.displaceFile(file)
      } finally {
        await handle.close()
      }
    }
  }

  /** For reading; follows no link. FileError UNSAFE. */
  async open(file: number): Promise<OpenFile> {
    const path = this.pathOf(file)
    await assertReal(this.#fs, join(path, '..'))
    return await this.#fs.open(path, 'read')
  }

  async #areHolesEmpty(file: number, handle: OpenFile): Promise<boolean> {
    const stretches: [first: number, end: number][] = [[this.#plan.sizeOf(file), this.#plan.sizeOf(file)]]
    for (const [first, count] of this.#plan.uses.runsOf(file)) {
      for (let position = first; position < first + count; position++) {
        for (const use of this.#plan.uses.at(position))
          if (use.file === file) stretches.push([use.fileOffsetBytes, use.fileOffsetBytes + use.lengthBytes])
      }
    }
    stretches.sort((a, b) => a[0] - b[0])
    const chunk = new Uint8Array(HOLE_CHUNK_BYTES)
    let at = 0
    for (const [first, end] of stretches) {
      for (; at < first; at += HOLE_CHUNK_BYTES) {
        const part = chunk.subarray(0, Math.min(HOLE_CHUNK_BYTES, first - at))
        if ((await handle.read(part, at)) < part.length || !isZero(part)) return false
      }
      at = Math.max(Math.min(at, first), end)
    }
    return true
  }

  async #assertWhole(): Promise<void> {
    const standing = new Set<string>()
    for (const { name } of this.#plan.topNames()) if ((await lookAt(this.#fs, join(this.#dir, name))) !== null) standing.add(name)
    for (let file = 0; file < this.#plan.files; file++) {
      const top = topOf(this.#plan.pathOf(file))
      if (!standing.has(top) || this.#files.has(file)) continue
      const path = join(this.#dir, top)
      throw new FileError('EXISTS', `${showPath(path)} exists already`, { path })
    }
  }
}

const HOLE_CHUNK_BYTES = 2 ** 20

const topOf = (path: string): string => path.split('/', 1)[0]!

/** What stands at a path, null also where something above it is no folder. */
async function lookBelow(fs: FileSystem, path: string): ReturnType<typeof lookAt> {
  try {
    return await lookAt(fs, path)
  } catch (error) {
    if (systemCode(error) === 'ENOTDIR') return null
    throw error
  }
}
