/**
 * The last step of extraction: moves finished files from the part folder to their places, without overwriting anything.
 *
 * A file gets its final name as a second link, which fails where anything stands; a folder is renamed
 * to where nothing stands. With `force`, files replace files and folders are merged; a symlink in a place is an error even then.
 */
import { join } from 'node:path'
import { assertReal } from './extract-files.ts'
import { assertKind, lookAt } from './extract-target.ts'
import { FileError, showPath, systemCode } from './file-error.ts'
import type { FileSystem } from './fs.ts'

/** Moves everything in `from` into `to` and syncs `to`; returns the names moved, in order. Folders in `from` must be synced. Where that
 *  fails, what was moved goes back, so that the same can be tried again; not with `force`, which finds its own files in its way. */
export async function moveInto(fs: FileSystem, from: string, to: string, force: boolean): Promise<string[]> {
  const moved: string[] = []
  try {
    for (const name of (await fs.list(from)).sort()) {
      await assertReal(fs, from)
      await assertReal(fs, to)
      const source = join(from, name)
      const place = join(to, name)
      if ((await fs.lstat(source)).kind === 'folder') await moveFolder(fs, source, place, force)
      else await moveFile(fs, source, place, force)
      moved.push(name)
    }
    await fs.syncDirectory(to)
    return moved
  } catch (error) {
    // Whole files stay where they cannot go back.
    if (!force) for (const name of moved.reverse()) await fs.rename(join(to, name), join(from, name)).catch(() => {})
    throw error
  }
}

/** Gives a finished file its name: only where nothing stands, or with `force` in place of a file. */
export async function moveFile(fs: FileSystem, source: string, place: string, force: boolean): Promise<void> {
  if (force) {
    const found = await lookAt(fs, place)
    if (found !== null) assertKind(place, found, 'file')
    // Replaces the name itself: even a symlink that came up just now would be replaced and not followed.
    return fs.rename(source, place)
  }
  try {
    await fs.link(source, place)
  } catch (error) {
    const code = systemCode(error) ?? ''
    if (code === 'EEXIST') throw exists(place, error)
    if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'].includes(code)) throw error
    return moveWithoutLinks(fs, source, place)
  }
  try {
    await fs.remove(source, 'file')
  } catch (error) {
    await fs.remove(place, 'file').catch(() => {}) // it has both names; the first failure is the one to report
    throw error
  }
}

// Where the file system has no second links, an empty file of ours keeps the place.
async function moveWithoutLinks(fs: FileSystem, source: string, place: string): Promise<void> {
  try {
    await (await fs.open(place, 'create', 0o600)).close()
  } catch (error) {
    throw systemCode(error) === 'EEXIST' ? exists(place, error) : error
  }
  try {
    await fs.rename(source, place)
  } catch (error) {
    await fs.remove(place, 'file').catch(() => {}) // the empty one; the first failure is the one to report
    throw error
  }
}

// In one step, so that no crash leaves an empty folder in the place. Should something come up there after the look, the system refuses
// all but an empty folder, in which nothing is lost.
async function moveFolder(fs: FileSystem, source: string, place: string, force: boolean): Promise<void> {
  const found = await lookAt(fs, place)
  if (found !== null) {
    if (!force) throw exists(place, undefined)
    assertKind(place, found, 'folder')
    await moveInto(fs, source, place, force)
    return fs.remove(source, 'folder')
  }
  try {
    await fs.rename(source, place)
  } catch (error) {
    throw ['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(systemCode(error) ?? '') ? exists(place, error) : error
  }
}

const exists = (path: string, cause: unknown): FileError =>
  new FileError('EXISTS', `${showPath(path)} came up while the files were being written`, { path, cause })
