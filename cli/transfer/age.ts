/**
 * Files under a passphrase, in the format of age (age-encryption.org/v1, recipient "scrypt"): `age --decrypt` opens what is written here.
 *
 * Header: one scrypt stanza that wraps a file key, and a MAC over it. Payload: ChaCha20-Poly1305 over pieces of 64 KiB, each with a counter
 * and a mark for the last. Nothing is given out before all of it is checked. Only this one kind of recipient is read.
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes, scrypt, timingSafeEqual } from 'node:crypto'

/** Why a file does not open. */
export class AgeError extends Error {
  override name = 'AgeError'
  /** FORMAT: no such file, or a damaged head. PASSPHRASE: the wrong one. DAMAGED: the content is. */
  readonly code: 'FORMAT' | 'PASSPHRASE' | 'DAMAGED'
  constructor(code: AgeError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

const INTRO = 'age-encryption.org/v1\n'
const LABEL = 'age-encryption.org/v1/scrypt'
const PIECE_BYTES = 64 * 1024
const TAG_BYTES = 16
const KEY_BYTES = 16
const SALT_BYTES = 16
/** Some 256 MiB and a second, as age has it. */
const WORK = 18
/** A file may ask for this much and no more: 1 GiB. */
const WORK_MAX = 20
const HEAD = /^age-encryption\.org\/v1\n-> scrypt ([A-Za-z0-9+/]{22}) ([1-9][0-9]?)\n([A-Za-z0-9+/]{43})\n---(?: ([A-Za-z0-9+/]{43})\n)/

/** Whether the bytes begin like a file of age. */
export const isAge = (file: Uint8Array): boolean => ascii(file.subarray(0, INTRO.length)) === INTRO

/** The file that holds `plain` under `passphrase`. `work` is the base-2 logarithm of scrypt's cost. */
export async function sealUnder(passphrase: string, plain: Uint8Array, work: number = WORK): Promise<Uint8Array> {
  const fileKey = randomBytes(KEY_BYTES)
  const salt = randomBytes(SALT_BYTES)
  const wrapped = seal(await wrappingKey(passphrase, salt, work), new Uint8Array(12), fileKey)
  const head = `${INTRO}-> scrypt ${base64(salt)} ${work}\n${base64(wrapped)}\n---`
  const nonce = randomBytes(16)
  const key = derive(fileKey, nonce, 'payload')
  const parts: Uint8Array[] = [bytesOf(`${head} ${base64(macOf(fileKey, head))}\n`), nonce]
  for (let at = 0, index = 0; at === 0 || at < plain.length; at += PIECE_BYTES, index++) {
    const end = at + PIECE_BYTES
    parts.push(seal(key, pieceNonce(index, end >= plain.length), plain.subarray(at, end)))
  }
  return Buffer.concat(parts)
}

/** What the file holds. Throws AgeError. */
export async function openUnder(passphrase: string, file: Uint8Array): Promise<Uint8Array> {
  const head = HEAD.exec(ascii(file.subarray(0, 512)))
  if (head === null) throw new AgeError('FORMAT', 'this is not a file under a passphrase, or its beginning is damaged')
  const [whole, salt = '', workText = '', body = '', mac = ''] = head
  const work = Number(workText)
  if (work > WORK_MAX) throw new AgeError('FORMAT', `the file asks for scrypt work 2^${work}, limit 2^${WORK_MAX}`)
  const fileKey = open(await wrappingKey(passphrase, unbase64(salt), work), new Uint8Array(12), unbase64(body))
  if (fileKey === null) throw new AgeError('PASSPHRASE', 'the passphrase is not that of this file')
  const signed = whole.slice(0, whole.indexOf('\n---') + 4)
  if (!timingSafeEqual(macOf(fileKey, signed), unbase64(mac))) throw new AgeError('FORMAT', 'the beginning of the file is damaged')
  return openPayload(fileKey, file.subarray(whole.length))
}

function openPayload(fileKey: Uint8Array, payload: Uint8Array): Uint8Array {
  const damaged = (): AgeError => new AgeError('DAMAGED', 'the file is damaged or cut off')
  if (payload.length < 16 + TAG_BYTES) throw damaged()
  const key = derive(fileKey, payload.subarray(0, 16), 'payload')
  const sealed = payload.subarray(16)
  const parts: Uint8Array[] = []
  for (let at = 0, index = 0; at < sealed.length; at += PIECE_BYTES + TAG_BYTES, index++) {
    const end = at + PIECE_BYTES + TAG_BYTES
    const part = open(key, pieceNonce(index, end >= sealed.length), sealed.subarray(at, end))
    // Only a file without content ends in an empty piece.
    if (part === null || (part.length === 0 && index > 0)) throw damaged()
    parts.push(part)
  }
  return Buffer.concat(parts)
}

function pieceNonce(index: number, isLast: boolean): Uint8Array {
  const nonce = Buffer.alloc(12)
  nonce.writeUIntBE(index, 5, 6)
  nonce[11] = isLast ? 1 : 0
  return nonce
}

function wrappingKey(passphrase: string, salt: Uint8Array, work: number): Promise<Uint8Array> {
  const cost = 2 ** work
  const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>()
  const options = { N: cost, r: 8, p: 1, maxmem: 128 * cost * 8 + 2 ** 20 }
  scrypt(bytesOf(passphrase), Buffer.concat([bytesOf(LABEL), salt]), 32, options, (error, key) => (error ? reject(error) : resolve(key)))
  return promise
}

const derive = (fileKey: Uint8Array, salt: Uint8Array, info: string): Uint8Array =>
  new Uint8Array(hkdfSync('sha256', fileKey, salt, info, 32))

const macOf = (fileKey: Uint8Array, head: string): Uint8Array =>
  createHmac('sha256', derive(fileKey, new Uint8Array(), 'header'))
    .update(head)
    .digest()

function seal(key: Uint8Array, nonce: Uint8Array, plain: Uint8Array): Uint8Array {
  const cipher = createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: TAG_BYTES })
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}

/** Null when it is not what was sealed. */
function open(key: Uint8Array, nonce: Uint8Array, sealed: Uint8Array): Uint8Array | null {
  if (sealed.length < TAG_BYTES) return null
  const decipher = createDecipheriv('chacha20-poly1305', key, nonce, { authTagLength: TAG_BYTES })
  decipher.setAuthTag(sealed.subarray(-TAG_BYTES))
  try {
    return Buffer.concat([decipher.update(sealed.subarray(0, -TAG_BYTES)), decipher.final()])
  } catch {
    // The tag does not match; OpenSSL has nothing more to say.
    return null
  }
}

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)
const ascii = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64').replaceAll('=', '')

/** Of the one way to write those bytes; another is damage. */
function unbase64(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'base64')
  if (base64(bytes) !== text) throw new AgeError('FORMAT', 'the beginning of the file is damaged')
  return bytes
}
