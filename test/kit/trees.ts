/** Making and comparing folders in tests, the demo and benchmarks. */
import { createReadStream, lstatSync, readFileSync } from 'node:fs'
import { copyFile, mkdir, readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'

const CHUNK_BYTES = 1 << 20
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
  // Small files are read synchronously: 100,000 of them take seconds so, and minutes otherwise.
  const [a, b] = [lstatSync(join(left, at)), lstatSync(join(right, at), { throwIfNoEntry: false })]
  if (b === undefined) return { ...result, differences: [`${at} is missing`] }
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
  if (a.size !== b.size || !(await sameBytes(join(left, at), join(right, at), a.size))) result.differences.push(`${at} has other bytes`)
  return result
}

async function sameBytes(left: string, right: string, size: number): Promise<boolean> {
  if (size <= CHUNK_BYTES) return readFileSync(left).equals(readFileSync(right))
  const options = { highWaterMark: CHUNK_BYTES }
  const others = createReadStream(right, options)[Symbol.asyncIterator]()
  for await (const chunk of createReadStream(left, options)) {
    const other = await others.next()
    if (other.done === true || !(chunk as Buffer).equals(other.value as Buffer)) return false // both streams give Buffers
  }
  return (await others.next()).done === true
}

/** Makes the folder of a file. */
export const parentOf = (path: string): Promise<string | undefined> => mkdir(dirname(path), { recursive: true })
