/** Room on disk: the free space that is left, and what may be pinned. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { diskRoom, freeBytesKept } from '../../node/free-space.ts'
import { checkFree } from '../../node/jobs/disk-room.ts'
import { unseedJob } from '../../node/jobs/gc.ts'
import { shareJob } from '../../node/jobs/share.ts'
import { EXIT } from '../../protocol/errors.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { openStoreHome, type StoreHome } from '../kit/store-home.ts'

const GIB = 2 ** 30
const never = new AbortController().signal
const ignore = (): void => {}

describe('free space that is left', () => {
  it.each([
    ['64 MiB', 2 ** 26, Math.floor(2 ** 26 / 10)],
    ['8 GiB', 8 * GIB, Math.floor(0.8 * GIB)],
    ['20 GiB', 20 * GIB, GIB],
    ['50 GiB', 50 * GIB, GIB],
    ['1 TiB', 1024 * GIB, Math.floor(20.48 * GIB)],
  ])('on a disk of %s', (_, diskBytes, expected) => {
    expect(freeBytesKept(null, diskBytes)).toBe(expected)
    expect(freeBytesKept(5, diskBytes)).toBe(5)
  })
})

describe('a home', () => {
  let dir: string
  let home: StoreHome
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'shoal-room-'))
    home = await openStoreHome(dir)
  })
  afterEach(async () => {
    await home.close()
    await rm(dir, { recursive: true, force: true })
  })
  const setTo = (settings: object): void => {
    Object.defineProperty(home.env.budgets, 'current', { value: { ...home.env.budgets.current, ...settings }, configurable: true })
  }
  // Equal blocks would be stored once.
  const write = (name: string, pieces: number): Promise<void> => writeFile(join(dir, name), randomBytes(pieces * FORMAT.pieceBytes))
  const share = async (name: string, inPlace = false) => {
    return await shareJob(home.env, { paths: [join(dir, name)], scope: 'lineage', name: null, inPlace }, ignore, never)
  }

  it('refuses what would use up the space that is to be left, and says which setting that is', async () => {
    const { freeBytes, keptBytes } = await diskRoom(dir, null)
    await checkFree(home.env, 1)
    expect(keptBytes).toBeGreaterThan(0)
    setTo({ freeBytesKept: freeBytes * 2 })
    await expect(checkFree(home.env, 1)).rejects.toMatchObject({ code: 'NO_SPACE', message: expect.stringContaining('freeBytesKept') })
    await checkFree(home.env, 0) // what needs nothing is never refused
    await write('a', 1)
    await expect(share('a')).rejects.toMatchObject({ code: 'NO_SPACE' })
  })

  it('takes room from the cache before it refuses, as much as is lacking and no more', async () => {
    const { freeBytes } = await diskRoom(dir, null)
    setTo({ freeBytesKept: freeBytes + 2 ** 33 })
    const asked: number[] = []
    const cache = {
      ...home.env.cache,
      makeRoom: async (bytes: number): Promise<void> => {
        asked.push(bytes)
        setTo({ freeBytesKept: 0 })
      },
    }
    await checkFree({ home: home.env.home, budgets: home.env.budgets, cache }, 5)
    expect(asked).toHaveLength(1)
    expect(Math.abs(asked[0]! - 2 ** 33)).toBeLessThan(2 ** 32) // others write to the same disk
    await checkFree({ home: home.env.home, budgets: home.env.budgets, cache }, 5)
    expect(asked).toHaveLength(1)
  })

  it('refuses a share that does not fit into what may be pinned, and what was pinned may be shared again', async () => {
    setTo({ pinnedBytes: 5 * FORMAT.blockBytes })
    await write('first', 3)
    await write('second', 3)
    const first = await share('first')
    await expect(share('second')).rejects.toMatchObject({
      code: 'OVER_BUDGET',
      exitCode: EXIT.noSpace,
      message: expect.stringMatching(/--pinned SIZE.*unseed/),
    })
    expect((await share('first')).cid).toBe(first.cid)
    await unseedJob(home.env, first.cid, never)
    await share('second')
  })

  it('a share in place takes next to nothing', async () => {
    setTo({ pinnedBytes: 2 * FORMAT.blockBytes })
    await write('big', 5)
    await share('big', true)
  })

  it('a share that grows is refused as soon as it does not fit', async () => {
    setTo({ pinnedBytes: 3 * FORMAT.blockBytes })
    await write('grown', 2)
    await share('grown')
    await write('grown', 8)
    await expect(share('grown')).rejects.toMatchObject({ code: 'OVER_BUDGET' })
  })
})
