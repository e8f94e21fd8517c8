/**
 * The messages of the peer protocol and their bytes: one frame of a stream is u8 type, then a flat body (see README.md beside this file).
 *
 * Stateless: what may come when is the business of session.ts, what a frame is on a stream that of the driver. Decoding is strict: exact
 * lengths, bounds of WIRE, no second spelling of anything; whatever else comes is a RemoteError, never another error.
 */
import { assert, RemoteError } from '../errors.ts'
import type { LimitName } from '../limit-table.ts'
import { WIRE } from '../limits.ts'

/** A level of the share's tree: 0 leaf, 1.. inner nodes, this one the root node (index 0). */
export const ROOT_LEVEL = 255

/** GOODBYE codes beside the wire numbers of REMOTE_CODES. */
export const GOODBYE_NORMAL = 0
/** Unknown share or wrong proof: one code for both, so that nobody can probe what a node keeps. */
export const GOODBYE_UNKNOWN_SHARE = 64

/** A peer of a peer exchange: peer-id multihash and multiaddr bytes, unverified. */
export interface ExchangedPeer {
  id: Uint8Array
  addresses: Uint8Array[]
}

/** What a peer says that it holds. Positions are those of leaves; `bits` runs from its highest bit down. */
export type HaveForm =
  | { kind: 'all' }
  | { kind: 'shape' }
  | { kind: 'bitmap'; first: number; bits: Uint8Array }
  | { kind: 'ranges'; ranges: [first: number, count: number][] }

/** One frame. Byte fields of a decoded message are views of the frame that it came from. */
export type Message =
  | { type: 'hello'; rendezvous: Uint8Array; proof: Uint8Array; knowsShape: boolean; isDiscreet?: boolean }
  | { type: 'welcome'; proof: Uint8Array; knowsShape: boolean; isDiscreet?: boolean }
  | { type: 'have'; have: HaveForm }
  | { type: 'request' | 'absent' | 'cancel'; level: number; index: number }
  | { type: 'data'; level: number; index: number; total: number; offset: number; bytes: Uint8Array }
  | { type: 'credit'; bytes: number }
  | { type: 'pex'; peers: ExchangedPeer[] }
  /** A leaf that never left the sender, who seeds alone: better asked for than another. */
  | { type: 'suggest'; index: number }
  | { type: 'keepalive' }
  | { type: 'goodbye'; code: number }
  | { type: 'skipped' }

const TYPE = {
  hello: 1,
  welcome: 2,
  have: 3,
  request: 4,
  data: 5,
  credit: 6,
  absent: 7,
  cancel: 8,
  pex: 9,
  keepalive: 10,
  goodbye: 11,
  suggest: 12,
} as const

const FIRST_SKIPPED_TYPE = 128
const HASH_BYTES = 32
const DATA_HEAD_BYTES = 14
const HAVE = { all: 0, shape: 1, bitmap: 2, ranges: 3 } as const

/** The bytes of one frame. DATA is better written as dataHead() and the payload, which saves a copy of the payload. */
export function encodeMessage(message: Message): Uint8Array {
  switch (message.type) {
    case 'hello':
      assert(message.rendezvous.byteLength === HASH_BYTES && message.proof.byteLength === HASH_BYTES, 'hello takes two hashes of 32 bytes')
      return join([TYPE.hello], message.rendezvous, message.proof, [flagsOf(message)])
    case 'welcome':
      assert(message.proof.byteLength === HASH_BYTES, 'welcome takes a proof of 32 bytes')
      return join([TYPE.welcome], message.proof, [flagsOf(message)])
    case 'have':
      return encodeHave(message.have)
    case 'request':
    case 'absent':
    case 'cancel':
      return join([TYPE[message.type], message.level], u32(message.index))
    case 'data':
      return join(dataHead(message.level, message.index, message.total, message.offset), message.bytes)
    case 'credit':
      return join([TYPE.credit], u32(message.bytes))
    case 'pex':
      return encodePex(message.peers)
    case 'suggest':
      return join([TYPE.suggest], u32(message.index))
    case 'keepalive':
      return Uint8Array.of(TYPE.keepalive)
    case 'goodbye':
      return Uint8Array.of(TYPE.goodbye, message.code)
    case 'skipped':
      return Uint8Array.of(FIRST_SKIPPED_TYPE)
  }
}

/** The 14 bytes that go before the payload in a DATA frame. */
export function dataHead(level: number, index: number, total: number, offset: number): Uint8Array {
  const head = new Uint8Array(DATA_HEAD_BYTES)
  const view = new DataView(head.buffer)
  head[0] = TYPE.data
  head[1] = level
  view.setUint32(2, index)
  view.setUint32(6, total)
  view.setUint32(10, offset)
  return head
}

