/** Counts of one row of trials, and the table of all rows. */
import type { Said } from './one-shot.ts'

export class Tally {
  readonly name: string
  readonly points: number
  killed = 0
  /** What had been acknowledged before the kills. */
  promised = 0
  slowestStartMs = 0
  slowestStopMs = 0
  readonly faults: string[] = []
  #where = ''

  constructor(name: string, points: number) {
    this.name = name
    this.points = points
  }

  /** Where the next faults happen. */
  at(where: string): void {
    this.#where = where
  }

  fault(what: string): void {
    this.faults.push(`${this.name}, ${this.#where}: ${what}`)
  }

  /** Notes how long a start took. */
  started(said: Said[]): void {
    for (const line of said) if (line.said === 'started') this.slowestStartMs = Math.max(this.slowestStartMs, line.startMs)
  }
}

const inMs = (ms: number): string => (ms === 0 ? '-' : `${Math.round(ms)} ms`)

const COLUMNS = ['what', 'points', 'killed', 'promised', 'lost', 'wrong', 'leftovers', 'others', 'slowest start', 'stop']

/** The table; every fault is written out below it. */
export function tableOf(rows: Tally[]): string {
  const count = (tally: Tally, word: string): number => tally.faults.filter((fault) => fault.includes(`: ${word}`)).length
  const cells = rows.map((tally) => {
    const [lost, wrong, left] = ['lost', 'wrong bytes', 'leftover'].map((word) => count(tally, word))
    const others = tally.faults.length - (lost ?? 0) - (wrong ?? 0) - (left ?? 0)
    const { name, points, killed, promised, slowestStartMs, slowestStopMs } = tally
    return [name, points, killed, promised, lost, wrong, left, others, ...[slowestStartMs, slowestStopMs].map(inMs)].map(String)
  })
  return [...alignColumns(COLUMNS, cells), ...rows.flatMap(({ faults }) => faults)].join('\n')
}

/** Lines of a table with a title over each column; all but the first are flush right. */
export function alignColumns(titles: readonly string[], rows: readonly string[][]): string[] {
  const widths = titles.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)))
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  ')
  return [titles, ...rows].map(line)
}
