import { afterEach, describe, expect, it, vi } from 'vitest'
import { JobError, type SeedResult } from '../../node/control/api.ts'
import type { JobEnvironment } from '../../node/jobs/environment.ts'
import { ResumedSeeds } from '../../node/jobs/resume.ts'
import { silentLog } from '../../node/log.ts'
import { FileError } from '../../node/storage/file-error.ts'
import { formatCid, RAW } from '../../protocol/cid.ts'
import { formatLink } from '../../protocol/link.ts'
import { nodePrimitives } from '../primitives-node.ts'
import { never } from './storage-fakes.ts'

const seeded = vi.hoisted(() => vi.fn<() => Promise<SeedResult>>())
vi.mock('../../node/jobs/seed.ts', () => ({ seedJob: seeded }))

const cid = formatCid(RAW, new Uint8Array(32).fill(7))
const link = await formatLink(nodePrimitives, { cid, readKey: null, peers: [], vias: [] })
const request = { link, wait: false, peers: [] }

/** As far as it is used here: a share that is known and unfinished. */
const env = (isOneShot: boolean, state: 'partial' | 'complete' = 'partial'): JobEnvironment =>
  ({ isOneShot, log: silentLog, records: { getShare: async () => ({ state }) } }) as unknown as JobEnvironment

const full = new FileError('NO_SPACE', 'disk full')
const done = { cid: cid.text } as SeedResult

describe('a seed that the disk stops', () => {
  afterEach(() => void seeded.mockReset())

  it('tells its user, and goes on by itself until the disk has room', async () => {
    const resumed = new ResumedSeeds(env(false), 1)
    const complete = Promise.withResolvers<void>()
    seeded.mockRejectedValueOnce(full).mockRejectedValueOnce(full).mockRejectedValueOnce(new FileError('IO', 'EIO'))
    seeded.mockImplementationOnce(async () => {
      complete.resolve()
      return done
    })
    await expect(resumed.seed(request, () => {}, never)).rejects.toMatchObject({ code: 'NO_SPACE' })
    expect(resumed.count).toBe(1)
    await complete.promise
    await expect.poll(() => resumed.count).toBe(0)
    expect(seeded).toHaveBeenCalledTimes(4)
  })

  it('is let go with its share, and when the node stops', async () => {
    const resumed = new ResumedSeeds(env(false), 1_000_000)
    seeded.mockRejectedValue(full)
    await expect(resumed.seed(request, () => {}, never)).rejects.toThrow()
    await resumed.release(cid.text)
    expect(resumed.count).toBe(0)
    await expect(resumed.seed(request, () => {}, never)).rejects.toThrow()
    await resumed.stop()
    expect(resumed.count).toBe(0)
    expect(seeded).toHaveBeenCalledTimes(2)
  })

  it('is not taken up where something else was wrong, nor by a node that ends with its command', async () => {
    const resumed = new ResumedSeeds(env(false), 1)
    seeded.mockRejectedValueOnce(new JobError('NO_SEEDER', 'nobody is online'))
    await expect(resumed.seed(request, () => {}, never)).rejects.toThrow()
    expect(resumed.count).toBe(0)
    const oneShot = new ResumedSeeds(env(true), 1)
    seeded.mockRejectedValueOnce(full)
    await expect(oneShot.seed(request, () => {}, never)).rejects.toThrow()
    expect(oneShot.count).toBe(0)
  })
})
