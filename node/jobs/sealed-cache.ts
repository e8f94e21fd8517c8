/**
 * Sealed blocks that were made on demand, kept in memory for the next who asks: a block that twenty peers want is sealed once.
 *
 * One for the whole node, the least recently used go first. It copies what it keeps into memory of its own, used again and again: a block
 * kept as it came would be old when it goes, and V8 collects the whole heap for every 50 MiB of those.
 */
import { toHex } from '../../protocol/bytes.ts'
import { assert } from '../../protocol/errors.ts'
import { FORMAT, SOURCES } from '../../protocol/limits.ts'

export interface Made {
  bytes: Uint8Array
  isShared: boolean
}

export class SealedCache {
  /** By name, the least recently used first: the block, at the beginning of its memory. */
  readonly #blocks = new Map<string, Uint8Array>()
  readonly #making = new Map<string, Promise<Uint8Array | null>>()
  readonly #allocate: (sizeBytes: number) => Uint8Array
  readonly #blocksMax: number

  /** `allocate` gives an array of exactly that size that covers all of its memory. */
  constructor(allocate: (sizeBytes: number) => Uint8Array, bytesMax: number = SOURCES.cacheBytesMax) {
    this.#allocate = allocate
    this.#blocksMax = Math.floor(bytesMax / FORMAT.blockBytes)
  }

  /** A block that is kept, in memory of its own. */
  get(digest: Uint8Array): Uint8Array | null {
    const name = toHex(digest)
    const block = this.#blocks.get(name)
    if (block === undefined) return null
    this.#blocks.delete(name)
    this.#blocks.set(name, block)
    const copy = this.#allocate(block.byteLength)
    copy.set(block)
    return copy
  }

  /** The block from here, or from `make`, which runs once for all who ask meanwhile; it is kept if `isKept`. `isShared`: borrowed, else given
   *  away. */
  async getOr(digest: Uint8Array, isKept: boolean, make: () => Promise<Uint8Array | null>): Promise<Made | null> {
    const known = this.get(digest)
    if (known !== null) return { bytes: known, isShared: false }
    const name = toHex(digest)
    let making = this.#making.get(name)
    if (making === undefined) {
      making = make().finally(() => this.#making.delete(name))
      this.#making.set(name, making)
    }
    const block = await making
    if (block !== null && isKept) this.add(digest, block)
    return block === null ? null : { bytes: block, isShared: true }
  }

  /** Keeps a copy of a block. */
  add(digest: Uint8Array, block: Uint8Array): void {
    assert(block.byteLength <= FORMAT.blockBytes, 'a block is no longer than blocks are')
    const name = toHex(digest)
    if (this.#blocks.has(name) || this.#blocksMax === 0) return
    const room = this.#makeRoom().subarray(0, block.byteLength)
    room.set(block)
    this.#blocks.set(name, room)
  }

  #makeRoom(): Uint8Array {
    const oldest = this.#blocks.size < this.#blocksMax ? undefined : this.#blocks.entries().next().value
    if (oldest === undefined) return this.#allocate(FORMAT.blockBytes)
    this.#blocks.delete(oldest[0])
    return new Uint8Array(oldest[1].buffer)
  }
}
