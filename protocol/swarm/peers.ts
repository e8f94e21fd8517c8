/**
 * What the swarm machine keeps about each peer: what it has, what it was asked, how fast it is. Plain bookkeeping, no decisions.
 *
 * The numbers that are looked at for all peers in a row stand in one array, a row of eight for each, and a peer reads its own there: going
 * through forty rows costs less than fetching forty objects from all over the memory.
 */
import type { IndexSets } from './index-sets.ts'
import { removeAt } from './short-lists.ts'

/** How long a row is, and what stands where for those who go through all of them. */
export const ROW = 8
export const STATE = 0
export const ASKED = 1
export const RATE = 2
export const HEAD_SINCE = 3
export const HEAD_FIRST = 4
export const HEAD_BYTES = 5
const LAST_BYTE = 6
const HEAD_ITEM = 7

/** Bits of STATE. */
export const PROVEN = 1
export const IN_LINE = 2
export const TRIAL = 4
const DRY = 8
export const SUGGESTING = 16
const SHARING = 32

const NO_ITEM = -1
/** As many as a swarm has peers at most, most often: what grows is moved away from what it is needed with. */
const ROWS_AT_FIRST = 40

/** The peers of one swarm. */
export class Peers {
  /** In the order in which they came. */
  readonly list: SwarmPeer[] = []
  /** Row n belongs to peer n of the list. */
  rows = new Float64Array(ROW * ROWS_AT_FIRST)
  readonly byKey = new Map<string, SwarmPeer>()
  readonly #sets: IndexSets

  /** `sets` are over all items. */
  constructor(sets: IndexSets) {
    this.#sets = sets
  }

  /** A peer of which nothing is known but that it is there. */
  add(key: string, window: number): SwarmPeer {
    const at = this.list.length * ROW
    if (at === this.rows.length) this.#grow()
    this.rows.fill(0, at, at + ROW)
    this.rows[at + HEAD_ITEM] = NO_ITEM
    const peer = new SwarmPeer(key, this.rows, at, this.#sets, window)
    this.list.push(peer)
    this.byKey.set(key, peer)
    return peer
  }

  /** Its numbers and sets are gone with it. */
  remove(peer: SwarmPeer): void {
    const index = this.list.indexOf(peer)
    this.byKey.delete(peer.key)
    removeAt(this.list, index)
    this.rows.copyWithin(index * ROW, (index + 1) * ROW, (this.list.length + 1) * ROW)
    for (let later = index; later < this.list.length; later++) this.list[later]!.at = later * ROW
    if (peer.have !== null) this.#sets.drop(peer.have)
    if (peer.refused !== null) this.#sets.drop(peer.refused)
    peer.isGone = true
  }

  /** Whether another peer could be asked for an item; a snubbed one counts only against one that is snubbed too. */
  isElsewhere(item: number, not: SwarmPeer, now: number): boolean {
    for (const peer of this.list) {
      if (peer !== not && isHolder(peer, item) && (now >= peer.snubbedUntilMs || now < not.snubbedUntilMs)) return true
    }
    return false
  }

  #grow(): void {
    const rows = new Float64Array(this.rows.length * 2)
    rows.set(this.rows)
    this.rows = rows
    for (const peer of this.list) peer.rows = rows
  }
}

/** An item under way. */
export interface Flight {
  readonly item: number
  /** Peers that were asked for it: it is in the queue of each, or what it delivered is being verified. */
  readonly peers: SwarmPeer[]
  /** How many of them have delivered. */
  checking: number
  /** When it was asked for last. */
  askedMs: number
}

/** The place of an item among some flights; -1 when it is not there. */
export function indexOfItem(flights: readonly Flight[], item: number): number {
  for (let at = 0; at < flights.length; at++) if (flights[at]!.item === item) return at
  return -1
}

