/** `npm run sim -- --seeds N [--from S]` runs so many seeds of the simulated network; `SEED=n npm run sim` replays one and prints its trace. */
import { join } from 'node:path'
import { runSeeds } from '../kit/seeds.ts'
import { type NetOutcome, runSeed } from './net.ts'

export const KEPT_FILE = join(import.meta.dirname, 'seeds.json')

async function sum(outcomes: AsyncIterable<NetOutcome>): Promise<string[]> {
  let [seeds, steps, longestMs] = [0, 0, 0]
  for await (const outcome of outcomes) {
    seeds++
    steps += outcome.steps
    longestMs = Math.max(longestMs, outcome.finishedMs)
  }
  return [`${Math.round(steps / seeds)} steps each; the longest story took ${Math.round(longestMs / 1000)} s of its time`]
}

if (import.meta.main) process.exitCode = await runSeeds({ run: runSeed, sum, keptFile: KEPT_FILE, command: 'npm run sim' })
