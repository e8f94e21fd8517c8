/**
 * `npm run sim -- --seeds N [--from S]` runs so many seeds of the simulated network; `SEED=n npm run sim` replays one and prints its trace.
 * The first seed that fails ends the run with 1 and is kept in seeds.json beside this file: `npm test` runs those always.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { runSeed } from './net.ts'

const KEPT = join(import.meta.dirname, 'seeds.json')

/** Seeds that failed once, and how. */
export function keptSeeds(): { seed: number; why: string }[] {
  return JSON.parse(readFileSync(KEPT, 'utf8')) as { seed: number; why: string }[] // written by this file alone
}

function keep(seed: number, why: string): void {
  const kept = keptSeeds()
  if (kept.some((other) => other.seed === seed)) return
  kept.push({ seed, why: why.slice(0, 200) })
  writeFileSync(KEPT, `${JSON.stringify(kept, null, 2)}\n`)
}

const messageOf = (error: unknown): string => (error instanceof Error ? `${error.name}: ${error.message}` : String(error))

function replay(seed: number): number {
  const lines: string[] = []
  try {
    runSeed(seed, (line) => lines.push(line))
    return 0
  } catch (error) {
    lines.push(error instanceof Error ? (error.stack ?? error.message) : String(error))
    return 1
  } finally {
    process.stdout.write(`${lines.join('\n')}\n`)
  }
}

function sweep(from: number, count: number): number {
  const startedMs = performance.now()
  let [steps, slowest] = [0, { seed: 0, finishedMs: 0 }]
  for (let seed = from; seed < from + count; seed++) {
    try {
      const outcome = runSeed(seed)
      steps += outcome.steps
      if (outcome.finishedMs > slowest.finishedMs) slowest = { seed, finishedMs: outcome.finishedMs }
    } catch (error) {
      console.error(`seed ${seed} failed after ${seed - from} that passed: ${messageOf(error)}\nreplay it: SEED=${seed} npm run sim`)
      keep(seed, messageOf(error))
      return 1
    }
  }
  const seconds = (performance.now() - startedMs) / 1000
  console.log(`${count} seeds from ${from} passed: ${(count / seconds).toFixed(0)} seeds/s, ${Math.round(steps / count)} steps each`)
  console.log(`the longest story took ${Math.round(slowest.finishedMs / 1000)} s of its time (seed ${slowest.seed})`)
  return 0
}

function main(): number {
  const { SEED } = process.env
  if (SEED !== undefined) return replay(Number(SEED))
  const { values } = parseArgs({ options: { seeds: { type: 'string', default: '1000' }, from: { type: 'string', default: '1' } } })
  return sweep(Number(values.from), Number(values.seeds))
}

if (import.meta.main) process.exitCode = main()
