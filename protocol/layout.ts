/**
 * Writes a share in one pass: pieces and tails in, sealed blocks out, then the index and the tree.
 *
 * Deterministic: the same entries under the same scope give the same blocks, root and read key. In memory are a few blocks, 64 bytes a data
 * block, the groups of the page being filled, and the entries whose last bytes lie in the fragment block that is still open.
 */
import { compareUtf8, isZero, writeU64 } from './bytes.ts'
import type { ShareCid } from './cid.ts'
import { buildDag, type DagShape, shapeOf } from './dag.ts'
import { appendExtent, type Entry, type Extent } from './entry.ts'
import { assert, FormatError, InputError } from './errors.ts'
import { FragmentStream, isCutAfter } from './fragments.ts'
import { joinDigests, KeyTable } from './key-table.ts'
import { FORMAT, READER } from './limits.ts'
import { checkDir, checkName, joinPath, PathWatch } from './names.ts'
import { encodeKeyPage, type FilledPage, PageBuilder, padDocument } from './pages.ts'
import { checkExtentCount, encodePending, isPlaced, type PendingEntry } from './pending-entry.ts'
import { cutPieces, type Scratch } from './pieces.ts'
import type { Primitives } from './primitives.ts'
import { type BlockCounts, encodeRootMap, keyPageCount, type PathPageRef, padme } from './root.ts'
import { type BlockName, type BlockSealer, ROOT_OVERHEAD_BYTES } from './seal.ts'
import { type Put, SealQueue } from './seal-queue.ts'
import type { Secret } from './secret.ts'

/** What a finished share is. */
export interface WrittenShare {
  cid: ShareCid
  readKey: Secret
  shape: DagShape
  files: number
  /** Sum of all file sizes. */
  sizeBytes: number
  counts: BlockCounts
}

/** A file to be added. */
export interface FileInfo {
  /** "" for the top, else components joined by "/". */
  dir: string
  name: string
  executable: boolean
  /** Only where the user asked for it. */
  mtimeSeconds?: number
  /** SHA-256 of the content, only where the user asked for it. */
  sha256?: Uint8Array
}

const NO_KEY = new Uint8Array(32)

/** One pass; entries come in strictly ascending (dir, name) order, an empty directory counting as (dir, ""). After an error it is of no use. */
export class ShareWriter {
  readonly #primitives: Primitives
  readonly #sealer: BlockSealer
  readonly #queue: SealQueue
  readonly #isMadeOnDemand: boolean
  readonly #table = new KeyTable()
  readonly #fragments: FragmentStream
  readonly #watch = new PathWatch(READER.pathsWatchedBytesMax)
  readonly #pathDigests: Uint8Array[] = []
  readonly #pathPages: PathPageRef[] = []
  readonly #scratch: Scratch = { piece: null }
  #pending: PendingEntry[] = []
  #pages = new PageBuilder()
  #lastPair: { dir: string; name: string } | null = null
  #files = 0
  #sizeBytes = 0

