/** What a reader rejects in an opened share: rows B1 to X7 of the specification. */
import { describe, expect, it } from 'vitest'
import { type CborValue, Encoded, encodeCbor } from '../../protocol/cbor.ts'
import type { ShareReader } from '../../protocol/reader.ts'
import {
  empty,
  expectRejected,
  type Forged,
  flip,
  listAll,
  map,
  oneFile,
  openForged,
  PIECE,
  PT,
  page,
  withEntry,
  withExtents,
  withGroups,
  withPages,
} from './forge.ts'

function nested(depth: number): CborValue {
  return depth === 0 ? 1 : [nested(depth - 1)]
}

it('accepts the share that all rejections start from', async () => {
  expect(await openForged(oneFile()).then(listAll)).toEqual([
    { dir: '', name: 'a', sizeBytes: PT, extents: [{ kind: 'blocks', position: 0, count: 1 }], executable: false },
  ])
  expect(
    await openForged(
      withPages(
        [[['', [empty('a')]]], [['b', [empty('c')]]]],
        [
          ['', 'a'],
          ['b', 'c'],
        ],
        2,
      ),
    ).then(listAll),
  ).toHaveLength(2)
})

describe('B: keys', () => {
  it('B1 rejects a key that the root does not commit to', () => expectRejected('B1', { ...oneFile(), wrongKey: true }))
  it('B1 rejects a root whose commitment was changed', () =>
    expectRejected('B1', { ...oneFile(), spoilBlocks: (blocks) => flip(blocks.at(-1)!, 31) }))
  it('B2 rejects a root whose ciphertext was changed', () =>
    expectRejected('B2', { ...oneFile(), spoilBlocks: (blocks) => flip(blocks.at(-1)!, 32) }))
  it('B2 rejects a data block that its key does not open', async () => {
    const reader = await openForged({ ...oneFile(), spoilBlocks: (blocks) => flip(blocks[0]!, 5) })
    await expect(reader.openPiece(0)).rejects.toMatchObject({ code: 'B2' })
  })
  it('B2 rejects a path page that its key does not open', () =>
    expectRejected('B2', { ...withPages([[['', [empty('a')]]]], [['', 'a']], 1), spoilBlocks: (blocks) => flip(blocks[0]!, 5) }))
})

describe('X1: lengths and padding', () => {
  const spoilLength = (rootPlain: Uint8Array) => void new DataView(rootPlain.buffer).setUint32(0, rootPlain.length - 3)
  it('X1 rejects a length beyond the data', () => expectRejected('X1', { ...oneFile(), spoilRoot: spoilLength }))
  it('X1 rejects padding in the root that is not zero', () =>
    expectRejected('X1', { ...oneFile(), spoilRoot: (rootPlain) => flip(rootPlain, rootPlain.length - 1) }))
  it('X1 rejects padding on a path page that is not zero', () => {
    const forged = withPages([[['', [empty('a')]]]], [['', 'a']], 1)
    forged.pathPages![0]![PT - 1] = 1
    return expectRejected('X1', forged)
  })
  it.each([
    ['unused end', 8193 * 32],
    ['last sixteen bytes', PT - 1],
  ])('X1 rejects a key page with a byte in its %s', async (_what, at) => {
    const keyPage = new Uint8Array(PT)
    keyPage[at] = 1
    await expect((await manyBlocks(keyPage)).keyOf(8192)).rejects.toMatchObject({ code: 'X1' })
  })
  it('accepts the key page that these start from', async () => {
    const keyPage = new Uint8Array(PT)
    keyPage[8193 * 32 - 1] = 9
    expect((await (await manyBlocks(keyPage)).keyOf(8192)).at(-1)).toBe(9)
  })

  // A share of 8193 data blocks, of which only the index is there.
  function manyBlocks(keyPage: Uint8Array): Promise<ShareReader> {
    return openForged({
      missingBlocks: 8193,
      keyPages: [keyPage],
      root: ({ keyPages }) => map({ c: [8193, 1, 0], f: 0, k: keyPages, p: [['', []]], s: 0, v: 1 }),
    })
  }
})

