/**
 * Reads the tree of a share from the store, without any key: what it names, and which of its nodes are not here.
 *
 * The leaves themselves are not read. A node that turns out damaged is set aside by the store, as on any other read.
 */
import { RAW, type ShareCid } from '../../protocol/cid.ts'
import { leafBytes, nodeCount, ROOT_LEVEL, ShareDag } from '../../protocol/dag.ts'
import { FormatError } from '../../protocol/errors.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import type { BlockStore } from '../storage/blocks.ts'
import { FileError } from '../storage/file-error.ts'
import type { Slices } from './slices.ts'

/** A block that a share names; `bytes` is what it should weigh, 0 for a node that is not here. */
export interface Named {
  digest: Uint8Array
  level: number
  index: number
  bytes: number
}

export interface WalkedTree {
  /** Null: the root is not here, or is none, or there is no tree: the share is one block, which is not read. */
  dag: ShareDag | null
  /** Nodes, the root included, that are not in the store, and those that turned out damaged. */
  missing: Place[]
  damaged: Place[]
}

/** Where a block stands in its share. */
export interface Place {
  level: number
  index: number
}

/** Visits the root, the nodes and the leaves of a share as far as its tree is here. `digest` is borrowed until the visit returns. */
export async function walkTree(blocks: BlockStore, cid: ShareCid, visit: (named: Named) => void, slices: Slices): Promise<WalkedTree> {
  const walked: WalkedTree = { dag: null, missing: [], damaged: [] }
  if (cid.codec === RAW) {
    if (!blocks.has(cid.digest)) walked.missing.push({ level: ROOT_LEVEL, index: 0 })
    visit({ digest: cid.digest, level: ROOT_LEVEL, index: 0, bytes: 0 })
    await slices.turn()
    return walked
  }
  const read = async (digest: Uint8Array, place: Place): Promise<Uint8Array | null> => {
    const bytes = await readNode(blocks, digest)
    if (bytes === 'damaged') walked.damaged.push(place)
    else if (bytes === null) walked.missing.push(place)
    const found = bytes === 'damaged' ? null : bytes
    visit({ ...place, digest, bytes: found?.byteLength ?? 0 })
    await slices.turn()
    return found
  }
  const root = await read(cid.digest, { level: ROOT_LEVEL, index: 0 })
  const dag = root === null ? null : await readable(() => ShareDag.open(nodePrimitives, cid, root))
  if (dag === null) {
    if (root !== null) walked.missing.push({ level: ROOT_LEVEL, index: 0 })
    return walked
  }
  walked.dag = dag
  for (let level = dag.shape.depth - 1; level >= 1; level--) {
    for (let index = 0; index < nodeCount(dag.shape, level); index++) {
      const digest = dag.digestOf(level, index)
      const bytes = digest === null ? null : await read(digest, { level, index })
      if (digest === null) walked.missing.push({ level, index })
      if (bytes !== null) await readable(() => dag.acceptNode(level, index, bytes))
    }
  }
  for (let index = 0; dag.shape.depth > 0 && index < dag.shape.blockCount; index++) {
    const digest = dag.digestOf(0, index)
    if (digest !== null) visit({ digest, level: 0, index, bytes: leafBytes(dag.shape, index) })
    if (slices.isOver) await slices.turn()
  }
  return walked
}

/** Whether every node of the tree was here and sound. */
export const isWhole = ({ dag, missing, damaged }: WalkedTree): boolean =>
  missing.length === 0 && damaged.length === 0 && (dag === null || dag.missingNodes === 0)

async function readNode(blocks: BlockStore, digest: Uint8Array): Promise<Uint8Array | null | 'damaged'> {
  try {
    return await blocks.get(digest, NEVER)
  } catch (error) {
    if (error instanceof FileError && error.code === 'CORRUPT') return 'damaged'
    throw error
  }
}

/** Null where its publisher broke the tree. */
async function readable<T>(read: () => Promise<T>): Promise<T | null> {
  try {
    return await read()
  } catch (error) {
    if (error instanceof FormatError) return null
    throw error
  }
}

const NEVER = new AbortController().signal
