/**
 * The tree over the blocks of a share: its shape, building it, and checking one that comes from strangers, with no key.
 *
 * The shape is a function of the total size alone, so one root node of at most 64 KiB tells a blind seeder the whole cost, and every byte of
 * every other node except the digests is known before it arrives. Levels: 0 the leaves (blocks), 1 and up the inner nodes, 255 the root node.
 * For a share of one block the root is the leaf itself.
 */
import { equalBytes, toHex } from './bytes.ts'
import { DAG_PB, formatCid, RAW, type ShareCid } from './cid.ts'
import { decodeNode, encodeNode, type NodeLink } from './dag-node.ts'
import { assert, FormatError } from './errors.ts'
import { FORMAT } from './limits.ts'
import type { Primitives } from './primitives.ts'
import { hashBlock, ROOT_OVERHEAD_BYTES } from './seal.ts'

/** The level word of the root node. */
export const ROOT_LEVEL = 255

/** What follows from the size of a share. */
export interface DagShape {
  totalBytes: number
  /** Leaves. */
  blockCount: number
  /** Levels of inner nodes, the root's included; 0 for one block. */
  depth: number
}

/** The shape of a share of `totalBytes`. Throws FormatError D4 when no share has that size. */
export function shapeOf(totalBytes: number): DagShape {
  const blockCount = Math.ceil(totalBytes / FORMAT.blockBytes)
  if (!Number.isSafeInteger(totalBytes) || blockCount < 1 || blockCount > FORMAT.blocksMax) {
    throw new FormatError('D4', `share of ${totalBytes} bytes, limit ${FORMAT.blocksMax} blocks`)
  }
  const rootBytes = totalBytes - (blockCount - 1) * FORMAT.blockBytes
  // The shortest root: overhead and one byte of CBOR.
  if (rootBytes <= ROOT_OVERHEAD_BYTES) throw new FormatError('D4', `share whose last block has ${rootBytes} bytes`)
  let depth = 0
  for (let reach = 1; reach < blockCount; reach *= FORMAT.nodeWidth) depth++
  return { totalBytes, blockCount, depth }
}

/** How many nodes an inner level (1..depth) has; level 0 gives the leaves. */
export function nodeCount(shape: DagShape, level: number): number {
  return Math.ceil(shape.blockCount / FORMAT.nodeWidth ** level)
}

/** The length of a leaf: a full block, but for the last. */
export function leafBytes(shape: DagShape, index: number): number {
  return index < shape.blockCount - 1 ? FORMAT.blockBytes : shape.totalBytes - (shape.blockCount - 1) * FORMAT.blockBytes
}

/** Builds the tree, level by level from below. `leafDigests` (borrowed) is 32 bytes a block; `putNode` gets each inner node, the root last. */
export async function buildDag(
  p: Primitives,
  leafDigests: Uint8Array,
  totalBytes: number,
  putNode: (level: number, index: number, digest: Uint8Array, bytes: Uint8Array) => Promise<void>,
): Promise<ShareCid> {
  const shape = shapeOf(totalBytes)
  assert(leafDigests.length === 32 * shape.blockCount, `${leafDigests.length} bytes of digests for ${shape.blockCount} blocks`)
  const sizes = levelSizes(shape)
  let digests = leafDigests
  for (let level = 1; level <= shape.depth; level++) {
    const count = nodeCount(shape, level)
    const above = new Uint8Array(32 * count)
    for (let index = 0; index < count; index++) {
      const node = encodeNode(expectedLinks(shape, sizes, level, index, (child) => digests.subarray(32 * child, 32 * child + 32)))
      const digest = await p.sha256(node)
      above.set(digest, 32 * index)
      await putNode(level === shape.depth ? ROOT_LEVEL : level, index, digest, node)
    }
    digests = above
  }
  return formatCid(shape.depth === 0 ? RAW : DAG_PB, digests.slice(0, 32))
}

/** What is known of one share's tree: grows as inner nodes come in, 32 bytes a block of what came in. */
export class ShareDag {
  readonly cid: ShareCid
  readonly shape: DagShape
  readonly #primitives: Primitives
  readonly #sizes: LevelSizes
  // By level: index of an accepted node -> the digests of its children, joined.
  readonly #children: Map<number, Uint8Array>[]
  #missing = 0

