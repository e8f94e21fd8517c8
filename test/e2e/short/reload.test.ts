/** The config file of a running daemon: read again on SIGHUP, refused when it is not sound, written by `shoal limits --save`. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { LimitRow, LimitsResult } from '../../../node/control/api.ts'
import { EXIT } from '../../../protocol/errors.ts'
import { type Daemon, Sandbox } from '../../kit/daemons.ts'

let sandbox: Sandbox
let daemon: Daemon

const write = (settings: unknown): Promise<void> => writeFile(sandbox.path('home-a', 'config.json'), JSON.stringify(settings))

/** Sends SIGHUP and waits until the log says so. */
async function reload(saying: string): Promise<void> {
  daemon.child.kill('SIGHUP')
  while (!daemon.log.includes(saying)) await delay(20)
}

beforeAll(async () => {
  sandbox = await Sandbox.create()
  await mkdir(sandbox.path('home-a'), { mode: 0o700 })
  await write({ uploadBytesPerSecond: 100_000 })
  daemon = await sandbox.daemon('a')
})

afterAll(() => sandbox.clear())

it('reads the config file again on SIGHUP, goes on with the old one when it is not sound, and can still be asked and stopped', async () => {
  await write({ uploadBytesPerSecond: 200_000, pinnedBytes: 5_000 })
  await reload('the config file was read again')
  const before = await daemon.json<LimitsResult>('limits')
  expect(before.settings).toMatchObject({ uploadBytesPerSecond: 200_000, pinnedBytes: 5_000, lanExempt: false })
  await write({ uploadBytesPerSecond: 2, pinned: 5_000 })
  await reload('nothing has changed')
  expect(daemon.log).toMatch(/uploadBytesPerSecond is 2, but must be .*pinned.* is not a setting/)
  expect((await daemon.json<LimitsResult>('limits')).settings).toEqual(before.settings)
  // What is not sound is not written over either.
  expect((await daemon.run('limits', '--up', '1MiB', '--save')).code).toBe(EXIT.badInput)
  await write({ pex: false })
  await daemon.json<LimitsResult>('limits', '--up', '1MiB', '--save')
  expect(JSON.parse(await readFile(sandbox.path('home-a', 'config.json'), 'utf8'))).toEqual({ pex: false, uploadBytesPerSecond: 1_048_576 })
  const rows = await daemon.json<LimitRow[]>('status', '--limits')
  expect(rows.find(({ name }) => name === 'uploadRate')).toMatchObject({ value: 1_048_576, hits: 0 })
  expect((await daemon.run('status', '--limits')).stdout).toMatch(/^LIMIT +AT MOST +NOW +HIT +OF WHAT\nconnections +1000 /)
  await write('{')
  expect((await daemon.run('stop')).code).toBe(EXIT.ok)
  // Without a daemon it is written all the same, here by a node that goes nowhere.
  await write({})
  expect((await daemon.run('limits', '--month', '5GB', '--save')).code).toBe(EXIT.ok)
  expect(JSON.parse(await readFile(sandbox.path('home-a', 'config.json'), 'utf8'))).toEqual({ monthlyBytes: 5e9 })
})
