/** Lengths of time on the command line: "30d", "12h", "2w". */
import { JobError } from '../node/control/api.ts'
import { KEEPING } from '../protocol/limits.ts'

const UNITS: Record<string, number> = { h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 }

/** Milliseconds. Throws JobError USAGE. */
export function parseDuration(text: string): number {
  const [, digits = '', unit = ''] = /^(\d{1,6})\s?([a-z])$/.exec(text.trim().toLowerCase()) ?? []
  const lengthMs = Number(digits) * (Object.hasOwn(UNITS, unit) ? (UNITS[unit] ?? 0) : 0)
  if (lengthMs > 0 && lengthMs <= KEEPING.keepForMaxMs) return lengthMs
  throw new JobError('USAGE', `"${text}" is no length of time: 12h, 30d or 2w, ten years at most`)
}
