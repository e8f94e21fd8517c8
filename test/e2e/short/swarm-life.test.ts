/** Swarms of real processes in which peers find each other, die, move, and come back. Waits are for what is looked at, with a deadline. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { GetResult, PeerSummary, ShareResult, ShareSummary, ShoalApi } from '../../../node/control/api.ts'
import { connectControl } from '../../../node/control/client.ts'
import { type Daemon, Sandbox } from '../../kit/daemons.ts'
import { compareTrees } from '../../kit/trees.ts'

const BLOCK = 1_048_560
const WITHIN = { timeout: 40_000, interval: 50 }

let sandbox: Sandbox
beforeAll(async () => {
  sandbox = await Sandbox.create()
})
afterAll(() => sandbox.clear())

async function shareOf(daemon: Daemon, name: string, blocks: number): Promise<ShareResult & { path: string }> {
  const path = sandbox.path(name)
  await writeFile(path, randomBytes(blocks * BLOCK))
  return { ...(await daemon.json<ShareResult>('share', path)), path }
}

async function folder(name: string): Promise<string> {
  const path = sandbox.path(name)
  await mkdir(path)
  return path
}

/** The control socket itself: a process for each look would be too slow to see anything in the middle. */
async function apiOf(daemon: Daemon): Promise<ShoalApi> {
  const api = await connectControl(daemon.started.socket)
  if (api === null) throw new Error('no daemon answers')
  return api
}

const never = new AbortController().signal
const blocksOf = async (api: ShoalApi): Promise<number> => (await api.status(never)).blocks
const rowOf = async (api: ShoalApi, cid: string): Promise<ShareSummary | undefined> =>
  (await api.shares(never)).find((row) => row.cid === cid)

/** Peer ids of those that `daemon` has a session with for a share, and where it heard of them. */
async function sessions(daemon: Daemon, cid: string): Promise<Map<string, string>> {
  const peers = await (await apiOf(daemon)).peers(never)
  return new Map(
    peers.flatMap(({ peerId, shares }) => shares.filter((row) => row.cid === cid).map(({ source }) => [peerId, source] as const)),
  )
}

describe('six that know of one', () => {
  it('find each other, and get what only one of them can reach', async () => {
    const origin = await sandbox.daemon('origin')
    const shared = await shareOf(origin, 'six.bin', 24)
    const all = await Promise.all(['hub', 'p1', 'p2', 'p3', 'p4', 'p5'].map((name) => sandbox.daemon(name)))
    const [hub, ...others] = all as [Daemon, ...Daemon[]]
    const held = hub.json<GetResult>('get', shared.link, '--wait', '-o', await folder('out-hub'))
    const outs = await Promise.all(others.map((_, i) => folder(`out-p${i}`)))
    const gets = others.map((at, i) =>
      at.json<GetResult>('get', shared.link, '--wait', '-o', outs[i]!, ...hub.addresses.flatMap((address) => ['--peer', address])),
    )
    for (const at of others) await expect.poll(async () => (await sessions(at, shared.cid)).size, WITHIN).toBe(5)
    const sources = (await Promise.all(others.map((at) => sessions(at, shared.cid)))).flatMap((map) => [...map.values()])
    expect(sources.filter((source) => source === 'given')).toHaveLength(5)
    expect(sources).toContain('exchange')
    // Somebody asks the hub for a list of the files from the seeder: now it is connected to it.
    await hub.json('ls', shared.link, ...origin.addresses.flatMap((address) => ['--peer', address]))
    for (const got of await Promise.all([held, ...gets])) expect(got.files).toBe(1)
    for (const out of outs) expect((await compareTrees(shared.path, join(out, 'six.bin'))).differences).toEqual([])
    const rows = (await others[0]!.json<PeerSummary[]>('peers')).flatMap(({ shares }) => shares)
    expect(rows.reduce((sum, row) => sum + row.verifiedBlocks, 0)).toBeGreaterThan(24)
    for (const daemon of [origin, ...all]) await daemon.kill()
  })
})

describe('a seeder that dies', () => {
  it('is found again in the middle of a get, on another port; what was there is not fetched twice', async () => {
    const entrance = await sandbox.daemon('entrance')
    const seeder = await sandbox.daemon('seeder', { bootstrap: entrance.addresses })
    const blocks = 160
    const shared = await shareOf(seeder, 'moves.bin', blocks)
    const getter = await sandbox.daemon('getter', { bootstrap: entrance.addresses })
    const out = await folder('out-moves')
    const got = getter.json<GetResult>('get', shared.link, '-o', out)
    const api = await apiOf(getter)
    const have = async (): Promise<number> => (await rowOf(api, shared.cid))?.haveBlocks ?? 0
    await expect.poll(have, { ...WITHIN, interval: 1 }).toBeGreaterThan(blocks / 10)
    await seeder.kill('SIGKILL')
    expect(await have()).toBeLessThan(blocks)
    // Somebody else has its port by now.
    const taken = createServer().listen(Number(/tcp\/(\d+)/.exec(seeder.addresses[0] ?? '')?.[1]), '127.0.0.1')
    await once(taken, 'listening')
    const again = await sandbox.daemon('seeder', { bootstrap: entrance.addresses })
    taken.close()
    expect(again.addresses).not.toEqual(seeder.addresses)
    const result = await got
    expect(result.fetchedBlocks).toBeLessThanOrEqual(blocks + 6) // the tree and the index, and what was on its way
    expect((await compareTrees(shared.path, join(out, 'moves.bin'))).differences).toEqual([])
    for (const daemon of [again, getter, entrance]) await daemon.kill()
  })
})

describe('a node that restarts', () => {
  it('goes on with what it seeds blind, serves what it has of the rest, and says so', async () => {
    const entrance = await sandbox.daemon('entrance2')
    const seeder = await sandbox.daemon('seeder2', { bootstrap: entrance.addresses })
    const blocks = 120
    const [blind, read] = [await shareOf(seeder, 'blind.bin', blocks), await shareOf(seeder, 'read.bin', blocks)]
    const host = await sandbox.daemon('host', { bootstrap: entrance.addresses })
    const cut = [host.run('seed', blind.seedLink), host.run('get', read.link, '--keep-sealed', '-o', await folder('out-cut'))]
    const first = await apiOf(host)
    const have = async (cid: string): Promise<number> => (await rowOf(first, cid))?.haveBlocks ?? 0
    await expect.poll(async () => Math.min(await have(blind.cid), await have(read.cid)), { ...WITHIN, interval: 1 }).toBeGreaterThan(8)
    await host.kill('SIGKILL')
    await Promise.all(cut)
    const again = await sandbox.daemon('host', { bootstrap: entrance.addresses })
    const api = await apiOf(again)
    await expect.poll(async () => (await rowOf(api, blind.cid))?.state, WITHIN).toBe('complete')
    expect((await rowOf(api, read.cid))?.state).toBe('partial')
    expect((await api.status(never)).unfinished).toMatchObject({ running: 0, waiting: 1 })
    expect((await again.run('status')).stdout).toContain('`shoal get` with the same link goes on')
    // Another peer gets at what it has, with no help from the seeder.
    await seeder.kill('SIGKILL')
    const third = await sandbox.daemon('third')
    const stopped = third.run('get', read.link, '--keep-sealed', '--wait', '-o', await folder('out-third'), '--peer', again.addresses[0]!)
    const thirdApi = await apiOf(third)
    await expect.poll(() => blocksOf(thirdApi), WITHIN).toBeGreaterThan(8)
    await third.kill('SIGKILL')
    await stopped
    for (const daemon of [again, entrance]) await daemon.kill()
  })
})
