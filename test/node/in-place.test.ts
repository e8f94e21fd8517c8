/** Shares without a sealed copy, between nodes of this process. */
import { randomBytes } from 'node:crypto'
import { appendFile, mkdir, open, readdir, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ShareRequest, ShareResult } from '../../node/control/api.ts'
import type { ShoalNode } from '../../node/main.ts'
import { get, ignore, Nodes, patience } from '../kit/nodes.ts'
import { storedFiles } from '../kit/stored.ts'
import { compareTrees } from '../kit/trees.ts'

let nodes: Nodes

beforeEach(async () => {
  nodes = await Nodes.create()
})

afterEach(() => nodes.clear())

const share = (node: ShoalNode, path: string, request: Partial<ShareRequest> = {}): Promise<ShareResult> =>
  node.api.share({ paths: [path], scope: 'lineage', name: null, inPlace: true, ...request }, ignore, patience())

/** A folder with a large file, some small ones, a hole, and the same bytes twice. */
async function makeFolder(): Promise<string> {
  const folder = nodes.path('photos')
  await mkdir(join(folder, 'more'), { recursive: true })
  const large = randomBytes(3 * 1_048_576 + 4_321)
  await writeFile(join(folder, 'large.bin'), large)
  await writeFile(join(folder, 'more', 'twice.bin'), large.subarray(0, 2 * 1_048_560))
  await writeFile(join(folder, 'holes.bin'), Buffer.concat([Buffer.alloc(2 * 1_048_560), Buffer.from('end')]))
  for (let i = 0; i < 40; i++) await writeFile(join(folder, 'more', `small-${i}`), randomBytes(50_000 + i))
  await writeFile(join(folder, 'empty'), '')
  return folder
}

async function outputDir(name: string): Promise<string> {
  const path = nodes.path(name)
  await mkdir(path)
  return path
}

const bytesStored = async (name: string): Promise<number> => {
  let bytes = 0
  for (const path of (await storedFiles(nodes.homeOf(name))).values()) bytes += (await readFile(path)).byteLength
  return bytes
}

