/** Blocks that rot, vanish or are exchanged: all noticed, none served, all fetched again while one honest peer has them. */
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import type { VerifyResult } from '../../node/control/api.ts'
import { CryptoPool } from '../../node/crypto/pool.ts'
import { Scrub, scrubWaitMs } from '../../node/jobs/scrub.ts'
import { verifyJob } from '../../node/jobs/verify.ts'
import type { ShoalNode } from '../../node/main.ts'
import { diskFileSystem, type FileSystem } from '../../node/storage/fs.ts'
import { parseCid } from '../../protocol/cid.ts'
import { FORMAT, KEEPING, STORAGE } from '../../protocol/limits.ts'
import { Nodes, patience } from '../kit/nodes.ts'
import { openStoreHome, type StoreHome } from '../kit/store-home.ts'
import { corruptFiles, hexOf, storedFiles } from '../kit/stored.ts'
import { freshFolder, hookedFileSystem, never, sha256, systemError } from './storage-fakes.ts'

const ignore = (): void => {}

const flip = (path: string, bit: number): void => {
  const bytes = readFileSync(path)
  bytes[(bit >> 3) % bytes.length]! ^= 1 << (bit & 7)
  writeFileSync(path, bytes)
}

/** Ways in which a block goes bad; `other` is the path of another block. */
const HARMS: [string, (path: string, other: string) => unknown][] = [
  ['one bit flipped', (path) => flip(path, 8_191)],
  ['cut short', (path) => truncateSync(path, 1_000)],
  ['empty', (path) => truncateSync(path, 0)],
  ['longer', (path) => writeFileSync(path, Buffer.concat([readFileSync(path), Buffer.of(1)]))],
  ['another block', (path, other) => copyFileSync(other, path)],
  ['removed', (path) => rmSync(path)],
  ['a folder in its place', (path) => [rmSync(path), mkdirSync(path)]],
  ['a symlink in its place', (path, other) => [rmSync(path), symlinkSync(other, path)]],
]

const pool = new CryptoPool()
afterAll(() => pool.close())

async function open(dir: string, fs: FileSystem = diskFileSystem): Promise<StoreHome> {
  const home = await openStoreHome(dir, fs, pool)
  onTestFinished(() => home.close().catch(ignore))
  return home
}

const verify = (home: StoreHome, cids: string[] = []): Promise<VerifyResult> =>
  verifyJob(home.env, { cids, repair: false, wait: false, peers: [] }, ignore, never)

const leavesOf = async (home: StoreHome, cid: string): Promise<string[]> => {
  const root = hexOf(parseCid(cid).digest)
  return [...(await storedFiles(home.env.home))].filter(([name]) => name !== root).map(([, path]) => path)
}

describe('the scrub', () => {
  it('notices one flipped bit in each of 1,000 blocks, wherever it is, serves none, and keeps few of them', async () => {
    const dir = freshFolder()
    const all: Uint8Array[] = []
    for (let i = 0; i < 1_000; i++) {
      const bytes = new Uint8Array(1_024).fill(i & 255, 4)
      bytes.set([i, i >> 8, 7])
      all.push(sha256(bytes))
      const hex = hexOf(sha256(bytes))
      mkdirSync(join(dir, 'home', 'blocks', hex.slice(0, 2)), { recursive: true, mode: 0o700 })
      bytes[i]! ^= 1 << (i & 7)
      writeFileSync(join(dir, 'home', 'blocks', hex.slice(0, 2), hex), bytes)
    }
    const home = await open(dir)
    const scrub = new Scrub(home.env, () => false, never)
    await scrub.load()
    let steps = 0
    while (!(await scrub.step())) steps++
    expect(steps).toBe(1_000)
    expect(scrub.status()).toMatchObject({ checkedBlocks: 0, last: { checkedBlocks: 1_000, damagedBlocks: 1_000 } })
    for (const digest of all) expect(await home.env.blocks.get(digest, never)).toBeNull()
    expect((await storedFiles(home.env.home)).size).toBe(0)
    expect(readdirSync(join(home.env.home, 'quarantine'))).toHaveLength(STORAGE.quarantinedBlocksMax)
  })

  it('goes on where the last run of the node stopped, and looks at nothing while the node is busy', async () => {
    const dir = freshFolder()
    let home = await openStoreHome(dir, diskFileSystem, pool)
    for (let i = 0; i < 50; i++) await home.env.blocks.put(sha256(Uint8Array.of(i)), Uint8Array.of(i), never)
    let isBusy = false
    const first = new Scrub(home.env, () => isBusy, never)
    await first.load()
    for (let i = 0; i < 20; i++) await first.step()
    isBusy = true
    expect(await first.step()).toBe(false)
    expect(first.waitMs).toBe(KEEPING.scrubBusyMs)
    expect(first.status().checkedBlocks).toBe(20)
    await first.save()
    await home.close()
    home = await open(dir)
    const second = new Scrub(home.env, () => false, never)
    await second.load()
    let steps = 0
    while (!(await second.step())) steps++
    expect(steps).toBe(30)
    expect(second.status().last).toMatchObject({ checkedBlocks: 50, damagedBlocks: 0 })
  })

  it('takes thirty days for a pass, hurries when it is late, within bounds whatever the clock says', () => {
    const day = 86_400_000
    expect(scrubWaitMs({ startedMs: 0, nowMs: 0, leftBlocks: 30_000 })).toBe(day / 1_000)
    expect(scrubWaitMs({ startedMs: 0, nowMs: 15 * day, leftBlocks: 30_000 })).toBe(day / 2_000)
    expect(scrubWaitMs({ startedMs: 0, nowMs: 29 * day, leftBlocks: 10 ** 7 })).toBe(KEEPING.scrubWaitMinMs)
    expect(scrubWaitMs({ startedMs: 0, nowMs: 400 * day, leftBlocks: 10 })).toBe(KEEPING.scrubWaitMinMs)
    expect(scrubWaitMs({ startedMs: 400 * day, nowMs: 0, leftBlocks: 10 ** 6 })).toBe((30 * day) / 10 ** 6)
    expect(scrubWaitMs({ startedMs: 0, nowMs: 0, leftBlocks: 0 })).toBe(KEEPING.scrubWaitMaxMs)
  })
})

