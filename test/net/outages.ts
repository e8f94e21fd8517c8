/**
 * What goes wrong in the middle of a transfer, and ends: a dead line, another address, a computer that sleeps. Each time the transfer goes on
 * soon after, by itself, and nothing that was verified is fetched again.
 */
import { mkdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { ShareSummary, ShoalApi, StatusResult } from '../../node/control/api.ts'
import { connectControl } from '../../node/control/client.ts'
import { FORMAT, SWARM } from '../../protocol/limits.ts'
import { parseLink } from '../../protocol/link.ts'
import { compareTrees } from '../kit/trees.ts'
import { nodePrimitives } from '../primitives-node.ts'
import type { Stage, Story, Telling } from './stage.ts'

/** Some 25 s on the line of the sharer. */
const BYTES = 60_000_000
/** When so much has come, it goes wrong. */
const PART = 0.25
const GOES_ON_MAX_S = 15
const READY_MS = 60_000
const DONE_MS = 120_000
const LOOK_MS = 200
const SHORT_S = 5
const MIDDLE_S = 60
const LONG_S = 600

/** One thing that goes wrong; it is over when the promise resolves. */
interface Outage {
  name: string
  getter: 'b' | 'c'
  happen(stage: Stage): Promise<void>
}

const seconds = (count: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, count * 1000))

const down = (machine: string, count: number): Outage => ({
  name: `line of the ${machine === 'a' ? 'sharer' : 'getter'} down for ${count} s`,
  getter: 'b',
  happen: async ({ bed }) => {
    await bed.cut(machine)
    await seconds(count)
    await bed.mend(machine)
  },
})

const moved = (who: string, machine: string, address: string, getter: Outage['getter'] = 'b'): Outage => ({
  name: `another address for ${who}`,
  getter,
  happen: ({ bed }) => bed.move(machine, address),
})

const asleep = (machine: 'a' | 'b', count: number): Outage => ({
  name: `${machine === 'a' ? 'sharer' : 'getter'} suspended for ${count} s`,
  getter: 'b',
  happen: async (stage) => {
    const { pid } = stage.node(machine).started
    process.kill(pid, 'SIGSTOP')
    await seconds(count)
    process.kill(pid, 'SIGCONT')
  },
})

const usual: readonly Outage[] = [
  ...[down('a', SHORT_S), down('b', SHORT_S), down('a', MIDDLE_S), down('b', MIDDLE_S)],
  ...[moved('the sharer', 'a', '91.8.0.2'), moved('the getter', 'b', '77.2.0.2'), moved("the getter's router", 'home', '88.7.0.2', 'c')],
  ...[asleep('a', MIDDLE_S), asleep('b', MIDDLE_S)],
]
const long: readonly Outage[] = [down('a', LONG_S), asleep('a', LONG_S), asleep('b', LONG_S)]

async function tell(stage: Stage, { isLong, only }: Telling): Promise<void> {
  await stage.start('east')
  const bootstrap = [stage.entrance('east')]
  for (const name of ['a', 'b', 'c']) await stage.start(name, { bootstrap })
  await until('the sharer to be reached', async () => (await statusOf(stage, 'a')).reach?.kind === 'open', READY_MS)
  let failed = 0
  stage.say('| in the middle of a transfer | goes on after | blocks fetched, of | bytes in, of what the share weighs |')
  stage.say('|---|---|---|---|')
  for (const outage of isLong ? [...usual, ...long] : usual) {
    if (only !== null && !outage.name.includes(only)) continue
    try {
      stage.say(`| ${outage.name} | ${(await through(stage, outage)).join(' | ')} |`)
    } catch (error) {
      failed++
      stage.say(`| ${outage.name} | FAILED: ${error instanceof Error ? error.message : String(error)} |`)
    }
  }
  if (failed > 0) throw new Error(`${failed} did not come out well`)
}

