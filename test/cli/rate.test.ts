import { describe, expect, it } from 'vitest'
import { formatCap, parseRate } from '../../cli/rate.ts'
import { JobError } from '../../node/control/api.ts'

describe('rates', () => {
  it.each([
    ['1024', 1024],
    ['65536B', 65_536],
    ['2MiB', 2_097_152],
    ['1.5 MiB/s', 1_572_864],
    ['500kB', 500_000],
    ['500KiB', 512_000],
    ['3mb', 3_000_000],
    ['1GB', 1e9],
    ['1gib', 2 ** 30],
    ['none', null],
  ])('%s', (text, bytes) => {
    expect(parseRate(text)).toBe(bytes)
  })

  it.each(['', '0', '1023', '-5MiB', '2M', '2 apples', 'MiB', '1e9', '9999999999999GiB', 'nonesuch', '1..5MiB'])('not %s', (text) => {
    expect(() => parseRate(text)).toThrow(JobError)
  })

  it('are shown as people read them', () => {
    expect([formatCap(2_097_152), formatCap(null)]).toEqual(['2.00 MiB/s', 'no cap'])
  })
})
