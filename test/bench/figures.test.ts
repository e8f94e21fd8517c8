/** What the benchmarks reckon with: the bound of a crowd, when a run is void, and which step a sample of a profile belongs to. */
import { describe, expect, it } from 'vitest'
import { type CrowdFigures, fluidSeconds, printCrowd } from '../../bench/crowd-figures.ts'
import { MIB, median } from '../../bench/meters.ts'
import { type Profile, sharesOf } from '../../bench/profile.ts'

const crowd = { getters: 2, mib: 64, upBytes: 2 * MIB, downBytes: 8 * MIB }
const figures: CrowdFigures = {
  seconds: [40, 64],
  links: [1, 2],
  originBytes: 96 * MIB,
  copyBytes: 64 * MIB,
  receivedBytes: 129 * MIB,
  cpuPercent: 50,
  rssMiB: 100,
  identical: 2,
}
const printed = (changes: Partial<CrowdFigures>): string => {
  const lines: string[] = []
  printCrowd('Shoal', crowd, { ...figures, ...changes }, (line) => lines.push(line))
  return lines.join('\n')
}

describe('a crowd', () => {
  it('is bound by the line of the origin, of a getter, or of all together', () => {
    expect(fluidSeconds(crowd)).toBe(32)
    expect(fluidSeconds({ ...crowd, downBytes: MIB })).toBe(64)
    expect(fluidSeconds({ ...crowd, mib: 11, getters: 10, upBytes: MIB })).toBe(11)
    expect(fluidSeconds({ ...crowd, mib: 11, getters: 10, upBytes: MIB, downBytes: 1000 * MIB })).toBe(11)
  })

  it('is told by its last finish, its copies and its surplus', () => {
    expect(printed({})).toMatch(/last 64\.0 s.*bound 32\.0 s, ratio 2\.00/)
    expect(printed({})).toMatch(/origin sent 1\.50 copies.*one copy each 0\.8 %/)
    expect(printed({})).not.toContain('VOID')
  })

  it('is void when the machine was busy, and no result when an output differs', () => {
    expect(printed({ cpuPercent: 71 })).toContain('VOID')
    expect(() => printed({ identical: 1 })).toThrow(/1 outputs differ/)
  })
})

describe('a profile', () => {
  const frame = (id: number, functionName: string, url: string, children: number[] = []) => ({
    id,
    callFrame: { functionName, url },
    children,
  })
  const profile: Profile = {
    nodes: [
      frame(1, '(root)', '', [2, 3, 6]),
      frame(2, '(idle)', ''),
      frame(3, 'readLoop', 'file:///x/dist/node/network/peer-link.js', [4]),
      frame(4, 'decrypt', 'file:///x/node_modules/@chainsafe/libp2p-noise/dist/src/crypto/index.js', [5]),
      frame(5, 'update', 'node:internal/crypto/cipher'),
      frame(6, 'sha256', 'file:///x/dist/node/crypto/primitives.js'),
    ],
    startTime: 1_000,
    samples: [3, 5, 2, 6, 6],
    timeDeltas: [100, 300, 5_000, 100, 700],
  }

  it('gives a built-in function to the step that called it, and waiting to none', () => {
    const shares = sharesOf([profile], { fromUs: 0, toUs: Number.POSITIVE_INFINITY })
    expect(shares.get('Noise (ChaCha20-Poly1305)')).toBe(0.25)
    expect(shares.get('hash (SHA-256)')).toBeCloseTo(8 / 12)
    expect([...shares.values()].reduce((sum, share) => sum + share, 0)).toBeCloseTo(1)
  })

  it('counts only what lies in the window', () => {
    const shares = sharesOf([profile], { fromUs: 1_050, toUs: 1_500 })
    expect([...shares.keys()]).toEqual(['TCP, Yamux, frames, session', 'Noise (ChaCha20-Poly1305)'])
  })
})

describe('the median', () => {
  it('is the upper of two, and nothing of none', () => {
    expect(median([3, 1, 2])).toBe(2)
    expect(median([1, 2])).toBe(2)
    expect(median([])).toBeNaN()
  })
})
