/**
 * The leaves of one kept share that are made from the user's files, and, where the share is our own, its pads.
 *
 * Joins the source (which files hold what), the index (the keys), the tree (the names) and the crypto pool. What is sealed goes out only if it
 * is the block that the tree names: other bytes are noticed by that, whoever seals them.
 */
import { readU32, writeU64 } from '../../protocol/bytes.ts'
import { leafBytes, type ShareDag } from '../../protocol/dag.ts'
import { FormatError } from '../../protocol/errors.ts'
import { kindKey } from '../../protocol/keys.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { ShareReader } from '../../protocol/reader.ts'
import { COMMIT_BYTES, createOpener, sealRootAgain } from '../../protocol/seal.ts'
import type { Secret } from '../../protocol/secret.ts'
import type { CryptoPool } from '../crypto/pool.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import type { BlockStore } from '../storage/blocks.ts'
import { readPlan } from '../storage/extract-plan.ts'
import type { UseTable } from '../storage/extract-uses.ts'
import { FileError } from '../storage/file-error.ts'
import { type Faults, ShareSource } from '../storage/share-source.ts'
import { sourceDisk } from '../storage/source-disk.ts'
import type { SourceList, SourceTree } from '../storage/source-tree.ts'
import type { LeafSource } from './held.ts'
import { storedBlock } from './stored.ts'

export interface ShareLeavesInit {
  dag: ShareDag
  readKey: Secret
  /** The scope of a share of our own, null for others'. */
  scope: Secret | null
  /** The plaintext of the root block without its padding; empty: the block is in the store. */
  rootPlain: Uint8Array
  trees: readonly SourceTree[]
  faults: Faults
  blocks: BlockStore
  pool: CryptoPool
  onSuspect(): void
  signal: AbortSignal
}

/** The plaintext of a share's root block, without its padding, from the block. */
export async function rootPlainOf(readKey: Secret, block: Uint8Array): Promise<Uint8Array> {
  const rootPlain = await createOpener(nodePrimitives).openRoot(readKey, block)
  return rootPlain.slice(0, 4 + readU32(rootPlain, 0))
}

/** The root block, sealed anew; null when it cannot be the one of this share. */
async function rootBlock({ dag, readKey, rootPlain }: Pick<ShareLeavesInit, 'dag' | 'readKey' | 'rootPlain'>): Promise<Uint8Array | null> {
  const position = dag.shape.blockCount - 1
  const digest = dag.digestOf(0, position)
  const padded = new Uint8Array(leafBytes(dag.shape, position) - COMMIT_BYTES - FORMAT.tagBytes)
  if (digest === null || rootPlain.length === 0 || rootPlain.length > padded.length) return null
  padded.set(rootPlain)
  return await sealRootAgain(nodePrimitives, readKey, digest, padded)
}

/** The index of a share from what is stored. FileError CORRUPT when some of it is not there. */
async function storedReader(init: ShareLeavesInit): Promise<ShareReader> {
  const { dag, blocks, pool, signal } = init
  return await ShareReader.open({
    opener: pool.opener,
    primitives: nodePrimitives,
    readKey: init.readKey,
    shape: dag.shape,
    fetchBlock: async (position) => {
      const digest = dag.digestOf(0, position)
      const stored = digest === null ? null : await storedBlock(blocks, digest, signal)
      const bytes = stored ?? (position === dag.shape.blockCount - 1 ? await rootBlock(init) : null)
      if (bytes === null) throw new FileError('CORRUPT', 'a block of the index of a share is not here')
      return bytes
    },
  })
}

/** Which stretches of the files of a tree each data block holds. FileError CORRUPT when the tree is not one of this share. */
async function usesOf(reader: ShareReader, tree: SourceTree, signal: AbortSignal): Promise<UseTable> {
  const { under } = tree
  const entries = reader.entriesUnder(under)
  const plan = await readPlan({ entries, under, pieceBytes: FORMAT.pieceBytes, dataBlocks: reader.dataBlocks, isWindows: false, signal })
  if (plan.files !== tree.files) throw new FileError('CORRUPT', `${tree.files} files are listed, the share has ${plan.files}`)
  return plan.uses
}

