/**
 * Kills at chosen system calls: first start, share, get and unseed, each killed at the Nth call by which it changes the disk.
 *
 * After each kill the same order is given again, with a look at everything that was promised; it must succeed without any help.
 */
import { join } from 'node:path'
import type { Order, Said, Step } from './one-shot.ts'
import { blockNames, faultsOf, treeOf } from './oracle.ts'
import { type Ended, listPoints, runOrder, runUntil, type Scope } from './processes.ts'
import type { Stage } from './stage.ts'
import { Tally } from './tally.ts'

const SHARE_BLOCKS = 24

interface Act {
  name: string
  /** The home to begin with. */
  template: string | null
  steps(home: string): Step[]
  peers: string[]
  /** Looks after the repetition, beside what holds always. */
  judge(trial: { home: string; killed: Ended; again: Ended; tally: Tally }): Promise<void> | void
}

/** Kills every act at every `every`th point; tells of each act when it is done. */
export async function killAtPoints(stage: Stage, every: number, tell: (tally: Tally) => void): Promise<void> {
  for (const act of await makeActs(stage)) {
    for (const scope of ['files', 'records'] as const) tell(await killAct(stage, act, scope, every))
  }
}

async function killAct(stage: Stage, act: Act, scope: Scope, every: number): Promise<Tally> {
  const make = (): { home: string; order: Order } => {
    const home = stage.copy(act.template)
    return { home, order: stage.order(home, act.steps(home), act.peers) }
  }
  const counted = make()
  const { points, ended } = await listPoints(counted.order, scope)
  const tally = new Tally(`${act.name}, ${scope === 'files' ? 'all files' : 'records'}`, points.length)
  if (!finished(ended)) tally.fault(`the run that counts did not end well: ${ended.stderr}`)
  stage.drop(counted.home)
  // From another one each time where not all are tried, so that repeated runs meet more of them.
  for (let i = Math.floor(Math.random() * Math.min(every, points.length)); i < points.length; i += every) {
    const point = points[i]!
    const { home, order } = make()
    tally.at(`before ${point.call} number ${point.nth}`)
    const killed = await runUntil(order, scope, point)
    if (killed.signal === 'SIGKILL') tally.killed++
    const again = await runOrder({ ...order, steps: [...order.steps, { do: 'list' }] })
    tally.started(again.said)
    if (!finished(again)) tally.fault(`the start after the kill failed: ${again.stderr.trim().split('\n').at(-1)}`)
    const identities = new Set([...killed.said, ...again.said].flatMap((said) => (said.said === 'started' ? [said.peerId] : [])))
    if (identities.size > 1) tally.fault('lost: the identity')
    for (const fault of await faultsOf(home)) tally.fault(fault)
    await act.judge({ home, killed, again, tally })
    stage.drop(home)
  }
  return tally
}

const finished = (ended: Ended): boolean => ended.said.some(({ said }) => said === 'stopped')

const failures = (ended: Ended): (Said & { said: 'failed' })[] => ended.said.filter((said) => said.said === 'failed')

const listed = (ended: Ended): { cid: string; state: string }[] => ended.said.flatMap((said) => (said.said === 'listed' ? said.shares : []))

async function makeActs(stage: Stage): Promise<Act[]> {
  const source = stage.source('source', 1, SHARE_BLOCKS)
  const other = stage.source('other', 2, SHARE_BLOCKS / 2)
  const empty = stage.path('template-empty')
  await runOrder(stage.order(empty, []))
  const two = stage.path('template-two')
  const kept = await runOrder(stage.order(two, [{ do: 'share', path: other }]))
  const keptNames = await blockNames(two)
  const both = await runOrder(stage.order(two, [{ do: 'share', path: source }]))
  const [keptShare, goingShare] = [kept, both].map(({ said }) => said.find((line) => line.said === 'shared'))
  if (keptShare === undefined || goingShare === undefined) throw new Error(`nothing to begin with: ${kept.stderr}${both.stderr}`)
  const { addresses, links } = await stage.seeder([source])
  const link = links[0] ?? ''
  return [
    { name: 'first start', template: null, peers: [], steps: () => [], judge: () => {} },
    {
      name: 'share',
      template: empty,
      peers: [],
      steps: () => [{ do: 'share', path: source }],
      judge: async ({ home, killed, again, tally }) => {
        const [promised, repeated] = [killed, again].map(({ said }) => said.find((line) => line.said === 'shared'))
        for (const { code, message } of failures(again)) tally.fault(`the repeated share failed: ${code} ${message}`)
        if (promised !== undefined) tally.promised++
        if (promised !== undefined && promised.link !== repeated?.link) tally.fault('lost: the link is another one')
        if (repeated !== undefined) await expectReadable(stage, home, repeated, tally)
      },
    },
    {
      name: 'get',
      template: empty,
      peers: addresses,
      steps: (home) => [{ do: 'get', link, outputDir: `${home}-out` }],
      judge: ({ home, killed, again, tally }) => {
        const out = `${home}-out`
        if (killed.said.some(({ said }) => said === 'got')) tally.promised++
        // Where the kill came after the files were in place, the repetition says that they are.
        for (const { code, message } of failures(again)) if (code !== 'EXISTS') tally.fault(`the repeated get failed: ${code} ${message}`)
        if (treeOf(join(out, 'source')) !== treeOf(source)) tally.fault('wrong bytes: the files are not what was shared')
        const left = (treeOf(out) ?? '').split('\n').filter((line) => line !== '' && !line.startsWith('source'))
        if (left.length > 0) tally.fault(`leftover beside the files: ${left[0]}`)
        stage.drop(out)
      },
    },
    {
      name: 'unseed',
      template: two,
      peers: [],
      steps: () => [{ do: 'unseed', cid: goingShare.cid }],
      judge: async ({ home, killed, again, tally }) => {
        if (killed.said.some(({ said }) => said === 'unseeded')) tally.promised++
        for (const { code, message } of failures(again))
          if (code !== 'NOT_KEPT') tally.fault(`the repeated unseed failed: ${code} ${message}`)
        if (listed(again).length !== 1) tally.fault(`${listed(again).length} shares are listed instead of 1`)
        // A start finishes in the background what the kill cut off, so there is time for that before the blocks are counted.
        await expectReadable(stage, home, keptShare, tally)
        const names = new Set(await blockNames(home))
        const lost = keptNames.filter((name) => !names.has(name)).length
        if (lost > 0) tally.fault(`lost: ${lost} blocks of a share that is kept`)
        if (names.size - keptNames.length + lost > 0) tally.fault(`leftover: ${names.size - keptNames.length + lost} blocks of no share`)
      },
    },
  ]
}

/** What was promised can be read from the home alone, byte for byte. */
export async function expectReadable(stage: Stage, home: string, share: { link: string; path: string }, tally: Tally): Promise<void> {
  const out = `${home}-read`
  const read = await runOrder(stage.order(home, [{ do: 'get', link: share.link, outputDir: out }]))
  tally.started(read.said)
  const name = share.path.split('/').at(-1) ?? ''
  if (failures(read).length > 0) tally.fault(`lost: a share cannot be read (${failures(read)[0]?.message})`)
  else if (treeOf(join(out, name)) !== treeOf(share.path)) tally.fault('wrong bytes: a share gives other files')
  stage.drop(out)
}
