/** Making and comparing folders in tests, the demo and benchmarks. */
import { createReadStream } from 'node:fs'
import { copyFile, lstat, mkdir, readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'

const SKIPPED = new Set(['node_modules', 'dist', '.git', 'golden'])

/** Copies a source tree without what can be built again, and without golden homes: their names and the heads of their files stand in every
 *  home, where the plaintext of a share is searched for. */
export async function copySources(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true })
  for (const entry of await readdir(from, { withFileTypes: true })) {
    if (SKIPPED.has(entry.name)) continue
    if (entry.isDirectory()) await copySources(join(from, entry.name), join(to, entry.name))
    else if (entry.isFile()) await copyFile(join(from, entry.name), join(to, entry.name))
  }
}

export interface Comparison {
  files: number
  folders: number
  differences: string[]
}

/** Compares two trees: names, kinds, the executable bit, and every byte. */
export async function compareTrees(left: string, right: string, at = ''): Promise<Comparison> {
  const result: Comparison = { files: 0, folders: 0, differences: [] }
  const [a, b] = await Promise.all([lstat(join(left, at)), lstat(join(right, at)).catch(() => null)])
  if (b === null) return { ...result, differences: [`${at} is missing`] }
  if (a.isDirectory() !== b.isDirectory()) return { ...result, differences: [`${at} is another kind of thing`] }
  if (a.isDirectory()) {
    result.folders = 1
    const names = new Set([...(await readdir(join(left, at))), ...(await readdir(join(right, at)))])
    for (const name of names) {
      const below = await compareTrees(left, right, join(at, name)).catch(
        (): Comparison => ({ files: 0, folders: 0, differences: [`${join(at, name)} is extra`] }),
      )
      result.files += below.files
      result.folders += below.folders
      result.differences.push(...below.differences)
    }
    return result
  }
  result.files = 1
  if ((a.mode & 0o100) !== (b.mode & 0o100)) result.differences.push(`${at} has another mode`)
  if (a.size !== b.size || !(await sameBytes(join(left, at), join(right, at)))) result.differences.push(`${at} has other bytes`)
  return result
}

async function sameBytes(left: string, right: string): Promise<boolean> {
  const options = { highWaterMark: 1 << 20 }
  const others = createReadStream(right, options)[Symbol.asyncIterator]()
  for await (const chunk of createReadStream(left, options)) {
    const other = await others.next()
    if (other.done === true || !(chunk as Buffer).equals(other.value as Buffer)) return false // both streams give Buffers
  }
  return (await others.next()).done === true
}

/** Makes the folder of a file. */
export const parentOf = (path: string): Promise<string | undefined> => mkdir(dirname(path), { recursive: true })
