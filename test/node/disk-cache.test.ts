/** What was read and is not pinned: it stays while there is room, is served, goes by the time of use, and never takes a pinned block along. */
import { createHash, randomBytes } from 'node:crypto'
import { copyFileSync, existsSync, rmSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ShareResult, ShareSummary } from '../../node/control/api.ts'
import { unseedJob } from '../../node/jobs/gc.ts'
import { getJob } from '../../node/jobs/get.ts'
import { blindRecord, restoreShares } from '../../node/jobs/restore.ts'
import { shareJob } from '../../node/jobs/share.ts'
import { silentLog } from '../../node/log.ts'
import type { ShoalNode } from '../../node/main.ts'
import { diskFileSystem } from '../../node/storage/fs.ts'
import { PinFiles } from '../../node/storage/pin-files.ts'
import { parseCid } from '../../protocol/cid.ts'
import { FORMAT, KEEPING, READING } from '../../protocol/limits.ts'
import { get, ignore, Nodes, patience } from '../kit/nodes.ts'
import { openStoreHome } from '../kit/store-home.ts'
import { readTree, storedFiles } from '../kit/stored.ts'
import { freshFolder, never } from './storage-fakes.ts'

const BLOCK = FORMAT.blockBytes

let nodes: Nodes
let owner: ShoalNode
let reader: ShoalNode

beforeEach(async () => {
  nodes = await Nodes.create()
  owner = await nodes.node('owner')
  reader = await nodes.node('reader')
})
afterEach(() => nodes.clear())

async function publish(name: string, pieces: number, scope: 'lineage' | 'node' = 'lineage'): Promise<ShareResult> {
  writeFileSync(nodes.path(name), randomBytes(pieces * FORMAT.pieceBytes + 5))
  return await owner.api.share({ paths: [nodes.path(name)], scope, name: null }, ignore, patience())
}

/** Reads the file of a share, or the first bytes of it, from `peers` and from what is here; resolves to the SHA-256 of what came. */
async function read(node: ShoalNode, { link }: ShareResult, peers: string[] = owner.addresses(), firstBytes?: number): Promise<string> {
  const range = firstBytes === undefined ? null : { start: 0, end: firstBytes - 1 }
  const hash = createHash('sha256')
  const chunks = node.api.cat({ link, path: null, range, consent: false, wait: false, peers }, ignore, AbortSignal.timeout(60_000))
  for await (const chunk of chunks) hash.update(chunk)
  return hash.digest('hex')
}

const status = (node: ShoalNode) => node.api.status(patience())
const cachedOf = async (node: ShoalNode): Promise<string[]> =>
  (await node.api.shares(patience())).filter(({ cachedBytes }) => cachedBytes !== null).map(({ cid }) => cid)
const summaryOf = async (node: ShoalNode, cid: string): Promise<ShareSummary | undefined> =>
  (await node.api.shares(patience())).find((share) => share.cid === cid)
const setTo = (node: ShoalNode, set: object) => node.api.limits({ set, reset: false, save: false }, patience())
const pinOf = (cid: string): string => join(nodes.homeOf('reader'), 'pins', cid)

