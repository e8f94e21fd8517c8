/** Letting go of blocks: never one that a kept share, an open one or a job needs, wherever a deletion is cut off. */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it, onTestFinished } from 'vitest'
import { CryptoPool } from '../../node/crypto/pool.ts'
import { finishDeletion, gcJob, unseedJob } from '../../node/jobs/gc.ts'
import { Slices } from '../../node/jobs/slices.ts'
import { isWhole, walkTree } from '../../node/jobs/tree-walk.ts'
import { DigestSet, digestsIn } from '../../node/storage/digest-set.ts'
import { diskFileSystem, type FileSystem } from '../../node/storage/fs.ts'
import { parseCid } from '../../protocol/cid.ts'
import { EXIT } from '../../protocol/errors.ts'
import { openStoreHome, type StoreHome } from '../kit/store-home.ts'
import { hexOf, storedFiles } from '../kit/stored.ts'
import { freshFolder, hookedFileSystem, never, sha256, systemError } from './storage-fakes.ts'

const ignore = (): void => {}
const gc = (home: StoreHome, dryRun = false) => gcJob(home.env, { dryRun, consent: false }, ignore, never)

const pool = new CryptoPool()
afterAll(() => pool.close())

async function open(dir: string, fs: FileSystem = diskFileSystem): Promise<StoreHome> {
  const home = await openStoreHome(dir, fs, pool)
  onTestFinished(() => home.close().catch(ignore))
  return home
}

async function putOrphan(home: StoreHome, text: string): Promise<Uint8Array> {
  const bytes = new TextEncoder().encode(text)
  await home.env.blocks.put(sha256(bytes), bytes, never)
  return sha256(bytes)
}

/** Every block that a share names, in hex. */
async function namesOf(home: StoreHome, cid: string): Promise<string[]> {
  const names: string[] = []
  await walkTree(home.env.blocks, parseCid(cid), ({ digest }) => void names.push(hexOf(digest)), new Slices(never))
  return names
}

const pathOf = (home: StoreHome, hex: string): string => join(home.env.home, 'blocks', hex.slice(0, 2), hex)
const cids = async (home: StoreHome): Promise<string[]> => (await home.env.records.listShares()).map(({ cid }) => cid)
const isSound = async (home: StoreHome, cid: string): Promise<boolean> => {
  const missing: string[] = []
  const visit = ({ digest }: { digest: Uint8Array }): void => {
    if (!home.env.blocks.has(digest)) missing.push(hexOf(digest))
  }
  return isWhole(await walkTree(home.env.blocks, parseCid(cid), visit, new Slices(never))) && missing.length === 0
}

