/**
 * The CBOR of the index: unsigned integers below 2^53, byte strings, text, arrays, maps with text keys, true and false; deterministic.
 *
 * One value has one encoding, and the reader accepts nothing else: a document is checked as a whole (canonical form, nesting, order of keys)
 * before any part of it is looked at, and is then read item by item without building objects for it, so neither hostile nesting nor a megabyte
 * of empty maps costs memory, and a key such as "__proto__" is only a text.
 */
import { compareBytes, concatAll, fromUtf8, readU32, utf8, writeU32 } from './bytes.ts'
import { assert, FormatError } from './errors.ts'

/** What `encodeCbor` takes. */
export type CborValue = number | boolean | string | Uint8Array | readonly CborValue[] | ReadonlyMap<string, CborValue> | Encoded

/** A value that is encoded already. */
export class Encoded {
  readonly bytes: Uint8Array
  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }
}

const UINT = 0
const NEGATIVE = 1
const BYTES = 2
const TEXT = 3
const ARRAY = 4
const MAP = 5
const TAG = 6
const SIMPLE = 7
const FALSE = 20
const TRUE = 21

/** The one encoding of a value. Map keys are sorted here: shorter first, then bytewise. */
export function encodeCbor(value: CborValue): Uint8Array {
  const parts: Uint8Array[] = []
  write(parts, value)
  return concatAll(parts)
}

/** The head of an array of `count` items, for documents that are put together from parts. */
export function arrayHead(count: number): Uint8Array {
  return head(ARRAY, count)
}

function write(parts: Uint8Array[], value: CborValue): void {
  if (typeof value === 'number') parts.push(head(UINT, value))
  else if (typeof value === 'boolean') parts.push(Uint8Array.of((SIMPLE << 5) | (value ? TRUE : FALSE)))
  else if (typeof value === 'string') {
    const text = utf8(value)
    parts.push(head(TEXT, text.length), text)
  } else if (value instanceof Uint8Array) parts.push(head(BYTES, value.length), value)
  else if (value instanceof Encoded) parts.push(value.bytes)
  else if (isMap(value)) writeMap(parts, value)
  else {
    parts.push(head(ARRAY, value.length))
    for (const item of value) write(parts, item)
  }
}

// `instanceof` does not narrow a ReadonlyMap.
function isMap(value: readonly CborValue[] | ReadonlyMap<string, CborValue>): value is ReadonlyMap<string, CborValue> {
  return value instanceof Map
}

function writeMap(parts: Uint8Array[], map: ReadonlyMap<string, CborValue>): void {
  const pairs = [...map].map(([key, item]) => ({ key: utf8(key), item }))
  pairs.sort((a, b) => compareKeys(a.key, b.key))
  parts.push(head(MAP, pairs.length))
  for (const { key, item } of pairs) {
    parts.push(head(TEXT, key.length), key)
    write(parts, item)
  }
}

function head(major: number, value: number): Uint8Array {
  assert(Number.isSafeInteger(value) && value >= 0, `CBOR integer ${value}`)
  const top = major << 5
  if (value < 24) return Uint8Array.of(top | value)
  if (value < 0x100) return Uint8Array.of(top | 24, value)
  if (value < 0x10000) return Uint8Array.of(top | 25, value >>> 8, value & 0xff)
  if (value < 2 ** 32) {
    const bytes = Uint8Array.of(top | 26, 0, 0, 0, 0)
    writeU32(bytes, 1, value)
    return bytes
  }
  const bytes = new Uint8Array(9)
  bytes[0] = top | 27
  writeU32(bytes, 1, Math.floor(value / 2 ** 32))
  writeU32(bytes, 5, value % 2 ** 32)
  return bytes
}

function compareKeys(a: Uint8Array, b: Uint8Array): number {
  return a.length - b.length || compareBytes(a, b)
}

/** Reads a checked document item by item. Methods throw FormatError X3 where the item is of another type than asked for. */
export class CborReader {
  readonly #bytes: Uint8Array
  #at = 0
  // The head read last.
  #major = 0
  #value = 0

  /** `bytes` (borrowed while reading): a document that `open` checked, or a part of one. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  /** Checks a whole document, at most `nestingMax` arrays and maps deep, and stands at its start. Throws FormatError X2, X3. */
  static open(bytes: Uint8Array, nestingMax: number): CborReader {
    new CborReader(bytes).#check(nestingMax)
    return new CborReader(bytes)
  }

  get isDone(): boolean {
    return this.#at === this.#bytes.length
  }

  uint(what: string): number {
    this.#expect(UINT, what)
    return this.#value
  }

  /** A view. */
  bytes(what: string): Uint8Array {
    this.#expect(BYTES, what)
    return this.#take()
  }

