import { describe, expect, it } from 'vitest'
import { keptSeeds } from '../kit/seeds.ts'
import { digestOfSeed, type NetOutcome, runSeed } from './net.ts'
import { KEPT_FILE } from './run.ts'

const SEEDS = Number(process.env.SEEDS ?? 300)

/** Runs a seed, and says which it was when it fails. */
function run(seed: number): NetOutcome {
  try {
    return runSeed(seed)
  } catch (error) {
    throw new Error(`seed ${seed}; replay it: SEED=${seed} npm run sim`, { cause: error })
  }
}

describe('whole nodes in a network of delays, resets, cuts, liars and full disks', () => {
  it(`all get everything with every one of ${SEEDS} seeds, machines and wire checked after every event, and all that may happen does`, () => {
    const happened = new Map<string, number>()
    for (let seed = 1; seed <= SEEDS; seed++) {
      for (const [what, count] of run(seed).happened) happened.set(what, (happened.get(what) ?? 0) + count)
    }
    for (const what of [
      'badBlock',
      'absent',
      'cancel',
      'copy',
      'lost',
      'storeFailed',
      'lateVerdict',
      'linkLost',
      'replaced',
      'protocolStrike',
    ]) {
      expect(happened.get(what) ?? 0, what).toBeGreaterThan(SEEDS / 100)
    }
  }, 240_000)

  it('passes the seeds that failed once', () => {
    for (const { seed } of keptSeeds(KEPT_FILE)) run(seed)
  })

  it('the same seed gives the same trace to the byte, another seed another', () => {
    expect(digestOfSeed(7)).toBe(digestOfSeed(7))
    expect(digestOfSeed(7)).not.toBe(digestOfSeed(8))
  })
})
