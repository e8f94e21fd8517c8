/** Extractions that are left and gone on with: what the next run takes over, and what it does not touch. */
import { chmodSync, existsSync, linkSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Extraction } from '../../node/storage/extract.ts'
import type { Entry } from '../../protocol/entry.ts'
import { freshFolder, type Hook, hookedFileSystem, never, systemError } from './storage-fakes.ts'

const PIECE = 64
const pieces = [1, 2, 3].map((fill) => new Uint8Array(PIECE).fill(fill))

async function* entries(): AsyncGenerator<Entry> {
  yield { dir: 'top', name: 'file', sizeBytes: 3 * PIECE, extents: [{ kind: 'blocks', position: 0, count: 3 }], executable: false }
}

/** Files at the top, which are moved one by one. */
async function* flat(): AsyncGenerator<Entry> {
  for (const [position, name] of ['a', 'b', 'c'].entries())
    yield { dir: '', name, sizeBytes: PIECE, extents: [{ kind: 'blocks', position, count: 1 }], executable: false }
}

const plan = (outputDir: string, hook: Hook = () => {}, of = entries): Promise<Extraction> =>
  Extraction.plan({
    entries: of(),
    fs: hookedFileSystem(hook),
    outputDir,
    under: '',
    pieceBytes: PIECE,
    dataBlocks: 3,
    force: false,
    tag: 'tag',
    resumes: true,
    signal: never,
  })

/** An output folder in which a run was cut off after its second piece; resolves to the part folder. */
async function cutOff(out: string): Promise<string> {
  const first = await plan(out)
  const part = await first.begin()
  await first.accept(0, pieces[0]!, never)
  await first.accept(1, pieces[1]!, never)
  await first.leave()
  return part
}

describe('an extraction that was left', () => {
  it('is gone on with in the same folder, and what was found right is not written again', async () => {
    const out = freshFolder()
    const part = await cutOff(out)
    const next = await plan(out)
    expect(next.hasLeftover).toBe(true)
    expect(await next.begin()).toBe(part)
    const read = new Uint8Array(PIECE)
    for (const position of [0, 1]) {
      expect(await next.read(position, read)).toBe(true)
      expect(read).toEqual(pieces[position])
      await next.found(position)
    }
    expect([...next.neededRanges()]).toEqual([[2, 1]])
    await next.accept(2, pieces[2]!, never)
    await next.finish(never)
    expect(readFileSync(join(out, 'top', 'file'))).toEqual(Buffer.concat(pieces))
    expect(readdirSync(out)).toEqual(['top'])
  })

  it('loses what the plan does not know, links, and files with a second name', async () => {
    const out = freshFolder()
    const elsewhere = freshFolder()
    writeFileSync(join(elsewhere, 'mine'), 'mine')
    const part = await cutOff(out)
    writeFileSync(join(part, 'stranger'), 'x')
    mkdirSync(join(part, 'folder'))
    symlinkSync(join(elsewhere, 'mine'), join(part, 'top', 'link'))
    linkSync(join(part, 'top', 'file'), join(elsewhere, 'second'))
    const before = readFileSync(join(elsewhere, 'second'))
    const next = await plan(out)
    expect(await next.read(0, new Uint8Array(PIECE))).toBe(false)
    expect([readdirSync(part), readdirSync(join(part, 'top'))]).toEqual([['top'], []])
    for (const position of [0, 1, 2]) await next.accept(position, pieces[position]!, never)
    await next.finish(never)
    expect(readdirSync(out)).toEqual(['top'])
    expect(readFileSync(join(elsewhere, 'mine'), 'utf8')).toBe('mine')
    expect(readFileSync(join(elsewhere, 'second'))).toEqual(before)
  })

  it('is not taken over from a folder that others can enter, or from behind a link', async () => {
    const out = freshFolder()
    const part = await cutOff(out)
    chmodSync(part, 0o755)
    const link = join(out, `.shoal-tag-${'0'.repeat(32)}.part`)
    const elsewhere = freshFolder()
    writeFileSync(join(elsewhere, 'mine'), 'mine')
    symlinkSync(elsewhere, link)
    const next = await plan(out)
    expect(next.hasLeftover).toBe(false)
    expect(await next.begin()).not.toBe(part)
    expect([existsSync(part), existsSync(link), existsSync(join(elsewhere, 'mine'))]).toEqual([false, false, true])
    await next.abandon()
    expect(readdirSync(out)).toEqual([])
  })

  it('opens no file again: not after it was left, not once its files are in place', async () => {
    const out = freshFolder()
    const first = await plan(out)
    await first.accept(0, pieces[0]!, never)
    await first.leave()
    await expect(first.read(0, new Uint8Array(PIECE))).rejects.toMatchObject({ code: 'CLOSED' })
    const next = await plan(out)
    for (const position of [0, 1, 2]) await next.accept(position, pieces[position]!, never)
    await next.finish(never)
    await expect(next.read(0, new Uint8Array(PIECE))).rejects.toMatchObject({ code: 'CLOSED' })
  })

  it('is cleared where nothing was written', async () => {
    const out = freshFolder()
    const first = await plan(out)
    await first.begin()
    await first.leave()
    expect(readdirSync(out)).toEqual([])
  })
})

