/**
 * Sealed blocks that were made on demand, kept in memory for the next who asks: a block that twenty peers want is sealed once.
 *
 * One for the whole node, the least recently used go first. What is in it is never changed and never given away.
 */
import { toHex } from '../../protocol/bytes.ts'
import { SOURCES } from '../../protocol/limits.ts'

export class SealedCache {
  readonly #blocks = new Map<string, Uint8Array>()
  readonly #making = new Map<string, Promise<Uint8Array | null>>()
  readonly #bytesMax: number
  #bytes = 0

  constructor(bytesMax: number = SOURCES.cacheBytesMax) {
    this.#bytesMax = bytesMax
  }

  /** Borrowed. */
  get(digest: Uint8Array): Uint8Array | null {
    const name = toHex(digest)
    const block = this.#blocks.get(name)
    if (block === undefined) return null
    this.#blocks.delete(name)
    this.#blocks.set(name, block)
    return block
  }

  /** The block from here, or from `make`, which runs once for all who ask meanwhile. Borrowed. */
  async getOr(digest: Uint8Array, make: () => Promise<Uint8Array | null>): Promise<Uint8Array | null> {
    const known = this.get(digest)
    if (known !== null) return known
    const name = toHex(digest)
    let making = this.#making.get(name)
    if (making === undefined) {
      making = make().finally(() => this.#making.delete(name))
      this.#making.set(name, making)
    }
    const block = await making
    if (block !== null) this.add(digest, block)
    return block
  }

  /** Keeps a block (taken). */
  add(digest: Uint8Array, block: Uint8Array): void {
    const name = toHex(digest)
    if (this.#blocks.has(name)) return
    this.#blocks.set(name, block)
    this.#bytes += block.byteLength
    for (const [oldest, { byteLength }] of this.#blocks) {
      if (this.#bytes <= this.#bytesMax) break
      this.#blocks.delete(oldest)
      this.#bytes -= byteLength
    }
  }
}