describe('what was read', () => {
  it('is read again without any peer, before and after a restart, and served to others', async () => {
    const share = await publish('film', 6)
    const first = await read(reader, share)
    const { shares, cached } = await status(reader)
    expect([shares, cached.shares]).toEqual([0, 1])
    expect(cached.bytes).toBeGreaterThan(6 * BLOCK)
    expect(await summaryOf(reader, share.cid)).toMatchObject({ role: 'blind', cachedBytes: cached.bytes, state: 'complete' })
    await owner.stop()
    expect(await read(reader, share, [])).toBe(first)
    await reader.stop()
    reader = await nodes.node('reader')
    expect(await read(reader, share, [])).toBe(first)
    const other = await nodes.node('other')
    expect(await read(other, share, reader.addresses())).toBe(first)
    expect((await status(reader)).bytesIn).toBeLessThan(BLOCK)
  })

  it('costs no more than what is new of it, and is no part of what gc and verify are about', async () => {
    const share = await publish('long', 20)
    await read(reader, share, owner.addresses(), 3 * FORMAT.pieceBytes)
    expect(await summaryOf(reader, share.cid)).toMatchObject({ state: 'partial' })
    const before = (await status(reader)).bytesIn
    await read(reader, share)
    expect((await status(reader)).bytesIn - before).toBeLessThan(19 * BLOCK)
    expect(await reader.api.gc({ dryRun: false, consent: false }, ignore, patience())).toMatchObject({ blocks: 0 })
    expect(await reader.api.verify({ cids: [], repair: true, wait: false, peers: [] }, ignore, patience())).toMatchObject({ shares: [] })
    expect((await status(reader)).unfinished).toEqual({ running: 0, waiting: 0, gets: [] })
    expect(existsSync(pinOf(share.cid))).toBe(false)
  })

  it('goes by who was read longest ago here, when there is no more room', async () => {
    const [a, b, c] = [await publish('a', 4), await publish('b', 4), await publish('c', 4)]
    await setTo(reader, { cachedBytes: 12 * BLOCK })
    for (const share of [a, b, a, c]) await read(reader, share)
    expect((await cachedOf(reader)).sort()).toEqual([a.cid, c.cid].sort())
    const rows = await reader.api.limitTable(patience())
    const { bytes } = (await status(reader)).cached
    expect(rows.find(({ name }) => name === 'cached')).toMatchObject({ value: 12 * BLOCK, used: bytes, hits: 1 })
    expect((await storedFiles(nodes.homeOf('reader'))).size).toBe((await status(reader)).blocks)
    await setTo(reader, { cachedBytes: 0 })
    await expect.poll(async () => await status(reader)).toMatchObject({ cached: { shares: 0, bytes: 0 }, blocks: 0 })
    await read(reader, a)
    expect(await status(reader)).toMatchObject({ cached: { shares: 0 }, blocks: 0 })
  })

  it('keeps its beginning where it is larger than all the room, and never takes much more than that', async () => {
    const share = await publish('huge', 160)
    const roomBlocks = 20
    await setTo(reader, { cachedBytes: roomBlocks * BLOCK })
    let most = 0
    const watch = setInterval(() => void status(reader).then(({ blocks }) => (most = Math.max(most, blocks))), 20)
    await read(reader, share)
    clearInterval(watch)
    // One look at the room for every so many blocks; while one is taken others come in.
    expect(most).toBeLessThan(roomBlocks + READING.windowBlocksMax + KEEPING.cacheLookBytes / BLOCK + 20)
    expect((await status(reader)).cached.bytes).toBeLessThanOrEqual(roomBlocks * BLOCK)
    // What was dropped was not fetched again.
    expect((await status(reader)).bytesIn).toBeLessThan(165 * BLOCK)
    const before = (await status(reader)).bytesIn
    await owner.stop()
    await read(reader, share, [], 15 * FORMAT.pieceBytes)
    expect((await status(reader)).bytesIn - before).toBeLessThan(BLOCK)
  })

  it('leaves the disk the free space that is always left', async () => {
    const share = await publish('film', 3)
    await read(reader, share)
    expect((await status(reader)).cached.shares).toBe(1)
    await setTo(reader, { freeBytesKept: 1e15 })
    await expect.poll(async () => await status(reader)).toMatchObject({ cached: { shares: 0 }, blocks: 0 })
  })
})