/** Fails the first operation of this name on a path that fits. */
function failing(operation: string, path: RegExp, code: string): Hook {
  let isDue = true
  return (called, at) => {
    if (!isDue || called !== operation || !path.test(at)) return
    isDue = false
    throw systemError(code)
  }
}

async function writeAll(extraction: Extraction): Promise<void> {
  for (const position of [0, 1, 2]) await extraction.accept(position, pieces[position]!, never)
  await extraction.finish(never)
}

describe('an extraction that the disk stopped', () => {
  it('leaves no file whose sync failed: a second sync of it would succeed and save nothing', async () => {
    const out = freshFolder()
    const first = await plan(out, failing('datasync', /b$/, 'EIO'), flat)
    await expect(writeAll(first)).rejects.toMatchObject({ code: 'IO' })
    const part = await first.begin()
    await first.leave()
    expect(readdirSync(part)).toEqual(['a'])
    await writeAll(await plan(out, undefined, flat))
    expect(readdirSync(out)).toEqual(['a', 'b', 'c'])
  })

  it('leaves nothing when the names in it could not be synced', async () => {
    const out = freshFolder()
    const first = await plan(out, failing('syncDirectory', /part/, 'EIO'))
    await expect(writeAll(first)).rejects.toMatchObject({ code: 'IO' })
    await first.leave()
    expect(readdirSync(out)).toEqual([])
  })

  it.each([
    ['a third file has no room for its name', 'link', /c$/, 'ENOSPC', 'NO_SPACE'],
    ['a first name cannot be taken away', 'remove:file', /b$/, 'EIO', 'IO'],
    ['the output folder cannot be synced', 'syncDirectory', /shoal-storage-\w+$/, 'EIO', 'IO'],
  ] as const)('takes back what it has put in place when %s, and does it all again', async (_, operation, path, code, becomes) => {
    const out = freshFolder()
    let isMoving = false
    const fail = failing(operation, path, code)
    const first = await plan(
      out,
      (called, at) => {
        if (called === 'link') isMoving = true
        if (isMoving) return fail(called, at)
      },
      flat,
    )
    await expect(writeAll(first)).rejects.toMatchObject({ code: becomes })
    await first.leave()
    expect(readdirSync(out).filter((name) => !name.endsWith('.part'))).toEqual([])
    const next = await plan(out, undefined, flat)
    for (const position of [0, 1, 2]) {
      const read = new Uint8Array(PIECE)
      expect(await next.read(position, read)).toBe(true)
      await next.found(position)
    }
    await next.finish(never)
    expect(readdirSync(out)).toEqual(['a', 'b', 'c'])
  })

  it('says so when not even its folder can be made, and finds what an earlier run left all the same', async () => {
    const out = freshFolder()
    await cutOff(out)
    const second = await plan(out, failing('syncDirectory', /./, 'EIO'))
    await expect(second.begin()).rejects.toMatchObject({ name: 'FileError', code: 'IO' })
    await second.leave()
    expect((await plan(out)).hasLeftover).toBe(true)
  })
})
