/**
 * Finds secrets in text, whichever way they were written there: hex, base32, base58, base64, base64url, lists of numbers; also halves of
 * them, and where they stand inside something longer that was encoded as a whole.
 */
import { base32 } from 'multiformats/bases/base32'
import { base58btc } from 'multiformats/bases/base58'

const HALF = 16

/** Every text that would give away a half of `secret` (32 bytes or more), by the name of its form. */
export function formsOf(secret: Uint8Array): Map<string, string> {
  const forms = new Map<string, string>()
  forms.set('base58 whole', base58btc.baseEncode(secret))
  for (let start = 0; start + HALF <= secret.length; start += HALF) {
    const half = secret.subarray(start, start + HALF)
    const name = `from byte ${start}`
    const hex = Buffer.from(half).toString('hex')
    forms.set(`hex ${name}`, hex)
    forms.set(`HEX ${name}`, hex.toUpperCase())
    forms.set(`spaced hex ${name}`, (hex.match(/../g) ?? []).join(' '))
    forms.set(`numbers ${name}`, half.join(','))
    forms.set(`spaced numbers ${name}`, half.join(', '))
    forms.set(`fields ${name}`, Array.from(half, (byte, i) => `"${start + i}":${byte}`).join(','))
    forms.set(`base58 ${name}`, base58btc.baseEncode(half))
    // Inside something longer the digits fall differently, by how many bits went before.
    for (let before = 0; before < 3; before++) {
      const text = innerDigits(half, before, 6, (bytes) => Buffer.from(bytes).toString('base64').replaceAll('=', ''))
      forms.set(`base64 ${name}, after ${before}`, text)
      forms.set(`base64url ${name}, after ${before}`, text.replaceAll('+', '-').replaceAll('/', '_'))
    }
    for (let before = 0; before < 5; before++) {
      const text = innerDigits(half, before, 5, (bytes) => base32.baseEncode(bytes))
      forms.set(`base32 ${name}, after ${before}`, text)
      forms.set(`BASE32 ${name}, after ${before}`, text.toUpperCase())
    }
  }
  return forms
}

/** The digits that depend on `bytes` alone when `before` other bytes stand in front of them. */
function innerDigits(bytes: Uint8Array, before: number, bitsPerDigit: number, encode: (bytes: Uint8Array) => string): string {
  const padded = new Uint8Array(before + bytes.length)
  padded.set(bytes, before)
  return encode(padded).slice(Math.ceil((before * 8) / bitsPerDigit), Math.floor((padded.length * 8) / bitsPerDigit))
}

/** "NAME as FORM" for each secret that `text` gives away, and each key of a link. */
export function secretsIn(text: string, secrets: Readonly<Record<string, Uint8Array>>): string[] {
  const found = Object.entries(secrets).flatMap(([name, secret]) =>
    [...formsOf(secret)].filter(([, form]) => text.includes(form)).map(([form]) => `${name} as ${form}`),
  )
  return /[#.]1[A-Za-z0-9_-]{32,}/.test(text) ? [...found, 'the key of a link'] : found
}
