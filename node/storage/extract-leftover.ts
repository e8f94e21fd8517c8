/**
 * What an interrupted extraction left: found again by its tag, taken over where it is ours and nobody else's, cleared of all that the plan
 * does not know.
 *
 * Nothing in it is believed: its owner reads every piece again and checks it before it counts.
 */
import { join } from 'node:path'
import { STORAGE } from '../../protocol/limits.ts'
import type { Plan } from './extract-plan.ts'
import { systemCode } from './file-error.ts'
import type { FileStat, FileSystem } from './fs.ts'
import { forEachBounded } from './turns.ts'

/** A part folder of an earlier run. */
export interface Leftover {
  path: string
  /** Room on disk that its files take. */
  bytes: number
  folders: number[]
  files: number[]
}

/** The part folders with this tag in the output folder. */
export async function leftoversIn(fs: FileSystem, dir: string, tag: string): Promise<string[]> {
  const pattern = new RegExp(`^\\.shoal-${tag}-[0-9a-f]{32}\\.part$`)
  try {
    return (await fs.list(dir)).filter((name) => pattern.test(name)).map((name) => join(dir, name))
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return []
    throw error
  }
}

/** A folder that `get` writes into, by its name. */
export const isPartFolder = (path: string): boolean => /[/\\]\.shoal-[A-Za-z0-9]{1,64}-[0-9a-f]{32}\.part$/.test(path)

/** The tag in the name of such a folder; null for any other path. */
export const partTag = (path: string): string | null => /[/\\]\.shoal-([A-Za-z0-9]{1,64})-[0-9a-f]{32}\.part$/.exec(path)?.[1] ?? null

/** Whether a leftover is a real folder that only we can enter. */
export async function isOurs(fs: FileSystem, path: string): Promise<boolean> {
  const stat = await fs.lstat(path)
  return stat.kind === 'folder' && isOwn(stat) && (process.platform === 'win32' || (stat.mode & 0o077) === 0)
}

const isOwn = ({ uid }: FileStat): boolean => process.platform === 'win32' || uid === process.geteuid?.()

/** Goes through a leftover that is ours, and removes what the plan does not know, links, and files that have another name elsewhere. */
export async function takeOver(fs: FileSystem, path: string, plan: Plan): Promise<Leftover> {
  const found: Leftover = { path, bytes: 0, folders: [], files: [] }
  const due = ['']
  for (let dir = due.pop(); dir !== undefined; dir = due.pop()) {
    const folder = dir
    await forEachBounded(await fs.list(join(path, folder)), STORAGE.walkFilesAtOnce, async (name) => {
      const relative = folder === '' ? name : `${folder}/${name}`
      const stat = await fs.lstat(join(path, relative))
      const isFolder = stat.kind === 'folder'
      const id = plan.find(relative, isFolder)
      const isKept = id !== null && isOwn(stat) && (isFolder || (stat.kind === 'file' && stat.links === 1))
      if (!isKept) return await fs.remove(join(path, relative), 'tree')
      if (isFolder) {
        found.folders.push(id)
        due.push(relative)
      } else {
        found.files.push(id)
        found.bytes += stat.allocatedBytes
      }
    })
  }
  return found
}
