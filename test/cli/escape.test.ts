import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { escapeText, jsonText } from '../../cli/escape.ts'

/** Everything that a terminal or a reader's eye must not get from a stranger. */
const isUnsafe = (character: string): boolean => {
  const code = character.codePointAt(0) ?? 0
  const ranges = [
    [0, 0x1f],
    [0x7f, 0x9f],
    [0x61c, 0x61c],
    [0x200b, 0x200f],
    [0x2028, 0x202e],
    [0x2060, 0x206f],
    [0xd800, 0xdfff],
    [0xfeff, 0xfeff],
  ] as const
  return ranges.some(([first, last]) => code >= first && code <= last)
}

describe('escaping for the terminal', () => {
  it('writes controls, separators and direction marks as what they are', () => {
    expect(escapeText('a\u001b[31mred\u0007')).toBe('a\\x1b[31mred\\x07')
    expect(escapeText('two\nlines\r\t')).toBe('two\\nlines\\r\\t')
    expect(escapeText('\u007f\u0080\u009b2J\u009f')).toBe('\\x7f\\x80\\x9b2J\\x9f')
    expect(escapeText('photo\u202egpj.exe\u2066\u061c')).toBe('photo\\u{202e}gpj.exe\\u{2066}\\u{061c}')
    expect(escapeText('a\u2028b\u2029c\ufeff\u200b')).toBe('a\\u{2028}b\\u{2029}c\\u{feff}\\u{200b}')
    expect(escapeText('half \ud83d of a pair')).toBe('half \\u{d83d} of a pair')
  })

  it('leaves letters of every script, marks and emoji alone', () => {
    const text = 'Grüße, привет, 你好, שלום, مرحبا, e\u0301, 😀 / \\ "quoted" \u00a0'
    expect(escapeText(text)).toBe(text)
  })

  it('lets nothing unsafe through, whatever it is given', () => {
    const unsafe = fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code))
    fc.assert(
      fc.property(fc.array(fc.oneof(unsafe, fc.string({ unit: 'binary' }))), (parts) => {
        expect([...escapeText(parts.join(''))].filter(isUnsafe)).toEqual([])
      }),
      { seed: 1, numRuns: 500 },
    )
  })

  it('keeps the value of JSON and makes it safe to look at', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.string({ unit: 'binary' }), (value, text) => {
        const shown = jsonText({ value, text: `${text}\u202e\u009b\u007f` })
        expect([...shown].filter(isUnsafe)).toEqual([])
        expect(JSON.parse(shown)).toEqual(JSON.parse(JSON.stringify({ value, text: `${text}\u202e\u009b\u007f` })))
      }),
      { seed: 1, numRuns: 300 },
    )
  })
})
