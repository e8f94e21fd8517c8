/**
 * The format's primitives on node:crypto: synchronous, for use inside a worker and for small inputs on the main thread.
 *
 * Block-sized work (hashing, sealing, opening 1 MiB) belongs to pool.ts, so that the event loop stays free.
 */
import { createCipheriv, createDecipheriv, createHmac, hash, hkdfSync } from 'node:crypto'
import type { Primitives } from '../../protocol/primitives.ts'

const TAG_BYTES = 16
const NO_SALT = new Uint8Array(0)

/** A plain Uint8Array over the same bytes: Buffer stays inside this file. */
const plain = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)

export const nodePrimitives: Primitives = {
  sha256: (bytes) => plain(hash('sha256', bytes, 'buffer')),
  hmac: (key, bytes) => plain(createHmac('sha256', key).update(bytes).digest()),
  hkdf: (secret, info, lengthBytes) => new Uint8Array(hkdfSync('sha256', secret, NO_SALT, info, lengthBytes)),
  gcmSeal(key, nonce, aad, plaintext) {
    const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES })
    cipher.setAAD(aad)
    const body = cipher.update(plaintext)
    const sealed = new Uint8Array(body.byteLength + TAG_BYTES)
    sealed.set(body)
    cipher.final()
    sealed.set(cipher.getAuthTag(), body.byteLength)
    return sealed
  },
  gcmOpen(key, nonce, aad, sealed) {
    if (sealed.byteLength < TAG_BYTES) return null
    const split = sealed.byteLength - TAG_BYTES
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES })
    decipher.setAAD(aad)
    decipher.setAuthTag(sealed.subarray(split))
    const opened = decipher.update(sealed.subarray(0, split))
    try {
      decipher.final()
    } catch {
      return null // final() fails for one reason only: the tag does not match
    }
    return plain(opened)
  },
}