  text(what: string): string {
    this.#expect(TEXT, what)
    return this.#takeText()
  }

  /** The count of its items, which are read next. */
  array(what: string): number {
    this.#expect(ARRAY, what)
    return this.#value
  }

  /** The count of its pairs, which are read next: text key, value. */
  map(what: string): number {
    this.#expect(MAP, what)
    return this.#value
  }

  boolean(what: string): boolean {
    this.#expect(SIMPLE, what)
    return this.#value === TRUE
  }

  /** Passes over the next item, whatever it is; its encoding, a view. */
  skip(): Uint8Array {
    const start = this.#at
    for (let open = 1; open > 0; open--) {
      this.#readHead()
      if (this.#major === BYTES || this.#major === TEXT) this.#take()
      else if (this.#major === ARRAY) open += this.#value
      else if (this.#major === MAP) open += 2 * this.#value
    }
    return this.#bytes.subarray(start, this.#at)
  }

  #expect(major: number, what: string): void {
    this.#readHead()
    if (this.#major !== major) throw new FormatError('X3', `${what} is of CBOR type ${this.#major}, not ${major}`)
  }

  #take(): Uint8Array {
    const start = this.#at
    if (this.#value > this.#bytes.length - start) throw new FormatError('X2', `CBOR string of ${this.#value} bytes runs past the end`)
    this.#at += this.#value
    return this.#bytes.subarray(start, this.#at)
  }

  #takeText(): string {
    const text = fromUtf8(this.#take())
    if (text === null) throw new FormatError('X2', 'CBOR text is not UTF-8')
    return text
  }

  #readHead(): void {
    const first = this.#bytes[this.#at]
    if (first === undefined) throw new FormatError('X2', 'CBOR ends early')
    this.#at++
    this.#major = first >>> 5
    const info = first & 31
    if (this.#major === TAG) throw new FormatError('X2', 'CBOR tag')
    if (this.#major === SIMPLE) {
      if (info !== TRUE && info !== FALSE) throw new FormatError('X2', `CBOR simple value or float, head ${first}`)
      this.#value = info
      return
    }
    this.#value = this.#readArgument(info)
    if (this.#major === NEGATIVE) throw new FormatError('X3', 'negative integer')
    if (this.#value > Number.MAX_SAFE_INTEGER) throw new FormatError('X3', 'integer over 2^53-1')
  }

  #readArgument(info: number): number {
    if (info < 24) return info
    if (info > 27) throw new FormatError('X2', 'CBOR item of indefinite or reserved length')
    const width = 2 ** (info - 24)
    if (width > this.#bytes.length - this.#at) throw new FormatError('X2', 'CBOR ends early')
    let value = 0
    if (width === 8) value = readU32(this.#bytes, this.#at) * 2 ** 32 + readU32(this.#bytes, this.#at + 4)
    else for (let i = 0; i < width; i++) value = value * 256 + this.#bytes[this.#at + i]!
    this.#at += width
    const least = width === 1 ? 24 : 2 ** (4 * width)
    if (value < least) throw new FormatError('X2', `CBOR integer ${value} is written longer than needed`)
    return value
  }

  #check(nestingMax: number): void {
    // One frame an open array or map: items still to come, and for maps the key read last.
    const frames: { remaining: number; isMap: boolean; lastKey: Uint8Array | null }[] = []
    do {
      const frame = frames.at(-1)
      if (frame !== undefined) {
        frame.remaining--
        if (frame.isMap) frame.lastKey = this.#checkKey(frame.lastKey)
      }
      this.#readHead()
      if (this.#major === BYTES) this.#take()
      else if (this.#major === TEXT) this.#takeText()
      else if (this.#major === ARRAY || this.#major === MAP) {
        if (frames.length === nestingMax) throw new FormatError('X2', `CBOR nested deeper than ${nestingMax}`)
        frames.push({ remaining: this.#value, isMap: this.#major === MAP, lastKey: null })
      }
      while (frames.at(-1)?.remaining === 0) frames.pop()
    } while (frames.length > 0)
    if (!this.isDone) throw new FormatError('X2', `${this.#bytes.length - this.#at} bytes after the CBOR document`)
  }

  #checkKey(last: Uint8Array | null): Uint8Array {
    this.#readHead()
    if (this.#major !== TEXT) throw new FormatError('X2', 'CBOR map with a key that is not text')
    const start = this.#at
    this.#takeText()
    const key = this.#bytes.subarray(start, this.#at)
    if (last !== null && compareKeys(last, key) >= 0) throw new FormatError('X2', 'CBOR map with keys out of order or twice')
    return key
  }
}