  private constructor(p: Primitives, cid: ShareCid, shape: DagShape) {
    this.cid = cid
    this.shape = shape
    this.#primitives = p
    this.#sizes = levelSizes(shape)
    this.#children = Array.from({ length: shape.depth + 1 }, () => new Map())
    for (let level = 1; level < shape.depth; level++) this.#missing += nodeCount(shape, level)
  }

  /** Starts from the root node (or, for a raw CID, the one block), borrowed. Throws FormatError D1..D4. */
  static async open(p: Primitives, cid: ShareCid, rootBytes: Uint8Array): Promise<ShareDag> {
    await checkHash(p, cid.digest, rootBytes)
    if (cid.codec === RAW) {
      if (rootBytes.length > FORMAT.blockBytes) throw new FormatError('D2', `leaf of ${rootBytes.length} bytes`)
      return new ShareDag(p, cid, shapeOf(rootBytes.length))
    }
    checkNodeLength(rootBytes)
    const shape = shapeOf(decodeNode(rootBytes).fileBytes)
    if (shape.depth === 0) throw new FormatError('D4', 'a root node over a single block')
    const dag = new ShareDag(p, cid, shape)
    dag.#store(shape.depth, 0, rootBytes)
    return dag
  }

  /** Bytes of all blocks together, nodes and leaves. */
  get treeBytes(): number {
    return this.#sizes[this.shape.depth]!.last.treeBytes
  }

  /** Inner nodes not yet accepted. */
  get missingNodes(): number {
    return this.#missing
  }

  /** Whether the digest of a leaf is known. */
  isLeafKnown(index: number): boolean {
    return this.digestOf(0, index) !== null
  }

  /** The digest of a block or node, a view of 32 bytes; null while the node above is missing, or where the tree has no such place. */
  digestOf(level: number, index: number): Uint8Array | null {
    const inner = level === ROOT_LEVEL ? this.shape.depth : level
    if (level === ROOT_LEVEL && inner === 0) return null
    if (!Number.isSafeInteger(inner) || inner < 0 || inner > this.shape.depth) return null
    if (!Number.isSafeInteger(index) || index < 0 || index >= nodeCount(this.shape, inner)) return null
    if (inner === this.shape.depth) return this.cid.digest
    const siblings = this.#children[inner + 1]?.get(Math.floor(index / FORMAT.nodeWidth))
    const place = index % FORMAT.nodeWidth
    return siblings?.subarray(32 * place, 32 * place + 32) ?? null
  }

  /** The exact length of a leaf; null for nodes, which are bounded by 64 KiB. */
  bytesOf(level: number, index: number): number | null {
    return level === 0 ? leafBytes(this.shape, index) : null
  }

