/**
 * `npm run sim:crowd [-- --form flash|hour --peers 100,1000 --blocks 512 --seed 1 --json --progress]`: crowds of the production machines on
 * simulated home lines. With `--progress` one line for each minute of theirs goes to standard error. Without `--form`: flash crowds of 100
 * and 1,000, and an hour of 1,000.
 */
import { parseArgs } from 'node:util'
import type { Crowd } from './crowd.ts'
import { printFlash, runFlash } from './flash.ts'
import { printHour, runHour } from './hour.ts'

const { values } = parseArgs({
  options: {
    form: { type: 'string' },
    peers: { type: 'string' },
    blocks: { type: 'string' },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
    progress: { type: 'boolean', default: false },
  },
})

const FLASH_BLOCKS = 512
const HOUR_BLOCKS = 64

function print(result: object, text: string): void {
  process.stdout.write(`${values.json ? JSON.stringify(result) : text}\n`)
}

const MINUTE_MS = 60_000
let saidMinute = 0

function onLook({ wheel, tally, members, meter }: Crowd): void {
  const minute = Math.floor(wheel.now / MINUTE_MS)
  if (!values.progress || minute === saidMinute) return
  saidMinute = minute
  const seconds = process.uptime().toFixed(0)
  const events = meter.costs().reduce((sum, { count }) => sum + count, 0)
  const parts = [`${members.length - 1} came`, `${tally.finished} finished`, `${tally.blocks} blocks`, `${events} events`]
  process.stderr.write(`${minute} min: ${parts.join(', ')}; ${seconds} s here\n`)
}

function peersOr(otherwise: number[]): number[] {
  return values.peers === undefined ? otherwise : values.peers.split(',').map(Number)
}

const seed = Number(values.seed)
if (values.form === undefined || values.form === 'flash') {
  for (const peers of peersOr([100, 1_000])) {
    const result = runFlash(peers, Number(values.blocks ?? FLASH_BLOCKS), seed, onLook)
    print(result, printFlash(result))
  }
}
if (values.form === undefined || values.form === 'hour') {
  for (const peers of values.form === undefined ? [1_000] : peersOr([1_000])) {
    const result = runHour(peers, Number(values.blocks ?? HOUR_BLOCKS), seed, onLook)
    print(result, printHour(result))
  }
}
