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
  /** The last that was given back is the first to be taken: what is in a cache of the processor is quicker to write. */
  readonly #spare = new Map<number, ArrayBuffer[]>([
    [FORMAT.blockBytes, []],
    [FORMAT.pieceBytes, []],
  ])

  /** An array of exactly `sizeBytes` that covers all of its memory; its content is arbitrary. */
  readonly take = (sizeBytes: number): Uint8Array => {
    this.passed(sizeBytes)
    return new Uint8Array(this.#spare.get(sizeBytes)?.pop() ?? Buffer.allocUnsafeSlow(sizeBytes).buffer)
  }

  /** To be told of as much memory beside this that was used once and is left behind. */
  passed(sizeBytes: number): void {
    this.#passed(sizeBytes)
  }

  /** Gives memory back; anything that is not whole memory of a block or piece is passed over. */
  readonly give = (bytes: Uint8Array): void => {
    const { buffer } = bytes
    if (!(buffer instanceof ArrayBuffer) || bytes.byteLength !== buffer.byteLength) return
    const spare = this.#spare.get(buffer.byteLength)
    if (spare === undefined || spare.length >= WORKERS.spareBuffersMax) return
    assert(!spare.includes(buffer), 'memory is given back once')
    spare.push(buffer)
  }
}
