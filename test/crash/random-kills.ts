/**
 * Kills at random moments, many in a row on one home that nobody cleans: shares, gets and unseeds cut off at any time, one after another.
 *
 * Every start must succeed by itself; every so often all that was promised so far is read back and compared byte for byte.
 */
import { join } from 'node:path'
import { Random } from '../sim/crowd/random.ts'
import type { Said, Step } from './one-shot.ts'
import { faultsOf, treeOf } from './oracle.ts'
import { expectReadable } from './points.ts'
import { runOrder } from './processes.ts'
import type { Stage } from './stage.ts'
import { Tally } from './tally.ts'

const LOOK_EVERY = 25
const TELL_EVERY = 100
/** As many of the last runs of each kind. */
const LEARN_FROM = 8
/** Some runs end before they are killed. */
const TRIALS_PER_KILL = 3

/** How long a run of some length takes that nobody kills, learned from those that came to their end. */
class Duration {
  readonly #startedMs: number[] = []
  readonly #endedMs: number[] = []

  learn(toStartMs: number, toEndMs: number): void {
    for (const [list, ms] of [
      [this.#startedMs, toStartMs],
      [this.#endedMs, toEndMs],
    ] as const) {
      list.push(ms)
      if (list.length > LEARN_FROM) list.shift()
    }
  }

  /** A moment to kill at: one time in five while it starts, else anywhere from there to shortly after its end. */
  moment(random: Random): number {
    const [start, end] = [this.#startedMs, this.#endedMs].map((list) => list.reduce((sum, ms) => sum + ms, 0) / list.length) as [
      number,
      number,
    ]
    return random.below(5) === 0 ? random.below(Math.ceil(start)) : start + random.below(Math.ceil(1.05 * end - start))
  }

  get isKnown(): boolean {
    return this.#endedMs.length > 0
  }
}

export async function killAtRandom(stage: Stage, count: number, seed: number): Promise<Tally> {
  const tally = new Tally(`random kills (seed ${seed})`, count)
  const random = new Random(seed)
  const sources = Array.from({ length: 6 }, (_, i) => stage.source(`random-${i}`, 100 + i, 4 + 2 * i))
  const { addresses, links } = await stage.seeder(sources.slice(0, 2))
  const home = stage.path('random-home')
  /** Shares whose link was printed, and which nobody asked to let go since. */
  const promised = new Map<string, Said & { said: 'shared' }>()
  const durations = new Map<string, Duration>()
  for (let i = 1; tally.killed < count && i <= TRIALS_PER_KILL * count; i++) {
    tally.at(`trial ${i}`)
    const steps: Step[] = []
    const out = stage.path(`random-out-${i}`)
    const got = random.below(links.length)
    const isGet = random.below(4) === 0
    // Several things in a row, so that most kills come after something was promised and before the rest is.
    if (isGet) steps.push({ do: 'get', link: links[got] ?? '', outputDir: out })
    const going = random.below(3) === 0 ? [...promised.values()][random.below(promised.size)] : undefined
    if (going !== undefined) steps.push({ do: 'unseed', cid: going.cid })
    for (let n = 1 + random.below(4); n > 0; n--) {
      const path = sources[random.below(sources.length)] ?? ''
      // What is let go comes back in another run.
      if (path !== going?.path) steps.push({ do: 'share', path })
    }
    const order = stage.order(home, steps, isGet ? addresses : [])
    const kind = `${isGet} ${steps.length}`
    const duration = durations.get(kind) ?? new Duration()
    durations.set(kind, duration)
    const startedMs = performance.now()
    const killed = await runOrder(order, duration.isKnown ? { killMs: duration.moment(random) } : {})
    if (killed.signal === 'SIGKILL') tally.killed++
    else duration.learn(killed.firstMs ?? 0, performance.now() - startedMs)
    tally.started(killed.said)
    if (going !== undefined) promised.delete(going.path)
    for (const said of killed.said) {
      if (killed.signal === 'SIGKILL' && ['shared', 'got', 'unseeded'].includes(said.said)) tally.promised++
      if (said.said === 'shared') promised.set(said.path, said)
      if (said.said === 'failed' && said.code !== 'NOT_KEPT') tally.fault(`${said.step} failed: ${said.code} ${said.message}`)
      if (said.said === 'got' && treeOf(join(out, `random-${got}`)) !== treeOf(sources[got] ?? '')) tally.fault('wrong bytes: what was got')
    }
    if (killed.signal !== 'SIGKILL' && killed.said.at(-1)?.said !== 'stopped') tally.fault(`ended by itself: ${killed.stderr}`)
    stage.drop(out)
    if (i % TELL_EVERY === 0) process.stderr.write(`${tally.killed} of ${count} killed, ${tally.faults.length} faults so far\n`)
    if (i % LOOK_EVERY === 0 || tally.killed === count) await look(stage, home, promised, tally)
  }
  return tally
}

async function look(stage: Stage, home: string, promised: Map<string, Said & { said: 'shared' }>, tally: Tally): Promise<void> {
  const calm = await runOrder(stage.order(home, [{ do: 'list' }]))
  tally.started(calm.said)
  if (calm.said.at(-1)?.said !== 'stopped') return tally.fault(`the start after the kill failed: ${calm.stderr}`)
  const listed = new Set(calm.said.flatMap((said) => (said.said === 'listed' ? said.shares.map(({ cid }) => cid) : [])))
  for (const fault of await faultsOf(home)) tally.fault(fault)
  for (const share of promised.values()) {
    if (!listed.has(share.cid)) tally.fault(`lost: a share that was promised is not listed`)
    else await expectReadable(stage, home, share, tally)
  }
}
