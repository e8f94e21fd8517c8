/** One-shot gets: what they leave is nothing, and of what was kept before they take nothing away. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import type { GetRequest, GetResult, JobEvent, ShareResult } from '../../node/control/api.ts'
import { CryptoPool } from '../../node/crypto/pool.ts'
import { getJob } from '../../node/jobs/get.ts'
import { blindRecord } from '../../node/jobs/restore.ts'
import { shareJob } from '../../node/jobs/share.ts'
import { Extraction } from '../../node/storage/extract.ts'
import { diskFileSystem } from '../../node/storage/fs.ts'
import type { ShareRecord } from '../../node/storage/records.ts'
import { ignore } from '../kit/nodes.ts'
import { openStoreHome, type StoreHome } from '../kit/store-home.ts'
import { freshFolder, never } from './storage-fakes.ts'

const MIB = 1_048_576

let pool: CryptoPool
let dir: string
let home: StoreHome
let shared: ShareResult

beforeAll(() => {
  pool = new CryptoPool(1)
})
afterAll(() => pool.close())

// All blocks lie in the store, so nobody is asked for them.
beforeEach(async () => {
  dir = freshFolder()
  home = await openStoreHome(dir, diskFileSystem, pool)
  writeFileSync(join(dir, 'file.bin'), randomBytes(5 * MIB))
  shared = await publish()
}, 60_000)
afterEach(() => home.close())

const publish = (): Promise<ShareResult> =>
  shareJob(home.env, { paths: [join(dir, 'file.bin')], scope: 'lineage', name: null }, ignore, never)

/** A get in a node without a daemon, by default not told to keep anything. */
async function passingGet(
  out: string,
  request: Partial<GetRequest> = {},
  onEvent: (event: JobEvent) => void = ignore,
  signal = never,
): Promise<GetResult> {
  const outputDir = join(dir, out)
  mkdirSync(outputDir, { recursive: true })
  const whole = { link: shared.link, outputDir, path: null, force: false, consent: false, wait: false, keep: false, peers: [], ...request }
  return await getJob({ ...home.env, isOneShot: true }, whole, onEvent, signal)
}

/** Such a get that ends with its first piece. */
async function cutOffGet(out: string): Promise<void> {
  const stop = new AbortController()
  await expect(passingGet(out, {}, () => stop.abort(new Error('enough')), stop.signal)).rejects.toThrow('enough')
}

const recordOf = (): Promise<ShareRecord | null> => home.env.records.getShare(shared.cid)
const isPinned = (): boolean => home.env.keeping.isPinned(shared.cid)

async function save(record: ShareRecord): Promise<void> {
  await home.env.records.saveShare(record)
  await home.env.host.added(record)
}

/** As blocks that were lost, or the import of a home, leave a record. */
const makePartial = async (): Promise<void> => save({ ...(await recordOf())!, state: 'partial' })

async function forgetShare(): Promise<void> {
  await home.env.records.removeShare(shared.cid)
  await home.env.host.removed(shared.cid)
}

describe('a get in passing', () => {
  it('leaves nothing, also where it goes on with one that was cut off', async () => {
    await forgetShare()
    await cutOffGet('out')
    expect(await recordOf()).toMatchObject({ role: 'reader', state: 'partial' })
    await passingGet('out')
    expect([await recordOf(), home.env.blocks.count]).toEqual([null, 0])
    expect(readdirSync(join(dir, 'out'))).toEqual(['file.bin'])
  })

  for (const keepSealed of [false, true]) {
    it(`lets a share be that was got and kept before and has lost blocks since (sealed: ${keepSealed})`, async () => {
      await forgetShare()
      await passingGet('kept', { keep: true, keepSealed })
      await makePartial()
      await passingGet('out')
      expect(await recordOf()).toMatchObject({ role: 'reader', state: 'complete', readKey: expect.anything() })
      expect(isPinned()).toBe(true)
    })
  }

  it('lets a share of our own be', async () => {
    const { scope } = (await recordOf())!
    await makePartial()
    await passingGet('out')
    expect(await recordOf()).toMatchObject({ role: 'owner', scope, readKey: expect.anything() })
    expect(isPinned()).toBe(true)
  })

  it('lets a seed that was cut off go on later', async () => {
    await save(blindRecord(shared.cid))
    await cutOffGet('out')
    expect(home.env.keeping.of(shared.cid)).toMatchObject({ isCached: false, isDamaged: true })
    await passingGet('out')
    expect([(await recordOf())?.state, isPinned()]).toEqual(['complete', true])
  })

  it('leaves the folder of another one alone that works on the same share, and its place known', async () => {
    await forgetShare()
    const { promise: over, resolve: goOn } = Promise.withResolvers<void>()
    let mine: string[] = []
    const slow = vi.spyOn(Extraction.prototype, 'finish').mockImplementationOnce(async function (this: Extraction, signal) {
      await over
      mine = (await home.env.sources.writing(shared.cid)).flatMap(({ folders }) => folders)
      return await this.finish(signal)
    })
    const first = passingGet('first')
    await vi.waitFor(() => expect(slow).toHaveBeenCalledOnce(), { timeout: 20_000 })
    await passingGet('second')
    goOn()
    await first
    expect(mine).toEqual([expect.stringContaining(join('first', '.shoal-'))])
    expect([readdirSync(join(dir, 'first')), readdirSync(join(dir, 'second'))]).toEqual([['file.bin'], ['file.bin']])
    expect(await recordOf()).toBeNull()
    expect(await home.env.sources.writing(shared.cid)).toEqual([])
  })

  for (const keepSealed of [false, true]) {
    it(`takes nothing from a share that became our own meanwhile (sealed: ${keepSealed})`, async () => {
      const own = (await recordOf())!
      await forgetShare()
      const saved: Promise<void>[] = []
      await passingGet('out', { keepSealed }, () => void (saved.length === 0 && saved.push(save(own))))
      await Promise.all(saved)
      expect(await recordOf()).toMatchObject({ role: 'owner', state: 'complete', readKey: expect.anything(), scope: own.scope })
      expect(isPinned()).toBe(true)
    })
  }
})
