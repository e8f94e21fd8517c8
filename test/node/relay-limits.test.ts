/** What a relay passes on: how much beside its own transfers, and at what pace. */
import { describe, expect, it, vi } from 'vitest'
import { RelayLimits, relayPace } from '../../node/budgets/relay-limits.ts'
import { Pace } from '../../node/network/reach/pace.ts'
import { RELAY } from '../../protocol/limits.ts'

const MIB = 1_048_576
const rates = (up: number, down: number, cap: number | null = null) => ({
  up: { bytesPerSecond: up, capBytesPerSecond: cap, bytes: 0 },
  down: { bytesPerSecond: down, capBytesPerSecond: null, bytes: 0 },
})

describe('what a node passes on for others', () => {
  it('is all that a relay may while nothing else moves, and a sixth of own transfers when there are any, either way', () => {
    expect(relayPace(rates(0, 0))).toBe(RELAY.bytesPerSecond)
    expect(relayPace(rates(6 * MIB, 0))).toBe(MIB)
    expect(relayPace(rates(0, 6 * MIB))).toBe(MIB)
    expect(relayPace(rates(100 * MIB, 0))).toBe(RELAY.bytesPerSecond)
    expect(relayPace(rates(RELAY.ownBytesPerSecondMin, 0))).toBe(RELAY.bytesPerSecondMin)
  })

  it('is a sixth of the upload cap at most', () => {
    expect(relayPace(rates(0, 0, MIB))).toBe(MIB / 6)
    expect(relayPace(rates(2 * MIB, 0, MIB))).toBe(MIB / 6)
  })
})

describe('what was passed on', () => {
  it('counts in the volume of the month, each byte once, and stops when either way is used up', () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    try {
      let passed: number | null = 100
      const counted: number[] = []
      const days: number[] = []
      const held = { up: false, down: false }
      const limits = new RelayLimits({
        budgets: { current: { relayBytesPerDay: 7 } as never, held, countRelayed: (bytes) => void counted.push(bytes) }, // the part that is used
        limiter: { state: () => rates(0, 0) as never },
        set: (day) => void days.push(day),
        passed: () => passed,
      })
      passed = null
      held.down = true
      vi.advanceTimersByTime(RELAY.lookMs)
      passed = 150
      vi.advanceTimersByTime(RELAY.lookMs)
      Object.assign(held, { up: true, down: false })
      vi.advanceTimersByTime(RELAY.lookMs)
      passed = 160
      limits.stop()
      vi.advanceTimersByTime(RELAY.lookMs)
      expect(counted).toEqual([100, 50, 10])
      expect(days).toEqual([7, 0, 0, 0])
    } finally {
      vi.useRealTimers()
    }
  })
})

describe('the pace of a relay', () => {
  it('lets a burst through, then holds to its rate, in the order in which they came', async () => {
    let now = 0
    const pace = new Pace(MIB, () => now)
    const done: number[] = []
    expect(pace.take(RELAY.burstBytes)).toBe(null)
    const waits = [1, 2, 3].map((name) => pace.take(RELAY.burstBytes)?.then(() => done.push(name)))
    expect(waits).not.toContain(undefined)
    await expect.poll(() => done, { timeout: 300 }).toEqual([]) // nothing is let go while the clock stands still
    now = 1
    await waits[0]
    expect(done).toEqual([1])
    now += (RELAY.burstBytes / MIB) * 1000
    await waits[1]
    expect(done).toEqual([1, 2])
    pace.stop()
    await waits[2]
    expect(done).toEqual([1, 2, 3])
  })

  it('keeps to a new rate from the moment on at which it is set', async () => {
    let now = 0
    const pace = new Pace(1, () => now)
    pace.take(RELAY.burstBytes + MIB)
    let isDone = false
    const wait = pace.take(1)?.then(() => {
      isDone = true
    })
    now = 1_000
    pace.bytesPerSecond = 2 * MIB
    expect(isDone).toBe(false)
    now = 2_000
    await wait
    expect(isDone).toBe(true)
    pace.stop()
  })
})
