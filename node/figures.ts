/** What a node counts of itself for its metrics, and the gathering of all figures for one page of them. */
import { readdir } from 'node:fs/promises'
import { METRICS } from '../protocol/limits.ts'
import type { LimitRow, StatusResult } from './control/api.ts'
import { metricsPage } from './metrics.ts'
import { diskFileSystem } from './storage/fs.ts'

export class Figures {
  readonly #jobsEnded = new Map<string, number>()

  /** Counts a job that ended; `code` is 'OK' or that of its failure. */
  noteEnd(code: string): void {
    const known = this.#jobsEnded.has(code) || this.#jobsEnded.size < METRICS.codesMax ? code : 'OTHER'
    this.#jobsEnded.set(known, (this.#jobsEnded.get(known) ?? 0) + 1)
  }

  /** One page of metrics. `states` are those of the kept shares. */
  async page(status: StatusResult, states: readonly ('complete' | 'partial')[], limits: readonly LimitRow[]): Promise<string> {
    const complete = states.filter((state) => state === 'complete').length
    const { user, system } = process.cpuUsage()
    return metricsPage({
      status,
      limits,
      startedSeconds: Date.now() / 1e3 - process.uptime(),
      shares: { complete, partial: states.length - complete },
      freeBytes: await diskFileSystem.space(status.home).then(
        ({ freeBytes }) => freeBytes,
        () => null,
      ),
      openFiles: await openFiles(),
      jobsEnded: this.#jobsEnded,
      cpuSeconds: (user + system) / 1e6,
      heapBytes: process.memoryUsage().heapUsed,
    })
  }
}

/** Null where the system has no list of them; the one that reads the list is not counted. */
const openFiles = (): Promise<number | null> =>
  readdir('/proc/self/fd').then(
    (names) => names.length - 1,
    () => null,
  )
