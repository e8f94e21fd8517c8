/**
 * Hostile peers against real daemons: whatever one of them does, a download from an honest seeder ends with the right bytes, the one that
 * broke the rules pays for it and nobody else, and it cost little.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { GetResult, ShareResult, ShoalApi, StatusResult } from '../../node/control/api.ts'
import { connectControl } from '../../node/control/client.ts'
import { REMOTE_CODES, type RemoteCode } from '../../protocol/errors.ts'
import { WAITS } from '../../protocol/limits.ts'
import { GOODBYE_UNKNOWN_SHARE } from '../../protocol/wire/messages.ts'
import { type Daemon, type DaemonOptions, Sandbox } from '../kit/daemons.ts'
import { corruptFiles, storedFiles } from '../kit/stored.ts'
import { compareTrees } from '../kit/trees.ts'
import { type HostilePeerHandle, HostileProcess } from './hostile-process.ts'
import { endAll, patience, startSink } from './kit.ts'
import type { Kind } from './orders.ts'

const MIB = 2 ** 20
const SHARE_BYTES = 12 * MIB
const WASTE_BYTES_MAX = MIB
const RSS_BYTES_MAX = 300 * MIB

interface Party {
  daemon: Daemon
  api: ShoalApi
  address: string
}

let sandbox: Sandbox
let hostiles: HostileProcess
let seeder: Party
let victim: Party
let file: string
let link: string
let cid: string
let halfHello: HostilePeerHandle

async function party(name: string, options: DaemonOptions = {}): Promise<Party> {
  const daemon = await sandbox.daemon(name, { args: ['--log-level', 'debug'], ...options })
  const api = await connectControl(daemon.started.socket)
  if (api === null) throw new Error(`${name} does not answer`)
  return { daemon, api, address: daemon.addresses[0]! }
}

const start = (kind: Kind, targets: string[], sink?: { host: string; port: number }): HostilePeerHandle =>
  hostiles.start({
    kind,
    network: sandbox.network,
    cid,
    home: seeder.daemon.home,
    targets,
    listen: '/ip4/127.0.0.1/tcp/0',
    ...(sink === undefined ? {} : { sink }),
  })

beforeAll(async () => {
  sandbox = await Sandbox.create()
  hostiles = new HostileProcess()
  ;[seeder, victim] = await Promise.all([party('seeder'), party('victim')])
  file = sandbox.path('file.bin')
  await writeFile(file, randomBytes(SHARE_BYTES))
  const shared: ShareResult = await seeder.api.share({ paths: [file], scope: 'lineage', name: null }, () => {}, patience())
  ;({ link, cid } = shared)
  halfHello = start('half-hello', [seeder.address])
})

afterAll(async () => {
  hostiles.kill()
  await endAll()
  await sandbox.clear()
  for (const { daemon } of [seeder, victim]) expect(daemon.log).not.toContain('nobody listened')
})

interface Outcome {
  got: GetResult
  /** Bytes that came in beyond those of the blocks, heads of frames included. */
  wastedBytes: number
  /** Kinds of faults that a node logged, by who made them. */
  faults: Record<string, string[]>
}

/**
 * The victim begins a download with nobody but the hostile peer; when that one has done its deed the honest seeder comes in. What the
 * victim keeps is gone again afterwards.
 */
