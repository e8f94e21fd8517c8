import { describe, expect, it } from 'vitest'
import { Expiry } from '../../node/jobs/expiry.ts'
import { KEEPING } from '../../protocol/limits.ts'

const MINUTE = 60_000
const DAY = 86_400_000
const WALL = 1_800_000_000_000

/** Looks once a minute for a while; resolves to after how many minutes each share was over. */
function run(
  expiry: Expiry,
  kept: { cid: string; keepUntilMs: number | null }[],
  minutes: number,
  wallAt: (minute: number) => number,
  from = 0,
) {
  const over = new Map<string, number>()
  for (let minute = from; minute < from + minutes; minute++)
    for (const cid of expiry.look(kept, minute * MINUTE, wallAt(minute))) if (!over.has(cid)) over.set(cid, minute)
  return Object.fromEntries(over)
}

const steady = (minute: number): number => WALL + minute * MINUTE

describe('shares that are kept for a time', () => {
  it('are over an hour of running after their time, others never', () => {
    const kept = [
      { cid: 'short', keepUntilMs: WALL + 10 * MINUTE },
      { cid: 'long', keepUntilMs: WALL + DAY },
      { cid: 'for good', keepUntilMs: null },
    ]
    expect(run(new Expiry(), kept, 300, steady)).toEqual({ short: 10 + KEEPING.overdueMs / MINUTE })
  })

  it('are not over because the clock was wrong for a while after the start, or jumped ahead while the node ran', () => {
    const kept = Array.from({ length: 50 }, (_, i) => ({ cid: `share ${i}`, keepUntilMs: WALL + (i + 1) * DAY }))
    const wrongAtStart = (minute: number): number => steady(minute) + (minute < 30 ? 400 * DAY : 0)
    expect(run(new Expiry(), kept, 600, wrongAtStart)).toEqual({})
    const jumps = (minute: number): number => steady(minute) + (minute >= 100 && minute < 1_000 ? 400 * DAY : 0)
    expect(run(new Expiry(), kept, 1_300, jumps)).toEqual({})
  })

  it('are over a day after a jump that stays, and a clock set back takes nobody', () => {
    const kept = [{ cid: 'share', keepUntilMs: WALL + 30 * DAY }]
    const ahead = (minute: number): number => steady(minute) + (minute >= 10 ? 400 * DAY : 0)
    expect(run(new Expiry(), kept, 3_000, ahead)).toEqual({ share: 10 + KEEPING.overdueAfterJumpMs / MINUTE })
    const back = (minute: number): number => steady(minute) - (minute >= 10 ? 400 * DAY : 0)
    expect(run(new Expiry(), kept, 3_000, back)).toEqual({})
  })
})
