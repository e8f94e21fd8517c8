/** Where leaves go that come in and need not be stored: a job that opens them and writes them into files. */
import { equalBytes } from '../../protocol/bytes.ts'
import { FormatError } from '../../protocol/errors.ts'
import type { CryptoPool } from '../crypto/pool.ts'

export interface LeafSink {
  /** What opens the leaf; null: it is of no use here. */
  keyOf(position: number): Promise<Uint8Array | null>
  /** Takes the opened leaf; false: its block had better be stored. */
  take(position: number, piece: Uint8Array): Promise<boolean>
  /** It is the right block and does not open. */
  damaged(position: number, error: FormatError): void
}

/** Takes a block's bytes when it is verified and stored, and gives them back. */
export type LeafListener = (position: number, bytes: Uint8Array) => Promise<Uint8Array>

/** A block that came in: whether it is the right one, and what is in it where somebody here has its key. */
export interface Received {
  bytes: Uint8Array
  opened: Uint8Array | FormatError | null
  isRight: boolean
}

/** Hashes a block (taken), and opens it in the same step where it is the one that was asked for. */
export async function receive(pool: CryptoPool, given: Uint8Array, expected: Uint8Array | null, key: Uint8Array | null): Promise<Received> {
  if (key !== null && expected !== null) return await pool.openChecked('data', key, expected, given)
  const { digest, bytes } = await pool.hashTaken(given)
  return { bytes, opened: null, isRight: expected !== null && equalBytes(digest, expected) }
}

/** Whether a leaf went where it need not be stored. */
export async function isSunk(sink: LeafSink | null, position: number, { opened }: Received): Promise<boolean> {
  if (sink === null || opened === null) return false
  if (!(opened instanceof FormatError)) return await sink.take(position, opened)
  sink.damaged(position, opened)
  return false
}

/** Blocks that are being kept: a second copy that comes in meanwhile waits for the first, and is not kept. */
export class Arrivals {
  readonly #running = new Map<number, Promise<boolean>>()

  /** Runs `keep`; false when it does, or when the block came in already and was kept. */
  async first(item: number, keep: () => Promise<boolean>): Promise<boolean> {
    for (let other = this.#running.get(item); other !== undefined; other = this.#running.get(item)) {
      if (await other.catch(() => false)) return false
    }
    const running = keep().finally(() => this.#running.delete(item))
    this.#running.set(item, running)
    return await running
  }
}
