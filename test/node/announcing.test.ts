/** The driver of the announce machine where the disk or the network fails it. */
import { expect, it } from 'vitest'
import { Announcing } from '../../node/jobs/announcing.ts'
import { type Holding, newHolding } from '../../node/jobs/holding.ts'
import { blindRecord } from '../../node/jobs/restore.ts'
import { silentLog } from '../../node/log.ts'
import type { Stack } from '../../node/network/stack.ts'
import { FileError } from '../../node/storage/file-error.ts'
import type { Records } from '../../node/storage/records.ts'
import { formatCid, RAW } from '../../protocol/cid.ts'
import { ANNOUNCE } from '../../protocol/limits.ts'

const SHARES = 2 * ANNOUNCE.sharesAtOnceMax + 1

it.each([true, false])(
  'announces all shares though none can be noted, also where they are let go of meanwhile (kept: %s)',
  async (isKept) => {
    const holdings = new Map<string, Holding>()
    const announced = new Set<number>()
    // As far as they are used here.
    const stack = {
      peerIdBytes: new Uint8Array(32),
      provideAll: async ([key]: Uint8Array[]) => {
        announced.add(key![0]!)
        if (!isKept) for (const [cid, { cid: other, rendezvous }] of holdings) holdings.set(cid, newHolding(other, rendezvous))
        return { told: 1, covered: [] }
      },
      stopProviding: async () => {
        throw new Error('the table of records is closed')
      },
    } as unknown as Stack
    const records = {
      setAnnounced: async () => {
        throw new FileError('NO_SPACE', 'disk full')
      },
    } as unknown as Records
    const tasks: Promise<void>[] = []
    const stopped = new AbortController()
    const announcing = new Announcing({
      ...{ stack, records, log: silentLog, keys: 'share', now: () => performance.now(), signal: stopped.signal },
      holding: (cid) => holdings.get(cid),
      liveOf: () => Promise.reject(new Error('no share is opened')),
      onFound: () => {},
      onIdle: () => {},
      track: (task) => void tasks.push(task.catch(() => {})),
    })
    for (let i = 0; i < SHARES; i++) {
      const holding = newHolding(formatCid(RAW, new Uint8Array(32).fill(i)), new Uint8Array(32).fill(i))
      holding.record = { ...blindRecord(holding.cid.text), state: 'complete' }
      holdings.set(holding.cid.text, holding)
      announcing.add(holding)
    }
    await expect.poll(() => announced.size).toBe(SHARES)
    stopped.abort()
    announcing.stop()
    await Promise.all(tasks)
  },
)
