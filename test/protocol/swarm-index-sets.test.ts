import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { IndexSets } from '../../protocol/swarm/index-sets.ts'

/** Few words, one summary, two, three, and a top layer of several words. */
const SIZES = [1, 31, 32, 33, 1_024, 1_025, 40_000, 2_000_000]

/** The same by looking at every index. */
function findSlowly(set: Set<number>, from: number, within: Set<number> | null, without: Set<number> | null): number {
  const fits = [...set].filter((index) => within?.has(index) !== false && without?.has(index) !== true).sort((a, b) => a - b)
  return fits.find((index) => index >= from) ?? fits[0] ?? -1
}

describe('sets of indices in one array', () => {
  it('hold what was added and find the next under two masks, for every size, as plain sets do', () => {
    const step = fc.record({
      kind: fc.integer({ min: 0, max: 5 }),
      set: fc.nat({ max: 3 }),
      at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
    })
    fc.assert(
      fc.property(fc.constantFrom(...SIZES), fc.array(step, { maxLength: 200 }), (size, steps) => {
        const sets = new IndexSets(size)
        const made = [0, 1, 2, 3].map(() => ({ set: sets.make(), model: new Set<number>() }))
        for (const { kind, set, at } of steps) {
          // Half of the indices are near the beginning, so that sets meet.
          const index = Math.floor(at < 0.5 ? Math.min(size - 1, at * 80) : (at - 0.5) * 2 * size)
          const { set: one, model } = made[set]!
          if (kind < 3) {
            expect(sets.add(one, index)).toBe(!model.has(index))
            model.add(index)
          } else if (kind === 3) expect(sets.delete(one, index)).toBe(model.delete(index))
          else if (kind === 4) {
            sets.drop(one)
            made[set] = { set: sets.make(), model: new Set() }
          }
          expect(sets.has(made[set]!.set, index)).toBe(made[set]!.model.has(index))
          expect(sets.isEmpty(made[set]!.set)).toBe(made[set]!.model.size === 0)
          const [a, b, c] = [made[0]!, made[1]!, made[2]!]
          expect(sets.findFrom(a.set, index, b.set, c.set)).toBe(findSlowly(a.model, index, b.model, c.model))
          expect(sets.findFrom(a.set, index, null, null)).toBe(findSlowly(a.model, index, null, null))
        }
        if (size <= 40_000) sets.checkInvariants()
      }),
      { seed: 7, numRuns: 200 },
    )
  })

  it('keep their members when more sets are made, and a set that is made anew is empty', () => {
    const sets = new IndexSets(100)
    const all = Array.from({ length: 50 }, () => sets.make())
    for (const [number, set] of all.entries()) sets.add(set, number)
    expect(new Set(all).size).toBe(50)
    for (const [number, set] of all.entries()) expect(sets.findFrom(set, 0, null, null)).toBe(number)
    sets.drop(all[7]!)
    expect(sets.isEmpty(sets.make())).toBe(true)
    sets.checkInvariants()
  })
})
