/** Caps and sizes on the command line: "2MiB", "500 kB", "none". */
import { JobError } from '../node/control/api.ts'
import { isCap } from '../protocol/wire/rate-queue.ts'
import { formatBytes } from './format.ts'

const UNITS: Record<string, number> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tb: 1e12,
  tib: 2 ** 40,
}
const RATE_TEXT = /^(\d{1,15}(?:\.\d{1,6})?)\s?([a-z]*)$/

/** Bytes a second, null for "none". Throws JobError USAGE. */
export function parseRate(text: string): number | null {
  const lower = text.trim().toLowerCase()
  if (lower === 'none') return null
  const rate = numberOf(lower.replace(/\/s$/, ''))
  if (isCap(rate)) return rate
  throw new JobError('USAGE', `"${text}" is no rate: bytes a second from 1KiB up, as 2MiB, 500kB or 65536, or "none"`)
}

/** Bytes, null for `none`. Throws JobError USAGE. */
export function parseBytes(text: string, none = 'none'): number | null {
  const lower = text.trim().toLowerCase()
  if (lower === none) return null
  const bytes = numberOf(lower)
  if (Number.isSafeInteger(bytes)) return bytes
  throw new JobError('USAGE', `"${text}" is no size: it is written as 200GB, 1.5TiB or 65536, or "${none}"`)
}

function numberOf(lower: string): number {
  const [, digits = '', unit = ''] = RATE_TEXT.exec(lower) ?? []
  return digits === '' || !Object.hasOwn(UNITS, unit) ? Number.NaN : Math.floor(Number(digits) * (UNITS[unit] ?? 0))
}

/** "2.00 MiB/s", "no cap". */
export const formatCap = (cap: number | null): string => (cap === null ? 'no cap' : `${formatBytes(cap)}/s`)