describe('gc', () => {
  it('deletes what nobody needs and nothing else, and with dryRun nothing at all', async () => {
    const home = await open(freshFolder())
    const kept = await home.share('kept', 2)
    const single = await home.share('single', 0)
    const orphans = [await putOrphan(home, 'left by something'), await putOrphan(home, 'and another')]
    const pinned = await putOrphan(home, 'a job is about to name this')
    const pins = home.env.pins.open()
    pins.add(pinned)
    const bytes = 'left by something'.length + 'and another'.length
    expect(await gc(home, true)).toEqual({ blocks: 2, bytes, storedBlocks: home.env.blocks.count, isDryRun: true })
    expect(orphans.every((digest) => home.env.blocks.has(digest))).toBe(true)
    expect(await gc(home)).toMatchObject({ blocks: 2, bytes, isDryRun: false })
    expect(orphans.some((digest) => home.env.blocks.has(digest))).toBe(false)
    expect(home.env.blocks.has(pinned)).toBe(true)
    expect(await isSound(home, kept)).toBe(true)
    expect(await isSound(home, single)).toBe(true)
    expect(existsSync(join(home.env.home, 'delete-log'))).toBe(false)
    pins.release()
    expect(await gc(home)).toMatchObject({ blocks: 1 })
    expect(home.env.blocks.count).toBe((await namesOf(home, kept)).length + 1)
  })

  it('deletes nothing while the root or a node of a kept share cannot be read, and says which share it is', async () => {
    const home = await open(freshFolder())
    const kept = await home.share('kept', 2)
    const orphan = await putOrphan(home, 'nobody names this')
    const before = (await storedFiles(home.env.home)).size
    rmSync(pathOf(home, hexOf(parseCid(kept).digest)))
    const failure = await gc(home).catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'UNREADABLE', exitCode: EXIT.damagedShare })
    expect(String(failure)).toContain(kept)
    expect((await storedFiles(home.env.home)).size).toBe(before - 1)
    expect(home.env.blocks.has(orphan)).toBe(true)
  })

  it('spares what somebody was told is here while it looks, and what an open share names', async () => {
    const dir = freshFolder()
    let isLooking = false
    let whileLooking: () => void = ignore
    const home = await open(
      dir,
      hookedFileSystem((operation) => {
        if (!isLooking || operation !== 'open:read') return
        isLooking = false
        whileLooking()
      }),
    )
    await home.share('kept', 2)
    const orphan = await putOrphan(home, 'a job finds this stored')
    const lost = await home.share('open', 1)
    await home.env.records.removeShare(lost)
    const { release } = await home.env.host.hold(parseCid(lost), never)
    whileLooking = () => expect(home.env.blocks.has(orphan)).toBe(true)
    isLooking = true
    expect(await gc(home)).toMatchObject({ blocks: 0 })
    release()
    await home.env.host.removed(lost)
    expect(await gc(home)).toMatchObject({ blocks: 4 })
  })

  it('forgets where it was told to stop, and goes on the next time', async () => {
    const home = await open(freshFolder())
    const kept = await home.share('kept', 1)
    for (let i = 0; i < 20; i++) await putOrphan(home, `orphan ${i}`)
    const stop = new AbortController()
    const onEvent = (event: { type: string; phase?: string; doneBytes?: number }): void => {
      if (event.phase === 'sweep' && (event.doneBytes ?? 0) > 0) stop.abort(new Error('enough'))
    }
    await expect(gcJob(home.env, { dryRun: false, consent: false }, onEvent, stop.signal)).rejects.toThrow('enough')
    const left = home.env.blocks.count
    expect(left).toBeLessThan(23)
    await gc(home)
    expect(home.env.blocks.count).toBe((await namesOf(home, kept)).length)
  })
})

describe('unseed', () => {
  it('lets go of one share though another cannot be read, whose blocks may be the same: they stay until that one is gone', async () => {
    const home = await open(freshFolder())
    const [one, other] = [await home.share('one', 2), await home.share('other', 1)]
    const names = await namesOf(home, one)
    rmSync(pathOf(home, hexOf(parseCid(other).digest)))
    expect(await unseedJob(home.env, one, never)).toMatchObject({ removed: true, freedBytes: 0, heldBackBy: other })
    expect(await cids(home)).toEqual([other])
    expect(home.env.host.holding(one)).toBeUndefined()
    expect(names.every((name) => existsSync(pathOf(home, name)))).toBe(true)
    expect(await unseedJob(home.env, other, never)).toMatchObject({ heldBackBy: null })
    await gc(home)
    expect((await storedFiles(home.env.home)).size).toBe(0)
  })

  it('is whole or not at all wherever it is cut off, is finished at the next start, and other shares lose nothing', async () => {
    const counting = freshFolder()
    let steps = 0
    const counted = await openStoreHome(
      counting,
      hookedFileSystem(() => void steps++),
      pool,
    )
    const once = await counted.share('gone', 1)
    steps = 0
    await unseedJob(counted.env, once, never)
    const stepsInAll = steps
    await counted.close()
    expect(stepsInAll).toBeGreaterThan(10)
    for (let cutAt = 1; cutAt <= stepsInAll; cutAt++) {
      const dir = freshFolder()
      let left = Number.POSITIVE_INFINITY
      const dying = await openStoreHome(
        dir,
        hookedFileSystem(() => {
          if (left-- <= 0) throw systemError('EIO')
        }),
        pool,
      )
      const [gone, kept] = [await dying.share('gone', 1), await dying.share('kept', 1)]
      const names = await namesOf(dying, gone)
      left = cutAt - 1
      await unseedJob(dying.env, gone, never).catch(ignore)
      await dying.close().catch(ignore) // from the first failure on the disk took nothing more, as after a power cut
      const home = await openStoreHome(dir, diskFileSystem, pool)
      await finishDeletion(home.env, never)
      const isKept = (await cids(home)).includes(gone)
      if (isKept) expect(await isSound(home, gone)).toBe(true)
      else if (!existsSync(join(home.env.home, 'delete-log'))) await gc(home)
      expect(names.some((name) => existsSync(pathOf(home, name)))).toBe(isKept)
      expect(await isSound(home, kept)).toBe(true)
      expect(readdirSync(join(home.env.home, 'tmp')).filter((name) => name !== 'unclean')).toEqual([]) // the mark of a home in use
      expect(existsSync(join(home.env.home, 'delete-log'))).toBe(false)
      await home.close()
    }
  })
})

