/**
 * The command line of a simulation: so many seeds in a row, or one of them told in full. The first seed that fails ends the run with 1 and is
 * kept in a file: `npm test` runs those always.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'

export interface KeptSeed {
  seed: number
  why: string
}

export interface Simulation<T> {
  /** Tells one story; throws what is wrong with it. */
  run(seed: number, trace: ((line: string) => void) | null): T | Promise<T>
  /** Words on what came of all seeds, but their number and speed. */
  sum(outcomes: AsyncIterable<T>): Promise<string[]>
  /** JSON, beside the simulation. */
  keptFile: string
  /** What a user types to see it: `npm run sim`. */
  command: string
}

/** Seeds that failed once, and how. */
export const keptSeeds = (file: string): KeptSeed[] => JSON.parse(readFileSync(file, 'utf8')) as KeptSeed[] // written by `keep` alone

function keep(file: string, seed: number, why: string): void {
  const kept = keptSeeds(file)
  if (kept.some((other) => other.seed === seed)) return
  kept.push({ seed, why: why.slice(0, 200) })
  writeFileSync(file, `${JSON.stringify(kept, null, 2)}\n`)
}

/** Does what the arguments and SEED in the environment say; resolves to the exit code. */
export async function runSeeds<T>(simulation: Simulation<T>): Promise<number> {
  const { SEED } = process.env
  if (SEED !== undefined) return await replay(simulation, Number(SEED))
  const { values } = parseArgs({ options: { seeds: { type: 'string', default: '1000' }, from: { type: 'string', default: '1' } } })
  return await sweep(simulation, Number(values.from), Number(values.seeds))
}

async function replay<T>({ run }: Simulation<T>, seed: number): Promise<number> {
  const lines: string[] = []
  try {
    await run(seed, (line) => lines.push(line))
    return 0
  } catch (error) {
    lines.push(error instanceof Error ? (error.stack ?? error.message) : String(error))
    return 1
  } finally {
    process.stdout.write(`${lines.join('\n')}\n`)
  }
}

async function sweep<T>({ run, sum, keptFile, command }: Simulation<T>, from: number, count: number): Promise<number> {
  let seed = from
  const startedMs = performance.now()
  const outcomes = async function* (): AsyncGenerator<T> {
    for (; seed < from + count; seed++) yield await run(seed, null)
  }
  try {
    const lines = await sum(outcomes())
    const seconds = (performance.now() - startedMs) / 1000
    console.log(`${count} seeds from ${from} passed: ${(count / seconds).toFixed(0)} seeds/s`)
    for (const line of lines) console.log(line)
    return 0
  } catch (error) {
    const why = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
    console.error(`seed ${seed} failed after ${seed - from} that passed: ${why}\ntell its story: SEED=${seed} ${command}`)
    keep(keptFile, seed, why)
    return 1
  }
}
