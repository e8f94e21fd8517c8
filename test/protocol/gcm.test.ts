/** Edge cases of AES-256-GCM that a careless use of a library would let pass. */
import { describe, expect, it } from 'vitest'
import { nodePrimitives as daemonPrimitives } from '../../node/crypto/primitives.ts'
import { concat } from '../../protocol/bytes.ts'
import { nodePrimitives } from '../primitives-node.ts'
import { webPrimitives } from '../primitives-web.ts'

const KEY = new Uint8Array(32).fill(1)
const NONCE = new Uint8Array(12)
const AAD = Uint8Array.of(1, 2, 3)

describe.each([
  ['node:crypto', nodePrimitives],
  ['the primitives of the node', daemonPrimitives],
  ['WebCrypto', webPrimitives],
])('AES-256-GCM with %s', (_name, p) => {
  const open = (sealed: Uint8Array, aad = AAD) => p.gcmOpen(KEY, NONCE, aad, sealed)

  it('opens what it sealed, the empty text included', async () => {
    for (const length of [0, 1, 15, 16, 17, 1000, 200_000]) {
      const plaintext = new Uint8Array(length).fill(7)
      const sealed = await p.gcmSeal(KEY, NONCE, AAD, plaintext)
      expect(sealed.length).toBe(length + 16)
      expect(await open(sealed)).toEqual(plaintext)
      expect(await p.gcmSealDigest(KEY, NONCE, AAD, plaintext)).toEqual(await p.sha256(sealed))
    }
  })

  it.each([0, 4, 8, 12, 13, 14, 15])('refuses a tag cut to %d bytes', async (tagBytes) => {
    for (const length of [0, 1, 16, 100]) {
      const sealed = await p.gcmSeal(KEY, NONCE, AAD, new Uint8Array(length).fill(7))
      expect(await open(sealed.subarray(0, length + tagBytes))).toBeNull()
    }
  })

  it('refuses a tag of 17 bytes, and every shorter form of a sealed text', async () => {
    const sealed = await p.gcmSeal(KEY, NONCE, AAD, new Uint8Array(20))
    expect(await open(concat(sealed, Uint8Array.of(0)))).toBeNull()
    for (let length = 0; length < sealed.length; length++) expect(await open(sealed.subarray(0, length))).toBeNull()
  })

  it('refuses a tag of zeros, of ones, and any flipped bit', async () => {
    const sealed = await p.gcmSeal(KEY, NONCE, AAD, Uint8Array.of(1))
    for (const byte of [0, 255]) expect(await open(concat(sealed.subarray(0, 1), new Uint8Array(16).fill(byte)))).toBeNull()
    for (let bit = 0; bit < 8 * sealed.length; bit++) {
      const spoiled = sealed.slice()
      spoiled[bit >> 3]! ^= 1 << (bit & 7)
      expect(await open(spoiled)).toBeNull()
    }
  })

  it('refuses other associated data', async () => {
    const sealed = await p.gcmSeal(KEY, NONCE, AAD, new Uint8Array(20))
    for (const aad of [new Uint8Array(0), Uint8Array.of(1, 2), Uint8Array.of(1, 2, 3, 0)]) expect(await open(sealed, aad)).toBeNull()
  })
})
