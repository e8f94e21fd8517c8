/**
 * The temporary folder of one extraction and the files being written in it: a bounded number of them open at a time.
 *
 * The folder is fresh, private and has a random name; folders in it are made one by one and files are created exclusively. Before a
 * file is opened its folder must still be the real path that it was, so a symlink put in its place is refused and not followed. (A
 * program of the same user that races us between that check and the opening is beyond what the system lets us prevent.)
 */
import { randomBytes } from 'node:crypto'
import { dirname, join } from 'node:path'
import { FormatError } from '../../protocol/errors.ts'
import { STORAGE } from '../../protocol/limits.ts'
import { isOurs, type Leftover, leftoversIn, takeOver } from './extract-leftover.ts'
import type { Plan } from './extract-plan.ts'
import type { Target } from './extract-target.ts'
import { FileError, showPath, systemCode } from './file-error.ts'
import type { FileSystem, OpenFile } from './fs.ts'
import { forEachBounded } from './turns.ts'

// Parts of extractions that run in this process, by disk: not leftovers, even when their tag is ours.
const running = new WeakMap<FileSystem, Set<string>>()

function liveOn(fs: FileSystem): Set<string> {
  const live = running.get(fs) ?? new Set()
  running.set(fs, live)
  return live
}

/** Whether an extraction of this process works in a part folder. */
export const isWorkedIn = (fs: FileSystem, path: string): boolean => running.get(fs)?.has(path) === true

interface Opened {
  file: Promise<OpenFile>
  users: number
}

/** Files that stand in place already: they are read there, and nothing is done to them (extract-placed.ts). */
export interface PlacedFiles {
  has(file: number): boolean
  coversFolder(dir: number): boolean
  open(file: number): Promise<OpenFile>
}

/** Where an extraction writes before anything stands at its final place. */
export class PartFolder {
  readonly path: string
  readonly #fs: FileSystem
  readonly #plan: Plan
  // Folder numbers made, or being made.
  readonly #folders = new Map<number, Promise<void>>()
  readonly #created = new Set<number>()
  // Files that were there when this folder was taken over, and were not opened since.
  readonly #unsized = new Set<number>()
  // In order of use, so that the first idle one is the one to close.
  readonly #open = new Map<number, Opened>()
  readonly #placed: PlacedFiles | null
  /** Files whose sync has failed: what reads well may not be on disk, and another sync would succeed and save nothing. */
  readonly #unsure = new Set<number>()
  /** The same of the names in it. */
  #isUnsure = false
  #isOver = false

  private constructor(fs: FileSystem, plan: Plan, path: string, placed: PlacedFiles | null) {
    this.#placed = placed
    this.#fs = fs
    this.#plan = plan
    this.path = path
    this.#folders.set(0, Promise.resolve())
  }

  /** Makes the output folder where it is missing, clears parts of the same tag that an interrupted run left, but for the one that is to be
   *  gone on with, and makes a new one where there is none. */
  static async make(
    fs: FileSystem,
    plan: Plan,
    target: Target,
    tag: string,
    leftover: Leftover | null = null,
    placed: PlacedFiles | null = null,
  ): Promise<PartFolder> {
    let made = target.existing
    // A run that was killed may have made it and not synced its name; nothing below is more lasting than that.
    await ignoring(['EACCES', 'EPERM', 'EROFS', 'EINVAL'], fs.syncDirectory(dirname(made)))
    for (const name of target.missing) {
      const parent = made
      made = join(parent, name)
      await ignoring(['EEXIST'], fs.mkdir(made, 0o777))
      await fs.syncDirectory(parent)
    }
    await assertReal(fs, target.dir)
    const live = liveOn(fs)
    for (const path of await leftoversIn(fs, target.dir, tag)) {
      if (path !== leftover?.path && !live.has(path)) await fs.remove(path, 'tree')
    }
    if (leftover !== null) {
      const taken = new PartFolder(fs, plan, leftover.path, placed)
      for (const dir of leftover.folders) taken.#folders.set(dir, Promise.resolve())
      for (const file of leftover.files) {
        taken.#created.add(file)
        taken.#unsized.add(file)
      }
      return taken
    }
    const path = join(target.dir, `.shoal-${tag}-${randomBytes(16).toString('hex')}.part`)
    await fs.mkdir(path, 0o700)
    live.add(path)
    return new PartFolder(fs, plan, path, placed)
  }

