/**
 * `npm run sim:crowd [-- --form flash|hour --peers 100,1000 --blocks 512 --seed 1 --json]`: crowds of the production machines on
 * simulated home lines. Without `--form`: flash crowds of 100 and 1,000, and an hour of 1,000.
 */
import { parseArgs } from 'node:util'
import { printFlash, runFlash } from './flash.ts'
import { printHour, runHour } from './hour.ts'

const { values } = parseArgs({
  options: {
    form: { type: 'string' },
    peers: { type: 'string' },
    blocks: { type: 'string' },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  },
})

const FLASH_BLOCKS = 512
const HOUR_BLOCKS = 64

function print(result: object, text: string): void {
  process.stdout.write(`${values.json ? JSON.stringify(result) : text}\n`)
}

function peersOr(otherwise: number[]): number[] {
  return values.peers === undefined ? otherwise : values.peers.split(',').map(Number)
}

const seed = Number(values.seed)
if (values.form === undefined || values.form === 'flash') {
  for (const peers of peersOr([100, 1_000])) {
    const result = runFlash(peers, Number(values.blocks ?? FLASH_BLOCKS), seed)
    print(result, printFlash(result))
  }
}
if (values.form === undefined || values.form === 'hour') {
  for (const peers of values.form === undefined ? [1_000] : peersOr([1_000])) {
    const result = runHour(peers, Number(values.blocks ?? HOUR_BLOCKS), seed)
    print(result, printHour(result))
  }
}
