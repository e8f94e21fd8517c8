/** The schedule: midnight, weekdays, clocks that change and clocks that jump. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { capsAt, DAYS, isActive, type LocalTime, localTimeOf, nextChange, nextLookMs, parseTime } from '../../node/budgets/schedule.ts'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS

/** A zone with a fixed offset that moves an hour forward at `springMs` and back at `autumnMs`. */
const zone =
  (springMs: number, autumnMs: number, offsetMs = HOUR_MS) =>
  (wallMs: number): LocalTime => {
    const local = wallMs + offsetMs + (wallMs >= springMs && wallMs < autumnMs ? HOUR_MS : 0)
    return { weekday: (4 + Math.floor(local / DAY_MS)) % 7, minutes: Math.floor((local % DAY_MS) / MINUTE_MS) } // 1970 began on a Thursday
  }

// Central Europe in 2026: forward on Sunday, 29 March, back on Sunday, 25 October, both at 01:00 UTC.
const SPRING_MS = Date.UTC(2026, 2, 29, 1)
const AUTUMN_MS = Date.UTC(2026, 9, 25, 1)
const central = zone(SPRING_MS, AUTUMN_MS)

const at = (day: (typeof DAYS)[number], time: string): LocalTime => ({ weekday: DAYS.indexOf(day), minutes: parseTime(time) ?? -1 })
const night = { days: ['fri' as const], from: '22:00', to: '06:00', uploadBytesPerSecond: 4096 }

