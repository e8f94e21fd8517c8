/** What a node does for its store by itself goes on after the disk or the records failed once. */
import { afterEach, expect, it, vi } from 'vitest'
import type { JobEnvironment } from '../../node/jobs/environment.ts'
import { Upkeep } from '../../node/jobs/upkeep.ts'
import { silentLog } from '../../node/log.ts'
import { FileError } from '../../node/storage/file-error.ts'
import { KEEPING } from '../../protocol/limits.ts'

const WAIT_MS = 7

interface Wait {
  waitMs: number
  pass(): void
}

const { waits, scrub } = vi.hoisted(() => ({
  waits: [] as Wait[],
  scrub: { load: vi.fn(), reconcile: vi.fn(), step: vi.fn(), save: vi.fn() },
}))

vi.mock('node:timers/promises', async (original) => ({
  ...(await original<object>()),
  setTimeout: (waitMs: number, _value: undefined, { signal }: { signal: AbortSignal }) =>
    new Promise<void>((pass, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason))
      waits.push({ waitMs, pass })
    }),
}))
vi.mock('../../node/jobs/scrub.ts', () => ({
  Scrub: class {
    waitMs = WAIT_MS
    load = scrub.load
    reconcile = scrub.reconcile
    step = scrub.step
    save = scrub.save
  },
}))

/** Ends all waits of this length, once there is one. */
async function pass(waitMs: number): Promise<void> {
  await expect.poll(() => waits.some((wait) => wait.waitMs === waitMs)).toBe(true)
  const due = waits.filter((wait) => wait.waitMs === waitMs)
  for (const wait of due) {
    waits.splice(waits.indexOf(wait), 1)
    wait.pass()
  }
}

const full = new FileError('NO_SPACE', 'disk full')
const cache = { reconcile: vi.fn(async () => {}), settle: vi.fn(async () => {}) }

function start(): Upkeep {
  // As far as it is used here.
  const env = { isOneShot: false, log: silentLog, keeping: { all: () => [] }, cache } as unknown as JobEnvironment
  const upkeep = new Upkeep(env, { isOneShot: false, isBusy: () => false, letGo: async () => {} })
  upkeep.start()
  return upkeep
}

afterEach(() => {
  waits.length = 0
  vi.resetAllMocks()
})

it('goes on checking what is stored after it could not begin, and after a step failed', async () => {
  scrub.load.mockRejectedValueOnce(full)
  scrub.step.mockRejectedValueOnce(full)
  const upkeep = start()
  await pass(KEEPING.scrubWaitMaxMs)
  await pass(WAIT_MS)
  expect(scrub.reconcile).toHaveBeenCalledTimes(1)
  await pass(KEEPING.scrubWaitMaxMs)
  await pass(WAIT_MS)
  await expect.poll(() => scrub.step.mock.calls.length).toBe(3)
  expect(scrub.load).toHaveBeenCalledTimes(2)
  await upkeep.stop()
})

it('looks after the size of the cache though it could not be looked through, and does that later', async () => {
  cache.reconcile.mockRejectedValueOnce(full)
  const upkeep = start()
  await pass(KEEPING.expiryLookMs)
  await expect.poll(() => cache.settle.mock.calls.length).toBe(1)
  await expect.poll(() => cache.reconcile.mock.calls.length).toBe(2)
  await pass(KEEPING.expiryLookMs)
  await expect.poll(() => cache.settle.mock.calls.length).toBe(2)
  expect(cache.reconcile).toHaveBeenCalledTimes(2)
  await upkeep.stop()
})
