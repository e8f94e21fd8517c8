/**
 * Real daemons among crowds: 63 that announce a share and have nothing of it, for one that has it; and a newcomer who knows nobody but 45
 * strangers around the key of what it looks for. What each of a hint, a peer remembered from earlier and the seeder's own address is worth.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { GetResult, ShareResult, StatusResult } from '../../node/control/api.ts'
import { nodePrimitives } from '../../node/crypto/primitives.ts'
import { parseCid, rendezvousDigest } from '../../protocol/cid.ts'
import { type Daemon, type Run, Sandbox } from '../kit/daemons.ts'
import { compareTrees } from '../kit/trees.ts'
import { type Attack, endAll, type Report, startAttacker } from './kit.ts'

const MIB = 2 ** 20
const FOUND_MS_MAX = 15_000
const SYBILS = 45
const FAKES = 63

let sandbox: Sandbox
let entrance: Daemon
let seeder: Daemon
let file: string
let shared: ShareResult
/** The same link with the seeder's addresses in it. */
let hinted: string

beforeEach(async () => {
  sandbox = await Sandbox.create()
  entrance = await sandbox.daemon('entrance', { args: ['--no-mdns'] })
  seeder = await sandbox.daemon('seeder', { bootstrap: entrance.addresses, args: ['--no-mdns'] })
  file = sandbox.path('file.bin')
  await writeFile(file, randomBytes(MIB))
  shared = await seeder.json<ShareResult>('share', file)
  hinted = (await seeder.json<ShareResult>('share', file, '--hint')).link
  expect(hinted).not.toBe(shared.link)
})

afterEach(async () => {
  await endAll()
  await sandbox.clear()
})

async function attack(kind: Attack['kind'], count: number, targets: string[]): Promise<string> {
  const rendezvous = await rendezvousDigest(nodePrimitives, parseCid(shared.cid))
  const key = Buffer.from(rendezvous).toString('hex')
  const report: Report = await startAttacker({ kind, count, key, targets, network: sandbox.network }).ready
  return report.type === 'ready' ? report.address : ''
}

async function get(daemon: Daemon, link: string, ...args: string[]): Promise<Run> {
  const out = sandbox.path(`out-${randomBytes(4).toString('hex')}`)
  await mkdir(out)
  const run = await daemon.run('--json', 'get', link, '-o', out, ...args)
  if (run.code === 0) expect((await compareTrees(file, join(out, 'file.bin'))).differences).toEqual([])
  return run
}

test('63 that announce a share and never say a word hide the one that has it for seconds', async () => {
  await attack('fakeSeeders', FAKES, [entrance.addresses[0]!])
  const victim = await sandbox.daemon('victim', { bootstrap: entrance.addresses, args: ['--no-mdns'] })
  const before = await victim.json<StatusResult>('status')
  const beganMs = performance.now()
  const run = await get(victim, shared.link)
  const tookMs = performance.now() - beganMs
  const after = await victim.json<StatusResult>('status')
  expect(run.code).toBe(0)
  expect((JSON.parse(run.stdout) as GetResult).sizeBytes).toBe(MIB)
  expect(tookMs).toBeLessThanOrEqual(FOUND_MS_MAX)
  expect(after.connections).toBeGreaterThan(before.connections)
}, 120_000)

describe('a newcomer who knows nobody but 45 strangers around the key', () => {
  const surrounded = async (name: string): Promise<Daemon> => {
    const stranger = await attack('surround', SYBILS, [])
    return await sandbox.daemon(name, { bootstrap: [stranger], args: ['--no-mdns'] })
  }

  test('finds the share by the hint in its link, and not without one', async () => {
    const victim = await surrounded('victim')
    const without = get(victim, shared.link)
    expect((await without).code).not.toBe(0)
    expect((await get(victim, hinted)).code).toBe(0)
  }, 180_000)

  test('finds it by the address of a seeder that the user gives', async () => {
    const victim = await surrounded('victim')
    expect((await get(victim, shared.link, '--peer', seeder.addresses[0]!)).code).toBe(0)
  }, 120_000)

  test('finds it when one peer that it met in an earlier run is alive', async () => {
    const early = await sandbox.daemon('victim', { bootstrap: entrance.addresses, args: ['--no-mdns'] })
    await expect.poll(async () => (await early.json<StatusResult>('status')).connections, { timeout: 15_000 }).toBeGreaterThan(0)
    await early.kill()
    const victim = await surrounded('victim')
    expect((await get(victim, shared.link)).code).toBe(0)
  }, 120_000)
})
