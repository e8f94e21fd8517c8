/**
 * The cryptographic primitives that the format needs, passed in by whoever runs it: node:crypto in the daemon, WebCrypto in a browser.
 *
 * The rules of the format (labels, the key rule, the commitment) live in keys.ts, seal.ts and root.ts, never in an implementation of this.
 * Every method borrows its arguments until it returns or its promise settles, and gives away what it returns.
 */
export interface Primitives {
  /** SHA-256, 32 bytes. */
  sha256(bytes: Uint8Array): MaybePromise<Uint8Array>
  /** HMAC-SHA256, 32 bytes. */
  hmac(key: Uint8Array, bytes: Uint8Array): MaybePromise<Uint8Array>
  /** HKDF-SHA256 with an empty salt (RFC 5869). */
  hkdf(secret: Uint8Array, info: Uint8Array, lengthBytes: number): MaybePromise<Uint8Array>
  /** AES-256-GCM with a 12-byte nonce; returns ciphertext || 16-byte tag. */
  gcmSeal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): MaybePromise<Uint8Array>
  /** SHA-256 of what `gcmSeal` returns for the same arguments, for whoever wants no more of it. */
  gcmSealDigest(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): MaybePromise<Uint8Array>
  /** The reverse of `gcmSeal`; null when the tag is wrong or `sealed` is shorter than a tag. Tags of any length but 16 must be refused. */
  gcmOpen(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array): MaybePromise<Uint8Array | null>
}

export type MaybePromise<T> = T | Promise<T>