describe('a share in place', () => {
  it('has the same link, stores its index alone, and gives identical files, also after a restart', async () => {
    const folder = await makeFolder()
    const a = await nodes.node('a')
    const stored = await share(a, folder, { inPlace: false })
    const before = await bytesStored('a')
    const shared = await share(a, folder)
    expect(shared).toMatchObject({ link: stored.link, inPlace: true })
    expect(before).toBeGreaterThan(5 * 1_048_576)
    expect(await bytesStored('a')).toBeLessThan(10_000)
    await a.stop()
    const again = await nodes.node('a')
    const b = await nodes.node('b')
    const out = await outputDir('out')
    await get(b, shared.link, out, { peers: again.addresses() })
    expect((await compareTrees(folder, join(out, 'photos'))).differences).toEqual([])
  })

  it('is hosted whole by a blind seeder, pads included', async () => {
    const path = nodes.path('file.bin')
    await writeFile(path, randomBytes(64 * 1_048_560 + 100))
    const a = await nodes.node('a')
    const b = await nodes.node('b')
    const shared = await share(a, path)
    const seeded = await b.api.seed({ link: shared.seedLink, wait: false, peers: a.addresses() }, ignore, patience())
    expect(seeded.blockCount).toBeGreaterThan(65) // there are pads
    expect(seeded.fetchedBlocks).toBeGreaterThanOrEqual(seeded.blockCount) // and the root of the tree
  })

  it('goes back to a sealed copy, and that serves when the files are gone', async () => {
    const folder = await makeFolder()
    const a = await nodes.node('a')
    const shared = await share(a, folder)
    expect(await share(a, folder, { inPlace: false })).toMatchObject({ link: shared.link, inPlace: false })
    await rename(folder, nodes.path('elsewhere'))
    const b = await nodes.node('b')
    const out = await outputDir('out')
    await get(b, shared.link, out, { peers: a.addresses() })
    expect((await compareTrees(nodes.path('elsewhere'), join(out, 'photos'))).differences).toEqual([])
    expect(await readdir(join(nodes.homeOf('a'), 'sources'))).toEqual([])
  })

  it('keeps sealed what another share needs', async () => {
    const path = nodes.path('file.bin')
    await writeFile(path, randomBytes(3 * 1_048_576))
    const other = nodes.path('other')
    await mkdir(other)
    await writeFile(join(other, 'copy.bin'), await readFile(path))
    const a = await nodes.node('a')
    const kept = await share(a, other, { scope: 'node', inPlace: false })
    await share(a, path, { scope: 'node' })
    await rm(other, { recursive: true })
    const b = await nodes.node('b')
    const out = await outputDir('out')
    await get(b, kept.link, out, { peers: a.addresses() })
    expect((await readFile(join(out, 'other', 'copy.bin'))).equals(await readFile(path))).toBe(true)
  })

  it('never gives a byte of a file that changed, and gives it again when the bytes are back', async () => {
    const path = nodes.path('file.bin')
    const bytes = randomBytes(4 * 1_048_576)
    await writeFile(path, bytes)
    const a = await nodes.node('a')
    const b = await nodes.node('b')
    const shared = await share(a, path)
    const file = await open(path, 'r+')
    await file.write(Buffer.from([bytes[5]! ^ 1]), 0, 1, 5)
    const out = await outputDir('out')
    const getting = get(b, shared.link, out, { peers: a.addresses(), wait: true })
    getting.catch(ignore)
    await expect.poll(async () => (await b.api.shares(patience())).map(({ haveBlocks }) => haveBlocks)).not.toEqual([])
    await file.write(bytes, 5, 1, 5)
    await file.close()
    await getting
    expect((await readFile(join(out, 'file.bin'))).equals(bytes)).toBe(true)
  })

  it('is served again after a touch', async () => {
    const path = nodes.path('file.bin')
    await writeFile(path, randomBytes(3 * 1_048_576))
    const a = await nodes.node('a')
    const b = await nodes.node('b')
    const shared = await share(a, path)
    await utimes(path, 1, 1)
    const out = await outputDir('out')
    await get(b, shared.link, out, { peers: a.addresses(), wait: true })
    expect((await readFile(join(out, 'file.bin'))).equals(await readFile(path))).toBe(true)
  })

  it('that changed is shared again under a new link', async () => {
    const path = nodes.path('file.bin')
    await writeFile(path, randomBytes(3 * 1_048_576))
    const a = await nodes.node('a')
    const b = await nodes.node('b')
    const first = await share(a, path)
    await appendFile(path, 'more')
    const second = await share(a, path)
    expect(second.link).not.toBe(first.link)
    const out = await outputDir('out')
    await get(b, second.link, out, { peers: a.addresses() })
    expect((await readFile(join(out, 'file.bin'))).equals(await readFile(path))).toBe(true)
  })

  it('that changed and is shared again says that the earlier share stays, or takes its place where that is asked for', async () => {
    const path = nodes.path('file.bin')
    await writeFile(path, randomBytes(3 * 1_048_576))
    const a = await nodes.node('a')
    const first = await share(a, path)
    await appendFile(path, 'more')
    const second = await share(a, path)
    expect(second.replaced).toEqual([])
    expect(second.warnings).toEqual([expect.stringMatching(`${first.cid}.*--replace`)])
    await appendFile(path, 'and more')
    const whole = { paths: [path], scope: 'lineage' as const, name: null, inPlace: true, replaces: true }
    const third = await a.api.share(whole, ignore, patience())
    expect(third.replaced.map(({ cid }) => cid).sort()).toEqual([first.cid, second.cid].sort())
    expect((await a.api.shares(patience())).map(({ cid }) => cid)).toEqual([third.cid])
    expect((await a.api.status(patience())).faultyFiles).toEqual({ count: 0, first: [] })
    // The same again replaces nothing, and what lies elsewhere is left alone.
    await writeFile(nodes.path('other.bin'), randomBytes(2 * 1_048_576))
    await share(a, nodes.path('other.bin'))
    expect(await a.api.share(whole, ignore, patience())).toMatchObject({ cid: third.cid, replaced: [], warnings: [] })
    expect(await a.api.shares(patience())).toHaveLength(2)
  })

  it('of a file that fits into the root is kept whole', async () => {
    const path = nodes.path('note.txt')
    await writeFile(path, 'a few words')
    const a = await nodes.node('a')
    expect(await share(a, path)).toMatchObject({ inPlace: false })
  })

  it('is not kept when it cannot be written down where its files are', async () => {
    const path = nodes.path('file.bin')
    await writeFile(path, randomBytes(3 * 1_048_576))
    const a = await nodes.node('a')
    await rm(join(nodes.homeOf('a'), 'sources'), { recursive: true })
    await writeFile(join(nodes.homeOf('a'), 'sources'), 'no folder')
    await expect(share(a, path)).rejects.toThrow()
    expect(await a.api.shares(patience())).toEqual([])
  })

  it('leaves nothing behind when it is let go of', async () => {
    const folder = await makeFolder()
    const a = await nodes.node('a')
    const { cid } = await share(a, folder)
    expect(await readdir(join(nodes.homeOf('a'), 'sources'))).toEqual([cid])
    await a.api.unseed({ cid }, patience())
    expect(await readdir(join(nodes.homeOf('a'), 'sources'))).toEqual([])
    expect(await bytesStored('a')).toBe(0)
  })
})

