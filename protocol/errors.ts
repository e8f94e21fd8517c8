/**
 * Every error that Shoal raises on purpose, and the one table of their codes.
 *
 * Three kinds: FormatError (a link or share that breaks protocol/README.md, one code a rule), RemoteError (a peer broke the wire
 * protocol), and in node/ FileError and NetworkError (the world). A plain Error or AssertionError is a bug of ours.
 * Tests and callers compare `code`, never messages.
 */

import type { LimitName } from './limit-table.ts'

/** What the command line exits with, by kind of failure. Stable: scripts rely on them (README, "Exit codes"). */
export const EXIT = {
  ok: 0,
  bug: 1,
  usage: 2,
  homeLocked: 3,
  badLink: 4,
  wrongKey: 5,
  damagedShare: 6,
  noSeeder: 7,
  noSpace: 8,
  pathExists: 9,
  needsConsent: 10,
  noDaemon: 11,
  badInput: 12,
  oldNode: 13,
  interrupted: 130,
} as const

/** Rules of the format (protocol/README.md, "What a reader rejects") and the exit code and sentence that each leads to. */
export const FORMAT_CODES = {
  L1: { exit: EXIT.badLink, says: 'this link is damaged or incomplete: its content ID is not one that Shoal writes' },
  L2: { exit: EXIT.badLink, says: 'this link is damaged or incomplete: its key does not match its content ID' },
  L3: { exit: EXIT.badLink, says: 'this link is damaged, or was made by a newer version of Shoal' },
  L4: { exit: EXIT.badLink, says: 'this link names a path that no share can hold' },
  L5: { exit: EXIT.badLink, says: 'this protected link is damaged' },
  D1: { exit: EXIT.damagedShare, says: 'a block does not match its content ID' },
  D2: { exit: EXIT.damagedShare, says: 'damaged share: a node of its tree is too large or not canonical' },
  D3: { exit: EXIT.damagedShare, says: 'damaged share: the sizes in its tree do not add up' },
  D4: { exit: EXIT.damagedShare, says: 'damaged share: its tree is not the one that its size asks for' },
  B1: { exit: EXIT.wrongKey, says: 'wrong key, or not a share' },
  B2: { exit: EXIT.damagedShare, says: 'damaged share: whoever made it sealed it wrongly, no other peer can help' },
  X1: { exit: EXIT.damagedShare, says: 'damaged share: wrong length or padding in its index' },
  X2: { exit: EXIT.damagedShare, says: 'damaged share: its index is not canonical CBOR' },
  X3: { exit: EXIT.damagedShare, says: 'damaged share: its index has unknown, missing or mistyped fields' },
  X4: { exit: EXIT.damagedShare, says: 'damaged share: the counts in its index do not add up' },
  X5: { exit: EXIT.damagedShare, says: 'damaged share: the entries of its index are not in order' },
  X6: { exit: EXIT.damagedShare, says: 'damaged share: a file in its index has impossible extents' },
  X7: { exit: EXIT.needsConsent, says: 'this share unpacks to far more than it weighs' },
  X8: { exit: EXIT.damagedShare, says: 'a file does not match the hash that its publisher stated' },
  P1: { exit: EXIT.damagedShare, says: 'damaged share: it holds a file name that is not allowed' },
  P2: { exit: EXIT.damagedShare, says: 'damaged share: two of its paths collide' },
  P3: { exit: EXIT.damagedShare, says: 'this share holds a name that this system cannot store' },
  C1: { exit: EXIT.badInput, says: 'this is not the CAR file of one share' },
  C2: { exit: EXIT.badInput, says: 'this CAR file is damaged or cut off, or holds what no share has' },
  C3: { exit: EXIT.badInput, says: 'this CAR file does not hold one whole share in order' },
} as const

export type FormatCode = keyof typeof FORMAT_CODES

/** A link, block or share that breaks the format. `code` is the row of the table above. */
export class FormatError extends Error {
  override name = 'FormatError'
  readonly code: FormatCode
  constructor(code: FormatCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** What the writer cannot express: over a limit of the format, or a name that it refuses. `code` says which. */
export type InputCode = 'TOO_LARGE' | 'BAD_NAME' | 'COLLISION' | 'EMPTY_NAME' | 'NOT_PUBLIC'

/** Input that cannot be shared as it is. The message names the file or the limit, for the user to mend. */
export class InputError extends Error {
  override name = 'InputError'
  readonly code: InputCode
  constructor(code: InputCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** A peer broke the wire protocol; the wire number goes into GOODBYE, `strike` is what score.ts counts. */
export const REMOTE_CODES = {
  FRAME_TOO_LARGE: { wire: 1, strike: 'fatal' },
  BAD_FRAME: { wire: 2, strike: 'protocol' },
  UNKNOWN_TYPE: { wire: 3, strike: 'protocol' },
  TRUNCATED: { wire: 4, strike: 'protocol' },
  CREDIT_EXCEEDED: { wire: 5, strike: 'fatal' },
  OUT_OF_RANGE: { wire: 6, strike: 'protocol' },
  UNSOLICITED: { wire: 7, strike: 'protocol' },
  BAD_HELLO: { wire: 8, strike: 'fatal' },
  DUPLICATE_HELLO: { wire: 9, strike: 'protocol' },
  BAD_BLOCK: { wire: 10, strike: 'fatal' },
  FLOOD: { wire: 11, strike: 'protocol' },
  TIMEOUT: { wire: 12, strike: 'none' },
} as const

export type RemoteCode = keyof typeof REMOTE_CODES

/** A peer's fault. Never a reason to stop a job, always a reason to drop that peer. */
export class RemoteError extends Error {
  override name = 'RemoteError'
  readonly code: RemoteCode
  /** The limit that was run into, where it was one. */
  readonly limit: LimitName | null
  constructor(code: RemoteCode, message: string, options: ErrorOptions & { limit?: LimitName } = {}) {
    super(message, options)
    this.code = code
    this.limit = options.limit ?? null
  }
}

/** Throws an AssertionError when `ok` is false: a bug of ours, never a peer's or user's doing. */
export function assert(ok: boolean, what: string): asserts ok {
  if (!ok) throw new AssertionError(what)
}

export class AssertionError extends Error {
  override name = 'AssertionError'
}
