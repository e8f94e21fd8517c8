/** The primitives over WebCrypto, as a browser has them, for tests. */
import type { Primitives } from '../protocol/primitives.ts'

const { subtle } = globalThis.crypto
const TAG_BYTES = 16

// WebCrypto's types ask for memory that is not shared, which all of these are.
const own = (bytes: Uint8Array): Uint8Array<ArrayBuffer> => bytes as Uint8Array<ArrayBuffer>
const gcm = (nonce: Uint8Array, aad: Uint8Array) => ({
  name: 'AES-GCM',
  iv: own(nonce),
  additionalData: own(aad),
  tagLength: 8 * TAG_BYTES,
})

export const webPrimitives: Primitives = {
  async sha256(bytes) {
    return new Uint8Array(await subtle.digest('SHA-256', own(bytes)))
  },
  async hmac(key, bytes) {
    const imported = await subtle.importKey('raw', own(key), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign'])
    return new Uint8Array(await subtle.sign('HMAC', imported, own(bytes)))
  },
  async hkdf(secret, info, lengthBytes) {
    const imported = await subtle.importKey('raw', own(secret), 'HKDF', false, ['deriveBits'])
    const params = { name: 'HKDF', hash: 'SHA-256', salt: new Uint8Array(0), info: own(info) }
    return new Uint8Array(await subtle.deriveBits(params, imported, 8 * lengthBytes))
  },
  async gcmSeal(key, nonce, aad, plaintext) {
    const imported = await subtle.importKey('raw', own(key), 'AES-GCM', false, ['encrypt'])
    return new Uint8Array(await subtle.encrypt(gcm(nonce, aad), imported, own(plaintext)))
  },
  async gcmSealDigest(key, nonce, aad, plaintext) {
    return await webPrimitives.sha256(await webPrimitives.gcmSeal(key, nonce, aad, plaintext))
  },
  async gcmOpen(key, nonce, aad, sealed) {
    if (sealed.length < TAG_BYTES) return null
    const imported = await subtle.importKey('raw', own(key), 'AES-GCM', false, ['decrypt'])
    try {
      return new Uint8Array(await subtle.decrypt(gcm(nonce, aad), imported, own(sealed)))
    } catch (error) {
      if (error instanceof DOMException && error.name === 'OperationError') return null
      throw error
    }
  },
}