describe('a disk without any room', () => {
  it('is made room on: a list that cannot be written down holds up no deletion', async () => {
    let isFull = false
    const fs = hookedFileSystem((operation) => {
      if (isFull && /^(write|open:create|mkdir|link)$/.test(operation)) throw systemError('ENOSPC')
    })
    const home = await open(freshFolder(), fs)
    const [gone, kept] = [await home.share('gone', 1), await home.share('kept', 1)]
    const names = await namesOf(home, gone)
    isFull = true
    expect((await unseedJob(home.env, gone, never)).freedBytes).toBeGreaterThan(0)
    expect(names.filter((name) => existsSync(pathOf(home, name)))).toEqual([])
    expect([await cids(home), await isSound(home, kept)]).toEqual([[kept], true])
    expect(readdirSync(home.env.home)).not.toContain('delete-log')
  })

  it('that fails in another way stops the deletion before anything is gone', async () => {
    let isFailing = false
    const fs = hookedFileSystem((operation) => {
      if (isFailing && operation === 'datasync') throw systemError('EIO')
    })
    const home = await open(freshFolder(), fs)
    const kept = await home.share('kept', 1)
    isFailing = true
    await expect(unseedJob(home.env, kept, never)).rejects.toMatchObject({ code: 'IO' })
    expect([await cids(home), await isSound(home, kept)]).toEqual([[kept], true])
  })
})

describe('a deletion that was cut off', () => {
  it('takes nothing that is needed again by the time it is finished', async () => {
    const home = await open(freshFolder())
    const back = await home.share('back', 2)
    const orphan = await putOrphan(home, 'still of no use')
    const names = new Uint8Array(Buffer.from([...(await namesOf(home, back)), hexOf(orphan)].join(''), 'hex'))
    await home.env.deleteLog.write(names)
    await finishDeletion(home.env, never)
    expect(await isSound(home, back)).toBe(true)
    expect(home.env.blocks.has(orphan)).toBe(false)
    expect(await home.env.deleteLog.read()).toBeNull()
  })

  it('waits while a kept share cannot be read', async () => {
    const home = await open(freshFolder())
    const kept = await home.share('kept', 1)
    const orphan = await putOrphan(home, 'of no use')
    await home.env.deleteLog.write(orphan)
    rmSync(pathOf(home, hexOf(parseCid(kept).digest)))
    await finishDeletion(home.env, never)
    expect(home.env.blocks.has(orphan)).toBe(true)
    expect(await home.env.deleteLog.read()).toEqual(orphan)
  })

  it('is not believed when its list is damaged, at any byte', async () => {
    const home = await open(freshFolder())
    const orphan = await putOrphan(home, 'of no use')
    await home.env.deleteLog.write(orphan)
    const path = join(home.env.home, 'delete-log')
    const good = readFileSync(path)
    for (let at = 0; at < good.length; at++) {
      const bad = Buffer.from(good)
      bad[at]! ^= 1
      writeFileSync(path, bad)
      expect(await home.env.deleteLog.read()).toBeNull()
      writeFileSync(path, good.subarray(0, at))
      expect(await home.env.deleteLog.read()).toBeNull()
    }
  })
})

describe('digests by their first byte', () => {
  it('are all of them, in order', () => {
    const set = new DigestSet()
    const all = Array.from({ length: 3_000 }, (_, i) => sha256(Uint8Array.of(i, i >> 8)))
    for (const digest of [...all, new Uint8Array(32)]) set.add(digest)
    const found = Array.from({ length: 256 }, (_, first) => [...digestsIn(set.withFirstByte(first))].map(hexOf)).flat()
    expect(found).toEqual([...all, new Uint8Array(32)].map(hexOf).sort())
  })
})
