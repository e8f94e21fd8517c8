/**
 * What must hold of a home folder after its node was killed, and the words for what does not. Reads the disk itself and takes no
 * node's word for it: block files that are not what they are called, leftovers, output that differs from its source.
 */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { corruptFiles, storedFiles } from '../kit/stored.ts'

const IN_HOME =
  /^(blocks|config\.json|daemon\.log|delete-log|home-version|identity|node-secret|pins|quarantine|reserve|sources|records\.db(-wal|-shm|-journal)?|tmp|version)$/

/** Every fault of a home, in words; none when it is sound. `isRunning`: its node runs, and nobody works with it. */
export async function faultsOf(home: string, isRunning = false): Promise<string[]> {
  const faults: string[] = []
  for (const name of await corruptFiles(home)) faults.push(`wrong bytes: the block file ${name}`)
  const left = [...readdirSync(home).filter((name) => !IN_HOME.test(name)), ...readdirSync(join(home, 'tmp')).map((name) => `tmp/${name}`)]
  const expected = isRunning ? ['control.sock', 'tmp/unclean'] : []
  for (const name of left) if (!expected.includes(name)) faults.push(`leftover: ${name} in the home`)
  for (const name of readdirSync(join(home, 'quarantine'))) faults.push(`wrong bytes: ${name} was set aside`)
  return faults
}

/** The names of all block files. */
export const blockNames = async (home: string): Promise<string[]> => [...(await storedFiles(home)).keys()].sort()

/** Path and content of every file below a folder, as one text to compare; null when there is no such folder. */
export function treeOf(folder: string): string | null {
  if (!existsSync(folder)) return null
  const lines: string[] = []
  for (const entry of readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()) {
    const path = join(folder, entry)
    if (statSync(path).isDirectory()) lines.push(`${entry}/`)
    else lines.push(`${entry} ${createHash('sha256').update(readFileSync(path)).digest('hex')}`)
  }
  return lines.join('\n')
}
