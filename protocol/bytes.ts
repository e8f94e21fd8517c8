/**
 * Small operations on byte strings: joining, comparing, big-endian integers, hex and strict UTF-8.
 *
 * Nothing here knows the format. Every function borrows its arguments until it returns; results are fresh memory unless it says "view".
 */

// The two platform classes that this package needs; declared here because its sources compile without DOM or Node types.
declare const TextEncoder: new () => { encode(text: string): Uint8Array }
declare const TextDecoder: new (label: string, options: { fatal: boolean; ignoreBOM: boolean }) => { decode(bytes: Uint8Array): string }

const encoder = new TextEncoder()
// A leading U+FEFF must survive, or the check of names could not see it.
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** UTF-8 of a text. The text must be well-formed: lone surrogates would be replaced silently. */
export function utf8(text: string): Uint8Array {
  return encoder.encode(text)
}

/** The text of well-formed UTF-8, or null. Nothing is replaced, a byte order mark is kept. */
export function fromUtf8(bytes: Uint8Array): string | null {
  try {
    return decoder.decode(bytes)
  } catch {
    // The decoder's only failure is malformed input, which the caller names better.
    return null
  }
}

/** How many bytes the UTF-8 of a well-formed text takes. */
export function utf8Length(text: string): number {
  let bytes = 0
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    // A surrogate pair is two units of two bytes each: four in all.
    bytes += unit < 0x80 ? 1 : unit < 0x800 || (unit >= 0xd800 && unit < 0xe000) ? 2 : 3
  }
  return bytes
}

/** One byte string after the other. */
export function concat(...parts: Uint8Array[]): Uint8Array {
  return concatAll(parts)
}

/** The same for a list of any length; arguments are limited by the stack. */
export function concatAll(parts: readonly Uint8Array[]): Uint8Array {
  let length = 0
  for (const part of parts) length += part.length
  const joined = new Uint8Array(length)
  let at = 0
  for (const part of parts) {
    joined.set(part, at)
    at += part.length
  }
  return joined
}

/** Whether two byte strings are the same. Not for secrets: it stops at the first difference. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** Whether two byte strings of one length are the same, in time that depends on the length alone. */
export function equalConstantTime(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  let difference = 0
  for (let i = 0; i < a.length; i++) difference |= a[i]! ^ b[i]!
  return difference === 0
}

/** Negative, zero or positive: the order of two byte strings, the shorter first where one begins the other. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const shared = Math.min(a.length, b.length)
  for (let i = 0; i < shared; i++) if (a[i] !== b[i]) return a[i]! - b[i]!
  return a.length - b.length
}

/** The order of two texts by their UTF-8 bytes. Plain `<` goes by UTF-16 units, which differs above U+FFFF. */
export function compareUtf8(a: string, b: string): number {
  const shared = Math.min(a.length, b.length)
  for (let i = 0; i < shared; i++) {
    const x = a.charCodeAt(i)
    const y = b.charCodeAt(i)
    if (x !== y) return byCodePoint(x) - byCodePoint(y)
  }
  return a.length - b.length
}

// Surrogates stand for code points above every other unit.
function byCodePoint(unit: number): number {
  return unit >= 0xd800 && unit < 0xe000 ? unit + 0x10000 : unit
}

/** Whether every byte is zero. */
export function isZero(bytes: Uint8Array): boolean {
  const isAligned = bytes.byteOffset % 4 === 0
  const words = isAligned ? new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2) : new Uint32Array(0)
  for (let i = 0; i < words.length; i++) if (words[i] !== 0) return false
  for (let i = words.length * 4; i < bytes.length; i++) if (bytes[i] !== 0) return false
  return true
}

/** Big-endian u32 at `at`. */
export function readU32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0
}

/** Writes a big-endian u32 at `at`. */
export function writeU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24
  bytes[at + 1] = value >>> 16
  bytes[at + 2] = value >>> 8
  bytes[at + 3] = value
}

/** Big-endian u64 at `at`; above 2^53 it is rounded, so check with Number.isSafeInteger. */
export function readU64(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at) * 2 ** 32 + readU32(bytes, at + 4)
}

/** Writes a big-endian u64 at `at`; `value` is a safe integer. */
export function writeU64(bytes: Uint8Array, at: number, value: number): void {
  writeU32(bytes, at, Math.floor(value / 2 ** 32))
  writeU32(bytes, at + 4, value % 2 ** 32)
}

/** Lower-case hex. */
export function toHex(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0')
  return text
}

/** The bytes of lower-case hex, or null for any other text. */
export function fromHex(text: string): Uint8Array | null {
  if (text.length % 2 !== 0 || !/^[0-9a-f]*$/.test(text)) return null
  const bytes = new Uint8Array(text.length / 2)
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16)
  return bytes
}
