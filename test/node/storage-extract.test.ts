import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Extraction, type ExtractionInit } from '../../node/storage/extract.ts'
import { UseTable } from '../../node/storage/extract-uses.ts'
import type { FileSystem } from '../../node/storage/fs.ts'
import { diskFileSystem } from '../../node/storage/fs.ts'
import type { Entry, Extent } from '../../protocol/entry.ts'
import { FormatError } from '../../protocol/errors.ts'
import { freshFolder, hookedFileSystem, never, sha256, snapshot, systemError } from './storage-fakes.ts'

const PIECE = 64
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const random = (length: number, seed: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 17 + (i >> 5)) & 255)

interface Share {
  entries: Entry[]
  pieces: Uint8Array[]
  dataBlocks: number
}

/** Lays files out as a share does: whole pieces, holes, and tails packed into fragment blocks; null is an empty folder. */
function share(tree: Record<string, Uint8Array | null>, extra: Record<string, Partial<Entry>> = {}): Share {
  const pieces: Uint8Array[] = []
  const fragments: { extent: Extent & { kind: 'fragment' }; bytes: Uint8Array }[] = []
  const entries = Object.entries(tree).map(([path, content]): Entry => {
    const slash = content === null ? path.length : path.lastIndexOf('/')
    const extents: Extent[] = []
    const size = content?.length ?? 0
    for (let at = 0; content !== null && at < size; at += PIECE) {
      const piece = content.subarray(at, at + PIECE)
      if (piece.length < PIECE) {
        const extent = { kind: 'fragment' as const, position: 0, offsetBytes: 0, lengthBytes: piece.length }
        fragments.push({ extent, bytes: piece })
        extents.push(extent)
      } else if (piece.every((byte) => byte === 0)) extents.push({ kind: 'hole', lengthBytes: PIECE })
      else extents.push({ kind: 'blocks', position: pieces.push(piece) - 1, count: 1 })
    }
    const place = { dir: path.slice(0, Math.max(slash, 0)), name: path.slice(slash + 1) }
    return { ...place, sizeBytes: size, extents, executable: false, ...extra[path] }
  })
  let open = new Uint8Array(PIECE)
  let used = PIECE
  for (const { extent, bytes: tail } of fragments) {
    if (used + tail.length > PIECE) {
      open = new Uint8Array(PIECE)
      pieces.push(open)
      used = 0
    }
    open.set(tail, used)
    extent.position = pieces.length - 1
    extent.offsetBytes = used
    used += tail.length
  }
  const key = ({ dir, name }: Entry): Buffer => Buffer.from(`${dir}\0${name}`)
  // The last fragment block plays the rest that is kept inside the root.
  return {
    entries: entries.sort((a, b) => Buffer.compare(key(a), key(b))),
    pieces,
    dataBlocks: pieces.length - Math.sign(fragments.length),
  }
}

async function* stream(entries: Entry[]): AsyncGenerator<Entry> {
  yield* entries
}

type Options = Partial<Omit<ExtractionInit, 'entries'>>

const plan = ({ entries, dataBlocks }: Share, outputDir: string, options: Options = {}): Promise<Extraction> =>
  Extraction.plan({
    entries: stream(entries),
    outputDir,
    under: '',
    pieceBytes: PIECE,
    dataBlocks,
    force: false,
    tag: 'tag',
    signal: never,
    ...options,
  })

async function extract(made: Share, outputDir: string, options: Options = {}): ReturnType<Extraction['finish']> {
  const extraction = await plan(made, outputDir, options)
  for (const [first, count] of extraction.neededRanges()) {
    for (let position = first; position < first + count; position += 1) await extraction.accept(position, made.pieces[position]!, never)
  }
  return extraction.finish(never)
}

const contents = (root: string): Record<string, string> =>
  Object.fromEntries(
    Object.entries(snapshot(root)).map(([path, what]) => [path, what.startsWith('file') ? readFileSync(join(root, path), 'hex') : what]),
  )

