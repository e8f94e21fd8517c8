/** Peers that have no DHT between them: they find each other through one that they all know, and stay together when peers come and go. */
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ShareResult } from '../../node/control/api.ts'
import { unseedJob } from '../../node/jobs/gc.ts'
import { ResumedSeeds } from '../../node/jobs/resume.ts'
import { seedJob } from '../../node/jobs/seed.ts'
import { shareJob } from '../../node/jobs/share.ts'
import { createIdentity } from '../../node/network/stack.ts'
import { parseCid } from '../../protocol/cid.ts'
import { type Host, Hosts } from '../kit/hosts.ts'
import { ignore } from '../kit/nodes.ts'

const never = new AbortController().signal
let hosts: Hosts

beforeEach(async () => {
  hosts = await Hosts.create()
})

afterEach(() => hosts.clear())

/** Shares random bytes from `at`. */
async function share(at: Host, sizeBytes: number): Promise<ShareResult> {
  const path = join(hosts.dir, `${randomBytes(4).toString('hex')}.bin`)
  await writeFile(path, randomBytes(sizeBytes))
  return await shareJob(at.env, { paths: [path], scope: 'lineage', name: null }, ignore, never)
}

function seed(at: Host, link: string, peers: string[], signal: AbortSignal = never): Promise<unknown> {
  const job = seedJob(at.env, { link, wait: true, peers }, ignore, signal)
  job.catch(ignore) // awaited where it matters; the others end with their node
  return job
}

const others = (all: string[], name: string): string[] => all.filter((other) => other !== name).sort()

describe('peer exchange', () => {
  it('those that know one peer alone find each other, and get what only that one can reach', async () => {
    const all = ['hub', 'b', 'c', 'd', 'e']
    const origin = await hosts.host('origin')
    const { seedLink } = await share(origin, 3_000_000)
    const peers = await Promise.all(all.map((name) => hosts.host(name)))
    const [hub, ...getters] = peers as [Host, ...Host[]]
    const jobs = [seed(hub, seedLink, [])]
    for (const getter of getters) jobs.push(seed(getter, seedLink, hub.addresses))
    for (const [i, at] of peers.entries())
      await expect.poll(() => Object.keys(at.sessions()).sort(), { timeout: 15_000 }).toEqual(others(all, all[i]!))
    for (const at of getters) expect(at.sessions().hub).toBe('given')
    const heard = getters.flatMap((at) => Object.entries(at.sessions()).flatMap(([name, source]) => (name === 'hub' ? [] : [source])))
    expect(heard).toContain('exchange')
    expect(heard.filter((source) => source !== 'exchange' && source !== 'itself')).toEqual([])
    jobs.push(seed(hub, seedLink, origin.addresses))
    await Promise.all(jobs)
  })

  it('whoever does not take part is told nothing and tells nothing, and is passed on by nobody', async () => {
    const all = ['hub', 'b', 'c']
    const [hub, b, c, quiet] = await Promise.all([hosts.host('hub'), hosts.host('b'), hosts.host('c'), hosts.host('quiet', { pex: false })])
    const origin = await hosts.host('origin')
    const { seedLink } = await share(origin, 1_000)
    seed(hub, seedLink, [])
    seed(quiet, seedLink, hub.addresses)
    await expect.poll(() => quiet.sessions(), { timeout: 15_000 }).toEqual({ hub: 'given' })
    for (const at of [b, c]) seed(at, seedLink, hub.addresses)
    for (const [at, name] of [
      [b, 'b'],
      [c, 'c'],
    ] as const)
      await expect.poll(() => Object.keys(at.sessions()).sort(), { timeout: 15_000 }).toEqual(others(all, name))
    expect(quiet.sessions()).toEqual({ hub: 'given' })
  })
})

describe('peers that come and go', () => {
  it('a seeder that restarts in the middle is back within seconds, and what is missing follows', async () => {
    const identity = await createIdentity()
    const origin = await hosts.host('origin', { identity })
    const { seedLink } = await share(origin, 60_000_000)
    const getter = await hosts.host('getter')
    const job = seed(getter, seedLink, origin.addresses)
    await expect.poll(() => getter.env.blocks.count, { interval: 1, timeout: 15_000 }).toBeGreaterThan(2)
    const [port] = /(?<=tcp\/)\d+/.exec(origin.addresses[0]!) ?? []
    await origin.stop()
    const before = getter.env.blocks.count
    expect(before).toBeLessThan(55)
    await hosts.host('origin', { identity, port })
    await job
    expect(getter.env.blocks.count).toBeGreaterThan(57)
  })
})