  /** The bytes of an inner node that was accepted (ROOT_LEVEL: the root node), written anew; null when it was not. */
  nodeBytes(level: number, index: number): Uint8Array | null {
    const inner = level === ROOT_LEVEL ? this.shape.depth : level
    const digests = this.#children[inner]?.get(index)
    if (digests === undefined) return null
    const first = index * FORMAT.nodeWidth
    return encodeNode(
      expectedLinks(this.shape, this.#sizes, inner, index, (child) => digests.subarray(32 * (child - first), 32 * (child - first) + 32)),
    )
  }

  /** Checks an inner node below the root and keeps its digests. The node above must be known. Throws FormatError D1..D4. */
  async acceptNode(level: number, index: number, bytes: Uint8Array): Promise<void> {
    assert(level > 0 && level < this.shape.depth, `inner node of level ${level} in a tree of depth ${this.shape.depth}`)
    const digest = this.digestOf(level, index)
    assert(digest !== null, `node ${level}/${index} came before the node above it`)
    await checkHash(this.#primitives, digest, bytes)
    checkNodeLength(bytes)
    if (this.#children[level]?.has(index)) return
    this.#store(level, index, bytes)
    this.#missing--
  }

  /** Checks a block against its place. The node above must be known. Throws FormatError D1, D2, D3. */
  async checkLeaf(index: number, bytes: Uint8Array): Promise<void> {
    const digest = this.digestOf(0, index)
    assert(digest !== null, `leaf ${index} came before the node above it`)
    await checkHash(this.#primitives, digest, bytes)
    if (bytes.length > FORMAT.blockBytes) throw new FormatError('D2', `leaf of ${bytes.length} bytes`)
    const expected = leafBytes(this.shape, index)
    if (bytes.length !== expected) throw new FormatError('D3', `leaf ${index} has ${bytes.length} bytes, its tree says ${expected}`)
  }

  #store(level: number, index: number, bytes: Uint8Array): void {
    const { links } = decodeNode(bytes)
    const expected = expectedLinks(this.shape, this.#sizes, level, index, (child) => {
      const link = links[child - index * FORMAT.nodeWidth]
      return link?.digest ?? new Uint8Array(32)
    })
    checkLinks(links, expected)
    // Whatever the fields do not show (long forms of numbers, say) shows here.
    if (!equalBytes(encodeNode(expected), bytes)) throw new FormatError('D2', `node ${level}/${index} is not in its canonical form`)
    const digests = new Uint8Array(32 * links.length)
    for (const [i, link] of links.entries()) digests.set(link.digest, 32 * i)
    this.#children[level]?.set(index, digests)
  }
}

async function checkHash(p: Primitives, digest: Uint8Array, bytes: Uint8Array): Promise<void> {
  if (!equalBytes(await hashBlock(p, bytes), digest)) throw new FormatError('D1', `${bytes.length} bytes do not hash to their CID`)
}

function checkNodeLength(bytes: Uint8Array): void {
  if (bytes.length > FORMAT.nodeBytesMax) throw new FormatError('D2', `node of ${bytes.length} bytes, limit ${FORMAT.nodeBytesMax}`)
}

function checkLinks(links: readonly NodeLink[], expected: readonly NodeLink[]): void {
  if (links.length !== expected.length) throw new FormatError('D4', `node of ${links.length} links, its tree asks for ${expected.length}`)
  const seen = new Set<string>()
  for (const [i, link] of links.entries()) {
    const wanted = expected[i]!
    if (link.codec !== wanted.codec) throw new FormatError('D4', `link ${i} leads to a leaf where a node belongs, or the reverse`)
    if (link.fileBytes !== wanted.fileBytes)
      throw new FormatError('D4', `link ${i} holds ${link.fileBytes} bytes, its tree asks for ${wanted.fileBytes}`)
    if (link.treeBytes !== wanted.treeBytes)
      throw new FormatError('D3', `link ${i} states ${link.treeBytes} bytes in all, not ${wanted.treeBytes}`)
    seen.add(toHex(link.digest))
  }
  if (seen.size !== links.length) throw new FormatError('D4', 'a node links to one CID twice')
}

/** Sizes at one level: all nodes are alike but the last. */
interface LevelSize {
  full: { fileBytes: number; treeBytes: number }
  last: { fileBytes: number; treeBytes: number }
}
type LevelSizes = LevelSize[]

function levelSizes(shape: DagShape): LevelSizes {
  const rest = leafBytes(shape, shape.blockCount - 1)
  const block = FORMAT.blockBytes
  const sizes: LevelSizes = [{ full: { fileBytes: block, treeBytes: block }, last: { fileBytes: rest, treeBytes: rest } }]
  const anyDigest = new Uint8Array(32)
  for (let level = 1; level <= shape.depth; level++) {
    const last = sizeOf(expectedLinks(shape, sizes, level, nodeCount(shape, level) - 1, () => anyDigest))
    // The first of several nodes is a full one.
    const full = nodeCount(shape, level) > 1 ? sizeOf(expectedLinks(shape, sizes, level, 0, () => anyDigest)) : last
    sizes.push({ full, last })
  }
  return sizes
}

function sizeOf(links: readonly NodeLink[]): { fileBytes: number; treeBytes: number } {
  let fileBytes = 0
  let treeBytes = encodeNode(links).length
  for (const link of links) {
    fileBytes += link.fileBytes
    treeBytes += link.treeBytes
  }
  return { fileBytes, treeBytes }
}

function expectedLinks(
  shape: DagShape,
  sizes: LevelSizes,
  level: number,
  index: number,
  digestOfChild: (child: number) => Uint8Array,
): NodeLink[] {
  const below = sizes[level - 1]!
  const childCount = nodeCount(shape, level - 1)
  const links: NodeLink[] = []
  const end = Math.min(childCount, (index + 1) * FORMAT.nodeWidth)
  for (let child = index * FORMAT.nodeWidth; child < end; child++) {
    const size = child === childCount - 1 ? below.last : below.full
    links.push({ codec: level === 1 ? RAW : DAG_PB, digest: digestOfChild(child), ...size })
  }
  return links
}
