/**
 * Groups of entries and the pages that hold them.
 *
 * PageBuilder takes encoded entries in order and cuts them into path pages by a fixed count of costs, so that every writer cuts at the same
 * places. The readers take pages apart again, check all of them (order, names, extents) and only then give entries out. Key pages are here too.
 */
import { concatAll, isZero, readU32, writeU32 } from './bytes.ts'
import { arrayHead, CborReader, encodeCbor } from './cbor.ts'
import { type Entry, type ExtentBounds, readEntry } from './entry.ts'
import { assert, FormatError } from './errors.ts'
import { FORMAT } from './limits.ts'
import { checkDir, comparePairs } from './names.ts'

/** The first (dir, name) on a page. */
export interface Pair {
  dir: string
  name: string
}

/** A page that is full: its first pair and the CBOR of its groups. */
export interface FilledPage extends Pair {
  groups: Uint8Array
}

interface Group {
  dir: string
  dirCbor: Uint8Array
  entries: Uint8Array[]
}

const PAGE_COST_START = 9
const PAGE_COST_MAX = FORMAT.pieceBytes - 4
const ENTRY_COST = 2
const FIRST_ENTRY_COST = 12
// CBOR of an empty list of entries.
const NO_ENTRIES = Uint8Array.of(0x80)

/** Cuts a stream of sorted entries into pages. */
export class PageBuilder {
  #groups: Group[] = []
  #first: Pair | null = null
  #cost = PAGE_COST_START

  /** Takes the next entry (`entry` is its CBOR; null: an empty directory). Returns the page that was full before it, if any. */
  add(dir: string, name: string, entry: Uint8Array | null): FilledPage | null {
    const dirCbor = this.#groups.at(-1)?.dir === dir ? this.#groups.at(-1)!.dirCbor : encodeCbor(dir)
    const page = this.#cost + this.#costOf(dir, dirCbor, entry) > PAGE_COST_MAX ? this.close() : null
    this.#cost += this.#costOf(dir, dirCbor, entry)
    assert(this.#cost <= PAGE_COST_MAX, 'an entry is larger than a page')
    this.#first ??= { dir, name }
    let group = this.#groups.at(-1)
    if (group?.dir !== dir) {
      group = { dir, dirCbor, entries: [] }
      this.#groups.push(group)
    }
    if (entry !== null) group.entries.push(entry)
    return page
  }

  get isEmpty(): boolean {
    return this.#first === null
  }

  /** The page so far, which must not be empty; the builder starts the next. */
  close(): FilledPage {
    assert(this.#first !== null, 'an empty page is closed')
    const page = { ...this.#first, groups: this.#encode() }
    this.#groups = []
    this.#first = null
    this.#cost = PAGE_COST_START
    return page
  }

  /** A builder in the same state, to try out how the rest would fit. */
  fork(): PageBuilder {
    const copy = new PageBuilder()
    copy.#groups = this.#groups.map((group) => ({ ...group, entries: [...group.entries] }))
    copy.#first = this.#first
    copy.#cost = this.#cost
    return copy
  }

  #costOf(dir: string, dirCbor: Uint8Array, entry: Uint8Array | null): number {
    if (entry === null) return 1 + dirCbor.length + NO_ENTRIES.length
    if (this.#groups.at(-1)?.dir === dir) return entry.length + ENTRY_COST
    return entry.length + dirCbor.length + FIRST_ENTRY_COST
  }

  #encode(): Uint8Array {
    const parts = [arrayHead(this.#groups.length)]
    for (const group of this.#groups) {
      parts.push(arrayHead(2), group.dirCbor, arrayHead(group.entries.length))
      for (const entry of group.entries) parts.push(entry)
    }
    return concatAll(parts)
  }
}

/** u32 length, CBOR, zeros up to `lengthBytes`. */
export function padDocument(document: Uint8Array, lengthBytes: number): Uint8Array {
  assert(document.length + 4 <= lengthBytes, `document of ${document.length} bytes for ${lengthBytes}`)
  const padded = new Uint8Array(lengthBytes)
  writeU32(padded, 0, document.length)
  padded.set(document, 4)
  return padded
}

/** The reverse: a view of the CBOR. Throws FormatError X1. */
export function unpadDocument(padded: Uint8Array): Uint8Array {
  const length = padded.length < 4 ? -1 : readU32(padded, 0)
  if (length < 0 || length > padded.length - 4) throw new FormatError('X1', `document of ${length} bytes in ${padded.length}`)
  if (!isZero(padded.subarray(4 + length))) throw new FormatError('X1', 'padding that is not zero')
  return padded.subarray(4, 4 + length)
}

/** The entries of an opened path page, all checked. Throws FormatError X1, X2, X3, X5, X6, P1. */
export function readPathPage(page: Uint8Array, bounds: ExtentBounds): Entry[] {
  return readGroups(CborReader.open(unpadDocument(page), FORMAT.nestingMax), bounds)
}

/** The entries of an array of groups in a checked document, strictly ascending. Throws FormatError X3, X5, X6, P1. */
export function readGroups(reader: CborReader, bounds: ExtentBounds): Entry[] {
  const groupCount = reader.array('a list of groups')
  if (groupCount === 0) throw new FormatError('X5', 'a page without groups')
  const entries: Entry[] = []
  let lastDir: string | null = null
  for (let i = 0; i < groupCount; i++) {
    const arity = reader.array('a group')
    if (arity !== 2) throw new FormatError('X3', `group of ${arity} fields`)
    const dir = reader.text('a directory')
    checkDir(dir)
    if (dir === lastDir) throw new FormatError('X5', 'a directory stands twice on a page')
    lastDir = dir
    const entryCount = reader.array('a list of entries')
    if (entryCount === 0) appendInOrder(entries, emptyDirectory(dir))
    for (let j = 0; j < entryCount; j++) appendInOrder(entries, readEntry(reader, dir, bounds))
  }
  return entries
}

function emptyDirectory(dir: string): Entry {
  return { dir, name: '', sizeBytes: 0, extents: [], executable: false }
}

function appendInOrder(entries: Entry[], next: Entry): void {
  const last = entries.at(-1)
  if (last !== undefined && comparePairs(last, next) >= 0) throw new FormatError('X5', 'entries are not strictly ascending')
  entries.push(next)
}

/** The plaintext of a key page: up to 32,767 keys (32 bytes each, borrowed), zeros. */
export function encodeKeyPage(keys: Uint8Array): Uint8Array {
  assert(keys.length <= 32 * FORMAT.keysPerPage, `${keys.length} bytes of keys on a page`)
  const page = new Uint8Array(FORMAT.pieceBytes)
  page.set(keys)
  return page
}

/** Checks that what follows the `keyCount` keys of an opened key page is zero. Throws FormatError X1. */
export function checkKeyPage(page: Uint8Array, keyCount: number): void {
  if (page.length !== FORMAT.pieceBytes) throw new FormatError('X1', `key page of ${page.length} bytes`)
  if (!isZero(page.subarray(32 * keyCount))) throw new FormatError('X1', 'a key page whose unused end is not zero')
}