describe('peers met before a restart', () => {
  it('are found again with nobody else to ask', async () => {
    const origin = await hosts.host('origin')
    const { cid, seedLink } = await share(origin, 5_000_000)
    const before = await hosts.host('getter')
    await seed(before, seedLink, origin.addresses)
    const remembered = async (at: Host): Promise<number> => {
      let count = 0
      for await (const _ of at.env.records.datastore().queryKeys({ prefix: '/shoal/contacts' })) count++
      return count
    }
    await expect.poll(() => remembered(before), { timeout: 15_000 }).toBe(1)
    const digest = before.env.host.holding(cid)!.live!.digestOf(0, 3)!
    await before.env.blocks.delete(digest, never) // something is missing again
    await before.stop()
    const again = await hosts.host('getter')
    expect(await seed(again, seedLink, [])).toMatchObject({ fetchedBlocks: 1 })
    expect(again.sessions()).toEqual({ origin: 'known' })
    await unseedJob(again.env, cid, never)
    expect(await remembered(again)).toBe(0)
  })
})

describe('announcing each block', () => {
  it('leaves a record for each block of a small share, and takes them back with the share', async () => {
    const server = await hosts.host('server', { dht: [] })
    const owner = await hosts.host('owner', { dht: server.addresses, announce: 'blocks' })
    const { cid } = await share(owner, 3_000_000)
    const blocks = (await owner.env.records.getShare(cid))?.blockCount ?? 0
    expect(blocks).toBeGreaterThan(2)
    await expect.poll(() => server.stack.recordCount(), { timeout: 15_000 }).toBe(1 + blocks)
    await expect.poll(async () => (await owner.env.records.getShare(cid))?.announcedMs ?? null, { timeout: 15_000 }).not.toBe(null)
    const { live, rendezvous } = owner.env.host.holding(cid)!
    expect(live).toBe(null) // opened for its names only
    const stopped: Uint8Array[] = []
    const stop = owner.stack.stopProviding.bind(owner.stack)
    owner.stack.stopProviding = async (key) => {
      stopped.push(key)
      await stop(key)
    }
    await unseedJob(owner.env, cid, never)
    expect(new Set(stopped.map((key) => key.join()))).toContain(rendezvous.join())
    expect(new Set(stopped.map((key) => key.join())).size).toBe(1 + blocks)
  })
})

describe('blind seeding that was cut off', () => {
  it('goes on by itself, and can be let go of while it waits', async () => {
    const [origin, host] = await Promise.all([hosts.host('origin'), hosts.host('host')])
    const [here, gone] = [await share(origin, 1_000_000), await share(origin, 1_000)]
    for (const { cid } of [here, gone]) {
      const record = (await origin.env.records.getShare(cid))!
      await host.env.records.saveShare({ ...record, role: 'blind', readKey: null, scope: null, label: null, state: 'partial' })
    }
    const resumed = new ResumedSeeds(host.env)
    resumed.start(await host.env.records.listShares())
    expect(resumed.count).toBe(2)
    await expect.poll(() => host.env.host.holding(gone.cid)?.holders, { timeout: 15_000 }).toBe(1)
    await expect(unseedJob(host.env, gone.cid, never)).rejects.toMatchObject({ code: 'BUSY' })
    await resumed.release(gone.cid)
    expect(await unseedJob(host.env, gone.cid, never)).toMatchObject({ removed: true })
    await seed(host, here.seedLink, origin.addresses)
    await expect.poll(async () => (await host.env.records.getShare(here.cid))?.state, { timeout: 15_000 }).toBe('complete')
    await expect.poll(() => resumed.count, { timeout: 15_000 }).toBe(0)
    expect(host.env.host.holding(parseCid(here.cid).text)?.holders).toBe(0)
    await resumed.stop()
  })
})