describe('a cached share', () => {
  it('is pinned by `seed` and by `get` without being fetched again, and let go of by `unseed`', async () => {
    const [a, b] = [await publish('a', 4), await publish('b', 4)]
    for (const share of [a, b]) await read(reader, share)
    await owner.stop()
    expect(await reader.api.seed({ link: a.seedLink, wait: false, peers: [] }, ignore, patience())).toMatchObject({ fetchedBlocks: 0 })
    await mkdir(nodes.path('out'))
    expect(await get(reader, b.link, nodes.path('out'), { keepSealed: true })).toMatchObject({ fetchedBlocks: 0, files: 1 })
    expect(await status(reader)).toMatchObject({ shares: 2, cached: { shares: 0, bytes: 0 } })
    for (const { cid } of [a, b]) {
      expect(await summaryOf(reader, cid)).toMatchObject({ cachedBytes: null, state: 'complete' })
      expect(existsSync(pinOf(cid))).toBe(true)
    }
    await setTo(reader, { cachedBytes: 0 })
    await reader.stop()
    reader = await nodes.node('reader')
    expect((await status(reader)).shares).toBe(2)
    for (const { cid } of [a, b]) await reader.api.unseed({ cid }, patience())
    expect(await status(reader)).toMatchObject({ shares: 0, blocks: 0 })
  })

  it('is let go of by `unseed` as well', async () => {
    const share = await publish('film', 3)
    await read(reader, share)
    expect(await reader.api.unseed({ cid: share.cid }, patience())).toMatchObject({ removed: true })
    expect(await status(reader)).toMatchObject({ cached: { shares: 0 }, blocks: 0 })
  })

  it('takes no block along that a pinned share names too', async () => {
    const one = await publish('same', 5, 'node')
    await mkdir(nodes.path('folder'))
    writeFileSync(nodes.path('folder', 'more'), 'a few words')
    copyFileSync(nodes.path('same'), nodes.path('folder', 'same'))
    const two = await owner.api.share({ paths: [nodes.path('folder')], scope: 'node', name: null }, ignore, patience())
    await reader.api.seed({ link: one.seedLink, wait: false, peers: owner.addresses() }, ignore, patience())
    const before = (await status(reader)).blocks
    for await (const _ of reader.api.cat(
      { link: two.link, path: 'folder/same', range: null, consent: false, wait: false, peers: owner.addresses() },
      ignore,
      patience(),
    ));
    expect((await status(reader)).cached.shares).toBe(1)
    await setTo(reader, { cachedBytes: 0 })
    await expect.poll(async () => await status(reader)).toMatchObject({ cached: { shares: 0 }, blocks: before })
    const verified = await reader.api.verify({ cids: [], repair: false, wait: false, peers: [] }, ignore, patience())
    expect(verified).toMatchObject({ isSound: true, shares: [{ cid: one.cid, missingBlocks: 0 }] })
  })

  it('stays cached after a one-shot `get` that wrote from it', async () => {
    const share = await publish('film', 4)
    await reader.stop()
    reader = await nodes.node('reader', true)
    await read(reader, share)
    await mkdir(nodes.path('out'))
    await get(reader, share.link, nodes.path('out'), { peers: owner.addresses() })
    expect(await cachedOf(reader)).toEqual([share.cid])
    await mkdir(nodes.path('sealed'))
    const other = await publish('other', 3)
    await get(reader, other.link, nodes.path('sealed'), { peers: owner.addresses(), keepSealed: true })
    expect((await cachedOf(reader)).sort()).toEqual([share.cid, other.cid].sort())
  })
})

