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

export async function killAtRandom(stage: Stage, count: number, seed: number): Promise<Tally> {
  const tally = new Tally(`random kills (seed ${seed})`, count)
  const random = new Random(seed)
  const sources = Array.from({ length: 6 }, (_, i) => stage.source(`random-${i}`, 100 + i, 4 + 2 * i))
  const { addresses, links } = await stage.seeder(sources.slice(0, 2))
  const home = stage.path('random-home')
  /** Shares whose link was printed, and which nobody asked to let go since. */
  const promised = new Map<string, Said & { said: 'shared' }>()
  // How long a run takes that nobody kills: the kills fall all over that.
  const first = stage.order(home, [{ do: 'share', path: sources[0] ?? '' }])
  const firstMs = performance.now()
  await runOrder(first)
  let normalMs = performance.now() - firstMs
  for (let i = 1; i <= count; i++) {
    tally.at(`kill ${i}`)
    const steps: Step[] = []
    const out = stage.path(`random-out-${i}`)
    const got = random.below(links.length)
    const isGet = random.below(4) === 0
    if (isGet) steps.push({ do: 'get', link: links[got] ?? '', outputDir: out })
    for (let n = random.below(3); n > 0; n--) steps.push({ do: 'share', path: sources[random.below(sources.length)] ?? '' })
    const going = [...promised.values()][random.below(2 * promised.size + 1)]
    if (going !== undefined) steps.push({ do: 'unseed', cid: going.cid })
    const startedMs = performance.now()
    const order = stage.order(home, steps, isGet ? addresses : [])
    const killed = await runOrder(order, { killMs: random.below(Math.ceil(normalMs * 1.4)) })
    if (killed.signal === 'SIGKILL') tally.killed++
    else normalMs += (performance.now() - startedMs - normalMs) / 4
    tally.started(killed.said)
    if (going !== undefined) promised.delete(going.path)
    for (const said of killed.said) {
      // A share that is let go in the same run comes before that.
      if (said.said === 'shared' && said.cid !== going?.cid) promised.set(said.path, said)
      if (said.said === 'failed' && said.code !== 'NOT_KEPT') tally.fault(`${said.step} failed: ${said.code} ${said.message}`)
      if (said.said === 'got' && treeOf(join(out, `random-${got}`)) !== treeOf(sources[got] ?? '')) tally.fault('wrong bytes: what was got')
    }
    if (killed.signal !== 'SIGKILL' && killed.said.at(-1)?.said !== 'stopped') tally.fault(`ended by itself: ${killed.stderr}`)
    stage.drop(out)
    if (i % LOOK_EVERY === 0 || i === count) await look(stage, home, promised, tally)
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
    tally.promised++
    if (!listed.has(share.cid)) tally.fault(`lost: a share that was promised is not listed`)
    else await expectReadable(stage, home, share, tally)
  }
}