/** One peer of a swarm. What is asked for most often comes first. */
export class SwarmPeer {
  rows: Float64Array
  /** Where its row begins. */
  at: number
  /** The same as in its row: what is asked of one peer is answered here, what is asked of all there. */
  state = 0
  /** The set of what it has. Null: it has everything. */
  have: number | null
  /** The set of what it said that it does not have after all, if anything. */
  refused: number | null = null
  /** Not in disgrace and not resting from then on. */
  usableFromMs = 0
  window: number
  /** Asked and not delivered, in the order asked. */
  readonly queue: Flight[] = []
  /** Delivered and being verified. */
  readonly checking: Flight[] = []
  readonly sets: IndexSets
  readonly key: string
  verified = 0
  fails = 0
  /** How often in a row requests were taken back: the pauses double. */
  pauses = 0
  snubbedUntilMs = 0
  /** It rests until then. */
  coolUntilMs = 0
  isGone = false
  /** When it came into line: the lower, the earlier. */
  turn = 0
  /** What it would rather be asked for, oldest first. */
  suggested: number[] = []
  /** The same for items that nobody here wants yet. */
  suggestedEarly: number[] = []

  constructor(key: string, rows: Float64Array, at: number, sets: IndexSets, window: number) {
    this.rows = rows
    this.at = at
    this.sets = sets
    this.have = sets.make()
    this.key = key
    this.window = window
  }

  /** It delivered a good block: from then on what it says it has counts in rarity. */
  get isProven(): boolean {
    return isState(this, PROVEN)
  }
  set isProven(is: boolean) {
    setState(this, PROVEN, is)
  }

  /** It is in line for being asked more. */
  get isInLine(): boolean {
    return isState(this, IN_LINE)
  }
  set isInLine(is: boolean) {
    setState(this, IN_LINE, is)
  }

  /** Its first request takes one of the places that are kept for peers that never delivered. */
  get isTrial(): boolean {
    return isState(this, TRIAL)
  }
  set isTrial(is: boolean) {
    setState(this, TRIAL, is)
  }

  /** Nothing open that it has; until something changes. */
  get isDry(): boolean {
    return isState(this, DRY)
  }
  set isDry(is: boolean) {
    setState(this, DRY, is)
  }

  /** It would rather be asked for something. */
  get isSuggesting(): boolean {
    return isState(this, SUGGESTING)
  }
  set isSuggesting(is: boolean) {
    setState(this, SUGGESTING, is)
  }

  /** Something that it was asked for may be asked of others too. */
  get isSharing(): boolean {
    return isState(this, SHARING)
  }
  set isSharing(is: boolean) {
    setState(this, SHARING, is)
  }

  /** How much it was asked for. */
  get asked(): number {
    return this.rows[this.at + ASKED]!
  }

  /** Bytes per second while it had something to do, waiting included; 0 = not known yet. */
  get rate(): number {
    return this.rows[this.at + RATE]!
  }
  set rate(bytesPerSecond: number) {
    this.rows[this.at + RATE] = bytesPerSecond
  }

  /** When the request at the head of the queue came there. */
  get headSinceMs(): number {
    return this.rows[this.at + HEAD_SINCE]!
  }

  /** Its first byte. */
  get headFirstMs(): number {
    return this.rows[this.at + HEAD_FIRST]!
  }
  set headFirstMs(now: number) {
    this.rows[this.at + HEAD_FIRST] = now
  }

  get headBytes(): number {
    return this.rows[this.at + HEAD_BYTES]!
  }
  set headBytes(bytes: number) {
    this.rows[this.at + HEAD_BYTES] = bytes
  }

  /** The last byte of any. */
  get lastByteMs(): number {
    return this.rows[this.at + LAST_BYTE]!
  }
  set lastByteMs(now: number) {
    this.rows[this.at + LAST_BYTE] = now
  }

  /** What is at the head of the queue; NO_ITEM when it was asked for nothing. */
  get headItem(): number {
    return this.rows[this.at + HEAD_ITEM]!
  }
}

const isState = ({ state }: SwarmPeer, bit: number): boolean => (state & bit) !== 0

function setState(peer: SwarmPeer, bit: number, is: boolean): void {
  if (isState(peer, bit) === is) return
  peer.state ^= bit
  peer.rows[peer.at + STATE] = peer.state
}

