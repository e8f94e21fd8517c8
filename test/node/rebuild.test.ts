/** Records that are damaged, gone or old: no block is lost, no share forgotten, nothing believed that was changed, nobody turned away. */
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { restoreShares, rootsIn } from '../../node/jobs/restore.ts'
import { Slices } from '../../node/jobs/slices.ts'
import { silentLog } from '../../node/log.ts'
import type { ShoalNode } from '../../node/main.ts'
import { diskFileSystem } from '../../node/storage/fs.ts'
import { PinFiles, withPinFiles } from '../../node/storage/pin-files.ts'
import type { Records, ShareRecord } from '../../node/storage/records.ts'
import { openRecords } from '../../node/storage/records.ts'
import { openOrRebuildRecords } from '../../node/storage/records-rebuild.ts'
import { EXIT } from '../../protocol/errors.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { Secret } from '../../protocol/secret.ts'
import { Nodes, patience } from '../kit/nodes.ts'
import { openStoreHome } from '../kit/store-home.ts'
import { hexOf, storedFiles } from '../kit/stored.ts'
import { freshFolder, never } from './storage-fakes.ts'

const ignore = (): void => {}

const record = (cid: string): ShareRecord => ({
  cid,
  role: 'owner',
  readKey: new Secret(new Uint8Array(32).fill(7)),
  scope: { kind: 'random', id: null, secret: new Secret(new Uint8Array(32).fill(9)) },
  label: 'photos',
  files: 3,
  sizeBytes: 2 ** 45,
  wireBytes: 2 ** 46,
  blockCount: 12,
  state: 'complete',
  inPlace: false,
  addedMs: 1_700_000_000_000,
  announcedMs: null,
})

/** What the records hold, with keys in the clear, as text. */
async function contentOf(records: Records): Promise<string[]> {
  const shares = (await records.listShares()).map(({ readKey, scope, announcedMs: _, ...rest }) =>
    JSON.stringify({ ...rest, readKey: readKey && hexOf(readKey.reveal()), scope: scope?.secret && hexOf(scope.secret.reveal()) }),
  )
  const keeping = (await records.listKeeping()).map((row) => JSON.stringify(row))
  return [...shares, ...keeping, JSON.stringify(await records.getSetting('network'))]
}

describe('a damaged file of records', () => {
  it('is never believed, never refused for ever and never deleted, at whatever offset a bit was flipped', async () => {
    const dir = freshFolder()
    const file = join(dir, 'records.db')
    const first = await openRecords({ file, log: silentLog })
    for (let i = 0; i < 8; i++) await first.saveShare(record(`cid-${i}`))
    await first.saveKeeping([{ cid: 'cid-1', isCached: true, keepUntilMs: 5, usedOrder: 6, cachedBytes: 7, isDamaged: false }])
    await first.setSetting('network', 'reef')
    const whole = await contentOf(first)
    await first.close()
    const good = readFileSync(file)
    // With SLOW=1 ten times as many: every byte of the head, and all over the body.
    const step = process.env.SLOW === '1' ? 1 : 10
    const offsets: number[] = []
    for (let at = 0; at < 100; at += Math.ceil(step / 2)) offsets.push(at)
    for (let at = 100; at < good.length; at += 389 * step) offsets.push(at)
    let rebuilt = 0
    for (const at of offsets) {
      rmSync(dir, { recursive: true })
      mkdirSync(dir)
      const bad = Buffer.from(good)
      bad[at]! ^= 1 << (at & 7)
      writeFileSync(file, bad, { mode: 0o600 })
      const { records, setAside } = await openOrRebuildRecords({ file, log: silentLog })
      const now = await contentOf(records)
      await records.close()
      if (setAside === null) expect([at, now]).toEqual([at, whole])
      else {
        rebuilt++
        expect(existsSync(setAside)).toBe(true)
        // What was taken over is what was written, and no more.
        expect(now.filter((row) => row !== 'null' && !whole.includes(row))).toEqual([])
      }
    }
    expect(rebuilt).toBeGreaterThan(10)
  })

  it('gives back every share but the one whose row was changed', async () => {
    const file = join(freshFolder(), 'records.db')
    const first = await openRecords({ file, log: silentLog })
    for (let i = 0; i < 8; i++) await first.saveShare({ ...record(`cid-${i}`), label: `label number ${i}` })
    await first.close()
    const bytes = readFileSync(file)
    bytes[bytes.indexOf('label number 3')]! ^= 1
    writeFileSync(file, bytes)
    const { records, setAside } = await openOrRebuildRecords({ file, log: silentLog })
    onTestFinished(() => records.close())
    expect((await records.listShares()).map(({ cid }) => cid)).toEqual([0, 1, 2, 4, 5, 6, 7].map((i) => `cid-${i}`))
    expect((await records.getShare('cid-0'))?.readKey?.reveal()).toEqual(new Uint8Array(32).fill(7))
    expect(setAside).toBe(`${file}.damaged-1`)
  })

  it('is taken up again where rebuilding was cut off, and held by one node at a time', async () => {
    const file = join(freshFolder(), 'records.db')
    const first = await openRecords({ file, log: silentLog })
    await first.saveShare(record('cid'))
    await first.close()
    copyFileSync(file, `${file}.damaged-1`)
    writeFileSync(file, '')
    const { records, setAside } = await openOrRebuildRecords({ file, log: silentLog })
    onTestFinished(() => records.close())
    expect(setAside).toBe(`${file}.damaged-1`)
    expect((await records.listShares()).map(({ cid }) => cid)).toEqual(['cid'])
    await expect(openOrRebuildRecords({ file, log: silentLog })).rejects.toMatchObject({ code: 'LOCKED' })
  })
})