  /** `put` gets every block and tree node, each data block once; it may run up to `concurrency` times at once. Data blocks and pads that are
   *  made on demand are named only: it gets none of them. */
  constructor(init: { primitives: Primitives; sealer: BlockSealer; put: Put; concurrency: number; isMadeOnDemand?: boolean }) {
    this.#primitives = init.primitives
    this.#sealer = init.sealer
    this.#queue = new SealQueue(init.sealer, init.put, init.concurrency)
    this.#isMadeOnDemand = init.isMadeOnDemand ?? false
    this.#fragments = new FragmentStream((block, piece) =>
      this.#addBlock(piece, (position) => {
        block.position = position
      }),
    )
  }

  /** Adds a file; its size is the number of bytes in `content` (chunks are taken), which is returned. Throws InputError. */
  async addFile(file: FileInfo, content: AsyncIterable<Uint8Array>): Promise<number> {
    this.#checkOrder(file.dir, file.name)
    if (++this.#files > FORMAT.filesMax) throw new InputError('TOO_LARGE', `more than ${FORMAT.filesMax} files`)
    const entry: Entry = { ...file, sizeBytes: 0, extents: [] }
    const pending: PendingEntry = { entry, tail: [], isSettled: false }
    this.#pending.push(pending)
    for await (const piece of cutPieces(content, this.#scratch)) {
      entry.sizeBytes += piece.length
      if (piece.length === FORMAT.pieceBytes) await this.#addPiece(entry, piece)
      else {
        pending.tail = await this.#fragments.append(piece)
        if (await isCutAfter(this.#primitives, file.dir, file.name, piece.length)) await this.#fragments.closeBlock()
      }
    }
    this.#sizeBytes += entry.sizeBytes
    if (!Number.isSafeInteger(this.#sizeBytes)) throw new InputError('TOO_LARGE', 'the files hold 2^53 bytes or more')
    await this.#queue.after(() => {
      pending.isSettled = true
    })
    await this.#flushEntries()
    return entry.sizeBytes
  }

  /** Adds a directory that holds nothing. Throws InputError. */
  async addEmptyDirectory(dir: string): Promise<void> {
    this.#checkOrder(dir, '')
    const entry: Entry = { dir, name: '', sizeBytes: 0, extents: [], executable: false }
    this.#pending.push({ entry, tail: [], isSettled: true })
    await this.#flushEntries()
  }

  /** Writes what is left: the rest of the fragments, the index, pads, root and tree. Throws InputError where a limit is passed. */
  async finish(): Promise<WrittenShare> {
    if (this.#lastPair === null) await this.addEmptyDirectory('')
    await this.#queue.drain()
    await this.#flushEntries()
    const inline = await this.#placeRest()
    await this.#flushEntries()
    assert(this.#pending.length === 0, `${this.#pending.length} entries without a place`)
    const groups = await this.#closePages()
    return await this.#writeRoot(inline, groups)
  }

  /** After an error: waits until no `put` is at work any more, so that what it was putting can be tidied up. Does not throw. */
  async abandon(): Promise<void> {
    await this.#queue.quiet()
  }

  #checkOrder(dir: string, name: string): void {
    try {
      checkDir(dir)
      if (name !== '') checkName(name)
    } catch (cause) {
      if (!(cause instanceof FormatError)) throw cause
      throw new InputError('BAD_NAME', `${JSON.stringify(joinPath(dir, name))} cannot be shared: ${cause.message}`, { cause })
    }
    const last = this.#lastPair
    const order = last === null ? -1 : compareUtf8(last.dir, dir) || compareUtf8(last.name, name)
    assert(order < 0, 'entries were not added in ascending order')
    this.#lastPair = { dir, name }
    const collision = this.#watch.add(dir, name)
    if (collision !== null) {
      throw new InputError('COLLISION', `${JSON.stringify(collision)} is both a directory with children and something without`)
    }
  }

  async #addPiece(entry: Entry, piece: Uint8Array): Promise<void> {
    const append = (extent: Extent): void => {
      appendExtent(entry.extents, extent)
      checkExtentCount(entry)
    }
    if (isZero(piece)) await this.#queue.after(() => append({ kind: 'hole', lengthBytes: FORMAT.pieceBytes }))
    else await this.#addBlock(piece, (position) => append({ kind: 'blocks', position, count: 1 }))
  }

  // Seals a data block; a block that the share has already is not put again.
  async #addBlock(piece: Uint8Array, place: (position: number) => void): Promise<void> {
    await this.#sealOrName('data', piece, ({ key, digest }) => {
      const known = this.#table.find(key)
      place(known >= 0 ? known : this.#table.add(key, digest))
      if (this.#table.count > FORMAT.blocksMax) throw new InputError('TOO_LARGE', `more than ${FORMAT.blocksMax} blocks`)
      return known < 0
    })
  }

  async #sealOrName(kind: 'data' | 'pad', plaintext: Uint8Array, settle: (sealed: BlockName) => boolean): Promise<void> {
    if (this.#isMadeOnDemand) await this.#queue.name(kind, plaintext, settle)
    else await this.#queue.seal(kind, plaintext, settle)
  }

  async #flushEntries(): Promise<void> {
    let done = 0
    for (const pending of this.#pending) {
      if (!isPlaced(pending)) break
      const full = this.#pages.add(pending.entry.dir, pending.entry.name, encodePending(pending))
      if (full !== null) await this.#sealPathPage(full)
      done++
    }
    if (done > 0) this.#pending = this.#pending.slice(done)
  }

  async #sealPathPage(page: FilledPage): Promise<void> {
    const index = this.#pathPages.length
    if (index === FORMAT.pagesMax) throw new InputError('TOO_LARGE', `more than ${FORMAT.pagesMax} path pages: too many names`)
    const ref: PathPageRef = { dir: page.dir, name: page.name, key: NO_KEY }
    this.#pathPages.push(ref)
    await this.#queue.seal('path', padDocument(page.groups, FORMAT.pieceBytes), ({ key, digest }) => {
      ref.key = key
      this.#pathDigests[index] = digest
      return true
    })
  }

  // The rest of the fragment stream goes into the root if that fits, else into a block. Returns what goes into the root.
  async #placeRest(): Promise<Uint8Array | null> {
    const rest = this.#fragments.rest
    if (rest.length === 0) return null
    if (this.#fitsInline(rest)) {
      this.#fragments.placeRest(this.#table.count)
      return rest
    }
    await this.#fragments.closeBlock()
    await this.#queue.drain()
    return null
  }

  // Lays out the entries still pending as if the rest were inline, on a copy, and measures the root.
  #fitsInline(rest: Uint8Array): boolean {
    const pages = this.#pages.fork()
    const refs: PathPageRef[] = [...this.#pathPages]
    const position = this.#table.count
    for (const pending of this.#pending) {
      const full = pages.add(pending.entry.dir, pending.entry.name, encodePending(pending, position))
      if (full !== null) refs.push({ ...full, key: NO_KEY })
    }
    const last = pages.close()
    const groups = inlineGroups(refs, last)
    if (groups === null) refs.push({ ...last, key: NO_KEY })
    return ROOT_OVERHEAD_BYTES + this.#rootCbor(rest, groups, refs, null).length <= FORMAT.blockBytes
  }

  // The groups, if they are to stand in the root; else the last page is sealed.
  async #closePages(): Promise<Uint8Array | null> {
    const last = this.#pages.close()
    const groups = inlineGroups(this.#pathPages, last)
    if (groups !== null) return groups
    await this.#sealPathPage(last)
    await this.#queue.drain()
    return null
  }

  async #writeRoot(inline: Uint8Array | null, groups: Uint8Array | null): Promise<WrittenShare> {
    const keyPages = await this.#sealKeyPages()
    await this.#queue.drain()
    const cbor = this.#rootCbor(inline, groups, this.#pathPages, keyPages?.keys ?? null)
    const leastBytes = ROOT_OVERHEAD_BYTES + cbor.length
    if (leastBytes > FORMAT.blockBytes) {
      throw new InputError(
        'TOO_LARGE',
        `the index needs a root of ${leastBytes} bytes, limit ${FORMAT.blockBytes}: too many or too long names`,
      )
    }
    const counts = { data: this.#table.count, keys: keyPages?.digests.length ?? 0, paths: this.#pathPages.length, pads: 0 }
    const before = counts.data + counts.keys + counts.paths
    const totalBytes = padme(Math.max(FORMAT.shareBytesMin, before * FORMAT.blockBytes + leastBytes))
    if (totalBytes > FORMAT.blocksMax * FORMAT.blockBytes) throw new InputError('TOO_LARGE', `more than ${FORMAT.blocksMax} blocks`)
    const shape = shapeOf(totalBytes)
    counts.pads = shape.blockCount - 1 - before
    const rootBytes = totalBytes - (shape.blockCount - 1) * FORMAT.blockBytes
    assert(rootBytes >= leastBytes, `root block of ${rootBytes} bytes for ${leastBytes}`)
    const root = await this.#sealer.sealRoot(padDocument(cbor, rootBytes - (ROOT_OVERHEAD_BYTES - 4)))
    const pads = await this.#sealPads(counts.pads)
    await this.#queue.put(root.digest, root.block, 'root')
    const digests = joinDigests(shape.blockCount, [[this.#table.digests], pads, keyPages?.digests ?? [], this.#pathDigests, [root.digest]])
    const cid = await buildDag(this.#primitives, digests, totalBytes, (_level, _index, digest, node) =>
      this.#queue.put(digest, node, 'node'),
    )
    await this.#queue.drain()
    return { cid, readKey: root.readKey, shape, files: this.#files, sizeBytes: this.#sizeBytes, counts }
  }

  // `pageKeys`: the keys of the key pages, null where there are none or they are not known yet.
  #rootCbor(inline: Uint8Array | null, groups: Uint8Array | null, pages: PathPageRef[], pageKeys: Uint8Array | null): Uint8Array {
    const data = this.#table.count
    const keyPages = keyPageCount(data)
    return encodeRootMap({
      counts: { data, keys: keyPages, paths: groups === null ? pages.length : 0 },
      inline,
      files: this.#files,
      sizeBytes: this.#sizeBytes,
      keys: keyPages === 0 ? this.#table.keys : (pageKeys ?? new Uint8Array(32 * keyPages)),
      groups,
      pages,
    })
  }

  async #sealKeyPages(): Promise<{ keys: Uint8Array; digests: Uint8Array[] } | null> {
    const count = keyPageCount(this.#table.count)
    if (count === 0) return null
    if (count > FORMAT.pagesMax) throw new InputError('TOO_LARGE', `${count} key pages, limit ${FORMAT.pagesMax}`)
    const keys = new Uint8Array(32 * count)
    const digests: Uint8Array[] = []
    const pageBytes = 32 * FORMAT.keysPerPage
    for (let page = 0; page < count; page++) {
      const plaintext = encodeKeyPage(this.#table.keys.subarray(pageBytes * page, pageBytes * (page + 1)))
      await this.#queue.seal('keys', plaintext, ({ key, digest }) => {
        keys.set(key, 32 * page)
        digests[page] = digest
        return true
      })
    }
    return { keys, digests }
  }

  async #sealPads(count: number): Promise<Uint8Array[]> {
    const digests: Uint8Array[] = []
    for (let pad = 0; pad < count; pad++) {
      const plaintext = new Uint8Array(FORMAT.pieceBytes)
      writeU64(plaintext, 0, pad)
      await this.#sealOrName('pad', plaintext, ({ digest }) => {
        digests[pad] = digest
        return true
      })
    }
    await this.#queue.drain()
    return digests
  }
}

// The groups of a share whose last page is `last`, where they fit into the root. A page is only ever full beyond that limit.
function inlineGroups(before: readonly PathPageRef[], last: FilledPage): Uint8Array | null {
  return before.length === 0 && last.groups.length <= FORMAT.inlineGroupsBytesMax ? last.groups : null
}
