/**
 * One system call of one act fails, the first, the second and so on until the act passes untouched: a full disk at every write, and a
 * failing sync, which nobody may call again on the same file.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { inject } from '../kit/faulty.ts'
import { Row } from './table.ts'
import { ACTS, type Act, judgeLag, type Scene, tryAct, Victim } from './victim.ts'

const NTH_MAX = 2_000

interface Sort {
  name: string
  error: 'ENOSPC' | 'EIO'
  /** Call by call, each counted by itself. */
  calls: string[]
  /** Only on these files of the home. */
  files?: string[]
}

const RECORDS = ['records.db', 'records.db-wal', 'records.db-journal']

const SORTS: Sort[] = [
  { name: 'disk full', error: 'ENOSPC', calls: ['pwrite64', 'openat', 'mkdir', 'rename', 'link', 'ftruncate'] },
  { name: 'disk full, records', error: 'ENOSPC', calls: ['pwrite64', 'write', 'ftruncate'], files: [...RECORDS, 'reserve'] },
  { name: 'failing sync', error: 'EIO', calls: ['fdatasync', 'fsync'] },
  { name: 'failing sync, records', error: 'EIO', calls: ['fdatasync', 'fsync'], files: RECORDS },
]

/** Tries every `every`th call; tells of each row when it is done. */
export async function failNthCalls(scene: Scene, every: number, tell: (row: Row) => void): Promise<void> {
  // One thread for files, so that the same act makes the same calls in the same order.
  const start = (name: string): Promise<Victim> => Victim.start(scene, name, { prefix: ['env', 'UV_THREADPOOL_SIZE=1'] })
  for (const [i, sort] of SORTS.entries()) {
    for (const act of ACTS) {
      const row = new Row(`${sort.name}: ${act.name}`, 'not on the loop')
      let victim = await start(`nth-${i}-${act.name}`)
      for (const call of sort.calls) {
        for (const nth of call === 'openat' ? await creations(victim, act, every) : countUp(every)) {
          row.at(`${call} number ${nth}`)
          const isStruck = await tryAct(row, victim, act, () => arm(row, victim, sort, call, nth))
          if (!victim.isAlive) victim = await start(`nth-${i}-${act.name}-after-${row.trials}`)
          if (!isStruck) break
        }
      }
      await victim.stop()
      judgeLag(row)
      tell(row)
    }
  }
}

// From another one each time where not all are tried, so that repeated runs meet more of them.
function* countUp(every: number): Generator<number> {
  for (let nth = 1 + Math.floor(Math.random() * every); nth <= NTH_MAX; nth += every) yield nth
}

/** Which openings make a file: only those need room. */
async function creations(victim: Victim, act: Act, every: number): Promise<number[]> {
  const log = victim.scene.sandbox.path('strace-openings.log')
  await act.prepare(victim)
  const watching = await inject(victim.pid, 'openat', null, { log, sparesLoop: true })
  await act.run(victim)
  await watching.mend()
  await victim.clean()
  const counts = new Map<string, number>()
  const found = new Set<number>()
  for (const line of readFileSync(log, 'utf8').split('\n')) {
    const [, thread] = /^(\d+) +openat\(/.exec(line) ?? []
    if (thread === undefined) continue
    const count = (counts.get(thread) ?? 0) + 1
    counts.set(thread, count)
    if (line.includes('O_CREAT')) found.add(count)
  }
  const first = Math.floor(Math.random() * every)
  return [...found].filter((_, i) => i % every === first)
}

async function arm(row: Row, victim: Victim, sort: Sort, call: string, nth: number): Promise<{ mend(): Promise<boolean> }> {
  const log = victim.scene.sandbox.path('strace.log')
  const paths = sort.files?.map((name) => join(victim.daemon.home, name)) ?? []
  const watched = sort.error === 'EIO' ? { watched: 'openat,unlink' } : {}
  const injected = await inject(victim.pid, call, `error=${sort.error}:when=${nth}`, { paths, log, sparesLoop: true, ...watched })
  return {
    mend: async () => {
      await injected.mend()
      const lines = readFileSync(log, 'utf8').split('\n')
      if (sort.error === 'EIO') for (const path of syncedAgain(lines)) row.fault(`a sync failed and was called again: ${path}`)
      return lines.some((line) => line.includes('(INJECTED)'))
    },
  }
}

/** Files that were synced once more after that had failed, without having been made anew. */
export function syncedAgain(lines: readonly string[]): string[] {
  const failed = new Set<string>()
  const again: string[] = []
  for (const line of lines) {
    const synced = /\bf(?:data)?sync\(\d+<([^>]+)>/.exec(line)?.[1]
    if (synced !== undefined) {
      if (failed.has(synced)) again.push(synced)
      // Folders (fsync) are synced for others too, and the records are mended: see their worker.
      if (/fdatasync.*\(INJECTED\)/.test(line) && !synced.includes('/records.db')) failed.add(synced)
    }
    const [, made, removed] = /openat\([^"]*"([^"]+)", [^,]*O_CREAT|unlink\("([^"]+)"/.exec(line) ?? []
    failed.delete(made ?? removed ?? '')
  }
  return again
}