/** What displays show of a peer. */
export interface PeerStatus {
  peer: string
  bytesPerSecond: number
  asked: number
  verified: number
  hasAll: boolean
}

export const statusOf = ({ key, queue, rate, verified, have }: SwarmPeer): PeerStatus => ({
  peer: key,
  bytesPerSecond: queue.length === 0 ? 0 : Math.round(rate),
  asked: queue.length,
  verified,
  hasAll: have === null,
})

/** Whether it is neither in disgrace nor resting. */
export const isUsable = (peer: SwarmPeer, now: number): boolean => now >= peer.usableFromMs

/** Whether it can be asked for an item at all. */
export function isHolder({ sets, have, refused }: SwarmPeer, item: number): boolean {
  return (have === null || sets.has(have, item)) && (refused === null || !sets.has(refused, item))
}

/**
 * Bytes of an item came in. A peer answers in the order that it likes: what it sends now is the head of its queue. True for the first of
 * an item that was asked of it.
 */
export function countBytes(peer: SwarmPeer, item: number, bytes: number, now: number): boolean {
  const { queue } = peer
  peer.lastByteMs = now
  if (peer.headItem !== item) {
    const at = indexOfItem(queue, item)
    if (at < 0) return false // cancelled, and on its way already
    queue.unshift(removeAt(queue, at))
    startHead(peer, now)
  }
  const before = peer.headBytes
  peer.headBytes = before + bytes
  if (before > 0) return false
  peer.headFirstMs = now
  return true
}

/** The block at the head came in whole: its pace since it was there, waiting included. */
export function countBlock(peer: SwarmPeer, now: number): void {
  const rate = (peer.headBytes * 1000) / Math.max(1, now - peer.headSinceMs)
  peer.rate = peer.rate === 0 ? rate : peer.rate * 0.6 + rate * 0.4
}

/** A block of it was verified: what it failed before is forgotten. */
export function countGood(peer: SwarmPeer): void {
  peer.verified++
  peer.fails = 0
  peer.pauses = 0
}

const PAUSE_DOUBLINGS_MAX = 6

/** Requests were taken back: it rests a while, longer each time. */
export function pause(peer: SwarmPeer, firstMs: number, now: number): void {
  peer.coolUntilMs = now + firstMs * 2 ** Math.min(peer.pauses++, PAUSE_DOUBLINGS_MAX)
  peer.usableFromMs = Math.max(peer.snubbedUntilMs, peer.coolUntilMs)
}

/** It failed too often: it is in disgrace. */
export function snub(peer: SwarmPeer, untilMs: number): void {
  peer.fails = 0
  peer.snubbedUntilMs = untilMs
  peer.usableFromMs = Math.max(peer.snubbedUntilMs, peer.coolUntilMs)
}

/** Something was asked of it. */
export function pushRequest(peer: SwarmPeer, flight: Flight, now: number): void {
  peer.rows[peer.at + ASKED] = peer.queue.push(flight)
  if (peer.queue.length > 1) return
  peer.isSharing = false
  startHead(peer, now)
}

/** A request ended, whichever way; null when there was none. */
export function takeRequest(peer: SwarmPeer, item: number, now: number): Flight | null {
  const { queue } = peer
  const at = indexOfItem(queue, item)
  if (at < 0) return null
  const flight = removeAt(queue, at)
  peer.rows[peer.at + ASKED] = queue.length
  if (at === 0) startHead(peer, now)
  return flight
}

/** Something is at the head of the queue, or nothing any more: its clock starts anew. */
export function startHead(peer: SwarmPeer, now: number): void {
  const { rows, at, queue } = peer
  rows[at + HEAD_ITEM] = queue[0]?.item ?? NO_ITEM
  rows[at + HEAD_SINCE] = now
  rows[at + HEAD_FIRST] = now
  rows[at + HEAD_BYTES] = 0
}

/** How long the request at the head has been without progress, and whether any byte of it has come. */
export function headSilentMs(peer: SwarmPeer, now: number): number {
  return now - (peer.headBytes === 0 ? peer.headSinceMs : peer.lastByteMs)
}
