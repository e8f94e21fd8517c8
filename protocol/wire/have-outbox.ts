/**
 * What one peer has still to be told of our blocks: a set of positions, kept as pages of a bitmap, taken out frame by frame.
 *
 * News merge while they wait (thousands of new blocks cost one frame), and the smaller of the two spellings goes out. Pages come into being
 * when a position in them is added, so a share of a million blocks costs memory only where something happened.
 */
import { assert } from '../errors.ts'
import { WIRE } from '../limits.ts'
import type { HaveForm } from './messages.ts'

const PAGE_POSITIONS = WIRE.havePageBytesMax * 8

interface Page {
  bits: Uint8Array
  /** Bytes that may hold a bit: from, up to (without). */
  from: number
  to: number
}

/** Positions to be told to one peer. */
export class HaveOutbox {
  readonly #blockCount: number
  readonly #pages = new Map<number, Page>()

  constructor(blockCount: number) {
    this.#blockCount = blockCount
  }

  get isEmpty(): boolean {
    return this.#pages.size === 0
  }

  clear(): void {
    this.#pages.clear()
  }

  addRange(first: number, count: number): void {
    assert(count > 0 && first + count <= this.#blockCount, `positions ${first}+${count} of ${this.#blockCount}`)
    for (let position = first; position < first + count; ) {
      const inByte = position % 8
      if (inByte === 0 && first + count - position >= 8) {
        this.#merge(position, 0xff)
        position += 8
      } else {
        this.#merge(position - inByte, 0x80 >>> inByte)
        position++
      }
    }
  }

  /** Adds a page as a peer would send it; `first` is a multiple of 8. `bits` is borrowed. */
  addBitmap(first: number, bits: Uint8Array): void {
    assert(first % 8 === 0, `bitmap from position ${first}`)
    for (let i = 0; i < bits.byteLength; i++) {
      if (bits[i] !== 0) this.#merge(first + i * 8, bits[i]!)
    }
  }

  /** Takes the next frame's worth out, or null when everything is told. */
  next(): HaveForm | null {
    for (const [index, page] of this.#pages) {
      this.#pages.delete(index)
      const start = index * PAGE_POSITIONS
      const byteCount = page.to - page.from
      const ranges = rangesIn(page, start, byteCount / 8)
      if (ranges !== null) return { kind: 'ranges', ranges }
      return { kind: 'bitmap', first: start + page.from * 8, bits: page.bits.slice(page.from, page.to) }
    }
    return null
  }

  #merge(position: number, bits: number): void {
    const index = Math.floor(position / PAGE_POSITIONS)
    let page = this.#pages.get(index)
    if (page === undefined) {
      const positions = Math.min(PAGE_POSITIONS, this.#blockCount - index * PAGE_POSITIONS)
      page = { bits: new Uint8Array(Math.ceil(positions / 8)), from: Number.POSITIVE_INFINITY, to: 0 }
      this.#pages.set(index, page)
    }
    const at = (position % PAGE_POSITIONS) / 8
    page.bits[at] = page.bits[at]! | bits
    page.from = Math.min(page.from, at)
    page.to = Math.max(page.to, at + 1)
  }
}

/** The page as ranges, or null when that takes more than `max` of them (then the bitmap is shorter). One is always allowed. */
function rangesIn(page: Page, start: number, max: number): [first: number, count: number][] | null {
  const limit = Math.min(Math.max(1, max), WIRE.haveRangesMax)
  const ranges: [first: number, count: number][] = []
  let open = -1
  for (let i = page.from * 8; i <= page.to * 8; i++) {
    const isSet = i < page.to * 8 && (page.bits[i >>> 3]! & (0x80 >>> (i & 7))) !== 0
    if (isSet && open < 0) open = i
    if (isSet || open < 0) continue
    if (ranges.length === limit) return null
    ranges.push([start + open, i - open])
    open = -1
  }
  return ranges
}
