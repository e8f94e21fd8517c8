/** Shares held in memory, for tests: writing one from a list of files, and opening it again. */

import { toHex } from '../../protocol/bytes.ts'
import { DAG_PB } from '../../protocol/cid.ts'
import { ROOT_LEVEL, ShareDag } from '../../protocol/dag.ts'
import { type FileInfo, ShareWriter, type WrittenShare } from '../../protocol/layout.ts'
import { joinPath } from '../../protocol/names.ts'
import type { Primitives } from '../../protocol/primitives.ts'
import { ShareReader } from '../../protocol/reader.ts'
import { createOpener, createSealer } from '../../protocol/seal.ts'
import type { Secret } from '../../protocol/secret.ts'

export interface InputFile extends Partial<FileInfo> {
  dir: string
  name: string
  content: AsyncIterable<Uint8Array> | Uint8Array
}

/** Blocks and nodes by hex digest, and every digest in the order of the puts. */
export class MemoryBlocks {
  readonly byDigest = new Map<string, Uint8Array>()
  readonly puts: string[] = []

  put = async (digest: Uint8Array, bytes: Uint8Array): Promise<void> => {
    this.puts.push(toHex(digest))
    this.byDigest.set(toHex(digest), bytes)
  }

  get(digest: Uint8Array): Uint8Array {
    const bytes = this.byDigest.get(toHex(digest))
    if (bytes === undefined) throw new Error('no such block')
    return bytes
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  if (bytes.length > 0) yield bytes
}

export function inOrder<T extends { dir: string; name: string }>(items: T[]): T[] {
  const compare = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b))
  return [...items].sort((a, b) => compare(a.dir, b.dir) || compare(a.name, b.name))
}

export async function writeShare(
  primitives: Primitives,
  scope: Secret,
  files: InputFile[],
  emptyDirs: string[] = [],
  concurrency = 3,
): Promise<{ written: WrittenShare; blocks: MemoryBlocks }> {
  const blocks = new MemoryBlocks()
  const writer = new ShareWriter({ primitives, sealer: createSealer(primitives, scope), put: blocks.put, concurrency })
  const empty = emptyDirs.map((dir) => ({ dir, name: '', content: new Uint8Array(0) }))
  for (const { content, ...file } of inOrder<InputFile>([...files, ...empty])) {
    if (file.name === '') await writer.addEmptyDirectory(file.dir)
    else await writer.addFile({ executable: false, ...file }, content instanceof Uint8Array ? once(content) : content)
  }
  return { written: await writer.finish(), blocks }
}

/** Checks the whole tree on the way. */
export async function openDag(primitives: Primitives, cid: WrittenShare['cid'], blocks: MemoryBlocks): Promise<ShareDag> {
  const dag = await ShareDag.open(primitives, cid, blocks.get(cid.digest))
  for (let level = dag.shape.depth - 1; level >= 1; level--) {
    const count = Math.ceil(dag.shape.blockCount / 1024 ** level)
    for (let i = 0; i < count; i++) await dag.acceptNode(level, i, blocks.get(dag.digestOf(level, i)!))
  }
  if (cid.codec === DAG_PB && dag.digestOf(ROOT_LEVEL, 0) === null) throw new Error('no root')
  return dag
}

export async function openShare(primitives: Primitives, written: WrittenShare, blocks: MemoryBlocks): Promise<ShareReader> {
  const dag = await openDag(primitives, written.cid, blocks)
  return await ShareReader.open({
    opener: createOpener(primitives),
    primitives,
    readKey: written.readKey,
    shape: dag.shape,
    fetchBlock: async (position) => {
      const block = blocks.get(dag.digestOf(0, position)!)
      await dag.checkLeaf(position, block)
      return block
    },
  })
}

/** Every path with its bytes, empty directories with none. */
export async function readAll(reader: ShareReader): Promise<Map<string, Uint8Array>> {
  const all = new Map<string, Uint8Array>()
  for await (const entry of reader.entries()) {
    const path = joinPath(entry.dir, entry.name)
    const chunks: Uint8Array[] = []
    if (entry.name !== '') for await (const chunk of reader.read(entry)) chunks.push(chunk)
    all.set(path, new Uint8Array(Buffer.concat(chunks)))
  }
  return all
}