describe('verify', () => {
  it.each(HARMS)('finds a block that is %s, says which share it is, and remembers it as damaged', async (_, harm) => {
    const home = await open(freshFolder())
    const [cid, other] = [await home.share('one', 1), await home.share('other', 0)]
    const [path = '', another = ''] = await leavesOf(home, cid)
    expect(await verify(home)).toMatchObject({ isSound: true, shares: [{}, {}] })
    harm(path, another)
    const { isSound, shares } = await verify(home)
    expect(isSound).toBe(false)
    const bad = shares.filter((share) => !share.isSound)
    expect(bad).toHaveLength(1)
    expect(bad[0]!.damagedBlocks + bad[0]!.missingBlocks).toBe(1)
    expect([cid, other]).toContain(bad[0]!.cid)
    expect(await home.env.records.getShare(bad[0]!.cid)).toMatchObject({ state: 'partial' })
    expect(home.env.keeping.of(bad[0]!.cid).isDamaged).toBe(true)
    expect(await corruptFiles(home.env.home)).toEqual([])
    expect((await verify(home)).isSound).toBe(false)
  })

  it('finds what the disk refuses to read, but takes nothing for damage that says nothing about the block', async () => {
    let refused = ''
    let code = 'EIO'
    const home = await open(
      freshFolder(),
      hookedFileSystem((operation, path) => {
        if (operation === 'open:read' && path === refused) throw systemError(code)
      }),
    )
    const cid = await home.share('one', 2)
    refused = (await leavesOf(home, cid))[0] ?? ''
    code = 'EMFILE'
    await expect(verify(home)).rejects.toMatchObject({ code: 'IO' })
    expect(home.env.keeping.of(cid).isDamaged).toBe(false)
    code = 'EIO'
    expect(await verify(home)).toMatchObject({ isSound: false, shares: [{ damagedBlocks: 1, missingBlocks: 0 }] })
  })

  it('is content again when somebody put the blocks back', async () => {
    const home = await open(freshFolder())
    const cid = await home.share('one', 2)
    const root = join(home.env.home, 'blocks', hexOf(parseCid(cid).digest).slice(0, 2), hexOf(parseCid(cid).digest))
    const bytes = new Uint8Array(readFileSync(root))
    rmSync(root)
    expect(await verify(home, [cid])).toMatchObject({ isSound: false, shares: [{ cid, missingBlocks: 0, damagedBlocks: 1 }] })
    await home.env.blocks.put(parseCid(cid).digest, bytes, never)
    expect(await verify(home, [cid])).toMatchObject({ isSound: true })
    expect(await home.env.records.getShare(cid)).toMatchObject({ state: 'complete' })
    expect(home.env.keeping.of(cid).isDamaged).toBe(false)
  })

  it('says so when a share that is named is not kept', async () => {
    const home = await open(freshFolder())
    const cid = await home.share('one', 0)
    await home.env.records.removeShare(cid)
    await expect(verify(home, [cid])).rejects.toMatchObject({ code: 'NOT_KEPT' })
  })
})

