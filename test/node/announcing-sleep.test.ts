/** The driver of announcements around its clocks, with a stand-in for the network. No sockets, fake timers. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Announcing, type AnnouncingParts } from '../../node/jobs/announcing.ts'
import type { Holding } from '../../node/jobs/holding.ts'
import { silentLog } from '../../node/log.ts'
import type { Stack } from '../../node/network/stack.ts'
import { ANNOUNCE } from '../../protocol/limits.ts'

const HOUR = 3_600_000

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'], now: 1_800_000_000_000 }))
afterEach(() => void vi.useRealTimers())

test('a share that came due while the computer slept is announced within minutes of its waking', async () => {
  let asleepMs = 0
  let provides = 0
  const beganMs = Date.now()
  const provideAll: Stack['provideAll'] = async () => {
    provides++
    return { told: 1, covered: [] }
  }
  const record = { state: 'complete', announcedMs: beganMs - 2 * HOUR, blockCount: 1 }
  const holding = { cid: { text: 'a' }, record, rendezvous: new Uint8Array(32) } as unknown as Holding // as much as is read
  const announcing = new Announcing({
    stack: { peerIdBytes: new Uint8Array(38), provideAll } as Partial<Stack> as Stack,
    records: { setAnnounced: async () => {} } as Partial<AnnouncingParts['records']> as AnnouncingParts['records'],
    log: silentLog,
    keys: 'share',
    now: () => Date.now() - beganMs - asleepMs,
    holding: () => holding,
    liveOf: () => Promise.reject(new Error('nobody needs it')),
    onFound: () => {},
    onIdle: () => {},
    track: () => {},
    signal: new AbortController().signal,
  })
  announcing.add(holding)
  await vi.advanceTimersByTimeAsync(2 * ANNOUNCE.clocksMs)
  expect(provides).toBe(0)
  vi.setSystemTime(Date.now() + 21 * HOUR)
  asleepMs += 21 * HOUR
  await vi.advanceTimersByTimeAsync(ANNOUNCE.clocksMs)
  expect(provides).toBe(1)
  await vi.advanceTimersByTimeAsync(2 * ANNOUNCE.clocksMs)
  expect(provides).toBe(1)
  announcing.stop()
})