describe('X2: CBOR', () => {
  const good = encodeCbor(map({ c: [0, 0, 0], f: 0, k: new Uint8Array(0), p: [['', []]], s: 0, v: 1 }))
  const raw = (bytes: Uint8Array): Forged => ({ root: () => bytes })
  const spliced = (from: number, length: number, ...bytes: number[]): Uint8Array => {
    const copy = [...good]
    copy.splice(from, length, ...bytes)
    return Uint8Array.from(copy)
  }
  const version = good.length - 1
  it('accepts the document that the cases start from', async () => expect(await openForged(raw(good)).then(listAll)).toHaveLength(1))
  it.each<[string, Uint8Array]>([
    ['a number written longer than needed', spliced(version, 1, 0x18, 0x01)],
    ['a number of eight bytes that fits one', spliced(version, 1, 0x1b, 0, 0, 0, 0, 0, 0, 0, 1)],
    ['a float', spliced(version, 1, 0xf9, 0x3c, 0x00)],
    ['null', spliced(version, 1, 0xf6)],
    ['undefined', spliced(version, 1, 0xf7)],
    ['a tag', spliced(version, 1, 0xc1, 0x01)],
    ['a map of indefinite length', Uint8Array.of(0xbf, ...good.slice(1), 0xff)],
    ['bytes after the document', Uint8Array.of(...good, 0x00)],
    ['a document that ends early', good.slice(0, -1)],
    ['text that is not UTF-8', spliced(version, 1, 0x61, 0xff)],
    ['keys in another order', Uint8Array.of(0xa2, 0x61, 0x76, 1, 0x61, 0x63, 1)],
    ['a key twice', Uint8Array.of(0xa2, 0x61, 0x76, 1, 0x61, 0x76, 1)],
    ['a key that is no text', Uint8Array.of(0xa1, 0x01, 0x01)],
    ['a string that runs past the end', Uint8Array.of(0xa1, 0x61, 0x76, 0x5b, 0, 0, 0, 1, 0, 0, 0, 0)],
    ['a list longer than the document', Uint8Array.of(0x9b, 0, 0, 0, 1, 0, 0, 0, 0)],
    ['nothing at all', new Uint8Array(0)],
  ])('X2 rejects %s', (_what, bytes) => expectRejected('X2', raw(bytes)))

  it('X2 rejects arrays nested too deep, however many', async () => {
    await expectRejected('X2', oneFile({ e: map({ a: nested(6) }) }))
    await expectRejected('X2', raw(new Uint8Array(500_000).fill(0x81)))
  })
  it('accepts arrays nested as deep as allowed', async () => {
    expect(await openForged(oneFile({ e: map({ a: nested(5) }) })).then(listAll)).toHaveLength(1)
  })
  it('X2 rejects a path page that is not canonical', () => {
    const forged = withPages([[['', [empty('a')]]]], [['', 'a']], 1)
    // The length of the list of groups, in a longer form.
    const cbor = encodeCbor([['', [empty('a')]]])
    const bad = new Uint8Array(PT)
    bad.set([0, 0, 0, cbor.length + 1, 0x98, 0x01, ...cbor.slice(1)])
    forged.pathPages = [bad]
    return expectRejected('X2', forged)
  })
})

describe('X3: keys and types', () => {
  it.each<[string, Record<string, CborValue | undefined>]>([
    ['an unknown key', { x: 1 }],
    ['version 2', { v: 2 }],
    ['no version', { v: undefined }],
    ['no counts', { c: undefined }],
    ['no files', { f: undefined }],
    ['no keys', { k: undefined }],
    ['no paths', { p: undefined }],
    ['no size', { s: undefined }],
    ['two counts', { c: [1, 0] }],
    ['keys that are text', { k: 'k' }],
    ['files that are bytes', { f: new Uint8Array(1) }],
    ['a size that is true', { s: true }],
    ['paths that are a map', { p: map({ a: 1 }) }],
    ['an empty inline rest', { d: new Uint8Array(0) }],
    ['empty extensions', { e: map({}) }],
    ['extensions that are a list', { e: [1] }],
    ['a negative number', { s: new Encoded(Uint8Array.of(0x20)) }],
    ['a number over 2^53-1', { s: new Encoded(Uint8Array.of(0x1b, 0, 0x20, 0, 0, 0, 0, 0, 0)) }],
    ['a group of three', { p: [['', [['a', PT, [[0, 1]]]], 1]] }],
  ])('X3 rejects %s', (_what, fields) => expectRejected('X3', oneFile(fields)))

  it('X3 rejects the key __proto__', () =>
    expectRejected('X3', { root: () => encodeCbor(new Map<string, CborValue>([['__proto__', map({ v: 1 })]])) }))
  it('X3 rejects a root that is a list', () => expectRejected('X3', { root: () => [1] }))
  it.each<[string, CborValue]>([
    ['of two fields', ['a', PT]],
    ['of five fields', ['a', PT, [[0, 1]], map({ x: true }), 1]],
    ['with a number for a name', [1, PT, [[0, 1]]]],
    ['with empty attributes', ['a', PT, [[0, 1]], map({})]],
    ['with an unknown attribute', ['a', PT, [[0, 1]], map({ y: 1 })]],
    ['with x false', ['a', PT, [[0, 1]], map({ x: false })]],
    ['with t as text', ['a', PT, [[0, 1]], map({ t: '1' })]],
    ['with h of 31 bytes', ['a', PT, [[0, 1]], map({ h: new Uint8Array(31) })]],
  ])('X3 rejects an entry %s', (_what, entry) => expectRejected('X3', withEntry(entry)))
})

