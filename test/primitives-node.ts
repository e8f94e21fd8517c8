/** The primitives over node:crypto, for tests. */
import { createCipheriv, createDecipheriv, createHash, createHmac, hkdfSync } from 'node:crypto'
import type { Primitives } from '../protocol/primitives.ts'

const TAG_BYTES = 16
const plain = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)

export const nodePrimitives: Primitives = {
  sha256: (bytes) => plain(createHash('sha256').update(bytes).digest()),
  hmac: (key, bytes) => plain(createHmac('sha256', key).update(bytes).digest()),
  hkdf: (secret, info, lengthBytes) => new Uint8Array(hkdfSync('sha256', secret, new Uint8Array(0), info, lengthBytes)),
  gcmSeal(key, nonce, aad, plaintext) {
    const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES })
    cipher.setAAD(aad)
    return plain(Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]))
  },
  async gcmSealDigest(key, nonce, aad, plaintext) {
    return nodePrimitives.sha256(await nodePrimitives.gcmSeal(key, nonce, aad, plaintext))
  },
  gcmOpen(key, nonce, aad, sealed) {
    if (sealed.length < TAG_BYTES) return null
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES })
    decipher.setAAD(aad)
    decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES))
    const plaintext = decipher.update(sealed.subarray(0, sealed.length - TAG_BYTES))
    try {
      decipher.final()
    } catch {
      // The only failure of final() is a wrong tag.
      return null
    }
    return plain(plaintext)
  },
}
