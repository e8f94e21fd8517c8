/**
 * One inner node of the tree: dag-pb around UnixFS, written in its one canonical form and read strictly.
 *
 * Links (field 2: Hash, empty Name, Tsize) come first, then Data (field 1: UnixFS Type 2, filesize, one blocksize a link). What the sizes
 * must be is the business of dag.ts; here a node is only taken apart, and refused where the canonical form has no place for a field.
 */
import { DAG_PB, RAW } from './cid.ts'
import { assert, FormatError } from './errors.ts'

/** A link of a node, with the UnixFS size of what it leads to. */
export interface NodeLink {
  codec: typeof RAW | typeof DAG_PB
  /** 32 bytes. */
  digest: Uint8Array
  /** A leaf's length, or an inner node's encoded length and the sum of its own. */
  treeBytes: number
  /** File bytes below the link. */
  fileBytes: number
}

/** The canonical encoding of a node over these links. */
export function encodeNode(links: readonly NodeLink[]): Uint8Array {
  let fileBytes = 0
  for (const link of links) fileBytes += link.fileBytes
  const data = new Writer(16 + 10 * links.length)
  data.varint(0x08)
  data.varint(2)
  data.varint(0x18)
  data.varint(fileBytes)
  for (const link of links) {
    data.varint(0x20)
    data.varint(link.fileBytes)
  }
  const node = new Writer(data.length + 16 + 54 * links.length)
  for (const link of links) {
    node.varint(0x12)
    node.varint(41 + varintLength(link.treeBytes))
    node.raw(Uint8Array.of(0x0a, 36, 1, link.codec, 0x12, 0x20))
    node.raw(link.digest)
    node.raw(Uint8Array.of(0x12, 0x00, 0x18))
    node.varint(link.treeBytes)
  }
  node.varint(0x0a)
  node.varint(data.length)
  node.raw(data.done())
  return node.done()
}

/** Takes a node apart; digests are views. Throws FormatError D2 (not canonical), D3 (sizes, forbidden fields), D4 (not a plain file). */
export function decodeNode(bytes: Uint8Array): { links: NodeLink[]; fileBytes: number } {
  const reader = new Reader(bytes)
  const links: NodeLink[] = []
  while (reader.peek() === 0x12) {
    reader.varint()
    links.push(decodeLink(reader.part()))
  }
  reader.expect(0x0a, 'the data field of a node')
  const data = reader.part()
  reader.expectEnd()
  const { fileBytes, blockSizes } = decodeFile(data)
  if (blockSizes.length !== links.length) throw new FormatError('D3', `${links.length} links but ${blockSizes.length} block sizes`)
  let sum = 0
  for (const [i, link] of links.entries()) {
    link.fileBytes = blockSizes[i]!
    sum += link.fileBytes
  }
  if (sum !== fileBytes) throw new FormatError('D3', `block sizes add up to ${sum}, file size says ${fileBytes}`)
  return { links, fileBytes }
}

function decodeLink(reader: Reader): NodeLink {
  reader.expect(0x0a, 'the hash of a link')
  const cid = reader.bytes()
  const codec = cid[1]
  const isKnown = cid.length === 36 && cid[0] === 1 && cid[2] === 0x12 && cid[3] === 0x20
  if (!isKnown || (codec !== RAW && codec !== DAG_PB)) throw new FormatError('D4', 'a link to a CID that is not raw or dag-pb with SHA-256')
  reader.expect(0x12, 'the name of a link')
  if (reader.bytes().length !== 0) throw new FormatError('D4', 'a link with a name')
  reader.expect(0x18, 'the size of a link')
  const treeBytes = reader.varint()
  reader.expectEnd()
  return { codec, digest: cid.subarray(4), treeBytes, fileBytes: 0 }
}

function decodeFile(reader: Reader): { fileBytes: number; blockSizes: number[] } {
  reader.expect(0x08, 'the type of a UnixFS node')
  const type = reader.varint()
  if (type !== 2) throw new FormatError(type === 1 || type === 5 ? 'D4' : 'D3', `UnixFS type ${type}, not a file`)
  if (reader.peek() === 0x12) throw new FormatError('D3', 'a UnixFS node with inline data')
  if (reader.peek() !== 0x18) throw new FormatError('D3', 'a UnixFS node without a file size')
  reader.varint()
  const fileBytes = reader.varint()
  const blockSizes: number[] = []
  while (reader.peek() === 0x20) {
    reader.varint()
    blockSizes.push(reader.varint())
  }
  const tag = reader.peek()
  if (tag === 0x28 || tag === 0x30) throw new FormatError('D4', 'a UnixFS node with the fields of a sharded directory')
  if (tag === 0x38 || tag === 0x42) throw new FormatError('D3', 'a UnixFS node with mode or time')
  reader.expectEnd()
  return { fileBytes, blockSizes }
}

function varintLength(value: number): number {
  let length = 1
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) length++
  return length
}

class Writer {
  readonly #bytes: Uint8Array
  length = 0

  constructor(capacity: number) {
    this.#bytes = new Uint8Array(capacity)
  }

  varint(value: number): void {
    let rest = value
    while (rest >= 128) {
      this.#bytes[this.length++] = (rest % 128) | 128
      rest = Math.floor(rest / 128)
    }
    this.#bytes[this.length++] = rest
  }

  raw(bytes: Uint8Array): void {
    this.#bytes.set(bytes, this.length)
    this.length += bytes.length
  }

  done(): Uint8Array {
    assert(this.length <= this.#bytes.length, 'node larger than its buffer')
    return this.#bytes.slice(0, this.length)
  }
}

class Reader {
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  /** The next byte, -1 at the end. */
  peek(): number {
    return this.#bytes[this.#at] ?? -1
  }

  expect(tag: number, what: string): void {
    if (this.peek() !== tag) throw new FormatError('D2', `expected ${what}, found byte ${this.peek()}`)
    this.#at++
  }

  expectEnd(): void {
    if (this.peek() !== -1) throw new FormatError('D2', `unexpected byte ${this.peek()} in a node`)
  }

  varint(): number {
    let value = 0
    // Seven bits a byte: eight bytes hold 2^56, more than any size here.
    for (let scale = 1; scale < 2 ** 56; scale *= 128) {
      const byte = this.peek()
      if (byte < 0) throw new FormatError('D2', 'a node ends inside a number')
      this.#at++
      value += (byte & 127) * scale
      if (byte < 128) {
        if (!Number.isSafeInteger(value)) break
        return value
      }
    }
    throw new FormatError('D2', 'a number of 2^53 or more in a node')
  }

  /** A length and that many bytes, a view. */
  bytes(): Uint8Array {
    const length = this.varint()
    if (length > this.#bytes.length - this.#at) throw new FormatError('D2', `a field of ${length} bytes runs past the end of a node`)
    const start = this.#at
    this.#at += length
    return this.#bytes.subarray(start, this.#at)
  }

  part(): Reader {
    return new Reader(this.bytes())
  }
}
