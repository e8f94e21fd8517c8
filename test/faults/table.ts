/** One row of trials with a faulty disk or too many visitors, and the table of all rows. */
import { alignColumns } from '../crash/tally.ts'

/** How late the loop of a daemon may be, 99 of 100 times, whatever its disk does. */
export const LAG_MS_MAX = 50

export class Row {
  readonly name: string
  trials = 0
  /** Trials in which something failed or waited as it was meant to. */
  struck = 0
  /** What was asked for succeeded in spite of it. */
  passed = 0
  /** It was refused, with a word on why: how often, by code. */
  readonly refused = new Map<string, number>()
  died = 0
  wrong = 0
  /** Asked again, or just left alone, once the cause was gone: it went on. */
  resumed = 0
  lagBeforeMs: number | null = null
  lagMs = 0
  /** What made it fail: 'no' means that nothing slowed the daemon beside the fault itself. */
  readonly strace: 'no' | 'not on the loop'
  readonly faults: string[] = []
  skipped: string | null = null
  #where = ''

  constructor(name: string, strace: Row['strace'] = 'no') {
    this.name = name
    this.strace = strace
  }

  /** Where the next faults happen. */
  at(where: string): void {
    this.#where = where
  }

  refuse(code: string): void {
    this.refused.set(code, (this.refused.get(code) ?? 0) + 1)
    if (code === 'BUG' || code === 'none') this.fault(`refused with the code ${code}`)
  }

  fault(what: string): void {
    this.faults.push(`${this.name}, ${this.#where}: ${what}`)
  }
}

const COLUMNS = [
  'what goes wrong',
  'trials',
  'struck',
  'passed',
  'refused',
  'alive',
  'state',
  'goes on',
  'lag p99 before',
  'with',
  'strace',
]

/** The table; every fault is written out below it. */
export function tableOf(rows: readonly Row[]): string {
  const cells = rows.map((row) => {
    const { name, trials, struck, passed, refused, died, wrong, resumed, lagBeforeMs, lagMs, strace, skipped } = row
    if (skipped !== null) return [name, ...COLUMNS.slice(2).map(() => '-'), `skipped: ${skipped}`]
    const codes = [...refused].map(([code, count]) => `${count} ${code}`).join(', ')
    const verdicts = [died === 0 ? 'yes' : `${died} died`, wrong === 0 ? 'right' : `${wrong} wrong`, `${resumed} of ${trials}`]
    return [name, trials, struck, passed, codes === '' ? '-' : codes, ...verdicts, `${lagBeforeMs ?? '-'} ms`, `${lagMs} ms`, strace].map(
      String,
    )
  })
  return [...alignColumns(COLUMNS, cells), ...rows.flatMap(({ faults }) => faults)].join('\n')
}
