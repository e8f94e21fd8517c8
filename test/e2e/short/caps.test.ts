/** Caps with real daemons: what they count themselves stays under the cap at every moment, both ways, and a running node can be told another. */
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { JUST_SHOW, type LimitsResult, type ShareResult, type ShoalApi, type StatusResult } from '../../../node/control/api.ts'
import { connectControl } from '../../../node/control/client.ts'
import { EXIT } from '../../../protocol/errors.ts'
import { RATE } from '../../../protocol/limits.ts'
import { type Daemon, Sandbox } from '../../kit/daemons.ts'

const MIB = 2 ** 20
const CAP = 4 * MIB
const never = new AbortController().signal
/** Small frames never wait: so much of them may come on top within one burst. */
const SMALL_FRAMES_BYTES = 64 * 1024
const SAMPLE_MS = 40

let sandbox: Sandbox
let seeder: Daemon
let shared: ShareResult
let content: Buffer

beforeAll(async () => {
  sandbox = await Sandbox.create()
  seeder = await sandbox.daemon('seeder', { args: ['--up', '4MiB'] })
  content = randomBytes(8 * MIB)
  await writeFile(sandbox.path('big.bin'), content)
  shared = await seeder.json<ShareResult>('share', sandbox.path('big.bin'))
})

afterAll(async () => {
  await sandbox.clear()
})

async function apiOf(daemon: Daemon): Promise<ShoalApi> {
  const api = await connectControl(daemon.started.socket)
  if (api === null) throw new Error('nobody answers')
  return api
}

/** Asks a daemon again and again what it has counted, while `work` runs. */
async function watch(daemon: Daemon, work: Promise<unknown>): Promise<LimitsResult[]> {
  const api = await apiOf(daemon)
  const samples: LimitsResult[] = []
  let isRunning = true
  const ended = work.finally(() => {
    isRunning = false
  })
  while (isRunning) {
    samples.push(await api.limits(JUST_SHOW, never))
    await delay(SAMPLE_MS)
  }
  await ended
  samples.push(await api.limits(JUST_SHOW, never))
  return samples
}

/** Any two samples: between them no more went by than the cap lets, one burst and the small frames. */
function expectUnder(cap: number, samples: LimitsResult[], way: 'up' | 'down', extraBytes: number): void {
  const burstBytes = (cap * RATE.burstMs) / 1000
  for (const [i, from] of samples.entries()) {
    for (const to of samples.slice(i + 1)) {
      const most = (cap * (to.atMs - from.atMs)) / 1000 + burstBytes + SMALL_FRAMES_BYTES + extraBytes
      expect(to[way].bytes - from[way].bytes).toBeLessThanOrEqual(most)
    }
  }
}

async function fetchTo(daemon: Daemon, folder: string): Promise<void> {
  await mkdir(sandbox.path(folder))
  await daemon.json('get', shared.link, '-o', sandbox.path(folder))
  expect(Buffer.compare(await readFile(join(sandbox.path(folder), 'big.bin')), content)).toBe(0)
}

describe('caps', () => {
  it('the seeder never sends more than its upload cap, whoever asks', async () => {
    const readers = [
      await sandbox.daemon('a', { bootstrap: seeder.addresses, args: ['--up', '1KiB'] }),
      await sandbox.daemon('b', { bootstrap: seeder.addresses, args: ['--up', '1KiB'] }),
    ]
    const samples = await watch(seeder, Promise.all(readers.map((reader) => fetchTo(reader, `out-${reader.started.peerId}`))))
    expect(samples.at(-1)?.up).toMatchObject({ capBytesPerSecond: CAP })
    expect(samples.at(-1)!.up.bytes).toBeGreaterThan(14 * MIB)
    expectUnder(CAP, samples, 'up', 0)
    await Promise.all(readers.map((reader) => reader.kill()))
  })

  it('a receiver never takes in more than its download cap, once what it had promised has come', async () => {
    const reader = await sandbox.daemon('c', { bootstrap: seeder.addresses, args: ['--down', '2MiB'] })
    const samples = await watch(reader, fetchTo(reader, 'out-c'))
    expect(samples.at(-1)!.down.bytes).toBeGreaterThan(8 * MIB)
    // Credit is paid when it is granted: what peers hold of it may come at once.
    expectUnder(2 * MIB, samples, 'down', (2 * MIB * RATE.creditMs) / 1000)
    await reader.kill()
  })

  it('shoal limits shows and changes them while blocks are on their way, and status tells of them', async () => {
    const reader = await sandbox.daemon('d', { bootstrap: seeder.addresses, args: ['--down', '1KiB'] })
    const api = await apiOf(reader)
    const fetching = fetchTo(reader, 'out-d')
    fetching.catch(() => {}) // looked at below
    while ((await api.limits(JUST_SHOW, never)).down.bytes === 0) await delay(SAMPLE_MS)
    expect((await reader.run('limits')).stdout).toMatch(/^up +.*, no cap\ndown +.*, 1\.00 KiB\/s\nlocal network +counts like the rest\n/)
    const before = await api.limits(JUST_SHOW, never)
    expect(before.down.bytes).toBeLessThan(MIB)
    const set = await reader.json<LimitsResult>('limits', '--down', 'none', '--up', '2MB')
    expect([set.up.capBytesPerSecond, set.down.capBytesPerSecond]).toEqual([2_000_000, null])
    await fetching
    expect((await reader.json<StatusResult>('status')).rates.down).toMatchObject({ capBytesPerSecond: null })
    expect((await reader.run('status')).stdout).toMatch(/\nup +.*, 1\.91 MiB\/s\ndown .*, no cap\n/)
    expect((await reader.run('limits', '--up', '5')).code).toBe(EXIT.usage)
    await reader.kill()
  })
})