/** Reads one frame (borrowed; the result refers to it). Throws RemoteError alone, whatever the bytes are. */
export function decodeMessage(frame: Uint8Array): Message {
  if (frame.byteLength > WIRE.frameBytesMax) {
    throw new RemoteError('FRAME_TOO_LARGE', `frame of ${frame.byteLength} bytes, limit ${WIRE.frameBytesMax}`, { limit: 'frameBytes' })
  }
  const reader = new Reader(frame)
  const type = reader.u8()
  if (type === TYPE.data) return decodeData(reader) // nearly every frame of a busy session
  const message = decodeControl(type, reader)
  if (message.type !== 'skipped') reader.end()
  return message
}

function decodeControl(type: number, reader: Reader): Message {
  switch (type) {
    case TYPE.hello:
      return { type: 'hello', rendezvous: reader.bytes(HASH_BYTES), proof: reader.bytes(HASH_BYTES), ...readFlags(reader) }
    case TYPE.welcome:
      return { type: 'welcome', proof: reader.bytes(HASH_BYTES), ...readFlags(reader) }
    case TYPE.have:
      return { type: 'have', have: decodeHave(reader) }
    case TYPE.request:
      return { type: 'request', level: reader.u8(), index: reader.u32() }
    case TYPE.absent:
      return { type: 'absent', level: reader.u8(), index: reader.u32() }
    case TYPE.cancel:
      return { type: 'cancel', level: reader.u8(), index: reader.u32() }
    case TYPE.credit:
      return { type: 'credit', bytes: atLeastOne(reader.u32(), 'credit') }
    case TYPE.pex:
      return { type: 'pex', peers: decodePex(reader) }
    case TYPE.suggest:
      return { type: 'suggest', index: reader.u32() }
    case TYPE.keepalive:
      return { type: 'keepalive' }
    case TYPE.goodbye:
      return { type: 'goodbye', code: reader.u8() }
  }
  if (type < FIRST_SKIPPED_TYPE) throw new RemoteError('UNKNOWN_TYPE', `frame of unknown type ${type}`)
  if (reader.left > WIRE.skippedBytesMax) {
    throw new RemoteError('FRAME_TOO_LARGE', `frame of type ${type} with ${reader.left} bytes, limit ${WIRE.skippedBytesMax}`, {
      limit: 'skippedBytes',
    })
  }
  return { type: 'skipped' }
}

// Bits other than the first are for later versions and mean nothing yet.
interface Flags {
  /** The sender holds the root node. */
  knowsShape: boolean
  /** Nobody is to be told of the sender. */
  isDiscreet?: boolean
}

const flagsOf = ({ knowsShape, isDiscreet = false }: Flags): number => (knowsShape ? 1 : 0) | (isDiscreet ? 2 : 0)

function readFlags(reader: Reader): Flags {
  const flags = reader.u8()
  return { knowsShape: (flags & 1) !== 0, ...((flags & 2) !== 0 && { isDiscreet: true }) }
}

function decodeData(reader: Reader): Message {
  const level = reader.u8()
  const index = reader.u32()
  const total = reader.u32()
  const offset = reader.u32()
  const bytes = reader.bytes(reader.left)
  if (bytes.byteLength === 0 || bytes.byteLength > WIRE.dataBytesMax) {
    throw new RemoteError('BAD_FRAME', `data frame with ${bytes.byteLength} bytes, limits 1 and ${WIRE.dataBytesMax}`)
  }
  if (offset + bytes.byteLength > total) {
    throw new RemoteError('BAD_FRAME', `data frame up to byte ${offset + bytes.byteLength} of a block of ${total}`)
  }
  return { type: 'data', level, index, total, offset, bytes }
}

function encodeHave(have: HaveForm): Uint8Array {
  if (have.kind === 'all' || have.kind === 'shape') return Uint8Array.of(TYPE.have, HAVE[have.kind])
  if (have.kind === 'bitmap') {
    assert(have.bits.byteLength > 0 && have.bits.byteLength <= WIRE.havePageBytesMax, `have page of ${have.bits.byteLength} bytes`)
    return join([TYPE.have, HAVE.bitmap], u32(have.first), have.bits)
  }
  assert(have.ranges.length > 0 && have.ranges.length <= WIRE.haveRangesMax, `have with ${have.ranges.length} ranges`)
  return join([TYPE.have, HAVE.ranges], ...have.ranges.flatMap(([first, count]) => [u32(first), u32(count)]))
}

function decodeHave(reader: Reader): HaveForm {
  const form = reader.u8()
  if (form === HAVE.all) return { kind: 'all' }
  if (form === HAVE.shape) return { kind: 'shape' }
  if (form === HAVE.bitmap) return decodeBitmap(reader)
  if (form === HAVE.ranges) return { kind: 'ranges', ranges: decodeRanges(reader) }
  throw new RemoteError('BAD_FRAME', `have of unknown form ${form}`)
}

