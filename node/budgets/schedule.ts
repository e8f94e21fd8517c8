/**
 * MACHINE: which caps hold at which local time, from the list in the config. No clock: the caller says what time it is.
 *
 * What holds depends on the wall clock alone, so clocks that jump, time zones and daylight saving are right by themselves: an hour that
 * comes twice counts twice, one that is left out does not count, and a clock that was wrong leaves no trace once it is right.
 */

export const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const
export type Day = (typeof DAYS)[number]

/** One line of the schedule as the config file has it. A stretch that goes over midnight belongs to the day on which it begins. */
export interface ScheduleEntry {
  /** Absent: every day. */
  days?: Day[]
  /** "HH:MM"; `to` may be "24:00". Equal times are a whole day. */
  from: string
  to: string
  /** Bytes a second, null: no cap; absent: as it is without this entry. */
  uploadBytesPerSecond?: number | null
  downloadBytesPerSecond?: number | null
}

/** A moment as a calendar on the wall shows it. */
export interface LocalTime {
  /** 0 is Sunday. */
  weekday: number
  /** Since midnight by the clock on the wall. */
  minutes: number
}

/** What the schedule says of the caps at one moment; undefined: nothing. */
export interface ScheduledCaps {
  upload: number | null | undefined
  download: number | null | undefined
}

const MINUTE_MS = 60_000
/** A week and a day in which the clocks change. */
const MINUTES_AHEAD_MAX = 8 * 24 * 60

/** Minutes since midnight; null when the text is no time. */
export function parseTime(text: unknown): number | null {
  const [, hours = '', minutes = ''] = (typeof text === 'string' ? /^([01]\d|2[0-4]):([0-5]\d)$/.exec(text) : null) ?? []
  const at = hours === '' ? 1441 : Number(hours) * 60 + Number(minutes)
  return at <= 1440 ? at : null
}

/** The clock and calendar of this machine. */
export function localTimeOf(wallMs: number): LocalTime {
  const date = new Date(wallMs)
  return { weekday: date.getDay(), minutes: date.getHours() * 60 + date.getMinutes() }
}

/** Whether an entry holds then. */
export function isActive(entry: ScheduleEntry, { weekday, minutes }: LocalTime): boolean {
  const [from, to] = [parseTime(entry.from) ?? 0, parseTime(entry.to) ?? 0]
  const isOn = (day: number): boolean => entry.days === undefined || entry.days.includes(DAYS[(day + 7) % 7]!)
  if (from < to) return isOn(weekday) && minutes >= from && minutes < to
  return (isOn(weekday) && minutes >= from) || (isOn(weekday - 1) && minutes < to)
}

/** The first entry that holds and names a direction says its cap. */
export function capsAt(schedule: readonly ScheduleEntry[], local: LocalTime): ScheduledCaps {
  const active = schedule.filter((entry) => isActive(entry, local))
  return {
    upload: active.find(({ uploadBytesPerSecond }) => uploadBytesPerSecond !== undefined)?.uploadBytesPerSecond,
    download: active.find(({ downloadBytesPerSecond }) => downloadBytesPerSecond !== undefined)?.downloadBytesPerSecond,
  }
}

/** When to look again: entries begin and end on whole minutes, and a clock that was set is noticed then too. */
export const nextLookMs = (wallMs: number): number => MINUTE_MS - (((wallMs % MINUTE_MS) + MINUTE_MS) % MINUTE_MS)

/** The next moment from which on other caps hold; null when there is none within eight days. */
export function nextChange(
  schedule: readonly ScheduleEntry[],
  wallMs: number,
  localOf: (wallMs: number) => LocalTime = localTimeOf,
): number | null {
  if (schedule.length === 0) return null
  const now = capsAt(schedule, localOf(wallMs))
  let at = wallMs + nextLookMs(wallMs)
  for (let minute = 0; minute < MINUTES_AHEAD_MAX; minute++, at += MINUTE_MS) {
    const then = capsAt(schedule, localOf(at))
    if (then.upload !== now.upload || then.download !== now.download) return at
  }
  return null
}
