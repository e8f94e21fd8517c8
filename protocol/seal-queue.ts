/**
 * Seals blocks with some overlap, and settles them strictly in the order in which they were given: positions depend on that order.
 *
 * At most `concurrency` blocks are being sealed and as many are being put, so memory is bounded by a few blocks. After a failure the
 * queue keeps throwing it.
 */
import type { Kind } from './keys.ts'
import type { BlockName, BlockSealer, SealedBlock } from './seal.ts'

/** Stores a block or a node of the tree; may run up to `concurrency` at once. `bytes` is taken. */
export type Put = (digest: Uint8Array, bytes: Uint8Array, kind: Kind | 'node') => Promise<void>

interface Waiting {
  kind: Kind
  sealed: Promise<SealedBlock | BlockName> | null
  settle: (sealed: BlockName) => boolean
}

export class SealQueue {
  readonly #sealer: BlockSealer
  readonly #put: Put
  readonly #concurrency: number
  readonly #waiting: Waiting[] = []
  readonly #puts = new Set<Promise<void>>()
  #failure: { error: unknown } | null = null

  constructor(sealer: BlockSealer, put: Put, concurrency: number) {
    this.#sealer = sealer
    this.#put = put
    this.#concurrency = Math.max(1, concurrency)
  }

  /** Seals `plaintext` (taken). When its turn comes, `settle` says whether the block is to be put. */
  async seal(kind: Kind, plaintext: Uint8Array, settle: (sealed: BlockName) => boolean): Promise<void> {
    await this.#add(kind, settle, () => this.#sealer.seal(kind, plaintext))
  }

  /** The same for a block that nobody wants: it is named and not put, whatever `settle` says. */
  async name(kind: Kind, plaintext: Uint8Array, settle: (named: BlockName) => boolean): Promise<void> {
    const unwanted = (named: BlockName): boolean => settle(named) && false
    await this.#add(kind, unwanted, () => this.#sealer.name(kind, plaintext))
  }

  async #add(kind: Kind, settle: Waiting['settle'], seal: () => Promise<SealedBlock | BlockName>): Promise<void> {
    await this.#makeRoom()
    const sealed = seal()
    // The rejection is seen when its turn comes; until then it must not count as unhandled.
    sealed.catch(() => {})
    this.#waiting.push({ kind, sealed, settle })
  }

  /** Calls `then` when its turn comes, after everything given before. */
  async after(then: () => void): Promise<void> {
    await this.#makeRoom()
    this.#waiting.push({
      kind: 'data',
      sealed: null,
      settle: () => {
        then()
        return false
      },
    })
  }

  /** Puts a block that was sealed elsewhere. */
  async put(digest: Uint8Array, block: Uint8Array, kind: Kind | 'node'): Promise<void> {
    while (this.#puts.size >= this.#concurrency) await Promise.race(this.#puts)
    this.#throwFailure()
    const put: Promise<void> = this.#put(digest, block, kind).then(
      () => void this.#puts.delete(put),
      (error: unknown) => {
        this.#puts.delete(put)
        this.#failure ??= { error }
      },
    )
    this.#puts.add(put)
  }

  /** Waits until everything given so far is settled and put. */
  async drain(): Promise<void> {
    while (this.#waiting.length > 0) await this.#settleFirst()
    await Promise.all(this.#puts)
    this.#throwFailure()
  }

  /** Waits until nothing is being put any more; for after a failure, which it does not throw. */
  async quiet(): Promise<void> {
    while (this.#puts.size > 0) await Promise.race(this.#puts)
  }

  async #makeRoom(): Promise<void> {
    this.#throwFailure()
    while (this.#waiting.length >= this.#concurrency) await this.#settleFirst()
  }

  async #settleFirst(): Promise<void> {
    const { kind, sealed, settle } = this.#waiting.shift()!
    try {
      const block = await sealed
      const isWanted = settle(block ?? NOTHING)
      if (block !== null && isWanted && 'block' in block) await this.put(block.digest, block.block, kind)
    } catch (error) {
      this.#failure ??= { error }
    }
    this.#throwFailure()
  }

  #throwFailure(): void {
    if (this.#failure !== null) throw this.#failure.error
  }
}

const NOTHING: BlockName = { key: new Uint8Array(0), digest: new Uint8Array(0) }