function decodeBitmap(reader: Reader): HaveForm {
  const first = reader.u32()
  const bits = reader.bytes(reader.left)
  if (bits.byteLength === 0) throw new RemoteError('TRUNCATED', 'have page without bits')
  if (bits.byteLength > WIRE.havePageBytesMax) {
    throw new RemoteError('BAD_FRAME', `have page of ${bits.byteLength} bytes, limit ${WIRE.havePageBytesMax}`)
  }
  return { kind: 'bitmap', first, bits }
}

function decodeRanges(reader: Reader): [first: number, count: number][] {
  const count = reader.left / 8
  if (count < 1 || !Number.isInteger(count)) throw new RemoteError('TRUNCATED', `have ranges in ${reader.left} bytes`)
  if (count > WIRE.haveRangesMax)
    throw new RemoteError('BAD_FRAME', `have with ${count} ranges, limit ${WIRE.haveRangesMax}`, { limit: 'haveRanges' })
  const ranges: [first: number, count: number][] = []
  let end = -1 // ranges that touch would be one range, so a gap is asked for
  while (reader.left > 0) {
    const first = reader.u32()
    const length = atLeastOne(reader.u32(), 'range')
    if (first <= end) throw new RemoteError('BAD_FRAME', `have range at ${first} after one that ends at ${end}`)
    end = first + length
    ranges.push([first, length])
  }
  return ranges
}

function encodePex(peers: ExchangedPeer[]): Uint8Array {
  assert(peers.length <= WIRE.pexPeersMax, `exchange of ${peers.length} peers`)
  const parts: (Uint8Array | number[])[] = [[TYPE.pex, peers.length]]
  for (const peer of peers) {
    assert(peer.addresses.length <= WIRE.addressesPerPeerMax, `peer with ${peer.addresses.length} addresses`)
    assert(peer.id.byteLength > 0 && peer.id.byteLength <= WIRE.peerIdBytesMax, `peer id of ${peer.id.byteLength} bytes`)
    parts.push([peer.id.byteLength], peer.id, [peer.addresses.length])
    for (const address of peer.addresses) {
      assert(address.byteLength > 0 && address.byteLength <= WIRE.addressBytesMax, `address of ${address.byteLength} bytes`)
      parts.push([address.byteLength >>> 8, address.byteLength & 0xff], address)
    }
  }
  return join(...parts)
}

function decodePex(reader: Reader): ExchangedPeer[] {
  const count = atMost(reader.u8(), WIRE.pexPeersMax, 'exchanged peers', 'exchangePeers')
  const peers: ExchangedPeer[] = []
  for (let i = 0; i < count; i++) {
    const id = reader.bytes(atMost(atLeastOne(reader.u8(), 'peer id'), WIRE.peerIdBytesMax, 'peer id bytes'))
    const addressCount = atMost(reader.u8(), WIRE.addressesPerPeerMax, 'addresses of a peer')
    const addresses: Uint8Array[] = []
    for (let j = 0; j < addressCount; j++) {
      addresses.push(reader.bytes(atMost(atLeastOne(reader.u16(), 'address'), WIRE.addressBytesMax, 'address bytes')))
    }
    peers.push({ id, addresses })
  }
  return peers
}

function atLeastOne(value: number, what: string): number {
  if (value === 0) throw new RemoteError('BAD_FRAME', `${what} of 0`)
  return value
}

function atMost(value: number, max: number, what: string, limit?: LimitName): number {
  if (value > max) throw new RemoteError('BAD_FRAME', `${value} ${what}, limit ${max}`, limit === undefined ? {} : { limit })
  return value
}

/** Walks over a frame; a read past its end is the peer's fault. */
class Reader {
  readonly #frame: Uint8Array
  #at = 0

  constructor(frame: Uint8Array) {
    this.#frame = frame
  }

  get left(): number {
    return this.#frame.byteLength - this.#at
  }

  bytes(count: number): Uint8Array {
    if (count > this.left) throw new RemoteError('TRUNCATED', `frame ends ${count - this.left} bytes early`)
    this.#at += count
    return this.#frame.subarray(this.#at - count, this.#at)
  }

  u8(): number {
    return this.bytes(1)[0]!
  }

  u16(): number {
    const [high, low] = this.bytes(2)
    return (high! << 8) | low!
  }

  u32(): number {
    const [a, b, c, d] = this.bytes(4)
    return ((a! << 24) | (b! << 16) | (c! << 8) | d!) >>> 0
  }

  end(): void {
    if (this.left > 0) throw new RemoteError('BAD_FRAME', `${this.left} bytes after the end of a message`)
  }
}

function u32(value: number): Uint8Array {
  assert(Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff, `${value} is no u32`)
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value)
  return bytes
}

function join(...parts: (Uint8Array | number[])[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    joined.set(part, at)
    at += part.length
  }
  return joined
}