  /** The part of an interrupted run that can be gone on with; nobody else of this process can take it from here on. */
  static async findLeftover(fs: FileSystem, plan: Plan, target: Target, tag: string): Promise<Leftover | null> {
    const live = liveOn(fs)
    for (const path of await leftoversIn(fs, target.dir, tag)) {
      if (live.has(path)) continue
      live.add(path)
      try {
        if (await isOurs(fs, path)) return await takeOver(fs, path, plan)
      } catch {
        // What cannot be gone through is cleared like the others, or named by what fails then.
      }
      live.delete(path)
    }
    return null
  }

  /** A leftover that was found and is not wanted after all. */
  static letGo(fs: FileSystem, { path }: Leftover): void {
    liveOn(fs).delete(path)
  }

  /** Whether a file was ever written to, or stands in place. */
  hasFile(file: number): boolean {
    return this.#created.has(file) || this.#placed?.has(file) === true
  }

  /** Closes all files and leaves them for the next run, but for those whose sync has failed; without any, nothing stays. */
  async leave(): Promise<void> {
    try {
      if (this.#created.size === this.#unsure.size || this.#isUnsure) return await this.remove()
      await this.end().catch(() => {})
      for (const file of this.#unsure) await this.#fs.remove(this.pathOf(file), 'tree')
    } catch (error) {
      // Where not even that can be removed, the next run must not find what it would believe.
      if (this.#unsure.size === 0 && !this.#isUnsure) throw error
      liveOn(this.#fs).add(this.path)
      return
    }
    liveOn(this.#fs).delete(this.path)
  }

  /** Where a file is being written. */
  pathOf(file: number): string {
    return join(this.path, this.#plan.pathOf(file))
  }

  /** Runs `work` on a file of the plan, which is created at its first use; it stays open for a while afterwards. */
  async withFile<T>(file: number, work: (handle: OpenFile) => Promise<T>): Promise<T> {
    if (this.#isOver) throw new FileError('CLOSED', 'this part folder is closed')
    const opened = this.#open.get(file) ?? { file: this.#openFile(file), users: 0 }
    this.#open.delete(file)
    this.#open.set(file, opened)
    opened.users += 1
    try {
      const handle = await opened.file
      if (this.#open.size > STORAGE.extractOpenFilesMax) await this.#closeIdle()
      return await work(handle)
    } catch (error) {
      if (this.#open.get(file) === opened) this.#open.delete(file)
      await opened.file.then((handle) => handle.close()).catch(() => {})
      throw error
    } finally {
      opened.users -= 1
    }
  }

  /** Makes a written file durable, with its time, and closes it. Nobody may be using it. */
  async complete(file: number): Promise<void> {
    if (this.#placed?.has(file) === true) return await this.#close(file)
    await this.withFile(file, async (handle) => {
      const mtime = this.#plan.mtimeOf(file)
      if (mtime !== undefined) await handle.setModified(mtime)
      try {
        await handle.datasync()
      } catch (error) {
        this.#unsure.add(file)
        throw error
      }
    })
    await this.#close(file)
  }

  /** Makes the names in all folders of the plan durable. */
  async syncFolders(): Promise<void> {
    try {
      await forEachBounded(this.#plan.dirs.keys(), STORAGE.extractWritesMax, async (dir) => {
        if (this.#placed?.coversFolder(dir) !== true) await this.#fs.syncDirectory(this.#folderPath(dir))
      })
    } catch (error) {
      this.#isUnsure = true
      throw error
    }
  }

  /** Makes a folder of the plan and those above it. */
  folder(dir: number): Promise<void> {
    if (this.#placed?.coversFolder(dir) === true) return Promise.resolve()
    const known = this.#folders.get(dir)
    if (known !== undefined) return known
    const making = this.#makeFolder(dir)
    this.#folders.set(dir, making)
    return making
  }

  /** Closes all files for good: nobody opens one of them again. */
  async end(): Promise<void> {
    this.#isOver = true
    await this.closeAll()
  }

  async closeAll(): Promise<void> {
    for (const file of [...this.#open.keys()]) await this.#close(file)
  }

  /** Removes a file that was given up. */
  async discard(file: number): Promise<void> {
    await this.#close(file)
    if (!this.#created.has(file) || this.#placed?.has(file) === true) return
    await assertReal(this.#fs, this.#folderPath(this.#plan.dirOf(file)))
    await ignoring(['ENOENT'], this.#fs.remove(this.pathOf(file), 'file'))
  }

  /** Removes the whole part folder. When something else was put in its place, that goes, and what it points to stays. */
  async remove(): Promise<void> {
    await this.end().catch(() => {})
    // Where that fails it is a leftover like any other, for the next extraction to clear.
    liveOn(this.#fs).delete(this.path)
    await this.#fs.remove(this.path, 'tree')
  }

  async #makeFolder(dir: number): Promise<void> {
    const parent = this.#plan.parentOf(dir)
    await this.folder(parent)
    await assertReal(this.#fs, this.#folderPath(parent))
    await this.#creating(this.#folderPath(dir), () => this.#fs.mkdir(this.#folderPath(dir), 0o755))
  }

  #folderPath(dir: number): string {
    return join(this.path, this.#plan.dirs[dir]!)
  }

  async #openFile(file: number): Promise<OpenFile> {
    if (this.#placed?.has(file) === true) return await this.#placed.open(file)
    const dir = this.#plan.dirOf(file)
    await this.folder(dir)
    await assertReal(this.#fs, this.#folderPath(dir))
    const path = this.pathOf(file)
    if (this.#created.has(file)) {
      const handle = await this.#fs.open(path, 'update')
      if (this.#unsized.delete(file)) await handle.truncate(this.#plan.sizeOf(file))
      return handle
    }
    this.#created.add(file)
    const permissions = this.#plan.isExecutable(file) ? 0o755 : 0o644
    const handle = await this.#creating(path, () => this.#fs.open(path, 'create', permissions))
    // Its full length at once: what is never written stays a hole.
    if (this.#plan.sizeOf(file) > 0) await handle.truncate(this.#plan.sizeOf(file))
    return handle
  }

  // All is new in here, so a name that is taken means that the disk takes two names of the share for one.
  async #creating<T>(path: string, create: () => Promise<T>): Promise<T> {
    try {
      return await create()
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error
      throw new FormatError('P2', `${showPath(path)} is the same file as another one of this share on this disk`, { cause: error })
    }
  }

  async #closeIdle(): Promise<void> {
    for (const [file, { users }] of this.#open) {
      if (users === 0) return this.#close(file)
    }
  }

  async #close(file: number): Promise<void> {
    const opened = this.#open.get(file)
    if (opened === undefined) return
    this.#open.delete(file)
    await (await opened.file).close()
  }
}

/** FileError UNSAFE unless `path` is a folder reached without any symlink. */
export async function assertReal(fs: FileSystem, path: string): Promise<void> {
  if ((await fs.realpath(path)) === path) return
  throw new FileError('UNSAFE', `${showPath(path)} was replaced by a symbolic link, which is never followed`, { path })
}

/** Waits for `work`; a failure with one of these system codes counts as success. */
async function ignoring(codes: string[], work: Promise<void>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!codes.includes(systemCode(error) ?? '')) throw error
  }
}
