/** The volume of a month with real daemons: it outlives kill -9, restarts, and clocks that jump. */
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { LimitsResult, ShareResult } from '../../../node/control/api.ts'
import { type Daemon, type DaemonOptions, Sandbox } from '../../kit/daemons.ts'

const MIB = 2 ** 20
const VOLUME = 3 * MIB

/** What faketime would preload; null where it is not installed. The program itself forks, so that a kill would miss the daemon. */
const preload = /^LD_PRELOAD=(.+)$/m.exec(spawnSync('faketime', ['-f', '+0', 'env'], { encoding: 'utf8' }).stdout ?? '')?.[1] ?? null

let sandbox: Sandbox

beforeAll(async () => {
  sandbox = await Sandbox.create()
  await mkdir(sandbox.path('home-seeder'), { mode: 0o700 })
  await writeFile(sandbox.path('home-seeder', 'config.json'), JSON.stringify({ monthlyUploadBytes: VOLUME }))
  await writeFile(sandbox.path('big.bin'), randomBytes(12 * MIB))
})

afterAll(() => sandbox.clear())

const monthOf = async (daemon: Daemon): Promise<LimitsResult['month']> => (await daemon.json<LimitsResult>('limits')).month

describe('the volume of a month', () => {
  it.skipIf(preload === null)(
    preload !== null
      ? 'outlives kill -9, and clocks that jump forth and back'
      : 'outlives clocks that jump (skipped: faketime is not installed)',
    async () => {
      const at = (clock: string | null): DaemonOptions =>
        clock === null ? {} : { prefix: ['env', `LD_PRELOAD=${preload}`, `FAKETIME=${clock}`] }
      let seeder = await sandbox.daemon('seeder', at(null))
      const { link } = await seeder.json<ShareResult>('share', sandbox.path('big.bin'))
      const reader = await sandbox.daemon('reader', { bootstrap: seeder.addresses })
      await mkdir(sandbox.path('out'))
      reader.json('get', link, '-o', sandbox.path('out'), '--wait').catch(() => {}) // ended with its daemon
      while (!(await monthOf(seeder)).isUpHeld) await delay(50)
      const { upBytes } = await monthOf(seeder)
      expect(upBytes).toBeGreaterThanOrEqual(VOLUME)
      // What was on its way when it was used up, and small frames.
      expect(upBytes).toBeLessThan(VOLUME + MIB)
      expect((await seeder.run('status')).stdout).toContain('used up: nothing is served until')
      await reader.kill('SIGKILL')
      // Held is written down at once: kill -9 forgets nothing of that.
      await seeder.kill('SIGKILL')
      for (const [clock, isHeld] of [
        ['-70d', true],
        ['+400d', false],
        ['-400d', true],
        [null, true],
      ] as const) {
        seeder = await sandbox.daemon('seeder', at(clock))
        const month = await monthOf(seeder)
        expect([clock, month.isUpHeld]).toEqual([clock, isHeld])
        await seeder.kill('SIGKILL')
      }
    },
  )
})