describe('X4: counts', () => {
  const many: CborValue[] = Array.from({ length: 9000 }, (_, i) => empty(`a long name to fill the page ${String(i).padStart(5, '0')}`))
  it.each<[string, Record<string, CborValue | undefined>]>([
    ['more blocks than the share has', { c: [2, 0, 0] }],
    ['keys for fewer blocks', { k: new Uint8Array(31) }],
    ['keys for more blocks', { k: new Uint8Array(64) }],
    ['a key page for few blocks', { c: [1, 1, 0] }],
    ['no key page for many blocks', { c: [8193, 0, 0] }],
    ['too few key pages', { c: [32_768, 1, 0] }],
    ['more path pages than allowed', { c: [1, 0, 8193] }],
    ['more key pages than allowed', { c: [8193 * 32_767, 8193, 0] }],
    ['a list shorter than its count of path pages', { c: [0, 0, 1], k: new Uint8Array(0), p: [] }],
    ['more files than allowed', { f: 2 ** 24 + 1 }],
    ['extensions over their limit', { e: map({ a: new Uint8Array(4096) }) }],
  ])('X4 rejects %s', (_what, fields) => expectRejected('X4', oneFile(fields)))
  it('X4 rejects groups in the root that belong on a page', () => expectRejected('X4', withGroups([['', many]], many.length, 0)))
  it('accepts extensions that it does not know, and pads', async () => {
    expect(await openForged({ ...oneFile({ e: map({ later: [1, 'a', true] }) }), pads: 2 }).then(listAll)).toHaveLength(1)
  })
})

describe('X5: order and sums', () => {
  const pages: CborValue[] = [
    [
      ['', [empty('b')]],
      ['d', [empty('a')]],
    ],
    [
      ['d', [empty('c')]],
      ['e', [empty('a')]],
    ],
  ]
  const firsts: [string, string][] = [
    ['', 'b'],
    ['d', 'c'],
  ]
  it('accepts the pages that the cases start from', async () => {
    expect(await openForged(withPages(pages, firsts, 4)).then(listAll)).toHaveLength(4)
  })
  it.each<[string, CborValue]>([
    ['names out of order', [['', [empty('b'), empty('a')]]]],
    ['a name twice', [['', [empty('a'), empty('a')]]]],
    [
      'directories out of order',
      [
        ['b', [empty('a')]],
        ['a', [empty('b')]],
      ],
    ],
    [
      'a directory twice',
      [
        ['a', [empty('a')]],
        ['a', [empty('b')]],
      ],
    ],
    [
      'an empty directory twice',
      [
        ['a', []],
        ['a', []],
      ],
    ],
    ['names ordered by UTF-16 units', [['', [empty('\u{1f600}'), empty('\uffee')]]]],
  ])('X5 rejects %s', (_what, groups) => expectRejected('X5', withGroups(groups, 2, 0)))
  it('X5 rejects a page without groups', () => expectRejected('X5', withGroups([], 0, 0)))
  it('X5 rejects an empty path page', () => expectRejected('X5', withPages([[]], [['', 'a']], 0)))
  it('X5 rejects a list of pages out of order', () =>
    expectRejected(
      'X5',
      withPages(
        pages,
        [
          ['d', 'c'],
          ['', 'b'],
        ],
        4,
      ),
    ))
  it('X5 rejects a page that does not begin as listed', () =>
    expectRejected(
      'X5',
      withPages(
        pages,
        [
          ['', 'a'],
          ['d', 'c'],
        ],
        4,
      ),
    ))
  it('X5 rejects a page that reaches into the next', () =>
    expectRejected(
      'X5',
      withPages(
        [
          [
            ['', [empty('b')]],
            ['d', [empty('d')]],
          ],
          [['d', [empty('c')]]],
        ],
        firsts,
        3,
      ),
    ))
  it('X5 rejects them also when only one page is read', async () => {
    const read = async (forged: Forged, path: string): Promise<void> => {
      const reader = await openForged(forged)
      for await (const _entry of reader.entriesUnder(path));
    }
    await expect(
      read(
        withPages(
          [
            [
              ['', [empty('b')]],
              ['d', [empty('d')]],
            ],
            [['d', [empty('c')]]],
          ],
          firsts,
          3,
        ),
        'b',
      ),
    ).rejects.toMatchObject({ code: 'X5' })
    await expect(
      read(
        withPages(
          pages,
          [
            ['', 'a'],
            ['d', 'c'],
          ],
          4,
        ),
        'b',
      ),
    ).rejects.toMatchObject({ code: 'X5' })
  })
  it('X5 rejects counts of files that are not what was read', async () => {
    await expectRejected('X5', oneFile({ f: 2 }))
    await expectRejected('X5', oneFile({ f: 0 }))
  })
  it('X5 rejects a sum of sizes that is not what was read', async () => {
    await expectRejected('X5', oneFile({ s: PT + 1 }))
    await expectRejected('X5', oneFile({ s: PT - 1 }))
  })
})