describe('among peers', () => {
  let nodes: Nodes
  let a: ShoalNode
  let link: string
  let seedLink: string

  beforeAll(async () => {
    nodes = await Nodes.create()
    a = await nodes.node('a')
    const source = nodes.path('source.bin')
    const bytes = new Uint8Array(12 * FORMAT.pieceBytes)
    for (let i = 0; i < bytes.length; i += 65_521) bytes[i] = i % 251
    writeFileSync(source, bytes)
    const shared = await a.api.share({ paths: [source], scope: 'lineage', name: null }, ignore, patience())
    ;({ link, seedLink } = shared)
  })

  afterAll(() => nodes.clear())

  const seeded = async (name: string): Promise<ShoalNode> => {
    const node = await nodes.node(name)
    await node.api.seed({ link: seedLink, wait: false, peers: a.addresses() }, ignore, patience())
    return node
  }

  const isWhole = async (node: ShoalNode): Promise<boolean> => {
    const [share] = await node.api.shares(patience())
    return share?.state === 'complete' && share.haveBlocks === share.blockCount
  }

  it('verify --repair fetches all that is damaged or missing, without the key, and what was set aside goes', async () => {
    const b = await seeded('b')
    const cid = (await b.api.shares(patience()))[0]!.cid
    await b.stop()
    const files = await storedFiles(nodes.homeOf('b'))
    const root = files.get(hexOf(parseCid(cid).digest))!
    // The root is among them: what lies below it can be looked at only when it is back.
    const paths = [root, ...[...files.values()].filter((path) => path !== root)]
    for (const [i, [, harm]] of HARMS.entries()) harm(paths[i]!, paths[i + 1]!)
    const again = await nodes.node('b', true)
    const request = { cids: [cid], repair: true, wait: false, peers: a.addresses() }
    const result = await again.api.verify(request, ignore, patience())
    expect(result).toMatchObject({ isSound: true, shares: [{ cid, isSound: true, failure: null }] })
    expect(result.shares[0]!.damagedBlocks + result.shares[0]!.missingBlocks).toBeGreaterThan(0)
    expect(await again.api.verify({ ...request, repair: false }, ignore, patience())).toMatchObject({
      isSound: true,
      shares: [{ damagedBlocks: 0, missingBlocks: 0 }],
    })
    expect(await isWhole(again)).toBe(true)
    expect(await corruptFiles(nodes.homeOf('b'))).toEqual([])
    expect((await storedFiles(nodes.homeOf('b'))).size).toBe(paths.length)
    await again.stop()
  })

  it('a node whose blocks rot while it serves sends none of them, and fetches them anew by itself', async () => {
    const c = await seeded('c')
    const files = await storedFiles(nodes.homeOf('c'))
    for (const [i, path] of [...files.values()].entries()) flip(path, i * 1_001)
    const d = await nodes.node('d')
    const out = nodes.path('out-d')
    mkdirSync(out)
    const request = { link, outputDir: out, path: null, force: false, consent: false, wait: true, peers: c.addresses(), keep: false }
    await d.api.get(request, ignore, patience())
    expect(readFileSync(join(out, 'source.bin')).equals(readFileSync(nodes.path('source.bin')))).toBe(true)
    await c.api.verify({ cids: [], repair: false, wait: false, peers: [] }, ignore, patience()) // finds those that nobody asked for
    await vi.waitFor(async () => expect(await isWhole(c)).toBe(true), { timeout: 15_000, interval: 50 })
    await vi.waitFor(async () => expect(await corruptFiles(nodes.homeOf('c'))).toEqual([]), { timeout: 15_000, interval: 50 })
    await Promise.all([c.stop(), d.stop()])
  })

  it('a node that starts with files removed by hand notices, and fetches them anew by itself', async () => {
    const e = await seeded('e')
    const files = [...(await storedFiles(nodes.homeOf('e'))).values()]
    await vi.waitFor(async () => expect(await e.api.peers(patience())).not.toEqual([]), { timeout: 15_000 })
    await e.stop()
    for (const path of files.slice(0, 7)) rmSync(path)
    const again = await nodes.node('e')
    const { cid } = (await again.api.shares(patience()))[0]!
    await again.api.verify({ cids: [cid], repair: true, wait: true, peers: a.addresses() }, ignore, patience())
    await vi.waitFor(async () => expect(await isWhole(again)).toBe(true), { timeout: 15_000, interval: 50 })
    expect(files.every((path) => existsSync(path))).toBe(true)
    await again.stop()
  })
})
