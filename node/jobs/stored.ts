/** Reading from the block store where damage on disk means that a block is not here, and can be fetched again. */
import type { BlockStore } from '../storage/blocks.ts'
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
