/**
 * What storage tests share: fresh folders, a digest, and a file system that records or fails operations of the real disk.
 */
import { createHash } from 'node:crypto'
import { lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { FileSystem, OpenFile } from '../../node/storage/fs.ts'
import { diskFileSystem } from '../../node/storage/fs.ts'

/** A folder of this test alone, removed after it. */
export function freshFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'shoal-storage-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

export const sha256 = (bytes: Uint8Array): Uint8Array => new Uint8Array(createHash('sha256').update(bytes).digest())
export const never = new AbortController().signal

/** Called before each operation with its name and main path; what it throws is what the operation fails with. */
export type Hook = (operation: string, path: string) => void | Promise<void>

/** The real disk behind a hook. */
export function hookedFileSystem(hook: Hook): FileSystem {
  const inner = diskFileSystem
  return {
    open: async (path, mode, permissions) => {
      await hook(`open:${mode}`, path)
      return hookedFile(await inner.open(path, mode, permissions), path, hook)
    },
    rename: async (from, to) => {
      await hook('rename', to)
      return inner.rename(from, to)
    },
    link: async (from, to) => {
      await hook('link', to)
      return inner.link(from, to)
    },
    remove: async (path, what) => {
      await hook(`remove:${what}`, path)
      return inner.remove(path, what)
    },
    mkdir: async (path, permissions) => {
      await hook('mkdir', path)
      return inner.mkdir(path, permissions)
    },
    list: async (path) => {
      await hook('list', path)
      return inner.list(path)
    },
    lstat: (path) => inner.lstat(path),
    realpath: (path) => inner.realpath(path),
    syncDirectory: async (path) => {
      await hook('syncDirectory', path)
      return inner.syncDirectory(path)
    },
    space: async (path) => {
      await hook('space', path)
      return inner.space(path)
    },
  }
}

function hookedFile(file: OpenFile, path: string, hook: Hook): OpenFile {
  return {
    stat: () => file.stat(),
    read: async (target, position) => {
      await hook('read', path)
      return file.read(target, position)
    },
    write: async (bytes, position) => {
      await hook('write', path)
      return file.write(bytes, position)
    },
    truncate: (size) => file.truncate(size),
    setModified: (mtime) => file.setModified(mtime),
    datasync: async () => {
      await hook('datasync', path)
      return file.datasync()
    },
    close: () => file.close(),
  }
}

/** A system error as the disk would raise it. */
export const systemError = (code: string): Error => Object.assign(new Error(code), { code })

/** Everything below a folder: path -> kind, mode and content, to compare before and after. */
export function snapshot(root: string, below = ''): Record<string, string> {
  const found: Record<string, string> = {}
  for (const name of readdirSync(join(root, below)).sort()) {
    const path = join(below, name)
    const stats = lstatSync(join(root, path))
    const mode = (stats.mode & 0o7777).toString(8)
    if (stats.isSymbolicLink()) found[path] = `symlink ${readlinkSync(join(root, path))}`
    else if (stats.isDirectory()) Object.assign(found, { [path]: `folder ${mode}` }, snapshot(root, path))
    else
      found[path] = `file ${mode} ${createHash('sha256')
        .update(readFileSync(join(root, path)))
        .digest('hex')}`
  }
  return found
}