describe('a get in place', () => {
  const stateOf = async (node: ShoalNode) =>
    (await node.api.shares(patience())).map(({ role, state, haveBlocks, blockCount }) => ({ role, state, haveBlocks, blockCount }))

  it('keeps no sealed copy, is finished, and serves the files it wrote when the first seeder is gone', async () => {
    const folder = await makeFolder()
    const a = await nodes.node('a')
    const b = await nodes.node('b')
    const c = await nodes.node('c')
    const { link } = await share(a, folder)
    const out = await outputDir('out-b')
    const got = await get(b, link, out, { peers: a.addresses() })
    expect(got).toMatchObject({ inPlace: true, keptBytes: 0, reusedBlocks: 0 })
    expect(await bytesStored('b')).toBeLessThan(10_000)
    expect(await readdir(out)).toEqual(['photos'])
    expect((await b.api.status(patience())).unfinished).toEqual({ running: 0, waiting: 0, gets: [] })
    expect(await stateOf(b)).toMatchObject([{ role: 'reader', state: 'complete' }])
    await a.stop()
    await b.stop()
    const again = await nodes.node('b')
    const outC = await outputDir('out-c')
    await get(c, link, outC, { peers: again.addresses() })
    expect((await compareTrees(folder, join(outC, 'photos'))).differences).toEqual([])
  })

  it('of a part keeps sealed what holds pieces of other files, and serves that part', async () => {
    const folder = await makeFolder()
    const a = await nodes.node('a')
    const b = await nodes.node('b')
    const c = await nodes.node('c')
    const { link } = await share(a, folder)
    await get(b, link, await outputDir('out-b'), { peers: a.addresses(), path: 'photos/more' })
    const stored = await bytesStored('b')
    expect(stored).toBeGreaterThan(1_048_576)
    expect(stored).toBeLessThan(4 * 1_048_576)
    await a.stop()
    const outC = await outputDir('out-c')
    await get(c, link, outC, { peers: b.addresses(), path: 'photos/more' })
    expect((await compareTrees(join(folder, 'more'), join(outC, 'more'))).differences).toEqual([])
  })

  it('with a sealed copy keeps that, and either kind turns into the other', async () => {
    const folder = await makeFolder()
    const a = await nodes.node('a')
    const b = await nodes.node('b')
    const c = await nodes.node('c')
    const { link, cid } = await share(a, folder)
    await get(b, link, await outputDir('out-1'), { peers: a.addresses() })
    const out = await outputDir('out-2')
    expect(await get(b, link, out, { peers: a.addresses(), keepSealed: true })).toMatchObject({ inPlace: false, fetchedBlocks: 0 })
    expect(await bytesStored('b')).toBeGreaterThan(5 * 1_048_576)
    await a.stop()
    await rm(nodes.path('out-1'), { recursive: true })
    await rm(out, { recursive: true })
    const outC = await outputDir('out-c')
    await get(c, link, outC, { peers: b.addresses() })
    expect((await compareTrees(folder, join(outC, 'photos'))).differences).toEqual([])
    await b.api.unseed({ cid }, patience())
    expect(await bytesStored('b')).toBe(0)
  })

  it('that is cut off goes on with what it wrote, whatever stands there by then', async () => {
    const path = nodes.path('file.bin')
    const bytes = randomBytes(8 * 1_048_576)
    await writeFile(path, bytes)
    const a = await nodes.node('a')
    const b = await nodes.node('b')
    const { link, cid } = await share(a, path)
    const out = await outputDir('out')
    const stop = new AbortController()
    const half = b.api.get(
      { link, outputDir: out, path: null, force: false, consent: false, wait: true, peers: a.addresses(), keep: false },
      (event) => {
        if (event.type === 'progress' && event.phase === 'fetch' && event.doneBytes >= 4 * 1_048_576) stop.abort(new Error('enough'))
      },
      stop.signal,
    )
    await expect(half).rejects.toThrow()
    const [part] = await readdir(out)
    expect(part).toMatch(/^\.shoal-[A-Za-z0-9]+-[0-9a-f]{32}\.part$/)
    await b.stop()
    // One of the pieces is not what it was, and there are things that nobody of us put there.
    const file = await open(join(out, part!, 'file.bin'), 'r+')
    await file.write(Buffer.from('not this'), 0, 8, 100)
    await file.close()
    await writeFile(join(out, part!, 'stranger'), 'x')
    const again = await nodes.node('b')
    const got = await get(again, link, out, { peers: a.addresses() })
    expect(got.reusedBlocks).toBeGreaterThanOrEqual(3)
    expect(got.reusedBlocks + got.fetchedBlocks).toBeLessThanOrEqual(10)
    expect((await readFile(join(out, 'file.bin'))).equals(bytes)).toBe(true)
    expect(await readdir(out)).toEqual(['file.bin'])
    await again.api.unseed({ cid }, patience())
    expect((await readFile(join(out, 'file.bin'))).equals(bytes)).toBe(true)
  })

  it('that is cut off and not wanted any more leaves nothing', async () => {
    const path = nodes.path('file.bin')
    await writeFile(path, randomBytes(8 * 1_048_576))
    const a = await nodes.node('a')
    const b = await nodes.node('b')
    const { link, cid } = await share(a, path)
    const out = await outputDir('out')
    const stop = new AbortController()
    const half = get(b, link, out, { peers: a.addresses() }, stop.signal)
    await expect.poll(() => readdir(out)).not.toEqual([])
    stop.abort(new Error('enough'))
    await half.catch(ignore)
    await b.api.unseed({ cid }, patience())
    expect(await readdir(out)).toEqual([])
    expect(await bytesStored('b')).toBe(0)
  })
})
