/** What a hostile peer is told to do, and what it tells: the messages between a test and hostile-peer.ts. */

/** What kind of peer it is; what each does stands in kinds.ts. */
export const KINDS = [
  'corrupt-bit',
  'other-block',
  'wrong-length',
  'lying-bitmap',
  'accept-and-stall',
  'drip',
  'request-flood',
  'request-never-read',
  'request-without-credit',
  'oversize-frame',
  'truncated-frame',
  'unknown-type',
  'unsolicited-block',
  'have-flood',
  'bad-bitmap',
  'forged-hello',
  'half-hello',
  'oversize-hello',
  'other-hello',
  'probe',
  'pex-poison',
  'many-small-frames',
  'small-frames-within-the-limit',
] as const

export type Kind = (typeof KINDS)[number]

export interface Order {
  kind: Kind
  /** Name of the network. */
  network: string
  cid: string
  /** A home whose store holds the share: where good blocks come from, to be served as they are or spoiled. */
  home: string
  /** Addresses of those it dials, over and over until they refuse it. */
  targets: string[]
  listen: string
  /** DHT servers that are told that it has the share. */
  announceTo?: string[]
  /** Where its peer exchanges send people. */
  sink?: { host: string; port: number }
}

/** What a test sends to the process; the number tells its hostile peers apart. */
export type Command =
  | { do: 'start'; number: number; order: Order }
  /** Dial this one too, from now on. */
  | { do: 'visit'; number: number; target: string }
  | { do: 'stop'; number: number }

export type Report =
  /** It listens, or has begun to dial. */
  | { type: 'ready'; peerId: string; address: string }
  /** It did in a session what its kind does; said once for each session. */
  | { type: 'deed' }
  /** A session is over. `goodbye`: the code of the last word. */
  | { type: 'ended'; goodbye: number | null; dataBytes: number; tookMs: number }
  /** Nobody lets it in any more, after so many sessions. */
  | { type: 'refused'; sessions: number }
  | { type: 'probed'; probes: Probe[] }

/** One answer to a HELLO that proves nothing. */
export interface Probe {
  /** Whether the share is one that the other side has. */
  isKnown: boolean
  /** Hexadecimal, all that came back. */
  answer: string
  tookMs: number
}