describe('the cache of a home', () => {
  /** Makes a share of the home one that is only cached. */
  async function cachedShare(home: Awaited<ReturnType<typeof openStoreHome>>, name: string, usedOrder: number): Promise<string> {
    const cid = await home.share(name, 3)
    await home.env.keeping.change(cid, { isCached: true, usedOrder, cachedBytes: 1 })
    const record = { ...blindRecord(cid), state: 'complete' as const }
    await home.env.records.saveShare(record)
    await home.env.host.added(record)
    return cid
  }

  it('is held against the store: what is there counts, what is gone does not, and of what is damaged nothing is waited for', async () => {
    const dir = freshFolder()
    const home = await openStoreHome(dir)
    const [whole, torn, gone] = [await cachedShare(home, 'a', 1), await cachedShare(home, 'b', 2), await cachedShare(home, 'c', 3)]
    const other = await home.share('pinned', 1)
    await home.env.records.saveKeeping([
      { ...home.env.keeping.of(whole), cid: parseCid(other).text.replace(/.$/, (last) => (last === 'q' ? 'u' : 'q')) },
    ]) // no such share
    const files = await storedFiles(home.env.home)
    const tree = await readTree(home.env.home, parseCid(torn))
    await home.close()
    rmSync(files.get(Buffer.from(tree.dag.digestOf(0, 1)!).toString('hex'))!)
    rmSync(files.get(Buffer.from(parseCid(gone).digest).toString('hex'))!)
    const again = await openStoreHome(dir)
    const { env } = again
    await env.cache.reconcile(never)
    expect(env.keeping.of(whole).cachedBytes).toBeGreaterThan(3 * BLOCK)
    expect(env.keeping.of(whole).cachedBytes - env.keeping.of(torn).cachedBytes).toBe(BLOCK)
    expect((await env.records.listShares()).map(({ cid }) => cid).sort()).toEqual([whole, torn, other].sort())
    expect(env.keeping.all()).toHaveLength(2)
    await env.damage.mark(torn)
    expect(env.keeping.of(torn).isDamaged).toBe(false)
    expect(await env.records.getShare(torn)).toMatchObject({ state: 'partial' })
    // Nor does it keep others from going.
    rmSync(files.get(Buffer.from(parseCid(torn).digest).toString('hex'))!)
    expect(await unseedJob(env, other, never)).toMatchObject({ heldBackBy: null })
    await again.close()
  })

  it('gives room to what is pinned, and no more than that', async () => {
    const home = await openStoreHome(freshFolder())
    const [a, b] = [await cachedShare(home, 'a', 2), await cachedShare(home, 'b', 1)]
    await home.env.cache.reconcile(never)
    await home.env.cache.makeRoom(1)
    expect((await home.env.records.listShares()).map(({ cid }) => cid)).toEqual([a])
    expect(home.env.keeping.of(b).isCached).toBe(false)
    await home.close()
  })

  it('is found again as cache when the records are lost and the pins are not, and nothing of it goes then', async () => {
    const home = await openStoreHome(freshFolder())
    const cached = await cachedShare(home, 'a', 1)
    const pinned = await home.share('pinned', 2)
    const { records, blocks } = home.env
    const pins = await PinFiles.open(diskFileSystem, home.env.home)
    await pins.add([pinned])
    for (const { cid } of await records.listShares()) await records.removeShare(cid)
    expect(await restoreShares({ records, blocks, pins, log: silentLog, isRebuilt: true }, never)).toBe(2)
    const keeping = new Map((await records.listKeeping()).map((row) => [row.cid, row]))
    expect(keeping.get(cached)).toMatchObject({ isCached: true, isDamaged: false })
    expect(keeping.get(pinned)).toMatchObject({ isCached: false, isDamaged: true })
    await home.env.cache.makeRoom(2 ** 40)
    expect(await records.getShare(cached)).not.toBeNull()
    await home.close()
  })

  it('does not stand in the way of a `get` in place, whose sealed blocks go once the files are there', async () => {
    const home = await openStoreHome(freshFolder())
    writeFileSync(join(home.env.home, '..', 'film'), randomBytes(4 * FORMAT.pieceBytes))
    const link = await shareJob(home.env, { paths: [join(home.env.home, '..', 'film')], scope: 'lineage', name: null }, ignore, never)
    await home.env.keeping.change(link.cid, { isCached: true, usedOrder: 1, cachedBytes: 1 })
    const record = { ...blindRecord(link.cid), state: 'complete' as const }
    await home.env.records.saveShare(record)
    await home.env.host.added(record)
    const request = { path: null, force: false, consent: false, wait: false, peers: [], keep: true }
    await mkdir(join(home.env.home, '..', 'out'))
    const got = await getJob(home.env, { link: link.link, outputDir: join(home.env.home, '..', 'out'), ...request }, ignore, never)
    expect(got).toMatchObject({ inPlace: true, fetchedBlocks: 0 })
    expect(home.env.keeping.of(link.cid)).toMatchObject({ isCached: false, cachedBytes: 0 })
    expect(home.env.blocks.count).toBeLessThan(4)
    await home.close()
  })
})
