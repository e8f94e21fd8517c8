/** Budgets that the user sets: what they are at first, and how far they go. The values in force are in the config of the node. */
const KIB = 1024
const MIB = 1024 * KIB

/** Budgets that the user sets: what they are at first, and how far they go. */
export const BUDGETS = {
  scheduleEntriesMax: 64,
  connectionsMin: 8,
  connectionsMax: 10_000,
  /** Of the files that the process may have open, these are for blocks, records and the local API; */
  descriptorsKept: 128,
  /** the others are for connections, with some room for those that are just being made. */
  descriptorsPerConnection: 1.2,
  /** Two parts for blocks on their way out, two for credit, one for caches: 32, 32 and 16 MiB. */
  memoryBytes: 80 * MIB,
  /** Four blocks each way, and two to keep. */
  memoryBytesMin: 10 * MIB,
  memoryBytesMax: 64 * 1024 * MIB,
  cachedBytes: 4 * 1024 * MIB,
  /** Free space that is left: the larger of these two, */
  freeBytesKept: 1024 * MIB,
  freePartKept: 0.02,
  /** but on a small disk no more than this part of it. */
  freePartKeptMax: 0.1,
  /** While a share is written, free space is looked at after so much. */
  diskLookBytes: 64 * MIB,
  /** The volume of a month is written down after so long or so much: as much as a kill can make it forget. */
  monthWriteMs: 10_000,
  monthWriteBytes: 64 * MIB,
  /** Months whose volume is remembered, for clocks that go back. */
  monthsKept: 4,
} as const
