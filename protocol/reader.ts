/**
 * Reads a share page by page: the root first, then only the pages and blocks that are asked for.
 *
 * Blocks come from `fetchBlock`, which has checked them against the tree; everything about their content is checked here before a byte of it
 * is given out. Names that collide are noticed as far as one pass over sorted entries can; the rest is checked where files are created.
 */

import { CborReader } from './cbor.ts'
import type { DagShape } from './dag.ts'
import type { Entry, ExtentBounds } from './entry.ts'
import { assert, FormatError } from './errors.ts'
import { FORMAT, READER } from './limits.ts'
import { checkPath, comparePairs, joinPath, PathWatch, splitPath } from './names.ts'
import { checkKeyPage, type Pair, readGroups, readPathPage } from './pages.ts'
import type { Primitives } from './primitives.ts'
import { type BlockCounts, decodeRoot, type RootMap } from './root.ts'
import type { BlockOpener } from './seal.ts'
import type { Secret } from './secret.ts'
import { type PiecePart, partsOf, stretchesOf, zerosOf } from './stretches.ts'

/** What a reader needs. */
export interface ReaderInit {
  opener: BlockOpener
  primitives: Primitives
  readKey: Secret
  shape: DagShape
  /** The block at a position, checked against the tree; given away. */
  fetchBlock: (position: number) => Promise<Uint8Array>
}

/** An opened share. Methods throw FormatError by the rules of protocol/README.md, "What a reader rejects", and pass on what fetchBlock throws. */
export class ShareReader {
  readonly #opener: BlockOpener
  readonly #shape: DagShape
  readonly #fetchBlock: (position: number) => Promise<Uint8Array>
  readonly #root: RootMap
  readonly #bounds: ExtentBounds
  // Least recently used first.
  readonly #keyPages = new Map<number, Uint8Array>()
  #lastPiece: { position: number; piece: Uint8Array } | null = null

  private constructor(init: ReaderInit, root: RootMap) {
    this.#opener = init.opener
    this.#shape = init.shape
    this.#fetchBlock = init.fetchBlock
    this.#root = root
    this.#bounds = { dataBlocks: root.counts.data, inlineBytes: root.inline?.length ?? 0 }
  }

  /** Fetches and opens the root block, the last of the share. */
  static async open(init: ReaderInit): Promise<ShareReader> {
    const block = await init.fetchBlock(init.shape.blockCount - 1)
    return new ShareReader(init, decodeRoot(await init.opener.openRoot(init.readKey, block), init.shape))
  }

  /** How many files the share says it has. */
  get files(): number {
    return this.#root.files
  }

  /** The sum of all file sizes, as the share says. */
  get sizeBytes(): number {
    return this.#root.sizeBytes
  }

  /** D: positions 0..D-1 hold pieces of files. */
  get dataBlocks(): number {
    return this.#root.counts.data
  }

  /** The bytes at position D, which the root holds (a view); null where there are none. */
  get inline(): Uint8Array | null {
    return this.#root.inline
  }

