/**
 * The cipher of Noise, with the key of a direction prepared once instead of for every message.
 *
 * A session keeps one array with its key for as long as it lives; making a key object of that array takes a quarter of the time that
 * encrypting a message of 64 KiB does. Everything else is the library's own.
 */
import { createSecretKey, type KeyObject } from 'node:crypto'
import type { ICryptoInterface } from '@chainsafe/libp2p-noise'
import { defaultCrypto, nodeCrypto } from '@chainsafe/libp2p-noise/crypto'

/** Shorter messages take the library's own way, which is faster for them and wants bytes for a key. */
const SHORT_BYTES = 1_200

const keys = new WeakMap<Uint8Array, KeyObject>()

/** The library hands the key on to createCipheriv, which takes either. */
function keyOf(bytes: Uint8Array): Uint8Array {
  let key = keys.get(bytes)
  if (key === undefined) {
    key = createSecretKey(bytes)
    keys.set(bytes, key)
  }
  return key as unknown as Uint8Array // typed as bytes, used as `CipherKey`: test/node/noise-crypto.test.ts
}

export const noiseCrypto: ICryptoInterface = {
  ...defaultCrypto,
  chaCha20Poly1305Encrypt: (plaintext, nonce, ad, k) =>
    plaintext.byteLength < SHORT_BYTES
      ? defaultCrypto.chaCha20Poly1305Encrypt(plaintext, nonce, ad, k)
      : nodeCrypto.chaCha20Poly1305Encrypt(plaintext, nonce, ad, keyOf(k)),
  /** Throws when the message was changed on its way. */
  chaCha20Poly1305Decrypt: (ciphertext, nonce, ad, k, dst) =>
    ciphertext.byteLength < SHORT_BYTES
      ? defaultCrypto.chaCha20Poly1305Decrypt(ciphertext, nonce, ad, k, dst)
      : nodeCrypto.chaCha20Poly1305Decrypt(ciphertext, nonce, ad, keyOf(k), dst),
}
