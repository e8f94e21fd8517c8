import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { RemoteError } from '../../protocol/errors.ts'
import { WIRE } from '../../protocol/limits.ts'
import { HaveOutbox } from '../../protocol/wire/have-outbox.ts'
import { dataHead, decodeMessage, encodeMessage, type HaveForm, type Message } from '../../protocol/wire/messages.ts'

const bytes = (min: number, max: number) => fc.uint8Array({ minLength: min, maxLength: max })
const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const hash = bytes(32, 32)

const ranges = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 1000 }), fc.integer({ min: 1, max: 1000 })), { minLength: 1, maxLength: 40 })
  .map((pairs) => {
    let end = -1
    return pairs.map(([gap, count]): [number, number] => {
      const first = end + gap
      end = first + count
      return [first, count]
    })
  })

const have: fc.Arbitrary<HaveForm> = fc.oneof(
  fc.constant<HaveForm>({ kind: 'all' }),
  fc.constant<HaveForm>({ kind: 'shape' }),
  fc.record({ kind: fc.constant('bitmap' as const), first: u32, bits: bytes(1, 200) }),
  fc.record({ kind: fc.constant('ranges' as const), ranges }),
)

const block = { level: fc.integer({ min: 0, max: 255 }), index: u32 }

const flags = fc.tuple(fc.boolean(), fc.boolean()).map(([knowsShape, isDiscreet]) => ({ knowsShape, ...(isDiscreet && { isDiscreet }) }))

const message: fc.Arbitrary<Message> = fc.oneof(
  fc.tuple(hash, hash, flags).map(([rendezvous, proof, said]) => ({ type: 'hello' as const, rendezvous, proof, ...said })),
  fc.tuple(hash, flags).map(([proof, said]) => ({ type: 'welcome' as const, proof, ...said })),
  fc.record({ type: fc.constant('have' as const), have }),
  fc.record({ type: fc.constantFrom('request' as const, 'absent' as const, 'cancel' as const), ...block }),
  fc
    .record({ type: fc.constant('data' as const), ...block, offset: fc.integer({ min: 0, max: 2 ** 20 }), bytes: bytes(1, 300) })
    .map((data) => ({ ...data, total: data.offset + data.bytes.byteLength })),
  fc.record({ type: fc.constant('credit' as const), bytes: fc.integer({ min: 1, max: 0xffff_ffff }) }),
  fc.record({
    type: fc.constant('pex' as const),
    peers: fc.array(fc.record({ id: bytes(1, 64), addresses: fc.array(bytes(1, 256), { maxLength: 8 }) }), { maxLength: 5 }),
  }),
  fc.nat(2 ** 32 - 1).map((index): Message => ({ type: 'suggest', index })),
  fc.constant<Message>({ type: 'keepalive' }),
  fc.record({ type: fc.constant('goodbye' as const), code: fc.integer({ min: 0, max: 255 }) }),
)

const codeOf = (frame: Uint8Array): string => {
  try {
    decodeMessage(frame)
  } catch (error) {
    expect(error).toBeInstanceOf(RemoteError)
    return (error as RemoteError).code
  }
  return 'valid'
}