async function through(stage: Stage, outage: Outage): Promise<string[]> {
  const shared = await stage.share('a', BYTES)
  const cid = (await parseLink(nodePrimitives, shared.link)).cid.text
  const getter = await apiOf(stage, outage.getter)
  const here = async (): Promise<ShareSummary | undefined> => (await getter.shares(NEVER)).find((share) => share.cid === cid)
  const before = await getter.status(NEVER)
  const outputDir = stage.sandbox.path(`through-${basename(shared.file)}`)
  await mkdir(outputDir)
  const request = { link: shared.link, outputDir, path: null, force: false, consent: false, wait: true, peers: [], keep: false }
  const getting = getter.get(request, () => {}, NEVER)
  getting.catch(() => {}) // heard of below
  const hasPart = async (): Promise<boolean> => {
    const share = await here()
    return share !== undefined && share.blockCount !== null && share.haveBlocks >= PART * share.blockCount
  }
  await until('a part of it', hasPart, READY_MS)
  await outage.happen(stage)
  const since = performance.now()
  const had = (await here())?.haveBlocks ?? 0
  // What lay in buffers counts for nothing: four blocks more than there were.
  const wanted = had + SWARM.requestsPerPeerMin + 2
  await until('it to go on', async () => ((await here())?.haveBlocks ?? 0) >= wanted, DONE_MS)
  const tookSeconds = (performance.now() - since) / 1000
  const result = await withinTime(getting)
  const share = await here()
  const { differences } = await compareTrees(shared.file, join(outputDir, basename(shared.file)))
  if (differences.length > 0) throw new Error(`the bytes are not those that were shared: ${differences.join(', ')}`)
  const bytesIn = (await getter.status(NEVER)).bytesIn - before.bytesIn
  const wireBytes = share?.wireBytes ?? 0
  const blockCount = share?.blockCount ?? 0
  // What was under way when it went wrong is lost, and no more.
  const underWayBytes = 2 * SWARM.requestsTotalMax * FORMAT.blockBytes
  if (result.fetchedBlocks > blockCount + 1) throw new Error(`${result.fetchedBlocks} blocks were fetched, of ${blockCount}`)
  if (bytesIn > wireBytes + underWayBytes) throw new Error(`${bytesIn} bytes came in for ${wireBytes}`)
  if (tookSeconds > GOES_ON_MAX_S) throw new Error(`it went on after ${tookSeconds.toFixed(1)} s, more than ${GOES_ON_MAX_S}`)
  await getter.unseed({ cid }, NEVER)
  const part = ((bytesIn / wireBytes) * 100).toFixed(0)
  return [`${tookSeconds.toFixed(1)} s`, `${result.fetchedBlocks}, ${blockCount} and the tree`, `${part} %`]
}

async function withinTime<T>(work: Promise<T>): Promise<T> {
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(), DONE_MS)
  try {
    return await Promise.race([
      work,
      new Promise<never>((_, reject) => late.signal.addEventListener('abort', () => reject(new Error('it did not end')))),
    ])
  } finally {
    clearTimeout(timer)
  }
}

/** Asked without a process for each look, which would weigh more than what is looked at. */
async function apiOf(stage: Stage, name: string): Promise<ShoalApi> {
  const api = await connectControl(stage.node(name).started.socket)
  if (api === null) throw new Error(`the node on ${name} does not answer: ${stage.node(name).log.slice(-2_000)}`)
  return api
}

const statusOf = async (stage: Stage, name: string): Promise<StatusResult> => (await apiOf(stage, name)).status(NEVER)

const NEVER = new AbortController().signal

async function until(what: string, isSo: () => Promise<boolean>, patienceMs: number): Promise<void> {
  const since = performance.now()
  while (!(await isSo())) {
    if (performance.now() - since > patienceMs) throw new Error(`waited in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
  }
}

export const outages: Story = {
  name: 'outages',
  about: 'a transfer goes on after a dead line, another address, or a sleep; --long: also of ten minutes',
  table: `
    # name   on        address       nat        line
    east     internet  5.9.0.2       -          5ms-100mbit
    a        internet  91.7.0.2      -          5ms-20mbit
    b        internet  77.1.0.2      -          5ms-100mbit
    home     internet  88.6.0.2      cone       5ms-100mbit
    c        home      192.168.1.2
  `,
  tell,
}
