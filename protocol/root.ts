/**
 * The root map: what the root block of a share holds, written and strictly read; and the padded size of a share.
 *
 * Everything below the root is fixed by it: counts, the keys of data blocks or of key pages, the groups or the list of path pages, the inline rest.
 */
import { CborReader, type CborValue, Encoded, encodeCbor } from './cbor.ts'
import type { DagShape } from './dag.ts'
import { assert, FormatError } from './errors.ts'
import { FORMAT } from './limits.ts'
import { checkDir, checkName, comparePairs } from './names.ts'
import { type Pair, unpadDocument } from './pages.ts'

/** A path page as the root lists it. */
export interface PathPageRef extends Pair {
  /** 32 bytes. */
  key: Uint8Array
}

/** How many blocks there are of each kind. */
export interface BlockCounts {
  data: number
  keys: number
  paths: number
  pads: number
}

/** The content of a root. */
export interface RootMap {
  counts: BlockCounts
  /** The inline rest, addressed as position D; null where there is none. */
  inline: Uint8Array | null
  files: number
  sizeBytes: number
  /** 32 bytes a data block, or a key page where there are any. */
  keys: Uint8Array
  /** The CBOR of the groups; null where path pages hold them. */
  groups: Uint8Array | null
  pages: PathPageRef[]
}

/** The smallest padded size that is at least `lengthBytes` (PADMÉ): it leaves log2(log2 L)+1 significant bits. */
export function padme(lengthBytes: number): number {
  if (lengthBytes <= 1) return lengthBytes
  let exponent = 0
  while (2 ** (exponent + 1) <= lengthBytes) exponent++
  // The bit length of the exponent.
  const kept = 32 - Math.clz32(exponent)
  const step = 2 ** (exponent - kept)
  // Sizes stay below 2^53 and the step is a power of two, so this is exact.
  return Math.ceil(lengthBytes / step) * step
}

/** How many key pages a share of `dataBlocks` has. */
export function keyPageCount(dataBlocks: number): number {
  return dataBlocks <= FORMAT.inlineKeysMax ? 0 : Math.ceil(dataBlocks / FORMAT.keysPerPage)
}

/** The CBOR of a root. */
export function encodeRootMap(root: Omit<RootMap, 'counts'> & { counts: Omit<BlockCounts, 'pads'> }): Uint8Array {
  const { data, keys, paths } = root.counts
  const map = new Map<string, CborValue>([
    ['c', [data, keys, paths]],
    ['f', root.files],
    ['k', root.keys],
    ['p', root.groups === null ? root.pages.map((page) => [page.dir, page.name, page.key]) : new Encoded(root.groups)],
    ['s', root.sizeBytes],
    ['v', 1],
  ])
  if (root.inline !== null) {
    assert(root.inline.length > 0, 'an empty inline rest')
    map.set('d', root.inline)
  }
  return encodeCbor(map)
}

/** Reads an opened root block of a share of this shape. Throws FormatError X1..X5, P1. Byte strings are views. */
export function decodeRoot(rootPlain: Uint8Array, shape: DagShape): RootMap {
  const fields = readFields(CborReader.open(unpadDocument(rootPlain), FORMAT.nestingMax))
  const counts = readCounts(need(fields, 'c'), shape)
  const version = need(fields, 'v').uint('v')
  if (version !== 1) throw new FormatError('X3', `share of version ${version}`)
  const inline = fields.get('d')?.bytes('d') ?? null
  if (inline?.length === 0) throw new FormatError('X3', 'an empty inline rest')
  checkExtensions(fields.get('e'))
  const files = need(fields, 'f').uint('f')
  if (files > FORMAT.filesMax) throw new FormatError('X4', `${files} files, limit ${FORMAT.filesMax}`)
  const keys = need(fields, 'k').bytes('k')
  const keyCount = counts.keys === 0 ? counts.data : counts.keys
  if (keys.length !== 32 * keyCount) throw new FormatError('X4', `${keys.length} bytes of keys for ${keyCount} keys`)
  const sizeBytes = need(fields, 's').uint('s')
  const p = need(fields, 'p')
  if (counts.paths > 0) return { counts, inline, files, sizeBytes, keys, groups: null, pages: readPages(p, counts.paths) }
  const groups = p.skip()
  if (groups.length > FORMAT.inlineGroupsBytesMax) {
    throw new FormatError('X4', `inline groups of ${groups.length} bytes, limit ${FORMAT.inlineGroupsBytesMax}`)
  }
  return { counts, inline, files, sizeBytes, keys, groups, pages: [] }
}

const KNOWN_FIELDS = new Set(['c', 'd', 'e', 'f', 'k', 'p', 's', 'v'])

function readFields(reader: CborReader): Map<string, CborReader> {
  const count = reader.map('the root')
  const fields = new Map<string, CborReader>()
  for (let i = 0; i < count; i++) {
    const key = reader.text('a key of the root')
    if (!KNOWN_FIELDS.has(key)) throw new FormatError('X3', `unknown key ${JSON.stringify(key)} in the root`)
    fields.set(key, new CborReader(reader.skip()))
  }
  return fields
}

function need(fields: Map<string, CborReader>, key: string): CborReader {
  const field = fields.get(key)
  if (field === undefined) throw new FormatError('X3', `the root has no key ${key}`)
  return field
}

function readCounts(reader: CborReader, shape: DagShape): BlockCounts {
  const arity = reader.array('c')
  if (arity !== 3) throw new FormatError('X3', `c has ${arity} numbers`)
  const data = reader.uint('the count of data blocks')
  const keys = reader.uint('the count of key pages')
  const paths = reader.uint('the count of path pages')
  if (keys > FORMAT.pagesMax || paths > FORMAT.pagesMax) throw new FormatError('X4', `${keys} and ${paths} pages, limit ${FORMAT.pagesMax}`)
  if (keys !== keyPageCount(data)) throw new FormatError('X4', `${keys} key pages for ${data} data blocks`)
  const pads = shape.blockCount - 1 - data - keys - paths
  if (pads < 0) throw new FormatError('X4', `${data}+${keys}+${paths}+1 blocks counted, the share has ${shape.blockCount}`)
  return { data, keys, paths, pads }
}

function checkExtensions(reader: CborReader | undefined): void {
  if (reader === undefined) return
  const encoded = reader.skip()
  if (new CborReader(encoded).map('e') === 0) throw new FormatError('X3', 'extensions without any')
  if (encoded.length > FORMAT.extensionBytesMax) {
    throw new FormatError('X4', `extensions of ${encoded.length} bytes, limit ${FORMAT.extensionBytesMax}`)
  }
}

function readPages(reader: CborReader, expected: number): PathPageRef[] {
  const count = reader.array('p')
  if (count !== expected) throw new FormatError('X4', `list of ${count} path pages, the root counts ${expected}`)
  const pages: PathPageRef[] = []
  for (let i = 0; i < count; i++) {
    const arity = reader.array('a path page')
    if (arity !== 3) throw new FormatError('X3', `path page with ${arity} fields`)
    const dir = reader.text('a directory')
    const name = reader.text('a name')
    const key = reader.bytes('the key of a path page')
    checkDir(dir)
    if (name !== '') checkName(name)
    if (key.length !== 32) throw new FormatError('X3', `key of ${key.length} bytes`)
    const last = pages.at(-1)
    if (last !== undefined && comparePairs(last, { dir, name }) >= 0) throw new FormatError('X5', 'path pages are not strictly ascending')
    pages.push({ dir, name, key })
  }
  return pages
}
