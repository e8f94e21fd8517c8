/** Extractions that are left and gone on with: what the next run takes over, and what it does not touch. */
import { chmodSync, existsSync, linkSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Extraction } from '../../node/storage/extract.ts'
import type { Entry } from '../../protocol/entry.ts'
import { freshFolder, never } from './storage-fakes.ts'

const PIECE = 64
const pieces = [1, 2, 3].map((fill) => new Uint8Array(PIECE).fill(fill))

async function* entries(): AsyncGenerator<Entry> {
  yield { dir: 'top', name: 'file', sizeBytes: 3 * PIECE, extents: [{ kind: 'blocks', position: 0, count: 3 }], executable: false }
}

const plan = (outputDir: string): Promise<Extraction> =>
  Extraction.plan({
    entries: entries(),
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