export class ShareLeaves implements LeafSource {
  readonly source: ShareSource
  /** Called with leaves that may have gone or come back. */
  onChange: (runs: [first: number, count: number][]) => void = () => {}
  readonly #init: ShareLeavesInit
  readonly #reader: ShareReader
  readonly #padKey: Uint8Array | null

  private constructor(init: ShareLeavesInit, reader: ShareReader, uses: UseTable[], padKey: Uint8Array | null) {
    this.#init = init
    this.#reader = reader
    this.#padKey = padKey
    const { buffers } = init.pool
    this.source = new ShareSource({
      trees: init.trees.map((files, i) => ({ files, uses: uses[i]! })),
      pieceBytes: FORMAT.pieceBytes,
      dataBlocks: reader.dataBlocks,
      disk: sourceDisk,
      faults: init.faults,
      seal: (position, piece) => this.#seal(position, piece),
      allocate: buffers.take,
      release: buffers.give,
      onChange: (runs) => this.onChange(runs),
      onSuspect: init.onSuspect,
    })
  }

  /** Reads the index. Files of which no block needs a byte are not watched from here on. FileError, FormatError. */
  static async open(init: ShareLeavesInit): Promise<ShareLeaves> {
    const reader = await storedReader(init)
    const uses: UseTable[] = []
    for (const tree of init.trees) {
      const table = await usesOf(reader, tree, init.signal)
      for (let file = 0; file < tree.files; file++) if (!isUsed(table, file, reader.dataBlocks)) tree.setState(file, null)
      uses.push(table)
    }
    return new ShareLeaves(init, reader, uses, init.scope === null ? null : await kindKey(nodePrimitives, init.scope, 'pad'))
  }

  /** What is to be kept of it on disk. */
  get list(): SourceList {
    return { rootPlain: this.#init.rootPlain, trees: [...this.#init.trees] }
  }

  has(position: number): boolean {
    if (position < this.#reader.dataBlocks) return this.source.has(position)
    if (position === this.#init.dag.shape.blockCount - 1) return this.#init.rootPlain.length > 0
    return this.#padKey !== null && position < this.#reader.dataBlocks + this.#reader.counts.pads
  }

  /** Whether a block that is not stored should be here: files that are watched hold bytes of it, or it is of the index. */
  claims(position: number): boolean {
    if (position < this.#reader.dataBlocks) return this.source.claims(position)
    if (this.has(position) || position === this.#init.dag.shape.blockCount - 1) return true
    const isPage = position >= this.#reader.dataBlocks + this.#reader.counts.pads
    return isPage && this.#init.trees.some(({ under }) => under === '')
  }

  async block(position: number, digest: Uint8Array, signal: AbortSignal): Promise<Uint8Array | null> {
    if (position < this.#reader.dataBlocks) return await this.source.block(position, signal)
    if (!this.has(position)) return null
    if (position === this.#init.dag.shape.blockCount - 1) return await rootBlock(this.#init)
    const { pool } = this.#init
    const plaintext = pool.buffers.take(FORMAT.pieceBytes).fill(0)
    writeU64(plaintext, 0, position - this.#reader.dataBlocks)
    const { block, piece } = await pool.resealTaken({ kind: 'pad', key: null, digest }, this.#padKey, plaintext)
    pool.buffers.give(piece)
    return block
  }

  async #seal(position: number, piece: Uint8Array): Promise<{ block: Uint8Array | null; piece: Uint8Array }> {
    const digest = this.#init.dag.digestOf(0, position)
    if (digest === null) return { block: null, piece }
    const key = await this.#reader.keyOf(position)
    return await this.#init.pool.resealTaken({ kind: 'data', key, digest }, null, piece)
  }
}

function isUsed(uses: UseTable, file: number, dataBlocks: number): boolean {
  for (const [first] of uses.runsOf(file)) if (first < dataBlocks) return true
  return false
}

/** What a damaged list of files or a damaged index throws. */
export const isDamage = (error: unknown): boolean => error instanceof FileError || error instanceof FormatError