describe('X6: extents', () => {
  it.each<[string, CborValue, number]>([
    ['a block beyond the share', [[1, 1]], PT],
    ['a run beyond the share', [[0, 2]], 2 * PT],
    [
      'an empty run',
      [
        [0, 1],
        [0, 0],
      ],
      PT,
    ],
    ['an empty hole', [[0, 1], [0]], PT],
    ['a hole that is not whole pieces', [[5]], 5],
    [
      'an empty fragment',
      [
        [0, 1],
        [0, 0, 0],
      ],
      PT,
    ],
    ['a fragment beyond its block', [[0, PT - 1, 2]], 2],
    ['a fragment in a block that is not there', [[2, 0, 1]], 1],
    ['a fragment of an inline rest that is not there', [[1, 0, 1]], 1],
    ['an extent without numbers', [[]], 0],
    ['an extent of four numbers', [[0, 0, 1, 1]], 1],
    [
      'a block after a fragment',
      [
        [0, 0, 1],
        [0, 1],
      ],
      PT + 1,
    ],
    ['a hole after a fragment', [[0, 0, 1], [PT]], PT + 1],
    [
      'three fragments',
      [
        [0, 0, 1],
        [0, 1, 1],
        [0, 2, 1],
      ],
      3,
    ],
    ['fewer bytes than the size', [[0, 1]], PT + 1],
    ['more bytes than the size', [[0, 1]], PT - 1],
    ['nothing for a size', [], 1],
    ['holes beyond 2^53', [[8589803519 * PT], [8589803519 * PT]], Number.MAX_SAFE_INTEGER],
    ['too many', Array.from({ length: 65_537 }, () => [0, 1]), 65_537 * PT],
  ])('X6 rejects extents: %s', (_what, extents, size) => {
    const forged = withExtents(extents, size)
    // The longest list does not fit into a root.
    return expectRejected('X6', size === 65_537 * PT ? onPage([['', [['a', size, extents]]]], size) : forged)
  })
  it('X6 rejects a fragment beyond the inline rest', () =>
    expectRejected('X6', withGroups([['', [['a', 3, [[1, 1, 3]]]]]], 1, 3, new Uint8Array(3))))
  it('accepts a fragment of the inline rest, two fragments, and neighbours that were not merged', async () => {
    const extents = [[0, 1], [0, 1], [PT], [PT], [0, 3, 4], [1, 1, 2]]
    expect(await openForged(withGroups([['', [['a', 4 * PT + 6, extents]]]], 1, 4 * PT + 6, new Uint8Array(3))).then(listAll)).toHaveLength(
      1,
    )
  })

  function onPage(groups: CborValue, size: number): Forged {
    return {
      data: [PIECE.slice()],
      pathPages: [page(groups)],
      root: ({ data, paths }) => map({ c: [1, 0, 1], f: 1, k: data, p: [['', 'a', paths[0]!]], s: size, v: 1 }),
    }
  }
})

it('X7 asks before a share that unpacks to more than sixteen times its size', async () => {
  // One block and a root of 16 KiB: 1,064,960 bytes in all.
  const bomb = await openForged(withExtents([[17 * PT]], 17 * PT))
  expect(bomb.isExpansive).toBe(true)
  expect(() => bomb.checkExpansion()).toThrow(expect.objectContaining({ code: 'X7' }))
  const fine = await openForged(withExtents([[16 * PT]], 16 * PT))
  expect(fine.isExpansive).toBe(false)
  fine.checkExpansion()
})
