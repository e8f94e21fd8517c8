/** Orderly stops at random moments of a transfer: within the time that is promised, at once when asked twice, and nothing is left half-done. */
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { connectControl, socketPathFor } from '../../node/control/client.ts'
import { EXIT } from '../../protocol/errors.ts'
import { WAITS } from '../../protocol/limits.ts'
import { Random } from '../sim/crowd/random.ts'
import { faultsOf } from './oracle.ts'
import { runOrder } from './processes.ts'
import type { Stage } from './stage.ts'
import { startDaemon } from './starts.ts'
import { Tally } from './tally.ts'

const SIGNALS = ['SIGTERM', 'SIGINT'] as const

/** Stops a daemon that is getting a share, `count` times on one home; every third time the signal is sent twice. */
export async function stopAtRandom(stage: Stage, count: number, seed: number): Promise<Tally> {
  const tally = new Tally('orderly stops', count)
  const random = new Random(seed)
  const source = stage.source('stopped-source', 77, 48)
  const { addresses, links } = await stage.seeder([source])
  const home = stage.path('stopped')
  for (let i = 1; i <= count; i++) {
    tally.at(`stop ${i}`)
    const { child, outcome } = startDaemon(stage, home)
    const started = await outcome
    if (started !== true) {
      tally.fault(`the daemon does not start: ${started.says}`)
      continue
    }
    const api = await connectControl(socketPathFor(home))
    const wanted = { link: links[0] ?? '', outputDir: stage.path(`stopped-out-${i}`), path: null, force: false, consent: false }
    const getting = api?.get({ ...wanted, wait: true, keep: true, peers: addresses }, () => {}, AbortSignal.timeout(30_000))
    getting?.catch(() => {}) // it is meant to be cut off
    await sleep(random.below(1_200))
    const gone = once(child, 'close')
    const askedMs = performance.now()
    const signal = SIGNALS[random.below(SIGNALS.length)] ?? 'SIGTERM'
    child.kill(signal)
    const isTwice = i % 3 === 0
    if (isTwice) {
      await sleep(20)
      child.kill(signal)
    }
    await gone
    const tookMs = performance.now() - askedMs
    tally.killed++
    tally.slowestStopMs = Math.max(tally.slowestStopMs, tookMs)
    if (tookMs > WAITS.stopMs) tally.fault(`the stop took ${Math.round(tookMs)} ms`)
    const expected: (number | null)[] = isTwice ? [EXIT.ok, EXIT.interrupted] : [EXIT.ok]
    if (!expected.includes(child.exitCode)) tally.fault(`exit code ${child.exitCode}`)
    stage.drop(wanted.outputDir)
  }
  const calm = await runOrder(stage.order(home, [{ do: 'list' }]))
  tally.started(calm.said)
  if (calm.said.at(-1)?.said !== 'stopped') tally.fault(`the start after the stops failed: ${calm.stderr}`)
  for (const fault of await faultsOf(home)) tally.fault(fault)
  return tally
}
