/** The heads of a CAR file: those of a general encoder, and nothing else; the order of a tree. */
import * as dagCbor from '@ipld/dag-cbor'
import fc from 'fast-check'
import { varint } from 'multiformats'
import { CID } from 'multiformats/cid'
import { create } from 'multiformats/hashes/digest'
import { describe, expect, it } from 'vitest'
import { concat, toHex } from '../../protocol/bytes.ts'
import {
  CAR_HEAD_BYTES_MAX,
  carBytesMax,
  carOrder,
  decodeCarHeader,
  decodeCarSection,
  encodeCarHeader,
  encodeCarSection,
} from '../../protocol/car.ts'
import { DAG_PB, formatCid, RAW } from '../../protocol/cid.ts'
import { shapeOf } from '../../protocol/dag.ts'
import { FormatError } from '../../protocol/errors.ts'
import { CAR, FORMAT } from '../../protocol/limits.ts'
import { Secret } from '../../protocol/secret.ts'
import { nodePrimitives as p } from '../primitives-node.ts'
import { openDag, writeShare } from './memory-share.ts'

const SEED = 0x5ca1ab1e
const digest = Uint8Array.from({ length: 32 }, (_, i) => i * 7)
const root = formatCid(DAG_PB, digest)
const codecs = fc.constantFrom<typeof RAW | typeof DAG_PB>(RAW, DAG_PB)
const digests = fc.uint8Array({ minLength: 32, maxLength: 32 })

const number = (value: number): Uint8Array => varint.encodeTo(value, new Uint8Array(varint.encodingLength(value)))
const libraryCid = (codec: number, of: Uint8Array): CID => CID.createV1(codec, create(0x12, of))
/** A header as the general libraries write it. */
const header = (value: unknown): Uint8Array => {
  const body = dagCbor.encode(value)
  return concat(number(body.length), body)
}
const codeOf = (run: () => unknown): string => {
  try {
    run()
    return 'accepted'
  } catch (error) {
    if (error instanceof FormatError) return error.code
    throw error
  }
}

describe('the header of a CAR file', () => {
  it('is that of a general encoder, for whatever root', () => {
    fc.assert(
      fc.property(codecs, digests, (codec, of) => {
        const bytes = encodeCarHeader(formatCid(codec, of))
        expect(toHex(bytes)).toBe(toHex(header({ version: 1, roots: [libraryCid(codec, of)] })))
        expect(bytes.length).toBeLessThanOrEqual(CAR_HEAD_BYTES_MAX)
        const read = decodeCarHeader(concat(bytes, Uint8Array.of(1, 2, 3)))
        expect(read).toEqual({ root: formatCid(codec, of), headBytes: bytes.length })
      }),
      { seed: SEED },
    )
  })

  it.each<[string, Uint8Array]>([
    ['no root', header({ version: 1, roots: [] })],
    ['two roots', header({ version: 1, roots: [libraryCid(DAG_PB, digest), libraryCid(DAG_PB, digest)] })],
    ['another version', header({ version: 3, roots: [libraryCid(DAG_PB, digest)] })],
    ['version 2', header({ version: 2 })],
    ['a field more', header({ version: 1, roots: [libraryCid(DAG_PB, digest)], x: 1 })],
    ['a root of another codec', header({ version: 1, roots: [libraryCid(0x71, digest)] })],
    ['a root of version 0', header({ version: 1, roots: [CID.createV0(create(0x12, digest))] })],
    ['a length beyond the limit', number(CAR.headerBytesMax + 1)],
    ['a length of 2^53', concat(new Uint8Array(7).fill(0xff), Uint8Array.of(0x7f))],
    ['a length of ten bytes', new Uint8Array(10).fill(0xff)],
    ['a length written longer than needed', concat(Uint8Array.of(0xba, 0x00), encodeCarHeader(root).subarray(1))],
    ['nothing', new Uint8Array(0)],
    ['text', new TextEncoder().encode('age-encryption.org/v1\n-> scrypt and so on, for a while'.repeat(2))],
  ])('is refused with %s', (_name, bytes) => {
    expect(codeOf(() => decodeCarHeader(bytes))).toBe('C1')
  })

  it('is refused when cut off anywhere, and with any bit of it turned but those of the digest and the codec', () => {
    const bytes = encodeCarHeader(root)
    for (let end = 0; end < bytes.length; end++) expect(codeOf(() => decodeCarHeader(bytes.subarray(0, end)))).toBe('C1')
    const at = Buffer.from(bytes).indexOf(digest)
    for (let bit = 0; bit < 8 * bytes.length; bit++) {
      const turned = bytes.slice()
      turned[bit >> 3]! ^= 1 << (bit & 7)
      const isDigest = bit >= 8 * at && bit < 8 * (at + 32)
      expect(
        codeOf(() => decodeCarHeader(turned)),
        `bit ${bit}`,
      ).toBe(isDigest ? 'accepted' : 'C1')
    }
  })
})

