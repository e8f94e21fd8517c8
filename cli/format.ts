/** Numbers and tables as people read them. Pure text; escaping of strangers' text is done here for every table cell. */
import { escapeText } from './escape.ts'

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const

/** "0 B", "1023 B", "1.5 MiB": three digits, powers of 1024. */
export function formatBytes(sizeBytes: number): string {
  let value = sizeBytes
  let unit = 0
  // 999.5 would print as 1000: the next unit is due.
  while (unit < UNITS.length - 1 && value >= (unit === 0 ? 1024 : 999.5)) {
    value /= 1024
    unit++
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2
  return `${value.toFixed(digits)} ${UNITS[unit]}`
}

/** "42 s", "3 min 05 s", "2 h 07 min", "3 d 04 h". */
export function formatSeconds(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  const two = (value: number): string => String(value).padStart(2, '0')
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`
  return `${Math.floor(whole / 86_400)} d ${two(Math.floor((whole % 86_400) / 3600))} h`
}

/** "1 file", "2 files". */
export const count = (value: number, one: string, many = `${one}s`): string =>
  `${value.toLocaleString('en-US')} ${value === 1 ? one : many}`

export interface Column {
  title: string
  align?: 'right'
}

/** Rows under titles, columns as wide as their widest cell. Cells are escaped. */
export function formatTable(columns: Column[], rows: string[][]): string {
  const cells = rows.map((row) => row.map(escapeText))
  const widths = columns.map((column, i) => cells.reduce((width, row) => Math.max(width, row[i]?.length ?? 0), column.title.length))
  const show = (row: string[]): string =>
    columns
      .map((column, i) => {
        const cell = row[i] ?? ''
        const width = widths[i] ?? 0
        return column.align === 'right' ? cell.padStart(width) : cell.padEnd(width)
      })
      .join('  ')
      .trimEnd()
  return [columns.map((column) => column.title), ...cells].map((row) => `${show(row)}\n`).join('')
}

/** "name  value" lines with the values in one column. Values are escaped. */
export function formatFields(fields: [name: string, value: string][]): string {
  const width = fields.reduce((widest, [name]) => Math.max(widest, name.length), 0)
  return fields.map(([name, value]) => `${name.padEnd(width)}  ${escapeText(value)}\n`).join('')
}
