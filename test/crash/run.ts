/**
 * `npm run crash`: kills real nodes and looks at what is left. Needs Linux; the chosen points need strace (a Debian package).
 *
 *   npm run crash                  every 10th point of first start, share, get and unseed; 50 random kills; starts and stops
 *   npm run crash -- --all         every point; --every N: every Nth
 *   npm run crash -- --random N    N kills at random moments in a row on one home, and nothing else; --seed S
 *   npm run crash -- --pairs N     N times two daemons at once on one home, and nothing else; --stops N: N orderly stops in transfers
 */
import { parseArgs } from 'node:util'
import { killAtPoints } from './points.ts'
import { hasStrace } from './processes.ts'
import { killAtRandom } from './random-kills.ts'
import { Stage } from './stage.ts'
import { raceStarts, startWithMany } from './starts.ts'
import { stopAtRandom } from './stops.ts'
import { type Tally, tableOf } from './tally.ts'

const EVERY = 10
const MANY_BLOCKS = 10_000
const START_MS_MAX = 5_000

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      all: { type: 'boolean', default: false },
      every: { type: 'string', default: String(EVERY) },
      random: { type: 'string' },
      pairs: { type: 'string' },
      stops: { type: 'string' },
      seed: { type: 'string', default: String(Date.now() % 100_000) },
    },
  })
  const isWhole = [values.random, values.pairs, values.stops].every((value) => value === undefined)
  const rows: Tally[] = []
  const tell = (tally: Tally): void => {
    rows.push(tally)
    process.stderr.write(`${tally.name}: ${tally.killed} of ${tally.points} killed, ${tally.faults.length} faults\n`)
    for (const fault of tally.faults.slice(0, 5)) process.stderr.write(`  ${fault}\n`)
  }
  const stage = new Stage()
  try {
    if (isWhole) {
      if (hasStrace()) await killAtPoints(stage, values.all ? 1 : Number(values.every), tell)
      else process.stderr.write('skipped: the kills at chosen points need strace (apt install strace)\n')
      tell(await startWithMany(stage, MANY_BLOCKS))
    }
    if (isWhole || values.random !== undefined) tell(await killAtRandom(stage, Number(values.random ?? 50), Number(values.seed)))
    if (isWhole || values.pairs !== undefined) tell(await raceStarts(stage, Number(values.pairs ?? 5)))
    if (isWhole || values.stops !== undefined) tell(await stopAtRandom(stage, Number(values.stops ?? 6), Number(values.seed)))
  } finally {
    await stage.clear()
  }
  const slow = rows.filter(({ slowestStartMs }) => slowestStartMs > START_MS_MAX)
  for (const tally of slow) tally.fault(`a start took ${Math.round(tally.slowestStartMs)} ms, limit ${START_MS_MAX}`)
  process.stdout.write(`${tableOf(rows)}\n`)
  return rows.every(({ faults }) => faults.length === 0) ? 0 : 1
}

if (import.meta.main) process.exitCode = await main()
