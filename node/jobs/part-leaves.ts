/**
 * The leaves of a share that a `get` in place is writing into its part folder: what comes in is opened and written once, and what is
 * written is sealed again for peers that ask.
 *
 * Blocks that cannot be made again from what is written (a block of which only a part is wanted, one that does not open) go to the store.
 */
import type { ShareDag } from '../../protocol/dag.ts'
import { FormatError } from '../../protocol/errors.ts'
import { FORMAT, SOURCES } from '../../protocol/limits.ts'
import type { ShareReader } from '../../protocol/reader.ts'
import type { CryptoPool } from '../crypto/pool.ts'
import type { Extraction } from '../storage/extract.ts'
import type { LeafSource } from './held.ts'
import type { LeafSink } from './leaf-sink.ts'

export interface PartLeavesInit {
  plan: Extraction
  reader: ShareReader
  dag: ShareDag
  pool: CryptoPool
  signal: AbortSignal
  /** A position was written, or found written. */
  onWritten(position: number): void
  /** Writing failed: there is nothing to go on with. */
  onFailure(error: unknown): void
}

export class PartLeaves implements LeafSource, LeafSink {
  readonly #init: PartLeavesInit
  /** Positions whose blocks were left to the store. */
  readonly refused = new Set<number>()

  constructor(init: PartLeavesInit) {
    this.#init = init
  }

  has(position: number): boolean {
    return this.#init.plan.holds(position)
  }

  async block(position: number, digest: Uint8Array): Promise<Uint8Array | null> {
    const { plan, pool } = this.#init
    const piece = pool.buffers.take(FORMAT.pieceBytes)
    // What cannot be read, or not any more because the files are being put in place, is not here.
    const isThere = plan.holds(position) && (await plan.read(position, piece).catch(() => false))
    const { block, piece: back } = isThere ? await this.#reseal(position, digest, piece) : { block: null, piece }
    pool.buffers.give(back)
    return block
  }

  async keyOf(position: number): Promise<Uint8Array | null> {
    const { plan, reader } = this.#init
    return position < reader.dataBlocks && plan.needs(position) ? await reader.keyOf(position) : null
  }

  async take(position: number, piece: Uint8Array): Promise<boolean> {
    const { plan, pool, reader, signal } = this.#init
    try {
      const isWhole = plan.isWhole(position, reader.checkedPiece(position, piece))
      await plan.accept(position, piece, signal)
      pool.buffers.give(piece)
      if (!isWhole) this.refused.add(position)
      this.#init.onWritten(position)
      return isWhole && plan.holds(position)
    } catch (error) {
      if (error instanceof FormatError) this.damaged(position, error)
      else this.#init.onFailure(error)
      return false
    }
  }

  damaged(position: number, error: FormatError): void {
    this.refused.add(position)
    this.#init.plan.damage(position, error) // the publisher's fault: the other files are still good
    this.#init.onWritten(position)
  }

  /** Looks through what an interrupted run left; resolves to how many pieces need not be fetched. Others are told of as they are found. */
  async resume(isElsewhere: (position: number) => boolean, onMissing: (first: number, count: number) => void): Promise<number> {
    const { plan, dag, reader, signal } = this.#init
    const placed = await this.#checkPlaced()
    let found = 0
    let missing: [first: number, count: number] | null = null
    const flush = (): void => {
      if (missing !== null) onMissing(...missing)
      missing = null
    }
    for (const [first, count] of [...plan.neededRanges()]) {
      for (let position = first; position < first + count; position++) {
        signal.throwIfAborted()
        if (position >= reader.dataBlocks || isElsewhere(position) || !plan.needs(position)) continue
        const digest = dag.digestOf(0, position)
        if (digest !== null && (placed.has(position) || (await this.#isThere(position, digest)))) {
          await plan.found(position)
          this.#init.onWritten(position)
          found++
          continue
        }
        if (missing === null || missing[0] + missing[1] !== position || missing[1] >= SOURCES.missingAtOnceMax) {
          flush()
          missing = [position, 1]
        } else missing[1]++
      }
    }
    flush()
    return found
  }

  /** Holds what an interrupted run put in place against the names of its blocks; resolves to those positions that are right. A block of which
   *  these files hold a part only is looked at when it comes. FileError EXISTS where something else stands there. */
  async #checkPlaced(): Promise<Set<number>> {
    const { plan, dag, reader, signal } = this.#init
    const right = new Set<number>()
    const { placed } = plan
    if (placed === null) return right
    await placed.checkHoles(signal)
    for (let before = -1; before !== placed.count; ) {
      before = placed.count
      // What was right together with a file that is displaced is looked at again.
      right.clear()
      for (const position of placed.positions()) {
        signal.throwIfAborted()
        const digest = dag.digestOf(0, position)
        if (position >= reader.dataBlocks || digest === null || !plan.isWhole(position, EMPTY)) continue
        if (await this.#isThere(position, digest, true)) right.add(position)
        else await plan.displace(position)
      }
    }
    return right
  }

  async #isThere(position: number, digest: Uint8Array, mayBeZeros = false): Promise<boolean> {
    const { plan, pool } = this.#init
    const piece = pool.buffers.take(FORMAT.pieceBytes)
    const isRead = plan.isWhole(position, EMPTY) && (await plan.read(position, piece)) && (mayBeZeros || !isHole(piece))
    const { block, piece: back } = isRead ? await this.#reseal(position, digest, piece) : { block: null, piece }
    pool.buffers.give(back)
    if (block !== null) pool.buffers.give(block)
    return block !== null
  }

  async #reseal(position: number, digest: Uint8Array, piece: Uint8Array): Promise<{ block: Uint8Array | null; piece: Uint8Array }> {
    const { pool, reader } = this.#init
    return await pool.resealTaken({ kind: 'data', key: await reader.keyOf(position), digest }, null, piece)
  }
}

const EMPTY = new Uint8Array(0)

/** A piece that begins like what was never written; a real one that does is fetched again. */
const isHole = (piece: Uint8Array): boolean => piece.subarray(0, 4096).every((byte) => byte === 0)
