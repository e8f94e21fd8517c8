/** Seats at a share: whoever comes in a crowd at one moment, or twice, takes no more of them than there are. */
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Libp2p } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { shareJob } from '../../node/jobs/share.ts'
import { parseCid } from '../../protocol/cid.ts'
import { SWARM } from '../../protocol/limits.ts'
import { type Host, Hosts } from '../kit/hosts.ts'
import { ignore } from '../kit/nodes.ts'
import { patience } from './kit.ts'
import { createHostileNode, RawSession, type Secrets, secretsOf } from './raw-session.ts'

let hosts: Hosts
let seeder: Host
let secrets: Secrets
const strangers: Libp2p[] = []

beforeEach(async () => {
  hosts = await Hosts.create()
  seeder = await hosts.host('seeder')
  const path = join(hosts.dir, 'file.bin')
  await writeFile(path, randomBytes(1_000_000))
  const { cid } = await shareJob(seeder.env, { paths: [path], scope: 'lineage', name: null }, ignore, patience())
  secrets = await secretsOf(parseCid(cid))
})

afterEach(async () => {
  await Promise.all(strangers.splice(0).map((node) => node.stop()))
  await hosts.clear()
})

const stranger = async (): Promise<Libp2p> => {
  const node = await createHostileNode([])
  strangers.push(node)
  return node
}

/** A stream of a stranger that has not said anything yet. */
async function open(node: Libp2p): Promise<RawSession> {
  const connection = await node.dial(multiaddr(seeder.addresses[0]!), { signal: patience() })
  const stream = await connection.newStream(`/shoal/net/${hosts.network}/swarm/1`, { signal: patience() })
  return new RawSession(node, connection, stream, patience(110_000))
}

const seats = (): number => seeder.env.host.holdings()[0]?.live?.links.length ?? 0

describe('seats at a share', { timeout: 120_000 }, () => {
  it('are no more than there are, also for those who wait at one moment for the same one', async () => {
    for (let taken = 0; taken < SWARM.peersPerShareMax; taken++) {
      const session = await open(await stranger())
      expect(await session.sayHello(secrets)).toBe(true)
      // Who has all of a share that we have, too, makes room for others; nobody of these closes its side, so that others wait meanwhile.
      await session.send({ type: 'have', have: { kind: 'all' } })
    }
    const crowd = await Promise.all(Array.from({ length: 5 }, async () => await open(await stranger())))
    await expect.poll(seats, { timeout: 20_000 }).toBe(SWARM.peersPerShareMax)
    let most = 0
    const look = setInterval(() => {
      most = Math.max(most, seats())
    }, 1)
    await Promise.all(crowd.map((session) => session.sayHello(secrets)))
    // What it is told once it has its seat; nothing where it got none.
    const seated = async (session: RawSession): Promise<void> => {
      for (let told = await session.read(); told !== null && told.type !== 'have'; ) told = await session.read()
    }
    await Promise.all(crowd.map(seated))
    clearInterval(look)
    expect(most).toBeLessThanOrEqual(SWARM.peersPerShareMax)
  })

  it('are one for each peer, which can come again and again, and at the same moment twice', async () => {
    const node = await stranger()
    const first = await open(node)
    expect(await first.sayHello(secrets)).toBe(true)
    await expect.poll(seats, { timeout: 20_000 }).toBe(1)
    const both = [await open(node), await open(node)]
    await Promise.all(both.map((session) => session.sayHello(secrets)))
    await expect.poll(() => both.filter(({ isOver }) => !isOver).length + seats(), { timeout: 20_000 }).toBe(2)
    for (const session of [first, ...both]) session.abort()
    await expect.poll(seats, { timeout: 20_000 }).toBe(0)
    const last = await open(node)
    expect(await last.sayHello(secrets)).toBe(true)
    await expect.poll(seats, { timeout: 20_000 }).toBe(1)
  })
})
