/** The CBOR of the index against a general library: the same encodings, and nothing accepted that does not re-encode to itself. */
import * as dagCbor from '@ipld/dag-cbor'
import fc from 'fast-check'
import { CID } from 'multiformats/cid'
import { describe, expect, it } from 'vitest'
import { toHex } from '../../protocol/bytes.ts'
import { CborReader, type CborValue, encodeCbor } from '../../protocol/cbor.ts'
import { FormatError } from '../../protocol/errors.ts'

const SEED = 0x5ca1ab1e

const { value } = fc.letrec<{ value: CborValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.maxSafeNat(),
    fc.nat(300),
    fc.boolean(),
    fc.string({ unit: 'grapheme' }),
    fc.uint8Array({ maxLength: 300 }),
    fc.array(tie('value'), { maxLength: 30 }),
    fc.array(fc.tuple(fc.string(), tie('value'))).map((pairs) => new Map(pairs)),
  ),
}))

// What the library takes: plain objects for maps.
function plain(item: CborValue): unknown {
  if (item instanceof Map) {
    const object: Record<string, unknown> = Object.create(null)
    for (const [key, inner] of item) object[key] = plain(inner)
    return object
  }
  return Array.isArray(item) ? item.map(plain) : item
}

function accepts(bytes: Uint8Array): boolean {
  try {
    CborReader.open(bytes, 64)
    return true
  } catch (error) {
    if (error instanceof FormatError && (error.code === 'X2' || error.code === 'X3')) return false
    throw error
  }
}

// The rule of the specification in its own words: encode(decode(bytes)) equals bytes, of the allowed types alone.
function isCanonical(bytes: Uint8Array): boolean {
  try {
    const decoded: unknown = dagCbor.decode(bytes)
    return isAllowed(decoded) && toHex(dagCbor.encode(decoded)) === toHex(bytes)
  } catch {
    return false
  }
}

function isAllowed(item: unknown): boolean {
  if (typeof item === 'number') return Number.isSafeInteger(item) && item >= 0
  if (typeof item === 'boolean' || typeof item === 'string' || item instanceof Uint8Array) return true
  if (item === null || typeof item !== 'object' || CID.asCID(item) !== null) return false
  return Object.values(item).every(isAllowed)
}

describe('CBOR', () => {
  it('encodes as the library does', () => {
    fc.assert(
      fc.property(value, (item) => {
        const bytes = encodeCbor(item)
        expect(toHex(bytes)).toBe(toHex(dagCbor.encode(plain(item))))
        expect(accepts(bytes)).toBe(true)
      }),
      { seed: SEED, numRuns: 300 },
    )
  })

  it('accepts a damaged document only if it is canonical', () => {
    let accepted = 0
    fc.assert(
      fc.property(value, fc.nat(), fc.integer({ min: 0, max: 255 }), (item, at, byte) => {
        const bytes = encodeCbor(item)
        bytes[at % bytes.length] = byte
        // A text with U+FFFD or "-0" would be the library's own trouble: byte equality settles both.
        if (accepts(bytes)) {
          accepted++
          expect(isCanonical(bytes)).toBe(true)
        } else expect(isCanonical(bytes)).toBe(false)
      }),
      { seed: SEED, numRuns: 2000 },
    )
    expect(accepted).toBeGreaterThan(100)
  })

  it('refuses garbage with its own errors only', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        expect(accepts(bytes)).toBe(isCanonical(bytes))
      }),
      { seed: SEED, numRuns: 2000 },
    )
  })

  it('refuses every truncation', () => {
    const bytes = encodeCbor(
      new Map<string, CborValue>([
        ['a', [1, 'text', Uint8Array.of(1, 2, 3), true, 70_000]],
        ['bb', 2 ** 40],
      ]),
    )
    for (let length = 0; length < bytes.length; length++) expect(accepts(bytes.subarray(0, length))).toBe(false)
  })
})
