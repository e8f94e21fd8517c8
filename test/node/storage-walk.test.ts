import { execFileSync } from 'node:child_process'
import { appendFileSync, chmodSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compareUtf8 } from '../../node/storage/names.ts'
import { readSource } from '../../node/storage/source.ts'
import { type SourceStat, sourceDisk } from '../../node/storage/source-disk.ts'
import { type SourceFile, walkSources } from '../../node/storage/walk.ts'
import { STORAGE } from '../../protocol/limits.ts'
import { freshFolder, never } from './storage-fakes.ts'

const write = (...parts: string[]): void => {
  const path = join(...parts)
  mkdirSync(join(path, '..'), { recursive: true })
  writeFileSync(path, basename(path))
}

describe('walking what is shared', () => {
  test('orders by folder, then name, as UTF-8 bytes, whatever the folders were found in', async () => {
    const root = join(freshFolder(), 'r')
    for (const path of ['a/b/x', 'a-b/x', 'a/x', 'b', 'a.txt', 'B/x', 'ｚ/x', '😀/x', 'ａ', '𐀀']) write(root, path)
    const tree = await walkSources([root], never)
    const paths = tree.entries.map(({ dir, name }) => [dir, name].join('/'))
    const bytes = (entry: { dir: string; name: string }): Buffer =>
      Buffer.concat([Buffer.from(entry.dir), Buffer.from([0]), Buffer.from(entry.name)])
    expect(paths).toEqual(
      [...tree.entries].sort((a, b) => Buffer.compare(bytes(a), bytes(b))).map(({ dir, name }) => [dir, name].join('/')),
    )
    expect(paths.indexOf('r/a-b/x')).toBeLessThan(paths.indexOf('r/a/b/x'))
    expect(tree).toMatchObject({ files: 10, topNames: ['r'], lineageId: root, warnings: [] })
  })

  test('byte order equals the order of encoded strings', () => {
    const text = fc.string({ unit: fc.constantFrom('a', '/', '-', 'é', '\ud7ff', '\ue000', '\uffff', '😀', '𐀀') })
    fc.assert(
      fc.property(text, text, (a, b) => {
        expect(Math.sign(compareUtf8(a, b))).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)))
      }),
      { numRuns: 500, seed: 3 },
    )
  })

  test('states names in NFC, opens them as they are, and refuses two that become one', async () => {
    const root = join(freshFolder(), 'cafe\u0301')
    write(root, 'e\u0301.txt')
    const tree = await walkSources([root], never)
    const [entry] = tree.entries
    expect(entry).toMatchObject({ dir: 'café', name: '\u00e9.txt' })
    expect(readFileSync((entry as SourceFile).path, 'utf8')).toBe('e\u0301.txt')
    expect(tree.lineageId).toBe(root)
    write(root, '\u00e9.txt')
    await expect(walkSources([root], never)).rejects.toMatchObject({ name: 'InputError', code: 'COLLISION' })
  })

  test('lists empty folders, among them those that hold only skipped things, and warns of each', async () => {
    const root = join(freshFolder(), 'r')
    mkdirSync(join(root, 'empty/inner'), { recursive: true })
    mkdirSync(join(root, 'links'))
    symlinkSync('/etc/passwd', join(root, 'links', 'to\u202epasswd'))
    symlinkSync('/', join(root, 'links', 'up'))
    execFileSync('mkfifo', [join(root, 'links', 'pipe')])
    const tree = await walkSources([root], never)
    expect(tree.entries).toEqual([
      { dir: 'r/empty/inner', name: '' },
      { dir: 'r/links', name: '' },
    ])
    expect(tree.warnings).toHaveLength(3)
    expect(tree.warnings.join()).toContain('pipe')
    expect(tree.warnings.join()).toContain('to\\u202epasswd')
    expect(await walkSources([join(root, 'links/pipe')], never)).toMatchObject({ entries: [], files: 0, warnings: [expect.any(String)] })
  })

  test('keeps the first warnings word for word and counts the others', async () => {
    const root = join(freshFolder(), 'r')
    mkdirSync(root)
    for (let i = 0; i < STORAGE.walkWarningsMax + 7; i += 1) symlinkSync('nowhere', join(root, String(i)))
    const { warnings } = await walkSources([root], never)
    expect(warnings).toHaveLength(STORAGE.walkWarningsMax + 1)
    expect(warnings.at(-1)).toBe('7 more were skipped')
  })

  test('takes several paths, follows a named symlink, and refuses equal names and the root of the file system', async () => {
    const root = freshFolder()
    write(root, 'one/a.txt')
    write(root, 'two/a.txt')
    symlinkSync(join(root, 'two'), join(root, 'latest'))
    chmodSync(join(root, 'one/a.txt'), 0o744)
    const tree = await walkSources([join(root, 'one/a.txt'), join(root, 'latest')], never)
    expect(tree.entries).toEqual([
      { dir: '', name: 'a.txt', path: join(root, 'one/a.txt'), sizeBytes: 5, executable: true },
      { dir: 'latest', name: 'a.txt', path: join(root, 'two/a.txt'), sizeBytes: 5, executable: false },
    ])
    expect(tree.lineageId).toBe(`${join(root, 'one/a.txt')}\0${join(root, 'two')}`)
    expect((await walkSources([`${root}/one/../one/.`], never)).topNames).toEqual(['one'])
    await expect(walkSources([join(root, 'one/a.txt'), join(root, 'two/a.txt')], never)).rejects.toMatchObject({ code: 'COLLISION' })
    await expect(walkSources(['/'], never)).rejects.toMatchObject({ code: 'EMPTY_NAME' })
    await expect(walkSources([join(root, 'missing')], never)).rejects.toMatchObject({ name: 'FileError', code: 'NOT_FOUND' })
  })

  test.each([
    ['bytes that are no UTF-8', Buffer.from([0x61, 0xff, 0x62]), 'BAD_NAME', 'a\\xffb'],
    ['an overlong encoding', Buffer.from([0xc0, 0xaf]), 'BAD_NAME', '\\xc0\\xaf'],
    ['a backslash', Buffer.from('a\\b'), 'BAD_NAME', 'a\\\\b'],
    ['a newline', Buffer.from('a\nb'), 'BAD_NAME', 'a\\u000ab'],
    ['a direction mark', Buffer.from('a\u202eb'), 'BAD_NAME', 'a\\u202eb'],
  ])('refuses a name with %s and says which', async (_, name, code, shown) => {
    const root = freshFolder()
    writeFileSync(Buffer.concat([Buffer.from(`${root}/`), name]), '')
    const error = await walkSources([root], never).catch((e: unknown) => e)
    expect(error).toMatchObject({ name: 'InputError', code })
    expect(String(error)).toContain(shown)
  })

  test('walks 3,000 folders and stops when it is told to', async () => {
    const root = join(freshFolder(), 'r')
    for (let i = 0; i < 300; i += 1) for (let j = 0; j < 10; j += 1) mkdirSync(join(root, String(i), String(j)), { recursive: true })
    expect((await walkSources([root], never)).entries).toHaveLength(3_000)
    await expect(walkSources([root], AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough')
  })
})

