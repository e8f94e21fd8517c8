/**
 * What is here of one share: its tree as far as it is known, and which nodes and leaves are held, in the store or in the user's files.
 *
 * It verifies nodes and reads blocks; it does not fetch, and tells nobody. LiveShare does that.
 */
import type { ShareCid } from '../../protocol/cid.ts'
import { nodeCount, ShareDag } from '../../protocol/dag.ts'
import { assert } from '../../protocol/errors.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import type { BlockStore } from '../storage/blocks.ts'
import { Bitfield } from './bitfield.ts'
import { ItemMap } from './item-map.ts'
import type { Made, SealedCache } from './sealed-cache.ts'
import { storedBlock } from './stored.ts'

/** Leaves that are made on demand instead of being stored. */
export interface LeafSource {
  has(position: number): boolean
  /** The block that `digest` names, in memory of its own; null when it is not here any more. */
  block(position: number, digest: Uint8Array, signal: AbortSignal): Promise<Uint8Array | null>
}

export class Held {
  readonly cid: ShareCid
  dag: ShareDag | null = null
  map: ItemMap
  leaves = new Bitfield(0)
  nodes = new Bitfield(0)
  readonly #blocks: BlockStore
  readonly #cache: SealedCache
  readonly #isSought: () => boolean
  readonly #sources = new Set<LeafSource>()

  /** `isSought`: more than one peer may ask for the same block. */
  constructor(cid: ShareCid, blocks: BlockStore, cache: SealedCache, isSought: () => boolean) {
    this.cid = cid
    this.#blocks = blocks
    this.#cache = cache
    this.#isSought = isSought
    this.map = new ItemMap(cid.codec, null)
  }

  get isComplete(): boolean {
    return this.dag !== null && this.dag.missingNodes === 0 && this.leaves.isFull
  }

  has(level: number, index: number): boolean {
    if (this.dag === null) return false
    if (level === 0) return index < this.map.leafCount && this.leaves.has(index)
    if (level === 255) return this.dag.shape.depth > 0
    const { depth } = this.dag.shape
    return level < depth && index < nodeCount(this.dag.shape, level) && this.nodes.has(this.map.itemOf(level, index) - this.map.leafCount)
  }

  digestOf(level: number, index: number): Uint8Array | null {
    // Before the shape is known there is one block to ask for, the root, whatever its level.
    if (level === 255 || this.dag === null) return this.cid.digest
    return this.dag.digestOf(level, index)
  }

  /** Reads from the store what is already there of the tree. */
  async load(signal: AbortSignal): Promise<void> {
    const root = await storedBlock(this.#blocks, this.cid.digest, signal)
    if (root === null) return
    await this.openRoot(root)
    const { dag } = this
    assert(dag !== null, 'an opened root gives a tree')
    for (let level = dag.shape.depth - 1; level >= 1; level--) {
      for (let index = 0; index < nodeCount(dag.shape, level); index++) {
        const digest = dag.digestOf(level, index)
        if (digest === null || !this.#blocks.has(digest)) continue
        const bytes = await storedBlock(this.#blocks, digest, signal)
        if (bytes !== null) await this.acceptNode(level, index, bytes)
      }
    }
  }

  /** False when the root was known already. FormatError where its publisher broke it. */
  async openRoot(bytes: Uint8Array): Promise<boolean> {
    const dag = await ShareDag.open(nodePrimitives, this.cid, bytes)
    if (this.dag !== null) return false
    this.dag = dag
    this.leaves = new Bitfield(dag.shape.blockCount)
    this.map = new ItemMap(this.cid.codec, dag)
    this.nodes = new Bitfield(this.map.nodeCount)
    this.markHeld()
    return true
  }

  /** Resolves to the leaves that turned out to be here already. */
  async acceptNode(level: number, index: number, bytes: Uint8Array): Promise<number[]> {
    assert(this.dag !== null, 'inner nodes come after the root')
    await this.dag.acceptNode(level, index, bytes)
    this.nodes.add(this.map.itemOf(level, index) - this.map.leafCount)
    return level === 1 ? this.markHeld(index) : []
  }

  /** Looks up which of the leaves that have names are here: all of them, or those below one node. Returns those that are new. */
  markHeld(node?: number): number[] {
    const found: number[] = []
    const first = node === undefined ? 0 : node * FORMAT.nodeWidth
    const end = node === undefined ? this.map.leafCount : Math.min(this.map.leafCount, first + FORMAT.nodeWidth)
    for (let index = first; index < end; index++) if (this.isHere(index) && this.leaves.add(index)) found.push(index)
    return found
  }

  /** Whether a leaf is in the store or can be made. */
  isHere(index: number): boolean {
    const digest = this.dag?.digestOf(0, index) ?? null
    if (digest === null) return false
    if (this.#blocks.has(digest)) return true
    for (const source of this.#sources) if (source.has(index)) return true
    return false
  }

  addSource(source: LeafSource): void {
    this.#sources.add(source)
  }

  removeSource(source: LeafSource): void {
    this.#sources.delete(source)
  }

  /** Keeps a copy of a block in memory for peers that will ask for it. */
  remember(digest: Uint8Array, bytes: Uint8Array): void {
    this.#cache.add(digest, bytes)
  }

  /** The bytes of a block, borrowed; null when it is not here after all. */
  async read(level: number, index: number, signal: AbortSignal): Promise<Uint8Array | null> {
    return (await this.#find(level, index, this.#isSought(), signal))?.bytes ?? null
  }

  /** The bytes of a leaf, given away; null when it is not here after all. */
  async take(index: number, signal: AbortSignal): Promise<Uint8Array | null> {
    const found = await this.#find(0, index, true, signal) // whoever reads a part of it may want the next part
    return found?.isShared === true ? found.bytes.slice() : (found?.bytes ?? null)
  }

  async #find(level: number, index: number, isKept: boolean, signal: AbortSignal): Promise<Made | null> {
    const digest = this.digestOf(level, index)
    if (digest === null) return null
    const stored = await storedBlock(this.#blocks, digest, signal)
    if (stored !== null) return { bytes: stored, isShared: false }
    if (level !== 0 || this.#sources.size === 0) return null
    return await this.#cache.getOr(digest, isKept, async () => {
      for (const source of [...this.#sources]) {
        const block = source.has(index) ? await source.block(index, digest, signal) : null
        if (block !== null) return block
      }
      return null
    })
  }
}
