import { describe, expect, it } from 'vitest'
import type { LimitRow } from '../../node/control/api.ts'
import { Figures } from '../../node/figures.ts'
import { lockHolderOf } from '../../node/lock-holder.ts'
import { METRICS } from '../../protocol/limits.ts'
import { fakeApi } from '../cli/fake-api.ts'

const never = new AbortController().signal

async function page(figures = new Figures()): Promise<string> {
  return await figures.page(await fakeApi().status(never), ['complete', 'partial', 'complete'], LIMITS)
}

const LIMITS: LimitRow[] = [
  { name: 'connections', value: 100, unit: '', meaning: 'connections', used: 3, hits: 2 },
  { name: 'month', value: null, unit: 'bytes', meaning: 'a month', used: 5, hits: null },
  { name: 'windowBytes', value: 7, unit: 'bytes', meaning: 'window', used: null, hits: null },
]

const LINE = /^([a-z_:][a-z0-9_:]*)(\{[a-z_]+="(?:[^"\\\n]|\\.)*"(?:,[a-z_]+="(?:[^"\\\n]|\\.)*")*\})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|NaN)$/

describe('the metrics', () => {
  it('are well-formed: each family has a help and a type, each sample belongs to one, no series comes twice', async () => {
    const lines = (await page()).trimEnd().split('\n')
    const series = new Set<string>()
    let current = { name: '', type: '' }
    for (const [i, line] of lines.entries()) {
      const [, help] = /^# HELP (\S+) [A-Z0-9].*\.$/.exec(line) ?? []
      if (help !== undefined) {
        const [, name, type] = /^# TYPE (\S+) (gauge|counter)$/.exec(lines[i + 1] ?? '') ?? []
        expect(name).toBe(help)
        current = { name: help, type: type ?? '' }
      } else if (!line.startsWith('# TYPE')) {
        const [, name = '', labels = ''] = LINE.exec(line) ?? []
        expect(name, line).toBe(current.name)
        expect(series.has(name + labels), line).toBe(false)
        series.add(name + labels)
        expect(name.endsWith('_total'), line).toBe(current.type === 'counter')
        expect(name).toMatch(/^(shoal|process|nodejs)_/)
      }
    }
    expect(series.size).toBeGreaterThan(15)
  })

  it('tell amounts, and not with whom or of what', async () => {
    const text = await page()
    expect(text).toContain('shoal_shares{state="complete"} 2\n')
    expect(text).toContain('shoal_share_bytes_total{direction="out"} 2\n')
    expect(text).toContain('shoal_cap_bytes_per_second{direction="out"} 2097152\n')
    expect(text).not.toMatch(/baf[ky]|\/ip4|P1|\/h\b|12D3/)
  })

  it('tell of limits what is used and how often they were run into, where that is known', async () => {
    const lines = (await page()).split('\n').filter((line) => line.startsWith('shoal_limit_'))
    expect(lines).toEqual([
      'shoal_limit_max{limit="connections"} 100',
      'shoal_limit_used{limit="connections"} 3',
      'shoal_limit_used{limit="month"} 5',
      'shoal_limit_hits_total{limit="connections"} 2',
    ])
  })

  it('count how jobs ended, under a bounded number of codes', async () => {
    const figures = new Figures()
    figures.noteEnd('OK')
    figures.noteEnd('OK')
    for (let i = 0; i < METRICS.codesMax + 10; i++) figures.noteEnd(`CODE${i}`)
    const text = await page(figures)
    expect(text).toContain('shoal_jobs_ended_total{code="OK"} 2\n')
    expect(text).toContain('shoal_jobs_ended_total{code="OTHER"} 11\n')
    expect(text.match(/shoal_jobs_ended_total\{/g)).toHaveLength(METRICS.codesMax + 1)
  })
})

describe('the holder of a lock', () => {
  it('is read from what Linux says of locks', () => {
    const locks = [
      '1: POSIX  ADVISORY  READ 7 fe:01:42 128 128',
      '2: FLOCK  ADVISORY  WRITE 8 fe:01:42 0 EOF',
      '2: -> POSIX  ADVISORY  WRITE 9 fe:01:42 0 EOF',
      '3: POSIX  ADVISORY  WRITE 0 fe:01:42 0 EOF',
      '4: POSIX  ADVISORY  WRITE 1234 fe:01:42 1073741825 1073741825',
    ].join('\n')
    expect(lockHolderOf(locks, 42)).toBe(1234)
    expect(lockHolderOf(locks, 4)).toBeNull()
    expect(lockHolderOf('', 42)).toBeNull()
  })
})