async function download(hints: string[], deed: () => Promise<unknown>, by = victim): Promise<Outcome> {
  const { api, daemon } = by
  const out = sandbox.path(`out-${randomBytes(4).toString('hex')}`)
  await mkdir(out)
  const before = await api.status(patience())
  const logged = { victim: daemon.log.length, seeder: seeder.daemon.log.length }
  const request = { link, outputDir: out, path: null, force: false, consent: false, wait: true, peers: hints, keep: true, keepSealed: true }
  const getting = api.get(request, () => {}, patience(30_000))
  await deed()
  await api.seed({ link, wait: true, peers: [seeder.address] }, () => {}, patience(30_000))
  const got = await getting
  expect((await compareTrees(file, join(out, 'file.bin'))).differences).toEqual([])
  expect(await corruptFiles(daemon.home)).toEqual([])
  expect((await storedFiles(daemon.home)).size).toBe((await storedFiles(seeder.daemon.home)).size)
  const after: StatusResult[] = [await api.status(patience()), await seeder.api.status(patience())]
  for (const { rssBytes } of after) expect(rssBytes).toBeLessThanOrEqual(RSS_BYTES_MAX)
  const faults = { ...faultsIn(daemon.log.slice(logged.victim)), ...faultsIn(seeder.daemon.log.slice(logged.seeder)) }
  await api.unseed({ cid }, patience())
  await rm(out, { recursive: true })
  return { got, wastedBytes: after[0]!.bytesIn - before.bytesIn - got.fetchedBytes, faults }
}

function faultsIn(log: string): Record<string, string[]> {
  const faults: Record<string, string[]> = {}
  for (const line of log.split('\n')) {
    if (!line.includes('a peer broke the rules')) continue
    const { peer, kind } = JSON.parse(line) as { peer: string; kind: string } // a line of node/log.ts
    faults[peer] = [...(faults[peer] ?? []), kind]
  }
  return faults
}

/** Everything fetched twice or in vain. Heads of frames are part of the count, some 0.03 %. */
const expectLittleWaste = ({ wastedBytes }: Outcome, identities = 1): void =>
  expect(wastedBytes).toBeLessThanOrEqual(identities * WASTE_BYTES_MAX + SHARE_BYTES / 500)

describe('whoever sends what is not the block is banned with the first one', () => {
  for (const kind of ['corrupt-bit', 'other-block', 'wrong-length'] as const) {
    test(kind, async () => {
      const hostile = start(kind, [])
      const { peerId, address } = await hostile.until('ready')
      const outcome = await download([address], () => hostile.until('ended'))
      expect(outcome.faults).toEqual({ [peerId]: ['fatal'] })
      expectLittleWaste(outcome)
      expect((await hostile.revisit(victim.address)).sessions).toBe(0)
      hostile.stop()
    })
  }
})

describe('what no peer in good order can send bans with the first one, before the hello too', () => {
  for (const kind of ['oversize-frame', 'oversize-hello', 'other-hello'] as const) {
    test(kind, async () => {
      const hostile = start(kind, [victim.address])
      const { peerId } = await hostile.until('ready')
      const outcome = await download([], () => hostile.until('refused'))
      expect(Object.keys(outcome.faults)).toEqual([peerId])
      // Those that it had begun meanwhile end in the same way.
      expect(new Set(outcome.faults[peerId])).toEqual(new Set(['fatal']))
      expectLittleWaste(outcome)
      hostile.stop()
    })
  }
})

describe('three faults of protocol ban, and the first two end the session', () => {
  const CASES: [Kind, () => Party, ...RemoteCode[]][] = [
    ['request-flood', () => seeder, 'FLOOD'],
    ['truncated-frame', () => victim],
    ['unknown-type', () => victim, 'UNKNOWN_TYPE'],
    ['unsolicited-block', () => victim, 'UNSOLICITED'],
    ['have-flood', () => victim, 'FLOOD'],
    ['bad-bitmap', () => victim, 'UNSOLICITED', 'OUT_OF_RANGE'], // before and after it knows the shape
    ['bad-bitmap', () => seeder, 'OUT_OF_RANGE'],
    ['many-small-frames', () => victim, 'FLOOD'],
  ]
  for (const [kind, target, ...codes] of CASES) {
    test(`${kind} ends with ${codes.join(' or ') || 'a reset'}`, async () => {
      const hostile = start(kind, [target().address])
      const { peerId } = await hostile.until('ready')
      const outcome = await download([], () => hostile.until('refused'))
      expect(await hostile.until('refused')).toMatchObject({ sessions: 3 })
      expect(outcome.faults).toEqual({ [peerId]: ['protocol', 'protocol', 'protocol'] })
      if (codes.length > 0) expect(codes.map((code) => REMOTE_CODES[code].wire)).toContain(hostile.all('ended')[0]?.goodbye)
      expectLittleWaste(outcome)
      hostile.stop()
    })
  }
})

