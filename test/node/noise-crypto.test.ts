import { randomBytes } from 'node:crypto'
import { defaultCrypto } from '@chainsafe/libp2p-noise/crypto'
import { Uint8ArrayList } from 'uint8arraylist'
import { describe, expect, it } from 'vitest'
import { noiseCrypto } from '../../node/network/noise-crypto.ts'

const key = Uint8Array.from(randomBytes(32))
const nonce = Uint8Array.from(randomBytes(12))
/** The library has a version of the list of its own. */
type Bytes = Parameters<typeof defaultCrypto.hashSHA256>[0]
const flat = (bytes: Bytes): Uint8Array => (bytes instanceof Uint8Array ? Uint8Array.from(bytes) : bytes.slice())
const inTwo = (bytes: Uint8Array): Bytes =>
  new Uint8ArrayList(bytes.subarray(0, bytes.length >> 1), bytes.subarray(bytes.length >> 1)) as never

describe('the cipher of Noise', () => {
  it.each([0, 1, 1_199, 1_200, 65_519])('%i bytes come out as with the library, in one piece or several, both ways', (size) => {
    const plain = Uint8Array.from(randomBytes(size))
    for (const ad of [new Uint8Array(0), Uint8Array.of(1, 2, 3)]) {
      const expected = flat(defaultCrypto.chaCha20Poly1305Encrypt(plain, nonce, ad, key))
      expect(flat(noiseCrypto.chaCha20Poly1305Encrypt(plain, nonce, ad, key))).toEqual(expected)
      expect(flat(noiseCrypto.chaCha20Poly1305Encrypt(inTwo(plain), nonce, ad, key))).toEqual(expected)
      expect(flat(noiseCrypto.chaCha20Poly1305Decrypt(expected, nonce, ad, key))).toEqual(plain)
      expect(flat(noiseCrypto.chaCha20Poly1305Decrypt(inTwo(expected), nonce, ad, key))).toEqual(plain)
    }
  })

  it('refuses a message that was changed, sealed with another key, nonce or associated data', () => {
    const ad = Uint8Array.of(1)
    const sealed = flat(noiseCrypto.chaCha20Poly1305Encrypt(Uint8Array.from(randomBytes(60_000)), nonce, ad, key))
    for (const at of [0, 30_000, 59_999, 60_000, 60_015]) {
      const changed = Uint8Array.from(sealed)
      changed[at]! ^= 1
      expect(() => noiseCrypto.chaCha20Poly1305Decrypt(changed, nonce, ad, key)).toThrow()
    }
    expect(() => noiseCrypto.chaCha20Poly1305Decrypt(sealed, nonce, ad, Uint8Array.from(randomBytes(32)))).toThrow()
    expect(() => noiseCrypto.chaCha20Poly1305Decrypt(sealed, Uint8Array.from(randomBytes(12)), ad, key)).toThrow()
    expect(() => noiseCrypto.chaCha20Poly1305Decrypt(sealed, nonce, new Uint8Array(0), key)).toThrow()
  })
})
