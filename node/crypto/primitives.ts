/**
 * The format's primitives on node:crypto: synchronous, for use inside a worker and for small inputs on the main thread.
 *
 * Block-sized work (hashing, sealing, opening 1 MiB) belongs to pool.ts, so that the event loop stays free.
 */
import { createCipheriv, createDecipheriv, createHash, createHmac, hash, hkdfSync } from 'node:crypto'
import type { Primitives } from '../../protocol/primitives.ts'

const TAG_BYTES = 16
const NO_SALT = new Uint8Array(0)

/** A plain Uint8Array over the same bytes: Buffer stays inside this file. */
const plain = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** Ciphers work through a block in slices: the memory that node:crypto makes for each slice is small and soon free again. */
const SLICE_BYTES = 65_536

/** The primitives, with memory for sealed and opened blocks from `allocate`. */
export function createPrimitives(allocate: (sizeBytes: number) => Uint8Array): Primitives {
  return {
    sha256: (bytes) => plain(hash('sha256', bytes, 'buffer')),
    hmac: (key, bytes) => plain(createHmac('sha256', key).update(bytes).digest()),
    hkdf: (secret, info, lengthBytes) => new Uint8Array(hkdfSync('sha256', secret, NO_SALT, info, lengthBytes)),
    gcmSeal(key, nonce, aad, plaintext) {
      const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES })
      cipher.setAAD(aad)
      const sealed = allocate(plaintext.byteLength + TAG_BYTES)
      inSlices(plaintext, (slice, at) => sealed.set(cipher.update(slice), at))
      cipher.final()
      sealed.set(cipher.getAuthTag(), plaintext.byteLength)
      return sealed
    },
    gcmSealDigest(key, nonce, aad, plaintext) {
      const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES })
      cipher.setAAD(aad)
      const sealed = createHash('sha256')
      inSlices(plaintext, (slice) => sealed.update(cipher.update(slice)))
      cipher.final()
      return plain(sealed.update(cipher.getAuthTag()).digest())
    },
    gcmOpen(key, nonce, aad, sealed) {
      if (sealed.byteLength < TAG_BYTES) return null
      const split = sealed.byteLength - TAG_BYTES
      const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES })
      decipher.setAAD(aad)
      decipher.setAuthTag(sealed.subarray(split))
      const opened = allocate(split)
      inSlices(sealed.subarray(0, split), (slice, at) => opened.set(decipher.update(slice), at))
      try {
        decipher.final()
      } catch {
        return null // final() fails for one reason only: the tag does not match
      }
      return opened
    },
  }
}

function inSlices(bytes: Uint8Array, visit: (slice: Uint8Array, at: number) => void): void {
  for (let at = 0; at < bytes.byteLength; at += SLICE_BYTES) visit(bytes.subarray(at, at + SLICE_BYTES), at)
}

/** The primitives with fresh memory for every answer. */
export const nodePrimitives: Primitives = createPrimitives((sizeBytes) => new Uint8Array(sizeBytes))