describe('the schedule', () => {
  it('a stretch over midnight belongs to the day on which it begins', () => {
    for (const [day, time, isOn] of [
      ['fri', '21:59', false],
      ['fri', '22:00', true],
      ['fri', '23:59', true],
      ['sat', '00:00', true],
      ['sat', '05:59', true],
      ['sat', '06:00', false],
      ['sat', '22:00', false],
      ['fri', '05:00', false],
    ] as const)
      expect(isActive(night, at(day, time)), `${day} ${time}`).toBe(isOn)
  })

  it('Saturday to Sunday and Sunday to Monday wrap too, and equal times are a whole day', () => {
    const [saturday, sunday] = [
      { ...night, days: ['sat' as const] },
      { ...night, days: ['sun' as const] },
    ]
    expect([isActive(saturday, at('sun', '05:00')), isActive(sunday, at('mon', '05:00')), isActive(sunday, at('sun', '05:00'))]).toEqual([
      true,
      true,
      false,
    ])
    const whole = { days: ['wed' as const], from: '09:00', to: '09:00', uploadBytesPerSecond: null }
    expect([isActive(whole, at('wed', '09:00')), isActive(whole, at('thu', '08:59')), isActive(whole, at('thu', '09:00'))]).toEqual([
      true,
      true,
      false,
    ])
    const evening = { from: '18:00', to: '24:00', uploadBytesPerSecond: null }
    expect([isActive(evening, at('mon', '23:59')), isActive(evening, at('tue', '00:00'))]).toEqual([true, false])
  })

  it('the first entry that holds and names a direction says its cap; null lifts it, nothing leaves it alone', () => {
    const schedule = [
      { from: '08:00', to: '10:00', uploadBytesPerSecond: null },
      { from: '06:00', to: '22:00', uploadBytesPerSecond: 4096, downloadBytesPerSecond: 8192 },
    ]
    expect(capsAt(schedule, at('mon', '09:00'))).toEqual({ upload: null, download: 8192 })
    expect(capsAt(schedule, at('mon', '07:00'))).toEqual({ upload: 4096, download: 8192 })
    expect(capsAt(schedule, at('mon', '23:00'))).toEqual({ upload: undefined, download: undefined })
  })

  it('an hour that is left out does not count, one that comes twice counts twice', () => {
    const early = [{ from: '02:00', to: '03:00', uploadBytesPerSecond: 4096 }]
    const minutesOn = (dayMs: number): number => {
      let count = 0
      for (let ms = dayMs; ms < dayMs + DAY_MS; ms += MINUTE_MS) if (capsAt(early, central(ms)).upload !== undefined) count++
      return count
    }
    expect([Date.UTC(2026, 2, 28), Date.UTC(2026, 2, 29), Date.UTC(2026, 9, 25)].map(minutesOn)).toEqual([60, 0, 120])
    // What would begin within the hour that is left out begins where the clock goes on.
    const late = [{ from: '02:30', to: '05:00', uploadBytesPerSecond: 4096 }]
    expect(nextChange(late, SPRING_MS - HOUR_MS, central)).toBe(SPRING_MS)
  })

  it('tells when other caps hold next, and null when they never do', () => {
    const friday = Date.UTC(2026, 4, 1, 12) // 14:00 there
    expect(nextChange([night], friday, central)).toBe(Date.UTC(2026, 4, 1, 20))
    expect(nextChange([night], Date.UTC(2026, 4, 1, 21, 0, 1), central)).toBe(Date.UTC(2026, 4, 2, 4))
    expect(nextChange([{ from: '00:00', to: '00:00', uploadBytesPerSecond: 4096 }], friday, central)).toBeNull()
    expect(nextChange([], friday, central)).toBeNull()
  })

  const time = fc
    .integer({ min: 0, max: 1439 })
    .map((minutes) => `${String(Math.floor(minutes / 60)).padStart(2, '0')}:${String(minutes % 60).padStart(2, '0')}`)
  const entry = fc.record({
    days: fc.subarray([...DAYS], { minLength: 1 }),
    from: time,
    to: time,
    uploadBytesPerSecond: fc.integer({ min: 1024, max: 9999 }),
  })
  const wall = fc.integer({ min: Date.UTC(2026, 0, 1), max: Date.UTC(2026, 11, 31) })

  it('says the same of a moment whatever the clock showed before: jumps leave no trace', () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 4 }), fc.array(wall, { minLength: 2, maxLength: 8 }), (schedule, moments) => {
        const look = (ms: number) => capsAt(schedule, central(ms))
        const first = look(moments[0]!)
        for (const moment of moments) look(moment)
        expect(look(moments[0]!)).toEqual(first)
      }),
      { seed: 4, numRuns: 200 },
    )
  })

  it('between two looks nothing changes, so that looking at whole minutes misses nothing', () => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 4 }), wall, (schedule, ms) => {
        const next = ms + nextLookMs(ms)
        expect(next - ms).toBeGreaterThan(0)
        expect(next % MINUTE_MS).toBe(0)
        expect(capsAt(schedule, central(next - 1))).toEqual(capsAt(schedule, central(ms)))
        const change = nextChange(schedule, ms, central)
        if (change === null) return
        expect(capsAt(schedule, central(change))).not.toEqual(capsAt(schedule, central(ms)))
        expect(capsAt(schedule, central(change - 1))).toEqual(capsAt(schedule, central(ms)))
      }),
      { seed: 4, numRuns: 100 },
    )
  })

  it('an entry covers as many minutes of a week as its times say', () => {
    fc.assert(
      fc.property(entry, (one) => {
        let count = 0
        for (let weekday = 0; weekday < 7; weekday++)
          for (let minutes = 0; minutes < 1440; minutes++) if (isActive(one, { weekday, minutes })) count++
        const lengthMinutes = (((parseTime(one.to)! - parseTime(one.from)!) % 1440) + 1440) % 1440 || 1440
        expect(count).toBe(one.days.length * lengthMinutes)
      }),
      { seed: 4, numRuns: 50 },
    )
  })

  it('reads the clock of this machine', () => {
    const date = new Date(2026, 10, 25, 13, 45)
    expect(localTimeOf(date.getTime())).toEqual({ weekday: date.getDay(), minutes: 13 * 60 + 45 })
    expect(['24:00', '00:00', '24:01', '9:00', '12:60', '', 7].map(parseTime)).toEqual([1440, 0, null, null, null, null, null])
  })
})
