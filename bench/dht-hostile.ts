/**
 * `npm run bench:dht-hostile`: what a hostile DHT costs one node, attack by attack: the longest stretch of its processor time without a
 * pause, memory it grew by, dials to a victim, how long an honest look-up took. Then one key that strangers have surrounded: how many of
 * the other nodes of a DHT still find the seeder, with nothing but the DHT to go by.
 *
 * The attackers are processes of their own, all on loopback, each peer a host of its own. Run with --expose-gc, as the npm script does, so
 * that memory is counted after a collection. Options: --nodes N (60), --sybils N (45), --keys N (2), --only attacks|surround, --json.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type Attack, endAll, patience, startAttacker, startBusyMeter, startSink, startStack } from '../test/hostile/kit.ts'
import { Party } from './dht-party.ts'
import { MIB, say } from './meters.ts'

interface Cost {
  attack: string
  busyMs: number
  /** What is held after a collection, and what the process has from the system. */
  heldMiB: number
  grownMiB: number
  victimDials: number | null
  findMs: number | null
}

interface Memory {
  held: number
  resident: number
}

function memory(): Memory {
  const { gc } = globalThis as { gc?: () => void } // there with --expose-gc
  gc?.()
  const { heapUsed, external, rss } = process.memoryUsage()
  return { held: heapUsed + external, resident: rss }
}

function grown(before: Memory): Pick<Cost, 'heldMiB' | 'grownMiB'> {
  const now = memory()
  return { heldMiB: (now.held - before.held) / MIB, grownMiB: (now.resident - before.resident) / MIB }
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/** An attacker that is asked: the only DHT server of a node that looks up and announces. */
async function asked(count: number): Promise<Cost> {
  const sink = await startSink('127.7.7.7')
  const attacker = startAttacker({ kind: 'closerBomb', count, sink })
  const ready = await attacker.ready
  const stack = await startStack({ bootstrap: ready.type === 'ready' ? [ready.address] : [] })
  await stack.connectBootstrap(patience())
  for (let waited = 0; stack.dht()[0]?.peers !== 1 && waited < 10_000; waited += 50) await delay(50)
  const before = memory()
  const meter = startBusyMeter()
  for (let i = 0; i < 3; i++) for await (const _ of stack.find(randomBytes(32), patience()));
  await stack.provide(randomBytes(32), patience())
  const cost: Cost = {
    attack: `${count} fake peers in an answer, at one address`,
    busyMs: meter.stop(),
    ...grown(before),
    victimDials: sink.connections(),
    findMs: null,
  }
  await endAll()
  return cost
}

/** An attacker that sends records to a server, which an honest node then asks. */
async function told(attack: string, what: Pick<Attack, 'kind' | 'count'>): Promise<Cost> {
  const server = await startStack()
  const [bootstrap, target] = [server.addresses(), server.addresses()[0] ?? '']
  const honest = await Promise.all(
    ['127.0.3.1', '127.0.5.1'].map((host) => startStack({ listen: [`/ip4/${host}/tcp/0`], dialFrom: host, bootstrap })),
  )
  for (const stack of honest) await stack.connectBootstrap(patience())
  await delay(2_000)
  const [provider, asker] = honest as [(typeof honest)[0], (typeof honest)[0]] // two were started
  const key = randomBytes(32)
  await provider.provide(key, patience())
  const before = memory()
  const meter = startBusyMeter()
  await startAttacker({ ...what, target, key: hex(key) }).done
  const busyMs = meter.stop()
  const beganMs = performance.now()
  let findMs: number | null = null
  for await (const peer of asker.find(key, patience())) {
    if (peer.peerId !== provider.peerId) continue
    findMs = performance.now() - beganMs
    break
  }
  const cost: Cost = { attack, busyMs, ...grown(before), victimDials: null, findMs }
  await endAll()
  return cost
}

async function surround(nodes: number, sybils: number, keys: number): Promise<{ found: number; asked: number; told: number }> {
  const party = new Party(3)
  const sum = { found: 0, asked: 0, told: 0 }
  try {
    await party.grow(1)
    await party.grow(nodes - 1)
    await delay(10_000)
    for (let i = 0; i < keys; i++) {
      const key = hex(randomBytes(32))
      const targets = party.members.map(({ address }) => address)
      await startAttacker({ kind: 'surround', count: sybils, key, targets, network: party.network }).ready
      await delay(10_000)
      const by = party.any()
      sum.told += (await by.ask({ do: 'provide', node: by.node, key })).told ?? 0
      for (const asker of party.members) {
        if (asker === by) continue
        sum.asked++
        const { tookMs } = await asker.ask({ do: 'find', node: asker.node, key, peerId: by.peerId, withinMs: 30_000 })
        if (typeof tookMs === 'number') sum.found++
      }
      await endAll()
    }
  } finally {
    party.end()
    await endAll()
  }
  return sum
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      nodes: { type: 'string', default: '60' },
      sybils: { type: 'string', default: '45' },
      keys: { type: 'string', default: '2' },
      only: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  })
  const costs: Cost[] = []
  if (values.only !== 'surround') {
    await asked(1) // the first node of a process takes memory that none after it does
    for (const count of [40, 2_000, 20_000, 60_000]) costs.push(await asked(count))
    costs.push(await told('records with up to 150,000 addresses', { kind: 'addressBomb', count: 150_000 }))
    costs.push(await told('20,000 records of one peer', { kind: 'recordFlood', count: 20_000 }))
    costs.push(await told('a record of a peer that is gone', { kind: 'announceAndLeave', count: 1 }))
  }
  const crowd = values.only === 'attacks' ? null : await surround(Number(values.nodes), Number(values.sybils), Number(values.keys))
  if (values.json) return say(JSON.stringify({ costs, crowd }))
  say('| attack | busy at most | memory held, resident | dials to the victim | seeder found after |')
  say('|---|---|---|---|---|')
  for (const { attack, busyMs, heldMiB, grownMiB, victimDials, findMs } of costs)
    say(
      `| ${attack} | ${busyMs.toFixed(0)} ms | ${heldMiB.toFixed(1)}, ${grownMiB.toFixed(1)} MiB | ${victimDials ?? ''} | ${findMs === null ? '' : `${findMs.toFixed(0)} ms`} |`,
    )
  if (crowd !== null)
    say(
      `\n${values.sybils} strangers around a key among ${values.nodes} nodes: ${crowd.found} of ${crowd.asked} look-ups by the DHT alone found the seeder ` +
        `(${((100 * crowd.found) / crowd.asked).toFixed(1)} %); ${(crowd.told / Number(values.keys)).toFixed(0)} peers took its record.`,
    )
}

await main()
process.exit(0)
