/** `shoal status --limits`: every limit, how much of it is used, how often it was run into. */
import type { LimitRow } from '../node/control/api.ts'
import { count, formatBytes, formatTable } from './format.ts'

/** The table; limits that were run into stand out by their count. */
export const sayLimitTable = (rows: LimitRow[]): string =>
  formatTable(
    [
      { title: 'LIMIT' },
      { title: 'AT MOST', align: 'right' },
      { title: 'NOW', align: 'right' },
      { title: 'HIT', align: 'right' },
      { title: 'OF WHAT' },
    ],
    rows.map(({ name, value, unit, meaning, used, hits }) => [
      name,
      value === null ? 'no end' : amount(value, unit),
      used === null ? '-' : amount(used, unit),
      hits === null ? '-' : count(hits, 'time'),
      meaning,
    ]),
  )

function amount(value: number, unit: LimitRow['unit']): string {
  if (unit === 'bytes') return formatBytes(value)
  if (unit === 'bytes/s') return `${formatBytes(value)}/s`
  return unit === '' ? String(value) : `${value} ${unit}`
}