describe('reading a source', () => {
  const source = (content: Uint8Array): SourceFile => {
    const path = join(freshFolder(), 'file')
    writeFileSync(path, content)
    return { dir: '', name: 'file', path, sizeBytes: content.length, executable: false }
  }
  const numbers = (count: number): Uint8Array => Uint8Array.from({ length: count }, (_, i) => i)

  test.each([0, 1, 99, 100, 101, 250])('gives %i bytes in full chunks, each a buffer of its own', async (count) => {
    const chunks: Uint8Array[] = []
    for await (const chunk of readSource(source(numbers(count)), 100, never)) chunks.push(chunk)
    expect(chunks.slice(0, -1).every(({ length }) => length === 100)).toBe(true)
    expect(chunks.every((chunk) => chunk.buffer.byteLength === chunk.length)).toBe(true)
    expect(Buffer.concat(chunks)).toEqual(Buffer.from(numbers(count)))
  })

  test.each<[string, (path: string) => void]>([
    ['grows', (path) => appendFileSync(path, 'more')],
    ['shrinks', (path) => truncateSync(path, 120)],
    ['is written in place', (path) => writeFileSync(path, numbers(250), { flag: 'r+' })],
  ])('says so when the file %s meanwhile, before the last chunk', async (_, change) => {
    const file = source(numbers(250))
    let chunks = 0
    const reading = (async () => {
      for await (const _chunk of readSource(file, 100, never)) {
        chunks += 1
        if (chunks === 1) change(file.path)
      }
    })()
    await expect(reading).rejects.toMatchObject({ name: 'FileError', code: 'CHANGED', path: file.path })
    expect(chunks).toBeLessThan(3)
  })

  test('does not follow a symlink that took the file’s place, and names a file that is gone', async () => {
    const file = source(numbers(10))
    renameSync(file.path, `${file.path}.real`)
    symlinkSync(`${file.path}.real`, file.path)
    await expect(readSource(file, 100, never).next()).rejects.toMatchObject({ code: 'CHANGED' })
    rmSync(file.path)
    const error = await readSource(file, 100, never)
      .next()
      .catch((e: unknown) => e)
    expect(error).toMatchObject({ code: 'NOT_FOUND', path: file.path })
  })
})

describe('a disk that fails', () => {
  const failing = (change: Partial<typeof sourceDisk>): typeof sourceDisk => ({ ...sourceDisk, ...change })
  const failure = Object.assign(new Error('input/output error'), { code: 'EIO' })

  test('is named with the folder or file that could not be read, and nothing is left out', async () => {
    const root = join(freshFolder(), 'r')
    for (const path of ['a/x', 'b/y']) write(root, path)
    const broken = join(root, 'b')
    const list = async (path: string): Promise<Uint8Array[]> => (path === broken ? Promise.reject(failure) : sourceDisk.list(path))
    await expect(walkSources([root], never, failing({ list }))).rejects.toMatchObject({ code: 'IO', path: broken })
    const stat = async (path: string): Promise<SourceStat> => (path === broken ? Promise.reject(failure) : sourceDisk.stat(path))
    await expect(walkSources([root], never, failing({ stat }))).rejects.toMatchObject({ code: 'IO', path: broken })
  })

  test('in the middle of a file ends the reading of it, closes it and gives no chunk that was not whole', async () => {
    const root = freshFolder()
    write(root, 'file')
    writeFileSync(join(root, 'file'), Buffer.alloc(1_000, 7))
    let closed = 0
    const disk = failing({
      open: async (path) => {
        const opened = await sourceDisk.open(path)
        return {
          state: () => opened.state(),
          read: (target, at) => (at >= 300 ? Promise.reject(failure) : opened.read(target, at)),
          close: () => {
            closed++
            return opened.close()
          },
        }
      },
    })
    const file: SourceFile = { dir: '', name: 'file', path: join(root, 'file'), sizeBytes: 1_000, executable: false }
    const chunks: number[] = []
    const reading = async (): Promise<void> => {
      for await (const chunk of readSource(file, 100, never, undefined, undefined, disk)) chunks.push(chunk.length)
    }
    await expect(reading()).rejects.toMatchObject({ code: 'IO', path: file.path })
    expect([chunks, closed]).toEqual([[100, 100, 100], 1])
  })
})
