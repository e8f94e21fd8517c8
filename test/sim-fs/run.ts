/** `npm run sim:disk -- --seeds N [--from S]` tells the stories of so many seeds of the simulated disk; `SEED=n npm run sim:disk` those
 *  of one in full. */
import { join } from 'node:path'
import { runSeeds } from '../kit/seeds.ts'
import { runExtractionStory } from './extraction-story.ts'
import { runGcStory } from './gc-story.ts'
import { runStory, type StoryOutcome } from './story.ts'

export const KEPT_FILE = join(import.meta.dirname, 'seeds.json')

/** All stories of one seed: of a home, of an extraction, of letting go. */
export async function runAll(seed: number, trace: ((line: string) => void) | null): Promise<StoryOutcome> {
  const happened = new Map<string, number>()
  let operations = 0
  for (const [name, run] of Object.entries({ home: runStory, extraction: runExtractionStory, 'letting go': runGcStory })) {
    trace?.(`--- ${name}`)
    const outcome = await run(seed, trace)
    operations += outcome.operations
    for (const [what, times] of outcome.happened) happened.set(what, (happened.get(what) ?? 0) + times)
  }
  return { happened, operations }
}

async function sum(outcomes: AsyncIterable<StoryOutcome>): Promise<string[]> {
  let [seeds, operations] = [0, 0]
  const happened = new Map<string, number>()
  for await (const outcome of outcomes) {
    seeds++
    operations += outcome.operations
    for (const [what, times] of outcome.happened) happened.set(what, (happened.get(what) ?? 0) + times)
  }
  const counts = [...happened].sort().map(([what, times]) => `${String(times).padStart(9)}  ${what}`)
  return [`${Math.round(operations / seeds)} operations each`, ...counts]
}

if (import.meta.main) process.exitCode = await runSeeds({ run: runAll, sum, keptFile: KEPT_FILE, command: 'npm run sim:disk' })
