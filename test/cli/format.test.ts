import { describe, expect, it } from 'vitest'
import { count, formatBytes, formatFields, formatSeconds, formatTable } from '../../cli/format.ts'
import { hintFor } from '../../cli/hints.ts'
import { progressLine, RateMeter } from '../../cli/progress.ts'
import { EXIT } from '../../protocol/errors.ts'

const MIB = 1024 * 1024

describe('numbers and tables', () => {
  it('shows sizes with three digits in powers of 1024', () => {
    const shown = [0, 1023, 1024, 1536, 10 * 1024, 999.4 * 1024, 999.5 * 1024, MIB, 1.5 * MIB, 2 ** 53].map(formatBytes)
    expect(shown).toEqual(['0 B', '1023 B', '1.00 KiB', '1.50 KiB', '10.0 KiB', '999 KiB', '0.98 MiB', '1.00 MiB', '1.50 MiB', '8.00 PiB'])
  })

  it('shows times with the two units that matter', () => {
    expect([0, 59.4, 60, 185, 3600, 7620, 86_400, 273_600].map(formatSeconds)).toEqual([
      '0 s',
      '59 s',
      '1 min 00 s',
      '3 min 05 s',
      '1 h 00 min',
      '2 h 07 min',
      '1 d 00 h',
      '3 d 04 h',
    ])
  })

  it('counts in the singular and the plural', () => {
    expect([count(0, 'file'), count(1, 'file'), count(12_345, 'file')]).toEqual(['0 files', '1 file', '12,345 files'])
  })

  it('aligns tables and escapes every cell', () => {
    expect(
      formatTable(
        [{ title: 'NAME' }, { title: 'N', align: 'right' }],
        [
          ['a\u001bb', '1'],
          ['long name', '22'],
        ],
      ),
    ).toBe('NAME        N\na\\x1bb      1\nlong name  22\n')
    expect(
      formatFields([
        ['id', 'x\ny'],
        ['', 'z'],
      ]),
    ).toBe('id  x\\ny\n    z\n')
  })
})

describe('progress', () => {
  it('shows how much, how fast and how long still', () => {
    const event = { type: 'progress', phase: 'fetch', doneBytes: 512 * MIB, totalBytes: 1024 * MIB, peers: 5 } as const
    expect(progressLine(event, 8 * MIB)).toBe(
      'Fetching [============            ] 50% 512 MiB of 1.00 GiB, 8.00 MiB/s, 1 min 04 s left, 5 peers',
    )
    expect(progressLine({ ...event, totalBytes: null }, null)).toBe('Fetching 512 MiB, 5 peers')
    expect(progressLine({ type: 'progress', phase: 'find', doneBytes: 0, totalBytes: null }, null)).toBe('Looking for seeders…')
    expect(progressLine({ ...event, doneBytes: 2048 * MIB, peers: 1 }, 0)).toBe(
      'Fetching [========================] 100% 2.00 GiB of 1.00 GiB, 0 B/s, 1 peer',
    )
  })

  it('measures the rate over the last ten seconds', () => {
    const meter = new RateMeter()
    expect(meter.add(0, 0)).toBeNull()
    expect(meter.add(500, 1000)).toBe(500)
    for (let second = 2; second <= 30; second++) meter.add(500 + (second - 1) * 100, second * 1000)
    expect(meter.add(500 + 30 * 100, 31_000)).toBeCloseTo(100)
  })
})

describe('hints', () => {
  it('say what to do next, unless the message does already', () => {
    expect(hintFor('NO_SEEDER', EXIT.noSeeder, 'get', 'no seeder is online for this link')).toContain('--wait')
    expect(hintFor('NO_SEEDER', EXIT.noSeeder, 'get', 'no seeder is online; keep waiting with --wait')).toBe('')
    expect(hintFor('L3', EXIT.badLink, 'get', 'damaged link')).toContain('whole link')
    expect(hintFor('INTERRUPTED', EXIT.interrupted, 'get', 'interrupted')).toContain('goes on where it stopped')
    expect(hintFor('INTERRUPTED', EXIT.interrupted, 'peers', 'interrupted')).toBe('')
    expect(hintFor('toString', EXIT.bug, null, 'x')).toBe('')
  })
})
