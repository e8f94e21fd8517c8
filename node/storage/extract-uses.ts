/**
 * Which stretches of which files a data block holds: a table of uses by position, in typed arrays, and the bits of positions wanted.
 *
 * A use covers one position (a fragment) or a run of whole blocks, however long, in one row; so a share that names the same blocks a
 * million times costs no more memory than its index. Rows that cover a position are found in logarithmic time through a tree of run ends.
 */
import { STORAGE } from '../../protocol/limits.ts'
import { FileError } from './file-error.ts'

interface NumberArray {
  readonly length: number
  [index: number]: number
  set(from: ArrayLike<number>): void
}

/** A typed array that grows by doubling. */
export class Column<T extends NumberArray> {
  readonly #make: new (
    length: number,
  ) => T
  #values: T
  length = 0

  constructor(make: new (length: number) => T) {
    this.#make = make
    this.#values = new make(256)
  }

  push(value: number): void {
    if (this.length === this.#values.length) {
      const larger = new this.#make(this.length * 2)
      larger.set(this.#values)
      this.#values = larger
    }
    this.set(this.length, value)
    this.length += 1
  }

  at(index: number): number {
    return this.#values[index]!
  }

  set(index: number, value: number): void {
    // Every NumberArray used here is writable at numbers; a generic T may not be indexed for writing without saying so.
    ;(this.#values as NumberArray)[index] = value
  }
}

/** One stretch of a file inside one block. */
export interface Use {
  file: number
  fileOffsetBytes: number
  blockOffsetBytes: number
  lengthBytes: number
}

/** Rows are added in any order, then `seal` sorts them once; only then can positions be asked for. */
export class UseTable {
  readonly #pieceBytes: number
  readonly #first = new Column(Uint32Array)
  readonly #count = new Column(Uint32Array)
  readonly #file = new Column(Uint32Array)
  readonly #fileOffset = new Column(Float64Array)
  readonly #blockOffset = new Column(Uint32Array)
  readonly #lengths = new Column(Uint32Array)
  #order = new Uint32Array(0)
  #leaves = 1
  #maxEnd = new Uint32Array(0)

  constructor(pieceBytes: number) {
    this.#pieceBytes = pieceBytes
  }

  addBlocks(file: number, fileOffsetBytes: number, position: number, count: number): void {
    this.#add(position, count, { file, fileOffsetBytes, blockOffsetBytes: 0, lengthBytes: this.#pieceBytes })
  }

  addFragment(position: number, use: Use): void {
    this.#add(position, 1, use)
  }

  #add(position: number, count: number, use: Use): void {
    if (this.#first.length >= STORAGE.extractUsesMax) {
      throw new FileError(
        'TOO_LARGE',
        `more than ${STORAGE.extractUsesMax} stretches of files at once: take a part of the share with a path`,
      )
    }
    this.#first.push(position)
    this.#count.push(count)
    this.#file.push(use.file)
    this.#fileOffset.push(use.fileOffsetBytes)
    this.#blockOffset.push(use.blockOffsetBytes)
    this.#lengths.push(use.lengthBytes)
  }

  /** Sorts the rows; returns the bits of all positions that some row covers. */
  seal(positions: number): Bits {
    const rows = this.#first.length
    // Position (28 bits) and row (24 bits) fit one float exactly, and floats are sorted natively.
    const keys = new Float64Array(rows)
    for (let row = 0; row < rows; row += 1) keys[row] = this.#first.at(row) * STORAGE.extractUsesMax + row
    keys.sort()
    this.#order = Uint32Array.from(keys, (key) => key % STORAGE.extractUsesMax)
    while (this.#leaves < rows) this.#leaves *= 2
    this.#maxEnd = new Uint32Array(this.#leaves * 2)
    const wanted = new Bits(positions)
    let covered = 0
    for (let at = 0; at < rows; at += 1) {
      const row = this.#order[at]!
      const end = this.#first.at(row) + this.#count.at(row)
      this.#maxEnd[this.#leaves + at] = end
      for (covered = Math.max(covered, this.#first.at(row)); covered < end; covered += 1) wanted.set(covered)
    }
    for (let node = this.#leaves - 1; node > 0; node -= 1) {
      this.#maxEnd[node] = Math.max(this.#maxEnd[node * 2]!, this.#maxEnd[node * 2 + 1]!)
    }
    return wanted
  }

  /** All stretches that the block at `position` holds. */
  *at(position: number): Generator<Use> {
    const pending: [node: number, low: number, size: number][] = [[1, 0, this.#leaves]]
    for (let top = pending.pop(); top !== undefined; top = pending.pop()) {
      const [node, low, size] = top
      if (low >= this.#order.length || this.#maxEnd[node]! <= position || this.#first.at(this.#order[low]!) > position) continue
      if (size === 1) yield this.#useOf(this.#order[low]!, position)
      else pending.push([node * 2 + 1, low + size / 2, size / 2], [node * 2, low, size / 2])
    }
  }

  /** The positions, below `positions`, of which one stretch holds every byte. */
  whole(positions: number): Bits {
    const whole = new Bits(positions)
    for (let row = 0; row < this.#first.length; row += 1) {
      if (this.#lengths.at(row) !== this.#pieceBytes) continue
      const end = Math.min(positions, this.#first.at(row) + this.#count.at(row))
      for (let position = this.#first.at(row); position < end; position += 1) whole.set(position)
    }
    return whole
  }

  /** The runs of positions that hold stretches of a file. Files were added in ascending order. */
  *runsOf(file: number): Generator<[first: number, count: number]> {
    let low = 0
    for (let high = this.#file.length; low < high; ) {
      const middle = (low + high) >>> 1
      if (this.#file.at(middle) < file) low = middle + 1
      else high = middle
    }
    for (; low < this.#file.length && this.#file.at(low) === file; low += 1) yield [this.#first.at(low), this.#count.at(low)]
  }

  #useOf(row: number, position: number): Use {
    return {
      file: this.#file.at(row),
      fileOffsetBytes: this.#fileOffset.at(row) + (position - this.#first.at(row)) * this.#pieceBytes,
      blockOffsetBytes: this.#blockOffset.at(row),
      lengthBytes: this.#lengths.at(row),
    }
  }
}

/** A fixed row of bits. */
export class Bits {
  readonly length: number
  readonly #bytes: Uint8Array

  constructor(length: number) {
    this.length = length
    this.#bytes = new Uint8Array(Math.ceil(length / 8))
  }

  has(index: number): boolean {
    return index < this.length && (this.#bytes[index >>> 3]! & (1 << (index & 7))) !== 0
  }

  set(index: number): void {
    this.#bytes[index >>> 3]! |= 1 << (index & 7)
  }

  clear(index: number): void {
    this.#bytes[index >>> 3]! &= ~(1 << (index & 7))
  }

  /** The first set bit at or after `index`, or -1. */
  next(index: number): number {
    for (let at = index; at < this.length; ) {
      if ((at & 7) === 0 && this.#bytes[at >>> 3] === 0) at += 8
      else if (this.has(at)) return at
      else at += 1
    }
    return -1
  }
}
