/**
 * `npm run sim:disk -- --seeds N [--from S]` runs so many stories of the simulated disk; `SEED=n npm run sim:disk` tells one of them in full.
 * The first seed that fails ends the run with 1 and is kept in seeds.json beside this file: `npm test` runs those always.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { runStory } from './story.ts'

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

async function replay(seed: number): Promise<number> {
  const lines: string[] = []
  try {
    await runStory(seed, (line) => lines.push(line))
    return 0
  } catch (error) {
    lines.push(error instanceof Error ? (error.stack ?? error.message) : String(error))
    return 1
  } finally {
    process.stdout.write(`${lines.join('\n')}\n`)
  }
}

async function sweep(from: number, count: number): Promise<number> {
  const startedMs = performance.now()
  let operations = 0
  const happened = new Map<string, number>()
  for (let seed = from; seed < from + count; seed++) {
    try {
      const outcome = await runStory(seed)
      operations += outcome.operations
      for (const [what, times] of outcome.happened) happened.set(what, (happened.get(what) ?? 0) + times)
    } catch (error) {
      const says = error instanceof Error ? error.message : String(error)
      console.error(`seed ${seed} failed after ${seed - from} that passed: ${says}\ntell its story: SEED=${seed} npm run sim:disk`)
      keep(seed, says)
      return 1
    }
  }
  const seconds = (performance.now() - startedMs) / 1000
  console.log(
    `${count} seeds from ${from} passed: ${(count / seconds).toFixed(0)} seeds/s, ${Math.round(operations / count)} operations each`,
  )
  for (const [what, times] of [...happened].sort()) console.log(`${String(times).padStart(9)}  ${what}`)
  return 0
}

async function main(): Promise<number> {
  const { SEED } = process.env
  if (SEED !== undefined) return await replay(Number(SEED))
  const { values } = parseArgs({ options: { seeds: { type: 'string', default: '1000' }, from: { type: 'string', default: '1' } } })
  return await sweep(Number(values.from), Number(values.seeds))
}

if (import.meta.main) process.exitCode = await main()
