/** The numbers of what a node says of itself. A part of limits.ts. */

const MIB = 1024 * 1024

/** What the node counts for its metrics. */
export const METRICS = {
  /** Codes that jobs end with, counted apart; there are some fifty. */
  codesMax: 128,
} as const

/** The daemon's log file. */
export const LOGS = {
  /** Of HOME/daemon.log, and of the older one beside it. */
  fileBytesMax: 8 * MIB,
  /** Lines that wait for a slow disk; more are dropped and counted. */
  pendingBytesMax: MIB,
} as const
