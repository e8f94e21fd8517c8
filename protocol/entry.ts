/**
 * One file or empty directory of a share, and how it is written in the index.
 *
 * An entry says where its bytes are: runs of whole blocks, holes, and one or two stretches inside fragment blocks.
 */
import { type CborReader, type CborValue, encodeCbor } from './cbor.ts'
import { FormatError } from './errors.ts'
import { FORMAT } from './limits.ts'
import { checkName } from './names.ts'

/** A stretch of a file: whole blocks, zeros, or bytes inside one block (position D: inside the root). */
export type Extent =
  | { kind: 'blocks'; position: number; count: number }
  | { kind: 'hole'; lengthBytes: number }
  | { kind: 'fragment'; position: number; offsetBytes: number; lengthBytes: number }

/** A file, or with the name "" an empty directory. */
export interface Entry {
  /** "" for the top, else components joined by "/". */
  dir: string
  name: string
  sizeBytes: number
  extents: Extent[]
  executable: boolean
  /** Seconds since 1970; only where the publisher asked for it. */
  mtimeSeconds?: number
  /** SHA-256 of the content; only where the publisher asked for it. */
  sha256?: Uint8Array
}

/** What extents may point at. */
export interface ExtentBounds {
  /** D. */
  dataBlocks: number
  /** Length of the inline rest at position D; 0 where there is none. */
  inlineBytes: number
}

/** Appends an extent to those of a file, merging runs of blocks and of holes. */
export function appendExtent(extents: Extent[], next: Extent): void {
  const last = extents.at(-1)
  if (last?.kind === 'blocks' && next.kind === 'blocks' && last.position + last.count === next.position) last.count += next.count
  else if (last?.kind === 'hole' && next.kind === 'hole') last.lengthBytes += next.lengthBytes
  else extents.push(next)
}

/** The CBOR of a file's entry. */
export function encodeEntry(entry: Entry): Uint8Array {
  const item: CborValue[] = [entry.name, entry.sizeBytes, entry.extents.map(extentNumbers)]
  const attributes = new Map<string, CborValue>()
  if (entry.executable) attributes.set('x', true)
  if (entry.mtimeSeconds !== undefined && entry.mtimeSeconds >= 0) attributes.set('t', Math.floor(entry.mtimeSeconds))
  if (entry.sha256 !== undefined) attributes.set('h', entry.sha256)
  if (attributes.size > 0) item.push(attributes)
  return encodeCbor(item)
}

function extentNumbers(extent: Extent): number[] {
  if (extent.kind === 'blocks') return [extent.position, extent.count]
  if (extent.kind === 'hole') return [extent.lengthBytes]
  return [extent.position, extent.offsetBytes, extent.lengthBytes]
}

/** Reads the entry of a file in `dir`. Throws FormatError X3, X6, P1. */
export function readEntry(reader: CborReader, dir: string, bounds: ExtentBounds): Entry {
  const arity = reader.array('an entry')
  if (arity !== 3 && arity !== 4) throw new FormatError('X3', `entry of ${arity} fields`)
  const name = reader.text('a file name')
  checkName(name)
  const sizeBytes = reader.uint('a file size')
  const extents = readExtents(reader, sizeBytes, bounds)
  const entry: Entry = { dir, name, sizeBytes, extents, executable: false }
  if (arity === 4) readAttributes(reader, entry)
  return entry
}

function readExtents(reader: CborReader, sizeBytes: number, bounds: ExtentBounds): Extent[] {
  const count = reader.array('a list of extents')
  if (count > FORMAT.extentsMax) throw new FormatError('X6', `${count} extents, limit ${FORMAT.extentsMax}`)
  const extents: Extent[] = []
  let fragments = 0
  let sum = 0
  for (let i = 0; i < count; i++) {
    const extent = readExtent(reader, bounds)
    if (extent.kind === 'fragment') fragments++
    else if (fragments > 0) throw new FormatError('X6', 'an extent after a fragment')
    if (fragments > 2) throw new FormatError('X6', 'more than two fragments in one file')
    sum += extentBytes(extent)
    // Also keeps the sum exact: it never grows past a safe integer and one extent.
    if (sum > sizeBytes) throw new FormatError('X6', `extents hold more than the file's ${sizeBytes} bytes`)
    extents.push(extent)
  }
  if (sum !== sizeBytes) throw new FormatError('X6', `extents hold ${sum} bytes, the file has ${sizeBytes}`)
  return extents
}

function readExtent(reader: CborReader, bounds: ExtentBounds): Extent {
  const arity = reader.array('an extent')
  if (arity === 1) {
    const lengthBytes = reader.uint('a hole')
    if (lengthBytes === 0 || lengthBytes % FORMAT.pieceBytes !== 0) {
      throw new FormatError('X6', `hole of ${lengthBytes} bytes is not a multiple of ${FORMAT.pieceBytes}`)
    }
    return { kind: 'hole', lengthBytes }
  }
  if (arity !== 2 && arity !== 3) throw new FormatError('X6', `extent of ${arity} numbers`)
  const position = reader.uint('a position')
  if (arity === 2) {
    const count = reader.uint('a count of blocks')
    if (count === 0 || position + count > bounds.dataBlocks) {
      throw new FormatError('X6', `${count} blocks at ${position}, the share has ${bounds.dataBlocks}`)
    }
    return { kind: 'blocks', position, count }
  }
  const offsetBytes = reader.uint('an offset')
  const lengthBytes = reader.uint('a length')
  if (position > bounds.dataBlocks) throw new FormatError('X6', `fragment at ${position}, the share has ${bounds.dataBlocks} blocks`)
  const limit = position === bounds.dataBlocks ? bounds.inlineBytes : FORMAT.pieceBytes
  if (lengthBytes === 0 || offsetBytes + lengthBytes > limit) {
    throw new FormatError('X6', `fragment of ${lengthBytes} bytes at ${offsetBytes}, its block holds ${limit}`)
  }
  return { kind: 'fragment', position, offsetBytes, lengthBytes }
}

/** How many bytes of the file an extent holds. */
export function extentBytes(extent: Extent): number {
  return extent.kind === 'blocks' ? extent.count * FORMAT.pieceBytes : extent.lengthBytes
}

function readAttributes(reader: CborReader, entry: Entry): void {
  const count = reader.map('attributes')
  if (count === 0) throw new FormatError('X3', 'attributes without any')
  for (let i = 0; i < count; i++) {
    const key = reader.text('the name of an attribute')
    if (key === 'x') {
      if (!reader.boolean('attribute x')) throw new FormatError('X3', 'attribute x is false')
      entry.executable = true
    } else if (key === 't') entry.mtimeSeconds = reader.uint('attribute t')
    else if (key === 'h') {
      const hash = reader.bytes('attribute h')
      if (hash.length !== 32) throw new FormatError('X3', `attribute h of ${hash.length} bytes`)
      entry.sha256 = hash.slice()
    } else throw new FormatError('X3', `unknown attribute ${JSON.stringify(key)}`)
  }
}