describe('pins', () => {
  it('follow the records, and go before them', async () => {
    const dir = freshFolder()
    const bare = await openRecords({ file: join(dir, 'records.db'), log: silentLog })
    onTestFinished(() => bare.close())
    const cid = 'b'.repeat(59)
    const records = await withPinFiles(bare, await PinFiles.open(diskFileSystem, dir))
    await records.saveShare(record(cid))
    await records.saveShare(record(cid))
    expect(readdirSync(join(dir, 'pins'))).toEqual([cid])
    expect((await PinFiles.open(diskFileSystem, dir)).cids).toEqual([cid])
    await records.removeShare(cid)
    expect(readdirSync(join(dir, 'pins'))).toEqual([])
    writeFileSync(join(dir, 'pins', 'README'), 'no pin')
    expect((await PinFiles.open(diskFileSystem, dir)).cids).toEqual([])
  })
})

describe('roots', () => {
  it('are found in the store by their form alone, and leaves and inner nodes are not taken for any', async () => {
    const home = await openStoreHome(freshFolder())
    onTestFinished(() => home.close())
    const cids = [await home.share('one', 2), await home.share('two', 3)]
    await home.share('single', 0)
    expect((await rootsIn(home.env.blocks, new Slices(never))).sort()).toEqual(cids.sort())
    const pins = await PinFiles.open(diskFileSystem, home.env.home)
    for (const { cid } of await home.env.records.listShares()) await home.env.records.removeShare(cid)
    const { records, blocks } = home.env
    expect(await restoreShares({ records, blocks, pins, log: silentLog, isRebuilt: true }, never)).toBe(2)
    expect((await records.listShares()).map(({ cid, role, state }) => [cid, role, state])).toEqual(
      cids.sort().map((cid) => [cid, 'blind', 'partial']),
    )
  })
})

describe('a node whose records were lost', () => {
  let nodes: Nodes
  let a: ShoalNode
  let cids: string[]
  let keptLink: string

  beforeAll(async () => {
    nodes = await Nodes.create()
    a = await nodes.node('a')
    for (const [name, pieces] of [
      ['big', 3],
      ['small', 0],
    ] as const) {
      writeFileSync(nodes.path(name), new Uint8Array(pieces * FORMAT.pieceBytes + 5).fill(pieces + 1))
      const shared = await a.api.share({ paths: [nodes.path(name)], scope: 'lineage', name: null }, ignore, patience())
      keptLink = shared.link
    }
    cids = (await a.api.shares(patience())).map(({ cid }) => cid)
    await a.stop()
  })

  afterAll(() => nodes.clear())

  const recordsFile = (): string => join(nodes.homeOf('a'), 'records.db')

  const expectAllHosted = async (node: ShoalNode): Promise<void> => {
    await expect
      .poll(async () => (await node.api.shares(patience())).map(({ cid, state }) => [cid, state]))
      .toEqual(cids.map((cid) => [cid, 'complete']))
  }

  it('hosts everything as before though the file is gone, serves it, and deletes nothing before somebody has looked', async () => {
    const before = (await storedFiles(nodes.homeOf('a'))).size
    for (const ending of ['', '-wal', '-shm']) rmSync(`${recordsFile()}${ending}`, { force: true })
    const node = await nodes.node('a')
    await expectAllHosted(node)
    expect((await node.api.shares(patience())).map(({ role }) => role)).toEqual(['blind', 'blind'])
    const b = await nodes.node('b')
    mkdirSync(nodes.path('out'))
    const request = {
      outputDir: nodes.path('out'),
      path: null,
      force: false,
      consent: false,
      wait: false,
      peers: node.addresses(),
      keep: false,
    }
    await b.api.get({ link: keptLink, ...request }, ignore, patience())
    expect(readFileSync(nodes.path('out', 'small')).equals(readFileSync(nodes.path('small')))).toBe(true)
    const gc = (consent: boolean) => node.api.gc({ dryRun: false, consent }, ignore, patience())
    await expect(gc(false)).rejects.toMatchObject({ code: 'GC_ASKS', exitCode: EXIT.needsConsent })
    expect(await gc(true)).toMatchObject({ blocks: 0 })
    expect(await gc(false)).toMatchObject({ blocks: 0 })
    expect((await storedFiles(nodes.homeOf('a'))).size).toBe(before)
    await Promise.all([node.stop(), b.stop()])
  })

  it('keeps what an old backup of them does not know', async () => {
    const backup = nodes.path('backup.db')
    copyFileSync(recordsFile(), backup)
    const node = await nodes.node('a')
    writeFileSync(nodes.path('later'), 'made after the backup')
    const { cid } = await node.api.share({ paths: [nodes.path('later')], scope: 'lineage', name: null }, ignore, patience())
    await node.stop()
    copyFileSync(backup, recordsFile())
    const again = await nodes.node('a')
    expect((await again.api.shares(patience())).map((share) => share.cid)).toEqual([...cids, cid].sort())
    expect(await again.api.gc({ dryRun: true, consent: false }, ignore, patience())).toMatchObject({ blocks: 0 })
    await again.stop()
  })
})
