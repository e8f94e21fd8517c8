/** What lies in the block store of a home: its files, those that are damaged, and the tree of a share that is there whole. */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ShareCid } from '../../protocol/cid.ts'
import { nodeCount, ShareDag } from '../../protocol/dag.ts'
import { nodePrimitives } from '../primitives-node.ts'

export const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/** The files of a block store: path by digest in hex. */
export async function storedFiles(home: string): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  for (const prefix of await readdir(join(home, 'blocks')))
    for (const name of await readdir(join(home, 'blocks', prefix))) found.set(name, join(home, 'blocks', prefix, name))
  return found
}

/** Names of stored files whose content is something else. */
export async function corruptFiles(home: string): Promise<string[]> {
  const corrupt: string[] = []
  for (const [name, path] of await storedFiles(home)) {
    const digest = createHash('sha256').update(await readFile(path))
    if (digest.digest('hex') !== name) corrupt.push(name)
  }
  return corrupt
}

export interface StoredTree {
  dag: ShareDag
  /** Level 255 is the root node. */
  block(level: number, index: number): Promise<Uint8Array>
}

/** The tree of a share that lies whole in the store of a home, and its blocks. */
export async function readTree(home: string, cid: ShareCid): Promise<StoredTree> {
  const files = await storedFiles(home)
  const read = async (digest: Uint8Array): Promise<Uint8Array> => new Uint8Array(await readFile(files.get(hexOf(digest)) ?? ''))
  const dag = await ShareDag.open(nodePrimitives, cid, await read(cid.digest))
  for (let level = dag.shape.depth - 1; level >= 1; level--)
    for (let index = 0; index < nodeCount(dag.shape, level); index++)
      await dag.acceptNode(level, index, await read(dag.digestOf(level, index)!))
  return { dag, block: (level, index) => read(level === 255 ? cid.digest : dag.digestOf(level, index)!) }
}
