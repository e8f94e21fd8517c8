/** The numbers of looking after what is stored: checking, mending, letting go. A part of limits.ts. */

/** Looking after what is stored. */
export const KEEPING = {
  /** Blocks that are found damaged within this time are looked up together. */
  damageGatherMs: 100,
  /** Blocks that `verify` reads at once. */
  checksAtOnceMax: 4,
  repairsAtOnceMax: 4,
  /** Once for each level of the largest tree, and once more for what breaks meanwhile. */
  repairRoundsMax: 5,
  /** Every stored block is checked once in this time, */
  scrubPassMs: 30 * 86_400_000,
  /** at most ten a second, which a disk bears beside all else, and at least one an hour; */
  scrubWaitMinMs: 100,
  scrubWaitMaxMs: 3_600_000,
  /** not while jobs run or the event loop is later than this. */
  scrubLagMaxMs: 50,
  scrubBusyMs: 10_000,
  scrubSavedMs: 60_000,
  /** Ten years: `seed --keep-for`. */
  keepForMaxMs: 10 * 365 * 86_400_000,
  expiryLookMs: 60_000,
  /** Room on disk is looked at after so much that came in for a share that is only read. */
  cacheLookBytes: 32 * 2 ** 20,
  /** The clock must have been past the time of a share for so long, while the node ran; */
  overdueMs: 3_600_000,
  /** or for so long after it jumped by this much against the clock that only runs forward. */
  overdueAfterJumpMs: 86_400_000,
  clockJumpMs: 3_600_000,
} as const