describe('extraction', () => {
  test('writes files, folders, holes, modes and times, and leaves nothing else behind', async () => {
    const out = join(freshFolder(), 'new', 'folder')
    const big = new Uint8Array(PIECE * 1000)
    big.set(random(PIECE, 3), PIECE * 500)
    const tree = {
      'top/run': bytes('#!'),
      'top/empty': new Uint8Array(0),
      'top/none': null,
      'top/in/ü/x': random(PIECE * 3 + 5, 1),
      'top/zeros': new Uint8Array(PIECE * 4),
      'top/sparse': big,
      one: random(10, 2),
    }
    const made = share(tree, { 'top/run': { executable: true }, one: { mtimeSeconds: 1_000_000_000, sha256: sha256(random(10, 2)) } })
    const result = await extract(made, out)
    expect(result).toEqual({ written: [join(out, 'one'), join(out, 'top')], files: 6, damaged: [] })
    const umask = process.umask()
    const mode = (path: string): number => statSync(join(out, path)).mode & 0o777
    expect([mode('top/run'), mode('one'), mode('top/none')]).toEqual([0o755 & ~umask, 0o644 & ~umask, 0o755 & ~umask])
    expect(statSync(join(out, 'one')).mtimeMs).toBe(1_000_000_000_000)
    expect(statSync(join(out, 'one')).nlink).toBe(1)
    for (const [path, content] of Object.entries(tree)) {
      if (content !== null) expect(readFileSync(join(out, path)).equals(content)).toBe(true)
    }
    expect(readdirSync(out).sort()).toEqual(['one', 'top'])
    expect(readdirSync(join(out, 'top')).sort()).toEqual(['empty', 'in', 'none', 'run', 'sparse', 'zeros'])
  })

  test('gives the same tree whatever order the blocks come in, several at a time', async () => {
    const file = fc.uint8Array({ maxLength: PIECE * 4 })
    const path = fc.array(fc.constantFrom('a', 'b', 'ß', 'c c'), { minLength: 1, maxLength: 3 }).map((parts) => `${parts.join('/')}/file`)
    await fc.assert(
      fc.asyncProperty(fc.dictionary(path, file, { maxKeys: 12 }), fc.infiniteStream(fc.nat()), async (tree, order) => {
        const made = share(tree)
        const out = freshFolder()
        const extraction = await plan(made, out)
        const positions: number[] = []
        for (const [first, count] of extraction.neededRanges()) for (let i = 0; i < count; i += 1) positions.push(first + i)
        const ranked = positions.map((position) => [order.next().value ?? 0, position] as const).sort((a, b) => a[0] - b[0])
        await Promise.all(ranked.map(([, position]) => extraction.accept(position, made.pieces[position]!, never)))
        expect(positions.some((position) => extraction.needs(position))).toBe(false)
        await extraction.finish(never)
        const expected = Object.entries(tree).map(([name, content]) => [name, Buffer.from(content).toString('hex')])
        expect(Object.entries(contents(out)).filter(([, what]) => !what.startsWith('folder'))).toEqual(
          expect.arrayContaining(expected.map((pair) => pair)),
        )
        expect(Object.values(contents(out)).filter((what) => !what.startsWith('folder'))).toHaveLength(expected.length)
      }),
      { numRuns: 25, seed: 5 },
    )
  })

  test('writes one item under its own name, and a single file under the name of its link', async () => {
    const made = share({ 'a/b/c/x': bytes('x'), 'a/b/y': bytes('y'), 'a/bb': bytes('bb'), 'a/b/none': null })
    const out = freshFolder()
    expect((await extract(made, out, { under: 'a/b' })).written).toEqual([join(out, 'b')])
    expect(Object.keys(snapshot(out)).sort()).toEqual(['b', 'b/c', 'b/c/x', 'b/none', 'b/y'])
    await extract(made, out, { under: 'a/b/c/x' })
    expect(readFileSync(join(out, 'x'), 'utf8')).toBe('x')
    await extract(share({ file: bytes('public') }), out, { rename: 'report.pdf' })
    expect(readFileSync(join(out, 'report.pdf'), 'utf8')).toBe('public')
    await expect(plan(made, out, { rename: 'z' })).rejects.toMatchObject({ code: 'L4' })
    await expect(plan(share({ file: bytes('1') }), out, { rename: '../z' })).rejects.toMatchObject({ code: 'L4' })
    expect(await extract(share({}), out)).toEqual({ written: [], files: 0, damaged: [] })
  })

  const file = (dir: string, name: string): Entry => ({ dir, name, sizeBytes: 0, extents: [], executable: false })
  const sized = (sizeBytes: number, ...extents: Extent[]): Entry => ({ ...file('', 'a'), sizeBytes, extents })
  test.each<[string, string, Entry[], Options?]>([
    ['P1', 'a parent folder as name', [file('', '..')]],
    ['P1', 'a parent folder in a path', [file('a/../..', 'b')]],
    ['P1', 'an absolute folder', [file('/etc', 'passwd')]],
    ['P1', 'an empty part', [file('a//b', 'c')]],
    ['P1', 'a slash in a name', [file('', 'a/b')]],
    ['P1', 'a backslash', [file('', '..\\b')]],
    ['P1', 'a zero byte', [file('', 'a\0')]],
    ['P1', 'a direction mark', [file('', 'a\u202eb')]],
    ['P1', 'a name not in NFC', [file('', 'e\u0301')]],
    ['P1', 'a long name', [file('', 'ä'.repeat(128))]],
    ['P1', 'a deep folder', [file(Array(65).fill('a').join('/'), 'b')]],
    ['P2', 'a path that is file and folder', [file('', 'a'), file('a', 'b')]],
    ['P2', 'a file above a deeper folder', [file('', 'a'), file('a/b/c', 'd')]],
    ['P2', 'an empty folder with a file', [file('a', ''), file('a', 'b')]],
    ['P2', 'an empty folder with a folder', [file('a', ''), file('a/b', '')]],
    ['P2', 'an empty folder that is a file', [file('', 'a'), file('a', '')]],
    ['P2', 'two cases of a file where case is ignored', [file('', 'A'), file('', 'a')], { folds: true }],
    ['P2', 'two cases of a folder where case is ignored', [file('SS', 'x'), file('ß', 'x')], { folds: true }],
    ['P3', 'a device on Windows', [file('', 'nul.txt')], { isWindows: true }],
    ['P3', 'a stream on Windows', [file('a:b', 'c')], { isWindows: true }],
    ['P3', 'a dot at the end on Windows', [file('', 'a.')], { isWindows: true }],
    ['X5', 'entries out of order', [file('', 'b'), file('', 'a')]],
    ['X5', 'an entry twice', [file('', 'a'), file('', 'a')]],
    ['X6', 'sizes that do not add up', [sized(10)]],
    ['X6', 'blocks out of range', [sized(PIECE * 2, { kind: 'blocks', position: 4, count: 2 })]],
    ['X6', 'a fragment beyond its block', [sized(8, { kind: 'fragment', position: 0, offsetBytes: 60, lengthBytes: 8 })]],
  ])('%s refuses %s, and nothing is created', async (code, _, entries, options) => {
    const root = freshFolder()
    mkdirSync(join(root, 'out'))
    const before = snapshot(root)
    const error = await plan({ entries, pieces: [], dataBlocks: 5 }, join(root, 'out'), options).catch((e: unknown) => e)
    expect(error).toMatchObject({ name: 'FormatError', code })
    expect(snapshot(root)).toEqual(before)
  })

  test('takes names that differ in case where the disk tells them apart', async () => {
    const out = freshFolder()
    await extract(share({ A: bytes('1'), a: bytes('2') }), out)
    expect(readdirSync(out).sort()).toEqual(['A', 'a'])
  })

  test('W1 refuses to overwrite, and with force replaces files, merges folders and keeps strangers', async () => {
    const out = freshFolder()
    const made = share({ 'd/e/new': bytes('new'), 'd/old': bytes('newer'), top: bytes('top') })
    mkdirSync(join(out, 'd'))
    writeFileSync(join(out, 'd/old'), 'old')
    writeFileSync(join(out, 'd/mine'), 'mine')
    const before = snapshot(out)
    const error = await plan(made, out).catch((e: unknown) => e)
    expect(error).toMatchObject({ name: 'FileError', code: 'EXISTS', path: join(out, 'd') })
    expect(snapshot(out)).toEqual(before)
    linkSync(join(out, 'd/old'), join(out, 'other-name'))
    await extract(made, out, { force: true })
    expect(readFileSync(join(out, 'd/old'), 'utf8')).toBe('newer')
    expect(readFileSync(join(out, 'other-name'), 'utf8')).toBe('old')
    expect(Object.keys(snapshot(out)).sort()).toEqual(['d', 'd/e', 'd/e/new', 'd/mine', 'd/old', 'other-name', 'top'])
    rmSync(join(out, 'top'))
    mkdirSync(join(out, 'top'))
    await expect(plan(made, out, { force: true })).rejects.toMatchObject({ code: 'EXISTS', path: join(out, 'top') })
  })

  test('W1 never overwrites what came up while the files were being written', async () => {
    const out = freshFolder()
    for (const [name, harm] of [
      ['file', () => writeFileSync(join(out, 'file'), 'mine')],
      ['dir', () => mkdirSync(join(out, 'dir'))],
      ['dir', () => symlinkSync('/tmp', join(out, 'dir'))],
    ] as const) {
      const made = share({ [name === 'dir' ? 'dir/x' : 'file']: bytes('theirs') })
      const extraction = await plan(made, out)
      await extraction.accept(0, made.pieces[0]!, never)
      harm()
      const before = contents(out)
      await expect(extraction.finish(never)).rejects.toMatchObject({ code: 'EXISTS', path: join(out, name) })
      await extraction.abandon()
      const kept = Object.fromEntries(Object.entries(before).filter(([path]) => !path.startsWith('.shoal-')))
      expect(contents(out)).toEqual(kept)
      rmSync(join(out, name), { recursive: true })
    }
  })

  test('W1 never follows a symlink in the target, and touches nothing outside', async () => {
    const root = freshFolder()
    const out = join(root, 'out')
    const outside = join(root, 'outside')
    mkdirSync(join(out, 'real'), { recursive: true })
    mkdirSync(outside)
    writeFileSync(join(outside, 'precious'), 'precious')
    symlinkSync(outside, join(out, 'd'))
    symlinkSync(outside, join(out, 'real', 'deep'))
    symlinkSync(join(outside, 'precious'), join(out, 'f'))
    const before = snapshot(root)
    for (const path of ['d/precious', 'd', 'real/deep/precious', 'real/deep/new/x', 'f', 'f/x']) {
      for (const force of [false, true]) {
        await expect(plan(share({ [path]: bytes('evil') }), out, { force })).rejects.toMatchObject({ code: force ? 'UNSAFE' : 'EXISTS' })
      }
    }
    expect(snapshot(root)).toEqual(before)
  })

  test('W1 never follows a symlink put in the place of the temporary folder or of one in it', async () => {
    for (const below of ['', 'd', 'd/e']) {
      const root = freshFolder()
      const out = join(root, 'out')
      const outside = join(root, 'outside')
      mkdirSync(join(outside, 'd/e'), { recursive: true })
      mkdirSync(join(outside, 'e'))
      const made = share({ 'd/e/x': random(PIECE, 1), 'd/e/y': random(PIECE, 2), 'd/z': bytes('') })
      const extraction = await plan(made, out)
      await extraction.accept(0, made.pieces[0]!, never)
      const part = join(out, readdirSync(out).find((name) => name.endsWith('.part'))!, below)
      renameSync(part, join(root, 'aside'))
      symlinkSync(outside, part)
      const before = snapshot(outside)
      await expect(extraction.accept(1, made.pieces[1]!, never)).rejects.toMatchObject({ name: 'FileError', code: 'UNSAFE' })
      await expect(extraction.finish(never)).rejects.toMatchObject({ code: 'UNSAFE' })
      await extraction.abandon()
      expect(snapshot(outside)).toEqual(before)
      expect(readdirSync(out)).toEqual([])
    }
  })

  test('W1 with force never follows a symlink that came up in the target after the plan', async () => {
    const root = freshFolder()
    const out = join(root, 'out')
    const outside = join(root, 'outside')
    mkdirSync(join(out, 'd/e'), { recursive: true })
    mkdirSync(join(outside, 'e'), { recursive: true })
    const made = share({ 'd/e/x': bytes('evil') })
    const extraction = await plan(made, out, { force: true })
    await extraction.accept(0, made.pieces[0]!, never)
    renameSync(join(out, 'd'), join(root, 'aside'))
    symlinkSync(outside, join(out, 'd'))
    const before = snapshot(outside)
    await expect(extraction.finish(never)).rejects.toMatchObject({ code: 'UNSAFE' })
    expect(snapshot(outside)).toEqual(before)
  })

  test('W2 refuses what does not fit before it creates anything, and counts no holes', async () => {
    const out = join(freshFolder(), 'out')
    const hole: Entry = { ...file('', 'hole'), sizeBytes: 2 ** 42, extents: [{ kind: 'hole', lengthBytes: 2 ** 42 }] }
    const room = (freeBytes: number, freeFiles: number | null): FileSystem => ({
      ...diskFileSystem,
      space: async () => ({ freeBytes, freeFiles }),
    })
    const full = room(64 * 2 ** 20 + 99, null)
    const made = share({ a: random(100, 1) })
    const error = await plan(made, out, { fs: full }).catch((e: unknown) => e)
    expect(error).toMatchObject({ name: 'FileError', code: 'NO_SPACE' })
    expect(String(error)).toMatch(/65 MiB needed, 65 MiB free/)
    await expect(plan(made, out, { fs: room(2 ** 40, 1) })).rejects.toMatchObject({ code: 'NO_SPACE' })
    expect(existsSync(out)).toBe(false)
    await extract({ entries: [hole], pieces: [], dataBlocks: 0 }, out, { fs: full })
    expect(lstatSync(join(out, 'hole'))).toMatchObject({ size: 2 ** 42, blocks: expect.any(Number) })
    expect(lstatSync(join(out, 'hole')).blocks).toBeLessThan(64)
  })

  test('gives up the files of a block that does not open, and those alone', async () => {
    const out = freshFolder()
    const made = share({ 'd/bad': random(PIECE * 3, 1), 'd/good': random(PIECE * 2, 2), 'e/bad': random(PIECE, 3), late: bytes('') })
    // A block that two files name.
    made.entries.find(({ dir }) => dir === 'e')!.extents = [{ kind: 'blocks', position: 1, count: 1 }]
    const extraction = await plan(made, out)
    await extraction.accept(0, made.pieces[0]!, never)
    extraction.damage(1, new FormatError('B2', 'sealed wrongly'))
    expect([...extraction.neededRanges()]).toEqual([[3, 2]])
    expect([0, 1, 2, 3, 4, 5].map((position) => extraction.needs(position))).toEqual([false, false, false, true, true, false])
    for (const position of [3, 4]) await extraction.accept(position, made.pieces[position]!, never)
    const result = await extraction.finish(never)
    expect(result.damaged).toEqual([
      { path: 'd/bad', cause: 'B2: sealed wrongly' },
      { path: 'e/bad', cause: 'B2: sealed wrongly' },
    ])
    expect(result.files).toBe(2)
    expect(Object.keys(snapshot(out)).sort()).toEqual(['d', 'd/good', 'e', 'late'])
  })

  test('X8 keeps and reports a file that is not what its stated hash says, and moves no file that is not whole', async () => {
    const out = freshFolder()
    const made = share({ lied: bytes('content'), missing: random(PIECE, 1) }, { lied: { sha256: sha256(bytes('other')) } })
    const extraction = await plan(made, out)
    const position = made.entries[0]!.extents[0]!.kind === 'fragment' ? made.entries[0]!.extents[0]!.position : -1
    await extraction.accept(position, made.pieces[position]!, never)
    const result = await extraction.finish(never)
    expect(result.damaged.map(({ path, cause }) => [path, cause.slice(0, 7)])).toEqual([
      ['missing', 'not all'],
      ['lied', 'X8: its'],
    ])
    expect(readdirSync(out)).toEqual(['lied'])
  })

  test('clears parts that an interrupted run of the same tag left, and no others', async () => {
    const out = freshFolder()
    const id = 'ab'.repeat(16)
    for (const name of [`.shoal-tag-${id}.part`, `.shoal-other-${id}.part`, '.shoal-tag-short.part']) {
      mkdirSync(join(out, name, 'd'), { recursive: true, mode: 0o700 })
    }
    symlinkSync('/tmp', join(out, `.shoal-tag-${'cd'.repeat(16)}.part`))
    const made = share({ x: bytes('1'), y: random(PIECE, 2) })
    const running = await plan(made, out)
    await running.accept(0, made.pieces[0]!, never)
    await extract(share({ z: bytes('2') }), out)
    await running.accept(1, made.pieces[1]!, never)
    await running.finish(never)
    expect(readdirSync(out).sort()).toEqual([`.shoal-other-${id}.part`, '.shoal-tag-short.part', 'x', 'y', 'z'])
  })

  test('syncs every file before it is moved, and every folder before and after', async () => {
    const out = freshFolder()
    const steps: string[] = []
    const made = share({ 'd/x': bytes('1'), 'd/e/none': null, y: random(PIECE * 2, 1) })
    const fs = hookedFileSystem((operation, path) => {
      steps.push(`${operation} ${path.replace(/\.shoal-[^/]*\.part/, 'PART').replace(out, '.')}`)
    })
    await extract(made, out, { fs })
    const at = (step: string): number => {
      expect(steps).toContain(step)
      return steps.lastIndexOf(step)
    }
    for (const path of ['./PART/d/x', './PART/y']) expect(at(`datasync ${path}`)).toBeGreaterThan(at(`write ${path}`))
    const moved = Math.min(at('rename ./d'), at('link ./y'))
    for (const path of ['d/x', 'y']) expect(at(`datasync ./PART/${path}`)).toBeLessThan(moved)
    for (const path of ['', '/d', '/d/e', '/d/e/none']) expect(at(`syncDirectory ./PART${path}`)).toBeLessThan(moved)
    expect(at('syncDirectory .')).toBeGreaterThan(Math.max(at('rename ./d'), at('link ./y')))
  })

  test.each(['write', 'datasync', 'open:create', 'mkdir'])(
    'a %s that fails for a full disk ends it, and leaves nothing once abandoned',
    async (op) => {
      const out = freshFolder()
      const made = share({ 'd/x': random(PIECE, 1), 'd/y': random(PIECE, 2) })
      const fs = hookedFileSystem((operation, path) => {
        if (operation === op && path.includes('/d')) throw systemError('ENOSPC')
      })
      const extraction = await plan(made, out, { fs })
      await expect(extraction.accept(0, made.pieces[0]!, never)).rejects.toMatchObject({ name: 'FileError', code: 'NO_SPACE' })
      await expect(extraction.accept(1, made.pieces[1]!, never)).rejects.toMatchObject({ code: 'NO_SPACE' })
      await expect(extraction.finish(never)).rejects.toMatchObject({ code: 'NO_SPACE' })
      await extraction.abandon()
      expect(readdirSync(out)).toEqual([])
    },
  )

  test('says when the output folder cannot be written or is a file', async () => {
    const out = freshFolder()
    writeFileSync(join(out, 'file'), '')
    await expect(plan(share({ x: bytes('1') }), join(out, 'file'))).rejects.toMatchObject({ code: 'EXISTS' })
    const made = share({ x: bytes('1') })
    const extraction = await plan(made, out, { fs: hookedFileSystem((operation) => refuse(operation === 'mkdir')) })
    await expect(extraction.accept(0, made.pieces[0]!, never)).rejects.toMatchObject({ code: 'DENIED' })
  })

  test('holds a bounded number of files open, whatever the share', async () => {
    const out = freshFolder()
    const tree = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`d${i % 7}/${i}`, random(PIECE + 9, i)]))
    let open = 0
    let openMax = 0
    const fs: FileSystem = {
      ...diskFileSystem,
      open: async (...args) => {
        const handle = await diskFileSystem.open(...args)
        open += 1
        openMax = Math.max(openMax, open)
        const close = handle.close.bind(handle)
        handle.close = async () => {
          open -= 1
          await close()
        }
        return handle
      },
    }
    await extract(share(tree), out, { fs })
    expect(open).toBe(0)
    expect(openMax).toBeLessThanOrEqual(64 + 8)
    for (const [path, content] of Object.entries(tree)) expect(readFileSync(join(out, path)).equals(content)).toBe(true)
  })
})

