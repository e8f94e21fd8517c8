/** Starts: of a home with very many blocks after a kill, and of two daemons at once on one home. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runOrder } from './processes.ts'
import type { Stage } from './stage.ts'
import { Tally } from './tally.ts'

const CLI = fileURLToPath(new URL('../../cli/shoal.js', import.meta.url))
const EXIT_LOCKED = 3

/** The start after a kill of a home that holds `blocks` blocks, 1 KiB each. */
export async function startWithMany(stage: Stage, blocks: number): Promise<Tally> {
  const tally = new Tally(`start with ${blocks} blocks`, 1)
  const home = stage.path('many')
  await runOrder(stage.order(home, []))
  for (let i = 0; i < blocks; i++) {
    const bytes = randomBytes(1_024)
    const name = createHash('sha256').update(bytes).digest('hex')
    writeFileSync(join(home, 'blocks', name.slice(0, 2), name), bytes)
  }
  // What a killed run leaves: an unfinished write, and so every folder is synced.
  writeFileSync(join(home, 'tmp', 'left.block'), 'half')
  tally.killed++
  const run = await runOrder(stage.order(home, []))
  tally.started(run.said)
  if (run.said.at(-1)?.said !== 'stopped') tally.fault(`the start failed: ${run.stderr}`)
  return tally
}

/** True when it runs; its exit code and words when it ended. */
export type Outcome = true | { code: number | null; says: string }

export interface Racer {
  child: ChildProcess
  outcome: Promise<Outcome>
}

/** Starts `shoal daemon` on a home. */
export function startDaemon(stage: Stage, home: string): Racer {
  const args = ['daemon', '--json', '--home', home, '--network', stage.network, '--listen', '/ip4/127.0.0.1/tcp/0', '--no-mdns']
  const child = spawn(process.execPath, [CLI, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  let says = ''
  // With --json the error is on standard output.
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      says += chunk.toString()
    })
  }
  const gone = once(child, 'close').then(() => ({ code: child.exitCode, says }))
  const runs = once(child.stdout, 'data').then(
    ([chunk]): Promise<Outcome> => (String(chunk).startsWith('{"error"') ? gone : Promise.resolve(true)),
  )
  return { child, outcome: Promise.race<Outcome>([runs, gone]) }
}

/** Pairs of daemons on one home, started in the same moment; the winner is killed, so the next pair finds what that leaves. */
export async function raceStarts(stage: Stage, pairs: number): Promise<Tally> {
  const tally = new Tally('two daemons at once', pairs)
  const home = stage.path('raced')
  for (let pair = 1; pair <= pairs; pair++) {
    tally.at(`pair ${pair}`)
    const racers = [startDaemon(stage, home), startDaemon(stage, home)]
    const outcomes = await Promise.all(racers.map(({ outcome }) => outcome))
    const winner = racers[outcomes.indexOf(true)]
    const losers = outcomes.filter((outcome) => outcome !== true)
    if (winner === undefined || losers.length !== 1) tally.fault(`${2 - losers.length} of two daemons run`)
    for (const { code, says } of losers) {
      if (code !== EXIT_LOCKED) tally.fault(`the loser exits with ${code}: ${says.trim()}`)
      else if (!says.includes(String(winner?.child.pid))) tally.fault(`the loser does not say who holds the home: ${says.trim()}`)
    }
    for (const { child } of racers) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      const gone = once(child, 'close')
      child.kill('SIGKILL')
      tally.killed++
      await gone
    }
  }
  return tally
}
