/**
 * Rules for names, as text: what no share may hold (P1), what Windows cannot store (P3), and the byte order of paths.
 *
 * The share format's reader has checked P1 before anything reaches extraction; extraction checks again, and the walk over the user's
 * files checks here so that the complaint names the file. Nothing here touches the disk.
 */
import { FORMAT } from '../../protocol/limits.ts'

const encoder = new TextEncoder()
const FORBIDDEN = /[/\\\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/
const PLAIN = /^[\u0020-\u007e]*$/

/** Why a name may not stand in a share (P1), or null when it may. */
export function nameFault(name: string): string | null {
  if (name === '') return 'it is empty'
  if (name === '.' || name === '..') return 'it is a reserved name'
  if (FORBIDDEN.test(name)) return 'it holds a control character, a direction mark or a slash'
  if (PLAIN.test(name)) return name.length > FORMAT.nameBytesMax ? `it is longer than ${FORMAT.nameBytesMax} bytes` : null
  if (!name.isWellFormed()) return 'it is not well-formed text'
  if (name.normalize('NFC') !== name) return 'it is not in NFC'
  return encoder.encode(name).length > FORMAT.nameBytesMax ? `it is longer than ${FORMAT.nameBytesMax} bytes` : null
}

/** Why a directory path may not stand in a share (P1), or null when it may; '' is the top. */
export function dirFault(dir: string): string | null {
  if (dir === '') return null
  const parts = dir.split('/')
  if (parts.length > FORMAT.depthMax) return `it is deeper than ${FORMAT.depthMax} folders`
  if (dir.length * 3 > FORMAT.dirBytesMax && encoder.encode(dir).length > FORMAT.dirBytesMax) {
    return `it is longer than ${FORMAT.dirBytesMax} bytes`
  }
  for (const part of parts) {
    const fault = nameFault(part)
    if (fault !== null) return fault
  }
  return null
}

/** Why Windows cannot store a name (P3), or null when it can. */
export function windowsFault(name: string): string | null {
  if (/[<>:"|?*]/.test(name)) return 'Windows does not allow one of its characters'
  if (/[. ]$/.test(name)) return 'Windows does not allow a dot or space at the end'
  if (/^(con|prn|aux|nul|clock\$|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])[ ]*(\..*)?$/i.test(name)) return 'it names a device on Windows'
  return null
}

/** What a file system that folds case makes of a name: equal keys would be the same file there. */
export function foldedName(name: string): string {
  return PLAIN.test(name) ? name.toLowerCase() : name.normalize('NFKC').toLowerCase().toUpperCase().toLowerCase().normalize('NFC')
}

/** Orders two strings as their UTF-8 bytes do (UTF-16 order differs where surrogates meet U+E000 and above). */
export function compareUtf8(a: string, b: string): number {
  if (a === b) return 0
  const shorter = Math.min(a.length, b.length)
  for (let i = 0; i < shorter; i += 1) {
    const x = a.charCodeAt(i)
    const y = b.charCodeAt(i)
    if (x !== y) return rank(x) - rank(y)
  }
  return a.length - b.length
}

const rank = (unit: number): number => (unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit)
