/**
 * `npm run faults`: daemons whose disk is full, read-only, failing or slow, or who are dialled by far too many, and what becomes of them.
 * Needs Linux; single calls that fail need strace (a Debian package), disks of their own need root. What cannot be done is skipped, with a word.
 *
 *   npm run faults                 every 4th write and sync, a small disk, a slow one, too many visitors
 *   npm run faults -- --all        every write and sync; --every N: every Nth
 *   npm run faults -- --only PART  nth, disk, visitors or slow
 */
import { parseArgs } from 'node:util'
import { Sandbox } from '../kit/daemons.ts'
import { canInject } from '../kit/faulty.ts'
import { failNthCalls } from './nth-call.ts'
import { floodWithDials, slowDownSyncs } from './pressure.ts'
import { SmallDisk, spoilDisks } from './small-disk.ts'
import { Row, tableOf } from './table.ts'
import { makeScene, type Scene } from './victim.ts'

const EVERY = 4

type Tell = (row: Row) => void

interface Part {
  /** Why it cannot be done here; null where it can. */
  lacks: string | null
  run(scene: Scene, tell: Tell): Promise<void>
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { all: { type: 'boolean', default: false }, every: { type: 'string', default: String(EVERY) }, only: { type: 'string' } },
  })
  const every = values.all ? 1 : Number(values.every)
  const strace = canInject() ? null : 'needs strace (apt install strace) and the right to look at other processes'
  const parts: Record<string, Part> = {
    nth: { lacks: strace, run: (scene, tell) => failNthCalls(scene, every, tell) },
    disk: { lacks: SmallDisk.isPossible() ? null : 'needs Linux and root, to mount disks in memory', run: spoilDisks },
    visitors: { lacks: process.platform === 'linux' ? null : 'needs Linux, for its many loopback addresses', run: floodWithDials },
    slow: { lacks: strace, run: slowDownSyncs },
  }
  const chosen = Object.entries(parts).filter(([name]) => values.only === undefined || values.only === name)
  if (chosen.length === 0) throw new RangeError(`no part is called ${values.only}: ${Object.keys(parts).join(', ')}`)
  const rows: Row[] = []
  const tell: Tell = (row) => {
    rows.push(row)
    process.stderr.write(`${row.name}: ${row.skipped ?? `${row.struck} of ${row.trials} struck, ${row.faults.length} faults`}\n`)
    for (const fault of row.faults.slice(0, 5)) process.stderr.write(`  ${fault}\n`)
  }
  const sandbox = await Sandbox.create()
  try {
    const scene = await makeScene(sandbox)
    for (const [name, part] of chosen) {
      const skipped = new Row(name)
      skipped.skipped = part.lacks
      if (part.lacks === null) await part.run(scene, tell)
      else tell(skipped)
    }
  } finally {
    await sandbox.clear()
  }
  process.stdout.write(`${tableOf(rows)}\n`)
  return rows.every(({ faults }) => faults.length === 0) ? 0 : 1
}

if (import.meta.main) process.exitCode = await main()