describe('the head of a block in a CAR file', () => {
  it('is what it was written as, for every length that a block can have', () => {
    fc.assert(
      fc.property(codecs, digests, fc.nat(FORMAT.nodeBytesMax), fc.nat(FORMAT.blockBytes), (codec, of, small, large) => {
        const blockBytes = codec === RAW ? large : small
        const bytes = encodeCarSection(codec, of, blockBytes)
        expect(toHex(bytes)).toBe(toHex(concat(number(36 + blockBytes), libraryCid(codec, of).bytes)))
        expect(bytes.length).toBeLessThanOrEqual(CAR_HEAD_BYTES_MAX)
        expect(decodeCarSection(concat(bytes, new Uint8Array(5)))).toEqual({ codec, digest: of, headBytes: bytes.length, blockBytes })
      }),
      { seed: SEED },
    )
  })

  it.each<[string, Uint8Array]>([
    ['no room for a CID', concat(number(35), libraryCid(RAW, digest).bytes)],
    ['a length of nothing', Uint8Array.of(0)],
    ['a block over 1 MiB', concat(number(36 + FORMAT.blockBytes + 1), libraryCid(RAW, digest).bytes)],
    ['a node over 64 KiB', concat(number(36 + FORMAT.nodeBytesMax + 1), libraryCid(DAG_PB, digest).bytes)],
    ['a length of 2^53 and more', new Uint8Array(64).fill(0xff)],
    ['a length written longer than needed', concat(Uint8Array.of(0xa8, 0x80, 0x00), libraryCid(RAW, digest).bytes)],
    ['another codec', concat(number(40), libraryCid(0x71, digest).bytes)],
    ['a CID of version 0', concat(number(40), CID.createV0(create(0x12, digest)).bytes, new Uint8Array(8))],
    ['another hash', concat(number(40), CID.createV1(RAW, create(0x1e, digest)).bytes)],
    ['nothing', new Uint8Array(0)],
  ])('is refused with %s', (_name, bytes) => {
    expect(codeOf(() => decodeCarSection(bytes))).toBe('C2')
  })

  it('is refused when cut off anywhere', () => {
    const bytes = encodeCarSection(RAW, digest, FORMAT.blockBytes)
    for (let end = 0; end < bytes.length; end++) expect(codeOf(() => decodeCarSection(bytes.subarray(0, end)))).toBe('C2')
  })

  it('is only ever refused by its code, whatever comes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        expect(['accepted', 'C1']).toContain(codeOf(() => decodeCarHeader(bytes)))
        expect(['accepted', 'C2']).toContain(codeOf(() => decodeCarSection(bytes)))
      }),
      { seed: SEED, numRuns: 2_000 },
    )
  })
})

describe('the order of a CAR file', () => {
  it('is depth first, each node before what is below it', () => {
    expect([...carOrder(shapeOf(100))]).toEqual([{ level: 0, index: 0 }])
    const places = [...carOrder(shapeOf(1025 * FORMAT.blockBytes))]
    expect(places.slice(0, 3)).toEqual([
      { level: 2, index: 0 },
      { level: 1, index: 0 },
      { level: 0, index: 0 },
    ])
    expect(places.slice(1025)).toEqual([
      { level: 0, index: 1023 },
      { level: 1, index: 1 },
      { level: 0, index: 1024 },
    ])
    expect(places).toHaveLength(1025 + 3)
  })

  it('knows how long a file can be', async () => {
    const content = Uint8Array.from({ length: 3 * FORMAT.pieceBytes + 9 }, (_, i) => i % 251)
    const { written, blocks } = await writeShare(p, new Secret(new Uint8Array(32)), [{ dir: '', name: 'a', content }])
    const dag = await openDag(p, written.cid, blocks)
    let bytes = encodeCarHeader(written.cid).length
    for (const { level, index } of carOrder(dag.shape)) {
      const of = dag.digestOf(level, index)!
      const block = blocks.get(of)
      bytes += encodeCarSection(level === 0 ? RAW : DAG_PB, of, block.length).length + block.length
    }
    expect(carBytesMax(dag)).toBeGreaterThanOrEqual(bytes)
    expect(carBytesMax(dag) - bytes).toBeLessThan(8)
  })
})
