/** The bounds of shares in place: a part of limits.ts, which passes them on. */
const MIB = 1024 * 1024

/** Shares whose bytes lie in the user's own files. */
export const SOURCES = {
  /** Places at which files of one share lie; the oldest is forgotten. */
  treesMax: 8,
  /** The list of the files of one share: some 60 bytes a file. */
  fileBytesMax: 1024 * MIB,
  /** Files read at once for one block of many small ones. */
  readsAtOnceMax: 8,
  /** Sealed blocks of all shares, kept for the next who asks. */
  cacheBytesMax: 16 * MIB,
  /** Looking at the files of all shares in place: the first round after the start, the pause between rounds, */
  sweepFirstMs: 10_000,
  sweepMs: 3_600_000,
  /** and the pace: so many, then a pause; 2,000 a second at most. */
  looksAtOnceMax: 100,
  lookPauseMs: 50,
  /** Files that `status` names; the others are counted. */
  faultsListedMax: 20,
  /** What the system counts the room of a file in. */
  diskSectorBytes: 512,
  /** Blocks that are known to be missing before they are asked for, while an interrupted download is looked through. */
  missingAtOnceMax: 64,
  /** From a file that seems changed to its being looked through: it may still be written to. */
  recheckAfterMs: 2_000,
} as const
