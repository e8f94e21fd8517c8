/** Which names and paths a share may hold: rows P1 and P2 of the specification. */
import { describe, expect, it } from 'vitest'
import { type CborValue, Encoded } from '../../protocol/cbor.ts'
import { checkDir, checkName, checkPath, PathWatch } from '../../protocol/names.ts'
import { empty, expectRejected, listAll, openForged, PT, withEntry, withGroups, withPages } from './forge.ts'

describe('P1: names', () => {
  const deep = (depth: number): string => Array.from({ length: depth }, () => 'd').join('/')
  it.each<[string, string]>([
    ['empty', ''],
    ['a dot', '.'],
    ['two dots', '..'],
    ['with a slash', 'a/b'],
    ['with a backslash', 'a\\b'],
    ['with NUL', 'a\u0000'],
    ['with a line feed', 'a\n'],
    ['with U+001F', '\u001fa'],
    ['with DEL', 'a\u007f'],
    ['with C1', 'a\u009f'],
    ['with a line separator', 'a\u2028'],
    ['with a paragraph separator', 'a\u2029'],
    ['with U+061C', 'a\u061c'],
    ['with U+200E', 'a\u200e'],
    ['with U+200F', '\u200fa'],
    ['with U+202A', 'a\u202a'],
    ['with U+202E', 'a\u202etxt.exe'],
    ['with U+2066', 'a\u2066'],
    ['with U+2069', 'a\u2069'],
    ['with a byte order mark', '\ufeffa'],
    ['with a lone surrogate', 'a\ud800'],
    ['that is not in NFC', 'e\u0301'],
    ['of 256 bytes', 'ä'.repeat(128)],
  ])('P1 rejects a name %s', async (_what, name) => {
    expect(() => checkName(name)).toThrow(expect.objectContaining({ code: 'P1' }))
    if (!name.isWellFormed()) return
    await expectRejected('P1', withEntry([name, PT, [[0, 1]]]))
    // As a directory, "a/b" is two good names; the empty one is the top.
    if (name !== 'a/b' && name !== '') await expectRejected('P1', withGroups([[`x/${name}`, [empty('a')]]], 1, 0))
  })
  it('P1 rejects a lone surrogate, which no UTF-8 can carry, as X2', () =>
    expectRejected('X2', withGroups([['', [[new Encoded(Uint8Array.of(0x63, 0xed, 0xa0, 0x80)), 0, []]]]], 1, 0)))
  it.each<[string, string]>([
    ['with an empty part', 'a//b'],
    ['that begins with a slash', '/a'],
    ['that ends with a slash', 'a/'],
    ['that climbs', 'a/../b'],
    ['65 deep', deep(65)],
    ['of 4097 bytes', Array.from({ length: 17 }, (_, i) => 'd'.repeat(i < 16 ? 255 : 1)).join('/')],
  ])('P1 rejects a directory %s', (_what, dir) => expectRejected('P1', withGroups([[dir, []]], 0, 0)))
  it('P1 rejects a bad name in the list of path pages', () => expectRejected('P1', withPages([[['', [empty('a')]]]], [['', '..']], 1)))
  it('accepts names at the limits and in many scripts', () => {
    for (const name of ['a', '...', 'ä'.repeat(127), 'ファイル.txt', '\u{1f600}', 'con', 'a:b', ' ', '-', '__proto__']) checkName(name)
    checkDir('')
    checkDir(deep(64))
    checkPath(`${deep(64)}/file`)
    checkDir(Array.from({ length: 16 }, () => 'd'.repeat(255)).join('/'))
  })
})

describe('P2: paths that collide', () => {
  it.each<[string, CborValue, number]>([
    [
      'a file and a directory of one path',
      [
        ['', [empty('a')]],
        ['a', [empty('b')]],
      ],
      2,
    ],
    [
      'a file and a directory further down',
      [
        ['', [empty('a')]],
        ['a b', [empty('x')]],
        ['a/b/c', [empty('y')]],
      ],
      3,
    ],
    [
      'a file and an empty directory',
      [
        ['', [empty('a')]],
        ['a', []],
      ],
      1,
    ],
    [
      'a directory marked empty with a directory in it',
      [
        ['a', []],
        ['a/b', []],
      ],
      0,
    ],
    [
      'a directory marked empty with a file far below',
      [
        ['a', []],
        ['a/b/c', [empty('x')]],
      ],
      1,
    ],
    [
      'the top marked empty with a file',
      [
        ['', []],
        ['a', [empty('x')]],
      ],
      1,
    ],
  ])('P2 rejects %s', (_what, groups, files) => expectRejected('P2', withGroups(groups, files, 0)))
  it('P2 rejects a directory marked empty whose files stand on the next page', () =>
    expectRejected(
      'P2',
      withPages(
        [[['a', []]], [['a', [empty('x')]]]],
        [
          ['a', ''],
          ['a', 'x'],
        ],
        1,
      ),
    ))
  it('are watched for in bounded memory', () => {
    const watch = new PathWatch(5_000)
    expect(watch.add('', 'a')).toBeNull()
    for (let i = 100; i < 200; i++) expect(watch.add('', `b${i}`)).toBeNull()
    // The first was forgotten, the last was not.
    expect(watch.add('a', 'x')).toBeNull()
    expect(watch.add('b199/c', 'x')).toBe('b199')
  })
  it('accepts names that only begin alike', async () => {
    const groups = [
      ['', [empty('a')]],
      ['a b', [empty('x')]],
      ['ab', []],
      ['ab c', []],
    ]
    expect(await openForged(withGroups(groups, 2, 0)).then(listAll)).toHaveLength(4)
  })
})