describe('table of uses', () => {
  test('finds for each position what a list of all uses finds', () => {
    const row = fc.record({ first: fc.nat(40), count: fc.integer({ min: 1, max: 12 }), isFragment: fc.boolean() })
    fc.assert(
      fc.property(fc.array(row, { maxLength: 40 }), (rows) => {
        const table = new UseTable(PIECE)
        rows.forEach(({ first, count, isFragment }, file) => {
          if (isFragment) table.addFragment(first, { file, fileOffsetBytes: 5, blockOffsetBytes: 1, lengthBytes: 2 })
          else table.addBlocks(file, 1000, first, count)
        })
        const wanted = table.seal(60)
        for (let position = 0; position < 60; position += 1) {
          const expected = rows.flatMap(({ first, count, isFragment }, file) => {
            if (position < first || position >= first + (isFragment ? 1 : count)) return []
            if (isFragment) return [{ file, fileOffsetBytes: 5, blockOffsetBytes: 1, lengthBytes: 2 }]
            return [{ file, fileOffsetBytes: 1000 + (position - first) * PIECE, blockOffsetBytes: 0, lengthBytes: PIECE }]
          })
          const found = [...table.at(position)].sort((a, b) => a.file - b.file)
          expect(found).toEqual(expected)
          expect(wanted.has(position)).toBe(expected.length > 0)
        }
      }),
      { numRuns: 100, seed: 8 },
    )
  })
})

function refuse(when: boolean): void {
  if (when) throw systemError('EACCES')
}
