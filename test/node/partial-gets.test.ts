/** Gets of a part of a share: what is kept of it is sound, and nobody misses what was never asked for. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { getJob } from '../../node/jobs/get.ts'
import { Scrub } from '../../node/jobs/scrub.ts'
import { shareJob } from '../../node/jobs/share.ts'
import { verifyJob } from '../../node/jobs/verify.ts'
import { parseCid } from '../../protocol/cid.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { ignore } from '../kit/nodes.ts'
import { openStoreHome, type StoreHome } from '../kit/store-home.ts'
import { freshFolder, never } from './storage-fakes.ts'

const PIECES = 3

let dir: string
let home: StoreHome
let link: string
let cid: string

// Of the two files of the share one is here; the other is nowhere.
beforeEach(async () => {
  dir = freshFolder()
  home = await openStoreHome(dir)
  mkdirSync(join(dir, 'both'))
  for (const name of ['one', 'two']) writeFileSync(join(dir, 'both', name), randomBytes(PIECES * FORMAT.pieceBytes))
  const request = { paths: [join(dir, 'both')], scope: 'lineage' as const, name: null }
  ;({ link, cid } = await shareJob(home.env, request, ignore, never))
  const { live, release } = await home.env.host.hold(parseCid(cid), never)
  const two = Array.from({ length: PIECES }, (_, i) => live.digestOf(0, PIECES + i)!)
  release()
  await home.env.records.removeShare(cid)
  await home.env.host.removed(cid)
  await home.env.blocks.deleteAll(two, () => false, never)
}, 60_000)
afterEach(() => home.close())

async function getOne(keepSealed: boolean): Promise<void> {
  mkdirSync(join(dir, 'out'))
  const request = { link, outputDir: join(dir, 'out'), path: 'both/one', force: false, consent: false, wait: true, peers: [], keep: true }
  await getJob(home.env, { ...request, keepSealed }, ignore, never)
}

const verify = () => verifyJob(home.env, { cids: [], repair: false, wait: false, peers: [] }, ignore, never)

it('in place are sound for what they hold', async () => {
  await getOne(false)
  expect(await verify()).toMatchObject({ isSound: true, shares: [{ state: 'complete', changedBlocks: 0, missingBlocks: 0 }] })
}, 60_000)

it('in place are not sound any more when a file of theirs changes', async () => {
  await getOne(false)
  writeFileSync(join(dir, 'out', 'one'), 'something else')
  expect(await verify()).toMatchObject({ isSound: false, shares: [{ changedBlocks: PIECES }] })
}, 60_000)

it('with a sealed copy are partial, and nothing of them counts as lost', async () => {
  await getOne(true)
  expect(await verify()).toMatchObject({ isSound: true, shares: [{ state: 'partial', missingBlocks: PIECES }] })
  expect(await new Scrub(home.env, () => false, never).reconcile()).toBe(0)
  expect(home.env.keeping.of(cid).isDamaged).toBe(false)
}, 60_000)
