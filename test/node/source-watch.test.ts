/** The round over the files of all shares in place: what their owner is told, and what is served again by itself. */
import { appendFile, rename, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { shareJob } from '../../node/jobs/share.ts'
import { SourceWatch } from '../../node/jobs/source-watch.ts'
import { verifyJob } from '../../node/jobs/verify.ts'
import { silentLog } from '../../node/log.ts'
import { parseCid } from '../../protocol/cid.ts'
import { FORMAT, SOURCES } from '../../protocol/limits.ts'
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
  })
  it('looks through a file that is being written to once in a while, not all the time', async () => {
    const { holding, release } = await home.env.host.hold(parseCid((await home.env.records.listShares())[0]!.cid), never)
    const { source } = holding.leaves!
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const recheck = vi.spyOn(source, 'recheck').mockImplementation(async () => {
      await source.lookAt(0, 0) // it is not what it was, once more
      return false
    })
    try {
      await utimes(path, 5, 5)
      await source.lookAt(0, 0)
      for (let round = 1; round <= 3; round++) {
        await vi.advanceTimersByTimeAsync(SOURCES.recheckAfterMs - 1)
        expect(recheck).toHaveBeenCalledTimes(round - 1)
        await vi.advanceTimersByTimeAsync(1)
        while (vi.getTimerCount() === 0) await nextTurn() // the next round is planned when this one is over
        expect(recheck).toHaveBeenCalledTimes(round)
      }
    } finally {
      vi.useRealTimers()
      release()
    }
  })
})
