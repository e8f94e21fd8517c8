/** One peer of a share, as the machine of contacts.ts keeps it in mind, and what follows from that alone. */
import type { Neighbour } from './neighbours.ts'

/** Where we heard of a peer: the user, a link, the DHT, another peer, or an earlier run. */
export type ContactSource = 'given' | 'hint' | 'dht' | 'exchange' | 'known'

/** A peer that may be dialled, is being dialled, or is connected. */
export interface Contact {
  source: ContactSource
  teller: string | null
  /** One that worked first, then what was heard of last. */
  addresses: string[]
  isUseful: boolean
  fails: number
  /** Not dialled before. */
  readyMs: number
  /** Forgotten; kept in mind until `readyMs` only so that nobody brings it back. */
  isBarred: boolean
  /** Since when it is dialled; null when it is not. */
  diallingMs: number | null
  /** We moved while it was a neighbour: until then it is dialled whenever it is lost, whoever wanted something. */
  missedUntilMs: number
  neighbour: Neighbour | null
}

/** The lower, the dearer. */
export const RANK: Record<ContactSource, number> = { given: 0, hint: 1, known: 2, dht: 3, exchange: 4 }

/** Fails after which one that we would rather have waits behind the untried ones. */
const FAILS_IN_FRONT = 3

/** The order in which contacts are tried: given, hints, useful and known ones, untried others, all the rest. */
export function turnOf({ source, isUseful, fails }: Contact): number {
  const rank = Math.min(RANK[source], isUseful ? RANK.known : RANK.dht)
  return fails >= (rank < RANK.dht ? FAILS_IN_FRONT : 1) ? RANK.exchange : rank
}

/** Somebody wants us to try those for as long as we look at all. */
export const isLasting = ({ source }: Contact): boolean => source === 'given' || source === 'hint'

/** Known by the word of another peer only. */
export const isHearsay = ({ source, isUseful, diallingMs, neighbour }: Contact): boolean =>
  source === 'exchange' && !isUseful && diallingMs === null && neighbour === null

/** Whether all of it is known, and merging would change no order: what is heard of stands behind what worked first, as it was heard. */
export function isKnown(known: string[], heard: string[]): boolean {
  let at = 1
  for (const address of heard) if (address !== known[0] && address !== known[at++]) return false
  return true
}

/** Just heard of. */
export const newContact = (source: ContactSource, teller: string | null, addresses: string[], now: number): Contact => ({
  source,
  teller,
  addresses,
  isUseful: false,
  fails: 0,
  readyMs: now,
  isBarred: false,
  diallingMs: null,
  missedUntilMs: 0,
  neighbour: null,
})
