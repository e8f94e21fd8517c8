/**
 * CAR files, version 1, as far as they hold one share: what `ipfs dag export` writes for its root, and `ipfs dag import` reads.
 *
 * A header with the root, then the blocks of the tree depth first, each node before what is below it: number, CID, bytes. Only this is read:
 * numbers in their shortest form, one root, CIDs that a share can have, and no block longer than one. Who reads the file asks for its heads
 * one by one; which blocks are due and whether they are what they should be is checked there.
 */
import { concat, equalBytes } from './bytes.ts'
import { cidBytes, DAG_PB, formatCid, RAW, type ShareCid } from './cid.ts'
import { type DagShape, nodeCount, type ShareDag } from './dag.ts'
import { FormatError } from './errors.ts'
import { CAR, FORMAT } from './limits.ts'

/** What stands before the bytes of a block. */
export interface CarSection {
  codec: typeof RAW | typeof DAG_PB
  /** 32 bytes, a view. */
  digest: Uint8Array
  /** Of the number and the CID. */
  headBytes: number
  blockBytes: number
}

/** A place in the tree of a share. */
export interface CarPlace {
  /** 0: the leaves. */
  level: number
  index: number
}

const CID_BYTES = 36
/** {"roots": [CID], "version": 1} in DAG-CBOR, around the 36 bytes of the CID. */
const BEFORE_ROOT = Uint8Array.of(0xa2, 0x65, 0x72, 0x6f, 0x6f, 0x74, 0x73, 0x81, 0xd8, 0x2a, 0x58, 0x25, 0x00)
const AFTER_ROOT = Uint8Array.of(0x67, 0x76, 0x65, 0x72, 0x73, 0x69, 0x6f, 0x6e, 0x01)
const HEADER_BYTES = BEFORE_ROOT.length + CID_BYTES + AFTER_ROOT.length
/** {"version": 2}, by which a file of version 2 begins. */
const VERSION_2 = Uint8Array.of(0xa1, 0x67, 0x76, 0x65, 0x72, 0x73, 0x69, 0x6f, 0x6e, 0x02)

/** Of a number below 2^53. */
const VARINT_BYTES_MAX = 8
/** Enough to read any head from: show so many bytes, or what is left of the file. */
export const CAR_HEAD_BYTES_MAX: number = VARINT_BYTES_MAX + HEADER_BYTES

/** The header of a file that holds this share. */
export function encodeCarHeader(root: ShareCid): Uint8Array {
  return concat(varint(HEADER_BYTES), BEFORE_ROOT, cidBytes(root.codec, root.digest), AFTER_ROOT)
}

/** Reads a header from the beginning of a file. `headBytes` is its length. Throws FormatError C1. */
export function decodeCarHeader(bytes: Uint8Array): { root: ShareCid; headBytes: number } {
  const { value: length, end } = readVarint('C1', bytes, 0)
  if (length > CAR.headerBytesMax) throw new FormatError('C1', `a header of ${length} bytes, limit ${CAR.headerBytesMax}`)
  const header = bytes.subarray(end, end + length)
  if (equalBytes(header, VERSION_2)) throw new FormatError('C1', 'it is of version 2, and only version 1 is read')
  const rootEnd = BEFORE_ROOT.length + CID_BYTES
  const root = length === HEADER_BYTES ? readCid(header.subarray(BEFORE_ROOT.length, rootEnd)) : null
  const isOurs = equalBytes(header.subarray(0, BEFORE_ROOT.length), BEFORE_ROOT) && equalBytes(header.subarray(rootEnd), AFTER_ROOT)
  if (root === null || !isOurs)
    throw new FormatError('C1', 'its header is not that of version 1 with one root, which is the CID of a share')
  return { root: formatCid(root.codec, root.digest.slice()), headBytes: end + length }
}

/** What stands before the bytes of a block. */
export function encodeCarSection(codec: CarSection['codec'], digest: Uint8Array, blockBytes: number): Uint8Array {
  return concat(varint(CID_BYTES + blockBytes), cidBytes(codec, digest))
}

/** Reads what stands before the bytes of a block. Throws FormatError C2. */
export function decodeCarSection(bytes: Uint8Array): CarSection {
  const { value: length, end } = readVarint('C2', bytes, 0)
  if (length < CID_BYTES) throw new FormatError('C2', `a section of ${length} bytes, too short for the CID of a block`)
  if (length > CID_BYTES + FORMAT.blockBytes) {
    throw new FormatError('C2', `a section of ${length} bytes, limit ${CID_BYTES + FORMAT.blockBytes}`)
  }
  if (bytes.length < end + CID_BYTES) throw new FormatError('C2', 'the file ends inside a CID')
  const cid = readCid(bytes.subarray(end, end + CID_BYTES))
  if (cid === null) throw new FormatError('C2', 'a block whose CID is not version 1, raw or dag-pb, with SHA-256')
  const blockBytes = length - CID_BYTES
  if (cid.codec === DAG_PB && blockBytes > FORMAT.nodeBytesMax) {
    throw new FormatError('C2', `a node of ${blockBytes} bytes, limit ${FORMAT.nodeBytesMax}`)
  }
  return { ...cid, headBytes: end + CID_BYTES, blockBytes }
}

/** The places of a tree in the order in which a file holds them. */
export function* carOrder(shape: DagShape): Generator<CarPlace> {
  yield* below(shape, shape.depth, 0)
}

function* below(shape: DagShape, level: number, index: number): Generator<CarPlace> {
  yield { level, index }
  if (level === 0) return
  const end = Math.min(nodeCount(shape, level - 1), (index + 1) * FORMAT.nodeWidth)
  for (let child = index * FORMAT.nodeWidth; child < end; child++) yield* below(shape, level - 1, child)
}

/** The longest that a file of this share can be. */
export function carBytesMax({ shape, treeBytes }: Pick<ShareDag, 'shape' | 'treeBytes'>): number {
  let blocks = 0
  for (let level = 0; level <= shape.depth; level++) blocks += nodeCount(shape, level)
  const headBytes = varint(CID_BYTES + FORMAT.blockBytes).length + CID_BYTES
  return varint(HEADER_BYTES).length + HEADER_BYTES + treeBytes + blocks * headBytes
}

function readCid(cid: Uint8Array): { codec: CarSection['codec']; digest: Uint8Array } | null {
  const codec = cid[1] === RAW ? RAW : DAG_PB
  if (cid.length !== CID_BYTES) return null
  const digest = cid.subarray(4)
  return equalBytes(cidBytes(codec, digest), cid) ? { codec, digest } : null
}

function varint(value: number): Uint8Array {
  const bytes: number[] = []
  let rest = value
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128)
  return Uint8Array.of(...bytes, rest)
}

function readVarint(code: 'C1' | 'C2', bytes: Uint8Array, start: number): { value: number; end: number } {
  let value = 0
  for (let at = start, scale = 1; at < start + VARINT_BYTES_MAX; at++, scale *= 128) {
    const byte = bytes[at]
    if (byte === undefined) throw new FormatError(code, 'the file ends inside a number')
    value += (byte & 127) * scale
    if (byte >= 128) continue
    if (byte === 0 && at > start) throw new FormatError(code, 'a number that is written longer than needed')
    if (!Number.isSafeInteger(value)) break
    return { value, end: at + 1 }
  }
  throw new FormatError(code, 'a number of 2^53 or more')
}
