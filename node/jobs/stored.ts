/** The block store as one share uses it: damage on disk means that a block is not here; nothing is put there after the share was closed. */
import type { BlockStore } from '../storage/blocks.ts'
import { DigestSet } from '../storage/digest-set.ts'
import { FileError } from '../storage/file-error.ts'

/** A stored block, verified; null when it is not here, or not any more because it was damaged. */
export async function storedBlock(blocks: BlockStore, digest: Uint8Array, signal: AbortSignal): Promise<Uint8Array | null> {
  try {
    return await blocks.get(digest, signal)
  } catch (error) {
    if (error instanceof FileError && error.code === 'CORRUPT') return null
    throw error
  }
}

/** What one share brings into the store. */
export class BlockIntake {
  /** Of blocks that were not there before. */
  readonly digests = new DigestSet()
  readonly #blocks: BlockStore
  readonly #running = new Set<Promise<void>>()
  #isClosed = false

  constructor(blocks: BlockStore) {
    this.#blocks = blocks
  }

  /** Stores a block; `bytes` are borrowed. False when this was closed: nobody would ever take the block away again. */
  async put(digest: Uint8Array, bytes: Uint8Array): Promise<boolean> {
    if (this.#isClosed) return false
    const running = this.#put(digest, bytes)
    this.#running.add(running)
    try {
      await running
      return true
    } finally {
      this.#running.delete(running)
    }
  }

  close(): void {
    this.#isClosed = true
  }

  /** Resolves when what was being stored is stored. */
  async ended(): Promise<void> {
    await Promise.allSettled(this.#running)
  }

  async #put(digest: Uint8Array, bytes: Uint8Array): Promise<void> {
    if (await this.#blocks.put(digest, bytes, NEVER)) this.digests.add(digest)
  }
}

/** Blocks are never abandoned half-way: the write ends on its own. */
const NEVER = new AbortController().signal
