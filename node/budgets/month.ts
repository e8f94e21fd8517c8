/**
 * MACHINE: what went out and came in during a month of the user's, from a first day on. No clock: the caller says what day it is.
 *
 * A month is over when the calendar says so, and the calendar follows a clock that may be wrong:
 * - a clock that goes back brings nothing back: bytes go on counting in the latest month that was ever begun;
 * - a clock that ran ahead began a month that is not there yet: once it is right again, that month's bytes count in the present one;
 * - and when the present one then ends by the calendar, the month that is not there yet is forgotten, so that no limit holds for ever.
 * Nothing but the end of a month makes the count smaller.
 */

import { BUDGETS } from '../../protocol/budget-limits.ts'
import { assert } from '../../protocol/errors.ts'

/** A day as the calendar on the wall shows it; `month` counts from 1. */
export interface LocalDay {
  year: number
  month: number
  day: number
}

/** One month: named by its first year and month, so that names sort by time. */
interface Entry {
  period: number
  up: number
  down: number
}

/** What is written down. */
export interface MonthState {
  entries: Entry[]
  /** The month that the clock showed last, where that is before the latest that was begun; else null. */
  behind: number | null
  /** The day that these months begin on; null: of an earlier version, which did not write it down. */
  startDay: number | null
}

/** Bytes of the present month. */
export interface MonthUse {
  up: number
  down: number
}

export const NO_MONTH: MonthState = { entries: [], behind: null, startDay: null }

/** The calendar of this machine. */
export function localDayOf(wallMs: number): LocalDay {
  const date = new Date(wallMs)
  return { year: date.getFullYear(), month: date.getMonth() + 1, day: date.getDate() }
}

const daysIn = (year: number, month: number): number => new Date(Date.UTC(year, month, 0)).getUTCDate()
const firstDayOf = (year: number, month: number, startDay: number): number => Math.min(startDay, daysIn(year, month))

/** The number of the month that a day belongs to: months since year 0. It begins on `startDay`, or on the last day of a shorter month. */
export function periodOf({ year, month, day }: LocalDay, startDay: number): number {
  return year * 12 + month - 1 - (day >= firstDayOf(year, month, startDay) ? 0 : 1)
}

/** The first day of a month. */
export function startOf(period: number, startDay: number): LocalDay {
  const [year, month] = [Math.floor(period / 12), (period % 12) + 1]
  return { year, month, day: firstDayOf(year, month, startDay) }
}

/** When the month ends, by the clock of this machine. */
export function endOf(today: LocalDay, startDay: number): number {
  const { year, month, day } = startOf(periodOf(today, startDay) + 1, startDay)
  return new Date(year, month - 1, day).getTime()
}

export class Month {
  #entries: Entry[]
  #behind: number | null
  #startDay: number

  /** `state` is what was written down, taken over; with another first day than `startDay` it is changed to that as by setStartDay. */
  constructor(state: MonthState, startDay: number, today: LocalDay) {
    this.#entries = state.entries.map((entry) => ({ ...entry }))
    this.#behind = state.behind
    this.#startDay = state.startDay ?? startDay
    this.setStartDay(startDay, today)
  }

  get state(): MonthState {
    return { entries: this.#entries.map((entry) => ({ ...entry })), behind: this.#behind, startDay: this.#startDay }
  }

  /** Another first day: what was counted so far counts in the month that this day makes it. */
  setStartDay(startDay: number, today: LocalDay): void {
    if (startDay === this.#startDay) return
    const { up, down } = this.use(today)
    this.#startDay = startDay
    this.#entries = [{ period: periodOf(today, startDay), up, down }]
    this.#behind = null
  }

  /** Bytes that went out or came in. */
  count(way: 'up' | 'down', bytes: number, today: LocalDay): void {
    this.#look(today)
    const latest = this.#entries.at(-1)
    assert(latest !== undefined, 'a month was begun')
    latest[way] += bytes
  }

  /** What counts in the month that the calendar shows: its own bytes, and those of months that are not there yet. */
  use(today: LocalDay): MonthUse {
    this.#look(today)
    const period = periodOf(today, this.#startDay)
    const counted = this.#entries.filter((entry) => entry.period >= period)
    return { up: counted.reduce((sum, { up }) => sum + up, 0), down: counted.reduce((sum, { down }) => sum + down, 0) }
  }

  checkInvariants(): void {
    assert(this.#entries.length <= BUDGETS.monthsKept, 'too many months')
    assert(
      this.#entries.every(({ period, up, down }, i) => up >= 0 && down >= 0 && period > (this.#entries[i - 1]?.period ?? -1)),
      'months out of order',
    )
    assert(this.#behind === null || this.#behind < (this.#entries.at(-1)?.period ?? 0), 'behind no month')
  }

  #look(today: LocalDay): void {
    const period = periodOf(today, this.#startDay)
    const latest = this.#entries.at(-1)?.period ?? -1
    if (period > latest) {
      this.#entries.push({ period, up: 0, down: 0 })
      this.#behind = null
    } else if (period === latest) this.#behind = null
    else if (this.#behind !== null && period === this.#behind + 1) {
      // The month ended while a later one had been begun: that clock ran ahead.
      this.#entries = [...this.#entries.filter((entry) => entry.period < period), { period, up: 0, down: 0 }]
      this.#behind = null
    } else this.#behind = period
    this.#mergeOldest()
  }

  // An old month counts only while the clock is back there: then its bytes are found in the next.
  #mergeOldest(): void {
    while (this.#entries.length > BUDGETS.monthsKept) {
      const [oldest, next] = this.#entries
      assert(oldest !== undefined && next !== undefined, 'two months')
      next.up += oldest.up
      next.down += oldest.down
      this.#entries.shift()
    }
  }
}

/** What was written down, taken apart; null when it is not what this version writes. */
export function parseMonth(text: string): MonthState | null {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null // somebody else's text
  }
  if (typeof value !== 'object' || value === null || !('entries' in value) || !('behind' in value) || !Array.isArray(value.entries))
    return null
  const startDay = 'startDay' in value ? value.startDay : null
  const isCount = (count: unknown): count is number => typeof count === 'number' && Number.isSafeInteger(count) && count >= 0
  const entries: Entry[] = value.entries.flatMap((entry: Partial<Entry> | null) => {
    const { period, up, down } = entry ?? {}
    return isCount(period) && isCount(up) && isCount(down) ? [{ period, up, down }] : []
  })
  const isSound =
    entries.length === value.entries.length &&
    entries.length <= BUDGETS.monthsKept &&
    entries.every(({ period }, i) => period > (entries[i - 1]?.period ?? -1)) &&
    (value.behind === null || (isCount(value.behind) && value.behind < (entries.at(-1)?.period ?? 0))) &&
    (startDay === null || (isCount(startDay) && startDay >= 1 && startDay <= 31))
  return isSound ? { entries, behind: value.behind as number | null, startDay: startDay as number | null } : null // looked at just above
}