describe('messages', () => {
  it('every message survives the way to bytes and back, and back to the same bytes', () => {
    fc.assert(
      fc.property(message, (said) => {
        const frame = encodeMessage(said)
        expect(decodeMessage(frame)).toEqual(said)
        expect(encodeMessage(decodeMessage(frame))).toEqual(frame)
      }),
      { seed: 7, numRuns: 500 },
    )
  })

  it('a frame cut anywhere is another valid message or a RemoteError, never another error', () => {
    fc.assert(
      fc.property(message, (said) => {
        const frame = encodeMessage(said)
        for (let end = 0; end < frame.byteLength; end++) codeOf(frame.subarray(0, end))
        if (said.type !== 'data' && said.type !== 'have') expect(codeOf(frame.subarray(0, -1))).toBe('TRUNCATED')
      }),
      { seed: 8, numRuns: 100 },
    )
  })

  it('garbage and flipped bits give nothing but RemoteError, and what decodes encodes to the same bytes', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 11 }), bytes(0, 120), (type, body) => {
        const frame = Uint8Array.of(type, ...body)
        if (codeOf(frame) !== 'valid') return
        const again = encodeMessage(decodeMessage(frame))
        if (type > 2) expect(again).toEqual(frame) // the flags of a hello have bits to spare
      }),
      { seed: 9, numRuns: 3000 },
    )
  })

  const page = (length: number) => Uint8Array.of(3, 2, 0, 0, 0, 0, ...new Uint8Array(length))
  it.each<[string, number[] | Uint8Array, string]>([
    ['an empty frame', [], 'TRUNCATED'],
    ['a frame over the limit', new Uint8Array(WIRE.frameBytesMax + 1), 'FRAME_TOO_LARGE'],
    ['type 0', [0], 'UNKNOWN_TYPE'],
    ['type 13', [13], 'UNKNOWN_TYPE'],
    ['a small frame of a later version', [128, 1, 2, 3], 'valid'],
    ['a large frame of a later version', Uint8Array.of(200, ...new Uint8Array(WIRE.skippedBytesMax + 1)), 'FRAME_TOO_LARGE'],
    ['a byte after the end', [10, 0], 'BAD_FRAME'],
    ['data without a payload', dataHead(0, 0, 5, 0), 'BAD_FRAME'],
    ['data beyond its total', Uint8Array.of(...dataHead(0, 0, 5, 3), 1, 2, 3), 'BAD_FRAME'],
    ['data with an offset near the end of u32', Uint8Array.of(...dataHead(0, 0, 0xffff_ffff, 0xffff_ffff), 1), 'BAD_FRAME'],
    ['data over 64 KiB', Uint8Array.of(...dataHead(0, 0, 2 ** 20, 0), ...new Uint8Array(WIRE.dataBytesMax + 1)), 'BAD_FRAME'],
    ['credit of nothing', [6, 0, 0, 0, 0], 'BAD_FRAME'],
    ['a have page without bits', page(0), 'TRUNCATED'],
    ['a have page of 32 KiB', page(WIRE.havePageBytesMax), 'valid'],
    ['a have page over 32 KiB', page(WIRE.havePageBytesMax + 1), 'BAD_FRAME'],
    ['a have of an unknown form', [3, 4], 'BAD_FRAME'],
    ['an empty range', [3, 3, 0, 0, 0, 1, 0, 0, 0, 0], 'BAD_FRAME'],
    ['ranges that touch', [3, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1], 'BAD_FRAME'],
    ['half a range', [3, 3, 0, 0, 0, 1], 'TRUNCATED'],
    ['51 exchanged peers', [9, 51], 'BAD_FRAME'],
    ['a peer with nine addresses', [9, 1, 1, 7, 9], 'BAD_FRAME'],
    ['a peer without an id', [9, 1, 0, 0], 'BAD_FRAME'],
    ['an address of 257 bytes', [9, 1, 1, 7, 1, 1, 1, ...new Uint8Array(257)], 'BAD_FRAME'],
  ])('%s', (_, frame, code) => {
    expect(codeOf(Uint8Array.from(frame))).toBe(code)
  })
})

describe('have outbox', () => {
  it('tells exactly what was added, in frames that decode, whatever the mixture', () => {
    const blockCount = 700_000
    const piece = fc.tuple(fc.integer({ min: 0, max: blockCount - 1 }), fc.integer({ min: 1, max: 3000 }))
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        const outbox = new HaveOutbox(blockCount)
        const expected = new Uint8Array(blockCount)
        for (const [first, length] of pieces) {
          const count = Math.min(length, blockCount - first)
          outbox.addRange(first, count)
          expected.fill(1, first, first + count)
        }
        const told = new Uint8Array(blockCount)
        for (let have = outbox.next(); have !== null; have = outbox.next()) tell(told, encodeMessage({ type: 'have', have }))
        expect(outbox.isEmpty).toBe(true)
        expect(Buffer.compare(told, expected)).toBe(0)
      }),
      { seed: 4, numRuns: 30 },
    )
  })

  it('merges a thousand scattered blocks into one bitmap, and a run of blocks into one range', () => {
    const outbox = new HaveOutbox(8_000)
    for (let i = 0; i < 8_000; i += 2) outbox.addRange(i, 1)
    expect(outbox.next()).toMatchObject({ kind: 'bitmap', first: 0, bits: { length: 1000 } })
    expect(outbox.next()).toBeNull()
    outbox.addRange(7_990, 10)
    expect(outbox.next()).toEqual({ kind: 'ranges', ranges: [[7_990, 10]] })
    outbox.addBitmap(16, Uint8Array.of(0b1000_0001))
    outbox.addBitmap(24, Uint8Array.of(0b1000_0000))
    expect(outbox.next()).toEqual({ kind: 'bitmap', first: 16, bits: Uint8Array.of(0b1000_0001, 0b1000_0000) })
  })
})

function tell(told: Uint8Array, frame: Uint8Array): void {
  const message = decodeMessage(frame)
  expect(message.type).toBe('have')
  if (message.type !== 'have') return
  if (message.have.kind === 'ranges') for (const [first, count] of message.have.ranges) told.fill(1, first, first + count)
  if (message.have.kind !== 'bitmap') return
  const { first, bits } = message.have
  for (let i = 0; i < bits.length * 8; i++) if ((bits[i >>> 3]! & (0x80 >>> (i & 7))) !== 0) told[first + i] = 1
}
