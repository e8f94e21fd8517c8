/** The round over the files of all shares in place: what their owner is told, and what is served again by itself. */
import { appendFile, rename, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { shareJob } from '../../node/jobs/share.ts'
import { SourceWatch } from '../../node/jobs/source-watch.ts'
import { verifyJob } from '../../node/jobs/verify.ts'
import { silentLog } from '../../node/log.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { patience } from '../kit/nodes.ts'
import { openStoreHome, type StoreHome } from '../kit/store-home.ts'
import { freshFolder, never } from './storage-fakes.ts'

let dir: string
let home: StoreHome
let watch: SourceWatch
let path: string

const bytes = Buffer.alloc(2 * FORMAT.pieceBytes + 50_000, 'some bytes')

beforeEach(async () => {
  dir = freshFolder()
  home = await openStoreHome(dir)
  const { records, sources, host } = home.env
  watch = new SourceWatch({ records, sources, host, log: silentLog })
  path = join(dir, 'film.bin')
  await writeFile(path, bytes)
  await shareJob(home.env, { paths: [path], scope: 'lineage', name: null, inPlace: true }, () => {}, never)
})

afterEach(async () => {
  await watch.stop()
  await home.close()
})

const faults = async () => {
  await watch.sweep()
  return home.env.sources.faults().first.map(({ path: at, fault }) => [at, fault])
}

describe('a round over shares in place', () => {
  it('finds nothing where nothing changed', async () => {
    expect(await faults()).toEqual([])
  })

  it('names a file that changed, and takes it back when the bytes are right again', async () => {
    await appendFile(path, 'x')
    expect(await faults()).toEqual([[path, 'changed']])
    await writeFile(path, bytes)
    expect(await faults()).toEqual([])
  })

  it('looks through a file of which the times alone changed, once', async () => {
    await utimes(path, 5, 5)
    expect(await faults()).toEqual([])
    const [tree] = await home.env.sources.written((await home.env.records.listShares())[0]!.cid)
    expect(tree!.stateOf(0)!.modifiedNs).toBe(5_000_000_000n)
  })

  it('names a file that has other bytes of the same length', async () => {
    await writeFile(path, Buffer.from(bytes).fill(1, 70_000, 70_001))
    expect(await faults()).toEqual([[path, 'changed']])
    expect(await faults()).toEqual([[path, 'changed']])
  })

  it('names a file that is gone, and takes it back', async () => {
    await rename(path, `${path}.away`)
    expect(await faults()).toEqual([[path, 'missing']])
    await rename(`${path}.away`, path)
    expect(await faults()).toEqual([])
    await rm(path)
    expect(await faults()).toEqual([[path, 'missing']])
  })
  it('ends a repair that waits for peers when the file is back', async () => {
    await rename(path, `${path}.away`)
    await faults()
    const isWaiting = Promise.withResolvers<void>()
    const repaired = verifyJob(
      home.env,
      { cids: [], repair: true, wait: true, peers: [] },
      (event) => void (event.type === 'progress' && event.phase === 'find' && isWaiting.resolve()),
      patience(),
    )
    repaired.catch(() => {}) // awaited below
    await isWaiting.promise
    await rename(`${path}.away`, path)
    await faults()
    expect(await repaired).toMatchObject({ isSound: true, shares: [{ repairedBlocks: 0, isSound: true }] })
  })})
