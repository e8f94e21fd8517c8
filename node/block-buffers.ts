/**
 * Memory for blocks and pieces, used again: a megabyte that is thrown away with every block keeps the garbage collector busier than the
 * cryptography keeps the processor.
 *
 * Giving back is optional (what is not given back is collected as usual) and only for memory that nobody else holds any more.
 */
import { assert } from '../protocol/errors.ts'
import { FORMAT, WORKERS } from '../protocol/limits.ts'
import { createCollector } from './heap.ts'

export class BlockBuffers {
  readonly #passed = createCollector()
  readonly #spare = new Map<number, Set<ArrayBuffer>>([
    [FORMAT.blockBytes, new Set()],
    [FORMAT.pieceBytes, new Set()],
  ])

  /** An array of exactly `sizeBytes` that covers all of its memory; its content is arbitrary. */
  readonly take = (sizeBytes: number): Uint8Array => {
    this.#passed(sizeBytes)
    const spare = this.#spare.get(sizeBytes)
    for (const buffer of spare ?? []) {
      spare?.delete(buffer)
      return new Uint8Array(buffer)
    }
    return new Uint8Array(Buffer.allocUnsafeSlow(sizeBytes).buffer)
  }

  /** Gives memory back; anything that is not whole memory of a block or piece is passed over. */
  readonly give = (bytes: Uint8Array): void => {
    const { buffer } = bytes
    if (!(buffer instanceof ArrayBuffer) || bytes.byteLength !== buffer.byteLength) return
    const spare = this.#spare.get(buffer.byteLength)
    if (spare === undefined || spare.size >= WORKERS.spareBuffersMax) return
    assert(!spare.has(buffer), 'memory is given back once')
    spare.add(buffer)
  }
}
