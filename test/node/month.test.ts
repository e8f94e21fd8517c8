/** The volume of a month: calendars, odd first days, clocks that jump back and forth, restarts. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { endOf, type LocalDay, localDayOf, Month, NO_MONTH, parseMonth, periodOf, startOf } from '../../node/budgets/month.ts'

const day = (text: string): LocalDay => {
  const [year = 0, month = 0, number = 0] = text.split('-').map(Number)
  return { year, month, day: number }
}
const SOME_DAY: LocalDay = { year: 2026, month: 11, day: 25 }

/** Read from what was written down, on a day when that changes nothing. */
const restarted = (month: Month, startDay = 1, today = SOME_DAY): Month =>
  new Month(parseMonth(JSON.stringify(month.state))!, startDay, today)

describe('the calendar of a month', () => {
  it('begins on the first day that is asked for, or on the last of a shorter month', () => {
    const starts = (period: number, startDay: number): string => Object.values(startOf(period, startDay)).join('-')
    const of = (text: string, startDay: number): string => starts(periodOf(day(text), startDay), startDay)
    expect(of('2026-11-25', 1)).toBe('2026-11-1')
    expect(of('2026-11-14', 15)).toBe('2026-10-15')
    expect(of('2026-11-15', 15)).toBe('2026-11-15')
    expect(of('2027-01-03', 15)).toBe('2026-12-15')
    expect(of('2026-02-27', 31)).toBe('2026-1-31')
    expect(of('2026-02-28', 31)).toBe('2026-2-28')
    expect(of('2028-02-28', 31)).toBe('2028-1-31')
    expect(of('2026-03-30', 31)).toBe('2026-2-28')
  })

  it('ends at midnight by the clock of this machine', () => {
    expect(endOf(day('2026-12-05'), 1)).toBe(new Date(2027, 0, 1).getTime())
    expect(endOf(day('2026-01-31'), 31)).toBe(new Date(2026, 1, 28).getTime())
    expect(localDayOf(new Date(2026, 10, 25, 23, 59).getTime())).toEqual(day('2026-11-25'))
  })

  it('every day belongs to the month that begins last before it', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 20_000 }), fc.integer({ min: 1, max: 31 }), (days, startDay) => {
        const date = new Date(Date.UTC(2000, 0, 1 + days))
        const today = { year: date.getUTCFullYear(), month: date.getUTCMonth() + 1, day: date.getUTCDate() }
        const order = ({ year, month, day: number }: LocalDay): number => (year * 100 + month) * 100 + number
        const period = periodOf(today, startDay)
        expect(order(startOf(period, startDay))).toBeLessThanOrEqual(order(today))
        expect(order(startOf(period + 1, startDay))).toBeGreaterThan(order(today))
      }),
      { seed: 4, numRuns: 500 },
    )
  })
})

