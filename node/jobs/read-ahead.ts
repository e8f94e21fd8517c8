/**
 * Reading in order while fetching: a window of blocks ahead of the reader is wanted, a few of the next pieces are opened.
 *
 * The window slides as pieces are taken, so a reader that pauses or leaves stops the fetching; it grows while the reader has to wait.
 * Blocks wait in the store; in memory are only the opened pieces.
 */
import { FORMAT, READING } from '../../protocol/limits.ts'
import type { ShareReader } from '../../protocol/reader.ts'
import { type PiecePart, partsOf, type Stretch, zerosOf } from '../../protocol/stretches.ts'
import type { CryptoPool } from '../crypto/pool.ts'
import { asRuns } from './bitfield.ts'
import type { LiveShare } from './live-share.ts'

/** What is read, where it comes from, and what stops it. */
export interface ReadAheadInit {
  live: LiveShare
  reader: ShareReader
  pool: CryptoPool
  /** In the order of reading. */
  stretches: Stretch[]
  signal: AbortSignal
}

type Step = { kind: 'zeros'; lengthBytes: number } | { kind: 'part'; position: number; bytes: Promise<Uint8Array> }

/** The bytes of `stretches`, at most a piece at a time; chunks must not be changed. Throws what fetching and opening throw. */
export async function* readAhead(init: ReadAheadInit): AsyncGenerator<Uint8Array> {
  const { live, reader, stretches } = init
  const ended = new AbortController()
  const signal = AbortSignal.any([init.signal, ended.signal])
  const window = new ReadWindow(live, blocksOf(stretches, reader.dataBlocks))
  const steps = stepsOf({ ...init, signal })
  const opened: Step[] = []
  const zeros = new Uint8Array(stretches.some(({ kind }) => kind === 'zeros') ? FORMAT.pieceBytes : 0)
  try {
    for (;;) {
      while (opened.length < READING.openedMax) {
        const { value: step, done } = steps.next()
        if (done === true) break
        opened.push(step)
      }
      const step = opened.shift()
      if (step === undefined) return
      signal.throwIfAborted()
      if (step.kind === 'zeros') yield zeros.subarray(0, step.lengthBytes)
      else {
        if (step.position < reader.dataBlocks) window.reach(step.position)
        yield await step.bytes
      }
    }
  } finally {
    ended.abort(new Error('reading ended'))
    window.close()
  }
}

/** Begins to open each part as it is asked for. */
function* stepsOf(init: ReadAheadInit): Generator<Step, undefined> {
  for (const stretch of init.stretches) {
    if (stretch.kind === 'zeros') for (const lengthBytes of zerosOf(stretch.lengthBytes)) yield { kind: 'zeros', lengthBytes }
    else {
      for (const part of partsOf(stretch)) {
        const bytes = openPart(init, part)
        bytes.catch(() => {}) // heard of when it is its turn, if anybody reads on until then
        yield { kind: 'part', position: part.position, bytes }
      }
    }
  }
}

async function openPart({ live, reader, pool, signal }: ReadAheadInit, part: PiecePart): Promise<Uint8Array> {
  const { position, offsetBytes, lengthBytes } = part
  if (position === reader.dataBlocks) return (await reader.openPiece(position)).subarray(offsetBytes, offsetBytes + lengthBytes)
  const sealed = await live.block(position, 1, signal)
  const { piece, block } = await pool.openTaken('data', await reader.keyOf(position), sealed)
  pool.buffers.give(block)
  return reader.checkedPiece(position, piece).subarray(offsetBytes, offsetBytes + lengthBytes)
}

/** The data blocks of `stretches` in order; what the root holds is none. */
function* blocksOf(stretches: readonly Stretch[], dataBlocks: number): Generator<number, undefined> {
  for (const stretch of stretches) {
    if (stretch.kind === 'zeros') continue
    for (let i = 0; i < stretch.count; i++) if (stretch.position + i < dataBlocks) yield stretch.position + i
  }
}

/** The blocks ahead of one reader. */
export class ReadWindow {
  readonly #live: Pick<LiveShare, 'has' | 'wantLeaves' | 'windows'>
  readonly #rest: Iterator<number, undefined>
  readonly #ahead: number[] = []
  #blocks: number = READING.windowBlocksMin
  #readSinceGrown = 0

  /** Wants the first of `blocks`, the positions in the order of reading. */
  constructor(live: Pick<LiveShare, 'has' | 'wantLeaves' | 'windows'>, blocks: Iterator<number, undefined>) {
    this.#live = live
    this.#rest = blocks
    live.windows.add(this)
    this.#fill()
  }

  /** Whether this reader will come to a block soon. */
  covers(position: number): boolean {
    return this.#ahead.includes(position)
  }

  /** The reader needs the next block, at `position`. */
  reach(position: number): void {
    this.#ahead.shift()
    if (!this.#live.has(0, position)) {
      this.#live.wantLeaves(position, 1, 0) // a slow peer must not hold it up
      if (this.#readSinceGrown >= this.#blocks && this.#blocks < READING.windowBlocksMax) {
        this.#blocks = Math.min(2 * this.#blocks, READING.windowBlocksMax)
        this.#readSinceGrown = 0
      }
    }
    this.#readSinceGrown++
    this.#fill()
  }

  /** What is still to come is not urgent any more. When this was the last job on the share, all wishes are dropped anyway. */
  close(): void {
    this.#live.windows.delete(this)
    const others = [...this.#live.windows]
    const left = this.#ahead.filter((position) => !this.#live.has(0, position) && !others.some((other) => other.covers(position)))
    for (const [first, count] of asRuns(left)) this.#live.wantLeaves(first, count, 3)
  }

  #fill(): void {
    const added: number[] = []
    while (this.#ahead.length < this.#blocks) {
      const { value: position, done } = this.#rest.next()
      if (done === true) break
      this.#ahead.push(position)
      added.push(position)
    }
    for (const [first, count] of asRuns(added)) this.#live.wantLeaves(first, count, 1)
  }
}
