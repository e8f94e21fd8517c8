/**
 * Makes text of strangers safe to print: file names, labels and messages may hold bytes that a terminal obeys.
 *
 * Escaped: C0 and C1 controls, DEL, bidirectional controls, line and paragraph separators, zero-width marks, lone surrogates.
 */
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\p{Surrogate}/gu

const SHORT: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }

const hex = (character: string, digits: number): string => (character.codePointAt(0) ?? 0).toString(16).padStart(digits, '0')

/** The text with everything that could steer a terminal written as \n, \xNN or \u{NNNN}. */
export const escapeText = (text: string): string =>
  text.replace(UNSAFE, (found) => SHORT[found] ?? (found <= '\u00ff' ? `\\x${hex(found, 2)}` : `\\u{${hex(found, 4)}}`))

/** JSON on one line, equal in value to JSON.stringify's, with the same characters written as \uNNNN. */
export const jsonText = (value: unknown): string => JSON.stringify(value).replace(UNSAFE, (found) => `\\u${hex(found, 4)}`)