describe('the volume of a month', () => {
  it('adds up, survives a restart, and begins anew with the next month', () => {
    let month = new Month(NO_MONTH, 1, SOME_DAY)
    month.count('up', 5, day('2026-11-25'))
    month.count('down', 7, day('2026-11-30'))
    month = restarted(month)
    month.count('up', 1, day('2026-11-30'))
    expect(month.use(day('2026-11-30'))).toEqual({ up: 6, down: 7 })
    expect(month.use(day('2026-12-01'))).toEqual({ up: 0, down: 0 })
  })

  it('a clock that goes back does not begin anew, and what it counts there is not lost', () => {
    for (const past of ['2026-10-31', '2025-11-25', '1970-01-01']) {
      let month = new Month(NO_MONTH, 1, SOME_DAY)
      month.count('up', 100, day('2026-11-25'))
      expect(month.use(day(past)).up, past).toBe(100)
      month.count('up', 10, day(past))
      month = restarted(month)
      month.count('up', 1, day(past))
      expect(month.use(day('2026-11-26')).up, past).toBe(111)
      expect(month.use(day('2026-12-01')).up, past).toBe(0)
    }
  })

  it('a clock that ran ahead takes nothing away: all of it counts when it is right again', () => {
    let month = new Month(NO_MONTH, 1, SOME_DAY)
    month.count('up', 100, day('2026-11-25'))
    month.count('up', 10, day('2027-12-30')) // 400 days ahead
    month = restarted(month)
    expect(month.use(day('2026-11-25')).up).toBe(110)
    month.count('up', 1, day('2026-11-25'))
    expect(month.use(day('2026-11-25')).up).toBe(111)
  })

  it('and no limit holds for ever: the month that was not there yet is forgotten when the present one ends', () => {
    const month = new Month(NO_MONTH, 1, SOME_DAY)
    month.count('up', 100, day('2026-11-25'))
    month.count('up', 10, day('2027-12-30'))
    month.count('up', 1, day('2026-11-25'))
    expect(month.use(day('2026-12-01')).up).toBe(0)
    month.count('up', 2, day('2026-12-02'))
    expect(month.use(day('2026-12-02')).up).toBe(2)
    expect(month.use(day('2027-12-30')).up).toBe(0)
  })

  it('forth and back again and again loses nothing', () => {
    const month = new Month(NO_MONTH, 1, SOME_DAY)
    let sum = 0
    for (const text of ['2026-11-25', '2027-12-30', '2025-10-21', '2026-11-25', '2028-02-01', '1970-01-01', '2026-11-25']) {
      month.count('down', 10, day(text))
      sum += 10
    }
    expect(month.use(day('2026-11-25')).down).toBe(sum)
  })

  it('another first day keeps what was counted', () => {
    const month = new Month(NO_MONTH, 1, SOME_DAY)
    month.count('up', 100, day('2026-11-25'))
    month.setStartDay(20, day('2026-11-25'))
    expect(month.use(day('2026-12-19')).up).toBe(100)
    expect(month.use(day('2026-12-20')).up).toBe(0)
  })

  it('another first day that a restart brings keeps what was counted, no more and no less', () => {
    const month = new Month(NO_MONTH, 1, day('2026-05-10'))
    month.count('up', 190, day('2026-05-10'))
    month.count('up', 150, day('2026-06-18'))
    const later = restarted(month, 25, day('2026-06-20'))
    expect(later.use(day('2026-06-20')).up).toBe(150)
    expect(later.use(day('2026-06-25')).up).toBe(0)
    const sooner = restarted(restarted(month, 15, day('2026-06-10')), 1, day('2026-06-12'))
    expect(sooner.use(day('2026-06-12')).up).toBe(150)
    // An earlier version did not say which day it was: then it is the one that is set.
    const { entries, behind } = month.state
    const old = parseMonth(JSON.stringify({ entries, behind }))!
    expect(new Month(old, 1, day('2026-06-20')).use(day('2026-06-20')).up).toBe(150)
  })

  const date = fc.record({
    year: fc.integer({ min: 1970, max: 2040 }),
    month: fc.integer({ min: 1, max: 12 }),
    day: fc.integer({ min: 1, max: 28 }),
  })

  it('whatever the clock does for a while, what is counted meanwhile is there when it is right again', () => {
    fc.assert(
      fc.property(fc.array(date, { maxLength: 3 }), fc.integer({ min: 1, max: 31 }), (jumps, startDay) => {
        const today = day('2026-11-25')
        let month = new Month(NO_MONTH, startDay, SOME_DAY)
        month.count('up', 1000, today)
        for (const [i, jump] of jumps.entries()) {
          month.count('up', 10 + i, jump)
          month = restarted(month, startDay)
          month.checkInvariants()
        }
        const all = 1000 + jumps.reduce((sum, _, i) => sum + 10 + i, 0)
        // Jumps that look like the end of the month before may be taken for one; only what was counted since can go then.
        const periods = jumps.map((jump) => periodOf(jump, startDay))
        const steps = [...periods, periodOf(today, startDay)]
        const looksLikeAnEnd = steps.some((period, i) => i > 0 && period === steps[i - 1]! + 1)
        if (looksLikeAnEnd) expect(month.use(today).up).toBeGreaterThanOrEqual(1000)
        else expect(month.use(today).up).toBe(all)
      }),
      { seed: 4, numRuns: 1000 },
    )
  })

  it('with a clock that only runs forward it is the plain sum of each month', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 60 }), { minLength: 1, maxLength: 40 }),
        fc.integer({ min: 1, max: 31 }),
        (steps, startDay) => {
          let month = new Month(NO_MONTH, startDay, SOME_DAY)
          const plain = new Map<number, number>()
          let at = Date.UTC(2026, 0, 1)
          for (const step of steps) {
            at += step * 86_400_000
            const d = new Date(at)
            const today = { year: d.getUTCFullYear(), month: d.getUTCMonth() + 1, day: d.getUTCDate() }
            month.count('down', step + 1, today)
            month = restarted(month, startDay)
            month.checkInvariants()
            const period = periodOf(today, startDay)
            plain.set(period, (plain.get(period) ?? 0) + step + 1)
            expect(month.use(today).down).toBe(plain.get(period))
          }
        },
      ),
      { seed: 4, numRuns: 300 },
    )
  })

  it('takes back what it wrote, and nothing else', () => {
    const month = new Month(NO_MONTH, 1, SOME_DAY)
    month.count('up', 3, day('2026-11-25'))
    month.count('up', 3, day('2027-11-25'))
    month.use(day('2026-11-25'))
    expect(parseMonth(JSON.stringify(month.state))).toEqual(month.state)
    for (const text of [
      '',
      '7',
      '{}',
      '{"entries":[],"behind":1}',
      '{"entries":[{"period":2,"up":-1,"down":0}],"behind":null}',
      '{"entries":[null],"behind":null}',
    ])
      expect(parseMonth(text), text).toBeNull()
  })
})