  get counts(): BlockCounts {
    return { ...this.#root.counts }
  }

  /** Whether it unpacks to so much more than it weighs that the user is to be asked first (rule X7). */
  get isExpansive(): boolean {
    return this.#root.sizeBytes > FORMAT.expansionMax * this.#shape.totalBytes
  }

  /** Throws FormatError X7 for an expansive share, for callers that have no consent. */
  checkExpansion(): void {
    if (!this.isExpansive) return
    throw new FormatError('X7', `share of ${this.#shape.totalBytes} bytes unpacks to ${this.sizeBytes}`)
  }

  /** Where the index is, so that it can be fetched first. */
  indexPositions(): { rootPosition: number; pagePositions: number[] } {
    const { data, pads, keys, paths } = this.#root.counts
    const pagePositions = Array.from({ length: keys + paths }, (_, i) => data + pads + i)
    return { rootPosition: this.#shape.blockCount - 1, pagePositions }
  }

  /** All entries in order; at the end the counts of the root are compared with what was read. */
  async *entries(): AsyncGenerator<Entry> {
    const watch = new PathWatch(READER.pathsWatchedBytesMax)
    let files = 0
    let sizeBytes = 0
    for (let page = 0; page < this.#pageCount; page++) {
      for (const entry of await this.#openPathPage(page)) {
        const collision = watch.add(entry.dir, entry.name)
        if (collision !== null) throw new FormatError('P2', `path with children that can have none: ${JSON.stringify(collision)}`)
        if (entry.name !== '') files++
        sizeBytes += entry.sizeBytes
        if (files > this.files || sizeBytes > this.sizeBytes) throw new FormatError('X5', 'more files or bytes than the root counts')
        yield entry
      }
    }
    if (files !== this.files) throw new FormatError('X5', `${files} files read, the root counts ${this.files}`)
    if (sizeBytes !== this.sizeBytes) throw new FormatError('X5', `${sizeBytes} bytes read, the root counts ${this.sizeBytes}`)
  }

  /** The file at `path`, or all entries below the directory `path` ("" for all); nothing where there is neither. Opens only the pages needed. */
  async *entriesUnder(path: string): AsyncGenerator<Entry> {
    if (path === '') {
      yield* this.entries()
      return
    }
    try {
      checkPath(path)
    } catch (cause) {
      if (!(cause instanceof FormatError)) throw cause
      throw new FormatError('L4', `no share holds such a path: ${cause.message}`, { cause })
    }
    const file = splitPath(path)
    for await (const entry of this.#range(file, (pair) => comparePairs(pair, file) === 0)) {
      yield entry
      return
    }
    yield* this.#range({ dir: path, name: '' }, (pair) => pair.dir === path)
    yield* this.#range({ dir: `${path}/`, name: '' }, (pair) => pair.dir.startsWith(`${path}/`))
  }

  /** The entry of a share that is one single file (one file at the top, no empty directory), else null. */
  async singleFile(): Promise<Entry | null> {
    if (this.files !== 1) return null
    let only: Entry | null = null
    for await (const entry of this.entries()) {
      if (only !== null || entry.dir !== '' || entry.name === '') return null
      only = entry
    }
    return only
  }

  /** Checks that a link's `name`, if it has one, goes with this share: only a single file may be renamed. Throws FormatError L4. */
  async checkLinkName(name: string | undefined): Promise<void> {
    if (name === undefined || (await this.singleFile()) !== null) return
    throw new FormatError('L4', 'the link names a file, but the share is not one single file')
  }

  /** The key of data block `position` (0..D-1), 32 bytes. */
  async keyOf(position: number): Promise<Uint8Array> {
    assert(Number.isInteger(position) && position >= 0 && position < this.dataBlocks, `no data block ${position}`)
    if (this.#root.counts.keys === 0) return this.#root.keys.slice(32 * position, 32 * position + 32)
    const page = await this.#openKeyPage(Math.floor(position / FORMAT.keysPerPage))
    const at = 32 * (position % FORMAT.keysPerPage)
    return page.slice(at, at + 32)
  }

  /** The plaintext of data block `position`; position D gives a copy of the inline rest. */
  async openPiece(position: number): Promise<Uint8Array> {
    if (position === this.dataBlocks && this.#root.inline !== null) return this.#root.inline.slice()
    const key = await this.keyOf(position)
    return this.checkedPiece(position, await this.#opener.open('data', key, await this.#fetchBlock(position)))
  }

  /** A piece that was opened elsewhere, as it is. Throws FormatError X1 when it has a wrong length. */
  checkedPiece(position: number, piece: Uint8Array): Uint8Array {
    if (piece.length !== FORMAT.pieceBytes) throw new FormatError('X1', `piece ${position} of ${piece.length} bytes`)
    return piece
  }

  /** Bytes `startBytes` (included) to `endBytes` (excluded) of a file of this share, by default all, in order, at most a piece at a time;
   *  chunks are given away. Only the blocks that hold them are fetched. */
  async *read(entry: Entry, startBytes = 0, endBytes = entry.sizeBytes): AsyncGenerator<Uint8Array> {
    for (const stretch of stretchesOf(entry, startBytes, endBytes)) {
      if (stretch.kind === 'pieces') for (const part of partsOf(stretch)) yield await this.#openPart(part)
      else for (const length of zerosOf(stretch.lengthBytes)) yield new Uint8Array(length)
    }
  }

  async #openPart({ position, offsetBytes, lengthBytes }: PiecePart): Promise<Uint8Array> {
    if (lengthBytes === FORMAT.pieceBytes) return await this.openPiece(position)
    return (await this.#openFragmentPiece(position)).slice(offsetBytes, offsetBytes + lengthBytes)
  }

  // Neighbouring small files lie in one block: keep the last.
  async #openFragmentPiece(position: number): Promise<Uint8Array> {
    if (this.#lastPiece?.position === position) return this.#lastPiece.piece
    const piece = await this.openPiece(position)
    this.#lastPiece = { position, piece }
    return piece
  }

  async #openKeyPage(index: number): Promise<Uint8Array> {
    let page = this.#keyPages.get(index)
    this.#keyPages.delete(index)
    if (page === undefined) {
      const { data, pads } = this.#root.counts
      const key = this.#root.keys.slice(32 * index, 32 * index + 32)
      page = await this.#opener.open('keys', key, await this.#fetchBlock(data + pads + index))
      checkKeyPage(page, Math.min(FORMAT.keysPerPage, data - index * FORMAT.keysPerPage))
    }
    this.#keyPages.set(index, page)
    for (const oldest of this.#keyPages.keys()) {
      if (this.#keyPages.size <= READER.keyPagesKeptMax) break
      this.#keyPages.delete(oldest)
    }
    return page
  }

  get #pageCount(): number {
    return Math.max(1, this.#root.pages.length)
  }

  // Entries from `first` on as long as `isInside` holds for them, page by page.
  async *#range(first: Pair, isInside: (pair: Pair) => boolean): AsyncGenerator<Entry> {
    for (let page = this.#pageOf(first); page < this.#pageCount; page++) {
      for (const entry of await this.#openPathPage(page)) {
        if (comparePairs(entry, first) < 0) continue
        if (!isInside(entry)) return
        yield entry
      }
    }
  }

  // The last page that begins at or before `pair`: binary search in the root's list.
  #pageOf(pair: Pair): number {
    let low = 0
    let high = this.#pageCount - 1
    while (low < high) {
      const middle = Math.ceil((low + high) / 2)
      if (comparePairs(this.#root.pages[middle]!, pair) <= 0) low = middle
      else high = middle - 1
    }
    return low
  }

  // Page 0 of a share without path pages is the list of groups in the root.
  async #openPathPage(index: number): Promise<Entry[]> {
    if (this.#root.groups !== null) return readGroups(new CborReader(this.#root.groups), this.#bounds)
    const { data, pads, keys } = this.#root.counts
    const ref = this.#root.pages[index]!
    const block = await this.#fetchBlock(data + pads + keys + index)
    const entries = readPathPage(await this.#opener.open('path', ref.key, block), this.#bounds)
    const next = this.#root.pages[index + 1]
    if (comparePairs(entries[0]!, ref) !== 0) throw new FormatError('X5', `path page ${index} does not begin with ${describe(ref)}`)
    if (next !== undefined && comparePairs(entries.at(-1)!, next) >= 0)
      throw new FormatError('X5', `path page ${index} reaches into the next`)
    return entries
  }
}

function describe(pair: Pair): string {
  return JSON.stringify(joinPath(pair.dir, pair.name))
}