test('peer exchange with the address of a victim leads to three connections there at most', async () => {
  const home = sandbox.path('home-counting')
  await mkdir(home, { mode: 0o700 })
  await writeFile(join(home, 'config.json'), JSON.stringify({ groupPrivate: true })) // hosts of loopback count like public ones
  const counting = await party('counting', { listen: '/ip4/127.0.8.1/tcp/0' })
  const sink = await startSink('127.0.9.9')
  const hostile = start('pex-poison', [counting.address], sink)
  const { peerId } = await hostile.until('ready')
  const outcome = await download([], () => hostile.until('refused'), counting)
  expect(sink.connections()).toBeLessThanOrEqual(3)
  expect(outcome.faults).toEqual({ [peerId]: ['protocol', 'protocol', 'protocol'] })
  hostile.stop()
})

describe('who is merely useless is not punished, and does not hold up the download', () => {
  test('promises that are not kept: absent, silent, one byte in a while', async () => {
    const useless = (['lying-bitmap', 'accept-and-stall', 'drip'] as const).map((kind) => start(kind, []))
    const ready = await Promise.all(useless.map((hostile) => hostile.until('ready')))
    const outcome = await download(
      ready.map(({ address }) => address),
      () => Promise.all(useless.map((hostile) => hostile.until('deed'))),
    )
    expect(outcome.faults).toEqual({})
    expectLittleWaste(outcome, useless.length)
    for (const hostile of useless) hostile.stop()
  })

  test('small frames as often as they are allowed', async () => {
    const hostile = start('small-frames-within-the-limit', [victim.address])
    const outcome = await download([], () => hostile.until('deed'))
    expect(outcome.faults).toEqual({})
    hostile.stop()
  })

  for (const kind of ['request-never-read', 'request-without-credit'] as const) {
    test(`${kind}: ten of them take a bounded amount of memory, and others are served`, async () => {
      const before = (await seeder.api.status(patience())).rssBytes
      const mutes = Array.from({ length: 10 }, () => start(kind, [seeder.address]))
      const outcome = await download([], () => Promise.all(mutes.map((hostile) => hostile.until('deed'))))
      expect(outcome.faults).toEqual({})
      expect((await seeder.api.status(patience())).rssBytes - before).toBeLessThan(64 * MIB)
      for (const hostile of mutes) hostile.stop()
    })
  }
})

describe('before the proof', () => {
  test('a wrong proof is refused without a word more and not held against the peer', async () => {
    const [calling, called] = [start('forged-hello', [seeder.address]), start('forged-hello', [])]
    const { address } = await called.until('ready')
    const outcome = await download([address], () => Promise.all([calling.until('ended'), called.until('deed')]))
    expect(await calling.until('ended')).toMatchObject({ goodbye: GOODBYE_UNKNOWN_SHARE })
    expect(outcome.faults).toEqual({})
    calling.stop()
    called.stop()
  })

  test('a wrong proof and an unknown share get the same bytes in the same time', async () => {
    const { probes } = await start('probe', [seeder.address]).until('probed')
    expect(new Set(probes.map(({ answer }) => answer))).toEqual(new Set([`0b${GOODBYE_UNKNOWN_SHARE.toString(16)}`]))
    const median = (isKnown: boolean): number => {
      const times = probes.filter((probe) => probe.isKnown === isKnown).map(({ tookMs }) => tookMs)
      return times.sort((a, b) => a - b)[Math.floor(times.length / 2)]!
    }
    const [known, unknown] = [median(true), median(false)]
    expect(Math.abs(known - unknown)).toBeLessThan(Math.max(1, Math.min(known, unknown)))
  })

  test('half a hello is waited for eight seconds', async () => {
    expect(await halfHello.until('ended')).toMatchObject({ tookMs: expect.closeTo(WAITS.helloMs, -3.5) })
    halfHello.stop()
  })
})
