/**
 * The fragment stream: the tails of all files (for small files, the whole file), packed into blocks.
 *
 * After some tails, chosen by their path and length alone, the open block is closed early. So the stream restarts about every 32 MiB at places
 * that do not depend on what stands before, and a small file that grows moves its neighbours only up to the next restart.
 */
import { concat, readU32, utf8 } from './bytes.ts'
import { label } from './keys.ts'
import { FORMAT } from './limits.ts'
import { joinPath } from './names.ts'
import type { Primitives } from './primitives.ts'

/** A fragment block, from its opening on. */
export interface FragmentBlock {
  /** Null until the block has its place. */
  position: number | null
}

/** A stretch of a tail inside a fragment block. */
export interface TailPart {
  block: FragmentBlock
  offsetBytes: number
  lengthBytes: number
}

const CUT_FACTOR = 128

/** Whether the open fragment block ends after the tail (of `tailBytes` > 0) of this file. */
export async function isCutAfter(p: Primitives, dir: string, name: string, tailBytes: number): Promise<boolean> {
  const digest = await p.sha256(concat(label('cut'), Uint8Array.of(0), utf8(joinPath(dir, name))))
  return readU32(digest, 0) < CUT_FACTOR * tailBytes
}

/** Packs tails. `close` is given each block that is finished, zero-padded to a piece, and seals it. */
export class FragmentStream {
  readonly #close: (block: FragmentBlock, piece: Uint8Array) => Promise<void>
  #block: FragmentBlock = { position: null }
  #piece: Uint8Array | null = null
  #used = 0

  constructor(close: (block: FragmentBlock, piece: Uint8Array) => Promise<void>) {
    this.#close = close
  }

  /** Appends a tail (borrowed), shorter than a piece. It has one part or two, none when empty. */
  async append(tail: Uint8Array): Promise<TailPart[]> {
    const parts: TailPart[] = []
    let from = 0
    while (from < tail.length) {
      this.#piece ??= new Uint8Array(FORMAT.pieceBytes)
      const lengthBytes = Math.min(tail.length - from, FORMAT.pieceBytes - this.#used)
      this.#piece.set(tail.subarray(from, from + lengthBytes), this.#used)
      parts.push({ block: this.#block, offsetBytes: this.#used, lengthBytes })
      this.#used += lengthBytes
      from += lengthBytes
      if (this.#used === FORMAT.pieceBytes) await this.closeBlock()
    }
    return parts
  }

  /** What the open block holds, a view; empty where nothing is open. */
  get rest(): Uint8Array {
    return this.#piece?.subarray(0, this.#used) ?? new Uint8Array(0)
  }

  /** Gives the open block its place without closing it: the rest goes into the root. */
  placeRest(position: number): void {
    this.#block.position = position
  }

  /** Closes the open block, if it holds anything. */
  async closeBlock(): Promise<void> {
    if (this.#piece === null) return
    const block = this.#block
    const piece = this.#piece
    this.#block = { position: null }
    this.#piece = null
    this.#used = 0
    await this.#close(block, piece)
  }
}
