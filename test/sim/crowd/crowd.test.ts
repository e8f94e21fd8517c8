import { describe, expect, it } from 'vitest'
import { checkCrowd } from './check.ts'
import { runFlash } from './flash.ts'
import { fluidTimes } from './fluid.ts'
import { runHour } from './hour.ts'
import { Random } from './random.ts'
import { Wheel } from './wheel.ts'

describe('a crowd', () => {
  it('of fifty gets 32 blocks in not much more time than its lines need, the same way with the same seed', () => {
    const [first, again, other] = [runFlash(50, 32, 1, ({ members }) => checkCrowd(members)), runFlash(50, 32, 1), runFlash(50, 32, 2)]
    expect(first.finished).toBe(50)
    expect(first.lastToBound).toBeGreaterThanOrEqual(1)
    expect(first.lastToBound).toBeLessThan(2.5)
    expect(again.digest).toBe(first.digest)
    expect(other.digest).not.toBe(first.digest)
  })

  it('that comes over an hour finds each other, and everybody finishes, invariants checked every ten seconds', () => {
    const result = runHour(200, 16, 1, ({ members }) => checkCrowd(members))
    expect(result.finished).toBe(200)
    expect(result.findsPerPeer).toBeGreaterThanOrEqual(1)
    expect(result.digest).toBe(runHour(200, 16, 1).digest)
  })
})

describe('the fluid model', () => {
  const lines = { originUp: 4, up: 1, down: 3 }

  it('gives one alone what its downlink takes', () => {
    expect(fluidTimes([{ arrivalMs: 7, stayMs: 0 }], 30, lines)).toEqual([10])
  })

  it('shares all uplinks among those who load, and counts who stays only as long as it does', () => {
    // Two load 6 / 2 each for 10 ms; whoever comes then has the origin and itself, which is more than it can take.
    const pair = { arrivalMs: 0, stayMs: 0 }
    expect(fluidTimes([pair, pair, { arrivalMs: 10, stayMs: 0 }], 30, lines)).toEqual([10, 10, 20 - 10])
    // Three at once: (2 + 3) / 3 each. With four that stay for 6 ms from the start of the second crowd: (2 + 3 + 1) / 3 for as long.
    const slow = { originUp: 2, up: 1, down: 3 }
    const crowd = [0, 0, 0].map(() => ({ arrivalMs: 10, stayMs: 0 }))
    expect(fluidTimes([{ arrivalMs: 0, stayMs: 6 }, ...crowd], 30, slow)[1]).toBeCloseTo(6 + (30 - 12) / (5 / 3), 9)
  })
})

describe('the wheel', () => {
  it('gives events in order of time, and of the same time in the order they were planned, however far away', () => {
    const random = new Random(1)
    const wheel = new Wheel()
    const planned: { atMs: number; id: number }[] = []
    const plan = (id: number): void => {
      const atMs = wheel.now + Math.floor(random.next() ** 4 * 1_000_000)
      planned.push({ atMs, id })
      wheel.add(atMs, 1, id, 0)
    }
    for (let id = 0; id < 500; id++) plan(id)
    const seen: { atMs: number; id: number }[] = []
    for (let id = 500; wheel.next(); ) {
      seen.push({ atMs: wheel.now, id: wheel.a })
      if (id < 2_000) plan(id++)
    }
    expect(seen).toEqual(planned.sort((a, b) => a.atMs - b.atMs || a.id - b.id))
  })

  it('rounds up, and never goes back', () => {
    const wheel = new Wheel()
    wheel.add(1.25, 1, 1, 0)
    expect([wheel.next(), wheel.now]).toEqual([true, 2])
    wheel.add(1, 1, 2, 0)
    expect([wheel.next(), wheel.now, wheel.a]).toEqual([true, 2, 2])
    expect(wheel.next()).toBe(false)
  })
})
