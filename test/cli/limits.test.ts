/** What `shoal limits` reads and says, and the table of `status --limits`. */
import { describe, expect, it } from 'vitest'
import { sayLimitTable } from '../../cli/limit-table.ts'
import { monthFields, sayLimits } from '../../cli/limits.ts'
import { parseArguments } from '../../cli/program.ts'
import { JUST_SHOW, type LimitsRequest } from '../../node/control/api.ts'
import { EXIT } from '../../protocol/errors.ts'
import { fakeApi, fakeLimits } from './fake-api.ts'

describe('limits', () => {
  it('says until when nothing is served or fetched, and where the caps come from', () => {
    const used = fakeLimits({ ...JUST_SHOW, set: { monthlyBytes: 2 ** 30, monthlyUploadBytes: 2 ** 29 } })
    used.month = { ...used.month, upBytes: 2 ** 29, downBytes: 5, isUpHeld: true }
    used.capsFrom = { up: 'schedule', down: 'set', nextChangeMs: new Date(2026, 10, 26, 8, 5).getTime() }
    for (const line of [
      'up              1.00 KiB/s, no cap by the schedule\n',
      'schedule        other caps from 2026-11-26 08:05 on\n',
      'month           512 MiB of 512 MiB up, 5 B down, together 512 MiB of 1.00 GiB, until 2026-12-01 00:00\n',
      '                used up: nothing is served until 2026-12-01 00:00, or until `shoal limits` sets more\n',
    ])
      expect(sayLimits(used)).toContain(line)
    // Where no volume is set, status says nothing of it.
    expect(monthFields(fakeLimits(JUST_SHOW))).toEqual([])
  })

  it('reads sizes, and refuses what is none', () => {
    const requestOf = (...options: string[]): LimitsRequest | number => {
      const parsed = parseArguments(['limits', ...options])
      if ('exitCode' in parsed) return parsed.exitCode
      return parsed.call.verb === 'limits' ? parsed.call.request : EXIT.bug
    }
    const options = [
      '--month',
      '1.5TB',
      '--month-start',
      '15',
      '--free',
      'auto',
      '--pinned',
      '10GiB',
      '--memory',
      '64MiB',
      '--connections',
      '50',
    ]
    const set = {
      ...{ monthlyBytes: 1.5e12, monthStartDay: 15, freeBytesKept: null, pinnedBytes: 10 * 2 ** 30 },
      ...{ memoryBytes: 2 ** 26, connectionsMax: 50 },
    }
    expect(requestOf(...options)).toEqual({ set, reset: false, save: false })
    for (const wrong of [
      ['--month', 'much'],
      ['--memory', 'none'],
      ['--connections', '-1'],
      ['--free', 'none'],
    ])
      expect(requestOf(...wrong)).toBe(EXIT.usage)
  })

  it('shows every limit with its use and its hits', async () => {
    const lines = sayLimitTable(await fakeApi().limitTable(new AbortController().signal)).split('\n')
    expect(lines.slice(0, 4)).toEqual([
      'LIMIT         AT MOST         NOW      HIT  OF WHAT',
      'connections      1000           3   1 time  connections',
      'frameBytes   64.1 KiB           -  0 times  one frame',
      'uploadRate     no end  1.00 KiB/s        -  sent for shares',
    ])
  })
})
