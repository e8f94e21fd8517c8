/**
 * The first phase of extraction on the disk's side: where the output folder really is, whether it ignores case, what stands in the
 * way of the files, and whether there is room. Looks only; creates nothing.
 */
import { basename, dirname, join, resolve } from 'node:path'
import { STORAGE } from '../../protocol/limits.ts'
import type { Plan } from './extract-plan.ts'
import { FileError, naming, showPath, systemCode } from './file-error.ts'
import type { FileStat, FileSystem } from './fs.ts'
import { forEachBounded } from './turns.ts'

/** `dir` is the output folder with every symlink above it resolved; `missing` are the folders still to be made to reach it. */
export interface Target {
  dir: string
  existing: string
  missing: string[]
}

/** What stands at a path, null when nothing does. */
export async function lookAt(fs: FileSystem, path: string): Promise<FileStat | null> {
  try {
    return await fs.lstat(path)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null
    throw error
  }
}

/** Finds the real place of the output folder, which need not exist yet. The user named it, so symlinks on the way to it are fine. */
export async function findTarget(fs: FileSystem, outputDir: string): Promise<Target> {
  const missing: string[] = []
  for (let path = resolve(outputDir); ; path = dirname(path)) {
    const found = await naming('reading', path, () => lookAt(fs, path))
    if (found !== null) {
      const existing = await naming('reading', path, () => fs.realpath(path))
      const real = await naming('reading', existing, () => fs.lstat(existing))
      if (real.kind !== 'folder') throw new FileError('EXISTS', `${showPath(path)} is not a folder`, { path })
      return { dir: join(existing, ...missing), existing, missing }
    }
    missing.unshift(basename(path))
  }
}

/** Whether names that differ in case only are the same file there, found out by looking at a name that exists. */
export async function foldsCase(fs: FileSystem, { existing }: Target): Promise<boolean> {
  const inside = (await naming('reading', existing, () => fs.list(existing))).find((name) => swapCase(name) !== name)
  const sample = inside === undefined ? existing : join(existing, inside)
  const swapped = join(dirname(sample), swapCase(basename(sample)))
  if (swapped === sample) return process.platform === 'darwin' || process.platform === 'win32'
  const [one, other] = await Promise.all([lookAt(fs, sample), lookAt(fs, swapped)])
  return one !== null && one.identity === other?.identity
}

const swapCase = (name: string): string =>
  name.replace(/[a-z]+|[A-Z]+/g, (letters) => (letters < 'a' ? letters.toLowerCase() : letters.toUpperCase()))

/** W1: throws FileError EXISTS or UNSAFE, naming the first thing in the way. With `force` files may be replaced by files and folders
 *  merged into folders; nothing else, and never through a symlink. */
export async function assertFree(fs: FileSystem, plan: Plan, target: Target, force: boolean, signal: AbortSignal): Promise<void> {
  if (target.missing.length > 0) return
  await naming('checking', target.dir, async () => {
    if (force) return assertMergeable(fs, plan, target.dir, signal)
    await forEachBounded(plan.topNames(), STORAGE.extractWritesMax, async ({ name }) => {
      signal.throwIfAborted()
      const path = join(target.dir, name)
      if ((await lookAt(fs, path)) !== null) throw new FileError('EXISTS', `${showPath(path)} exists already`, { path })
    })
  })
}

async function assertMergeable(fs: FileSystem, plan: Plan, outputDir: string, signal: AbortSignal): Promise<void> {
  const existing = new Set([0])
  for (let dir = 0; dir < plan.dirs.length; dir += 1) {
    signal.throwIfAborted()
    if (!existing.has(plan.parentOf(dir))) continue
    const path = join(outputDir, plan.dirs[dir]!)
    const found = await lookAt(fs, path)
    if (found === null) continue
    assertKind(path, found, 'folder')
    existing.add(dir)
    await forEachBounded(plan.filesIn(dir), STORAGE.extractWritesMax, async (file) => {
      const filePath = join(path, plan.names[file]!)
      const stat = await lookAt(fs, filePath)
      if (stat !== null) assertKind(filePath, stat, 'file')
    })
  }
}

/** FileError UNSAFE for a symlink, EXISTS for anything that is not a `kind`. */
export function assertKind(path: string, found: FileStat, kind: 'file' | 'folder'): void {
  if (found.kind === 'symlink') throw new FileError('UNSAFE', `${showPath(path)} is a symbolic link, which is never followed`, { path })
  if (found.kind !== kind) throw new FileError('EXISTS', `${showPath(path)} exists and is no ${kind}`, { path })
}

/** W2: FileError NO_SPACE unless the plan fits and leaves some room; `takenBytes` of it are on the disk already. */
export async function assertRoom(fs: FileSystem, plan: Plan, { existing }: Target, takenBytes = 0): Promise<void> {
  const { freeBytes, freeFiles } = await naming('checking free space', existing, () => fs.space(existing))
  const neededBytes = Math.max(0, plan.storedBytes - takenBytes) + STORAGE.freeBytesKept
  if (plan.storedBytes > 0 && neededBytes > freeBytes) {
    throw new FileError('NO_SPACE', `not enough room in ${showPath(existing)}: ${inMib(neededBytes)} needed, ${inMib(freeBytes)} free`, {
      path: existing,
    })
  }
  const neededFiles = plan.files + plan.dirs.length
  if (freeFiles !== null && neededFiles > freeFiles) {
    throw new FileError('NO_SPACE', `${showPath(existing)} can hold ${freeFiles} more files, ${neededFiles} needed`, { path: existing })
  }
}

const inMib = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20)} MiB`
