/** What the swarm machine keeps about one peer: what it has, what it was asked, how fast it is. Plain bookkeeping, no decisions. */
import type { IndexSet } from './index-set.ts'

/** One peer of a swarm. */
export interface SwarmPeer {
  readonly key: string
  /** Null: it has everything. */
  have: IndexSet | null
  /** What it said that it does not have after all. */
  refused: IndexSet | null
  /** Asked and not delivered, in the order asked. */
  queue: number[]
  /** Delivered and being verified. */
  checking: Set<number>
  window: number
  /** It delivered a good block: from then on what it says it has counts in rarity. */
  isProven: boolean
  verified: number
  fails: number
  /** How often in a row requests were taken back: the pauses double. */
  pauses: number
  snubbedUntilMs: number
  coolUntilMs: number
  /** Nothing open that it has; until something changes. */
  isDry: boolean
  /** When the request at the head of the queue came there, or the last byte came. */
  lastByteMs: number
  headSinceMs: number
  headBytes: number
  bytes: number
  /** Bytes per second while it had something to do; 0 = not known yet. */
  rate: number
  rateSinceMs: number
  rateBytes: number
}

/** A peer of which nothing is known but that it is there. */
export function newPeer(key: string, have: IndexSet, window: number): SwarmPeer {
  return {
    key,
    have,
    refused: null,
    queue: [],
    checking: new Set(),
    window,
    isProven: false,
    verified: 0,
    fails: 0,
    pauses: 0,
    snubbedUntilMs: 0,
    coolUntilMs: 0,
    isDry: false,
    lastByteMs: 0,
    headSinceMs: 0,
    headBytes: 0,
    bytes: 0,
    rate: 0,
    rateSinceMs: 0,
    rateBytes: 0,
  }
}

/** Whether it can be asked for an item at all. */
export function isHolder(peer: SwarmPeer, item: number): boolean {
  return (peer.have === null || peer.have.has(item)) && peer.refused?.has(item) !== true
}

const RATE_INTERVAL_MS = 1_000

/** Bytes came in. */
export function countBytes(peer: SwarmPeer, bytes: number, now: number): void {
  peer.lastByteMs = now
  peer.headBytes += bytes
  peer.bytes += bytes
  peer.rateBytes += bytes
  const spanMs = now - peer.rateSinceMs
  if (spanMs < RATE_INTERVAL_MS) return
  const rate = (peer.rateBytes * 1000) / spanMs
  peer.rate = peer.rate === 0 ? rate : peer.rate * 0.6 + rate * 0.4
  peer.rateSinceMs = now
  peer.rateBytes = 0
}

const PAUSE_DOUBLINGS_MAX = 6

/** Requests were taken back: it rests a while, longer each time. */
export function pause(peer: SwarmPeer, firstMs: number, now: number): void {
  peer.coolUntilMs = now + firstMs * 2 ** Math.min(peer.pauses++, PAUSE_DOUBLINGS_MAX)
}

/** Something was asked of it. */
export function pushRequest(peer: SwarmPeer, item: number, now: number): void {
  peer.queue.push(item)
  if (peer.queue.length > 1) return
  startHead(peer, now)
  peer.rateSinceMs = now // time without work does not count
  peer.rateBytes = 0
}

/** A request ended, whichever way; false when there was none. */
export function takeRequest(peer: SwarmPeer, item: number, now: number): boolean {
  const at = peer.queue.indexOf(item)
  if (at < 0) return false
  peer.queue.splice(at, 1)
  if (at === 0) startHead(peer, now)
  return true
}

/** The clock of the head of the queue starts anew. */
export function startHead(peer: SwarmPeer, now: number): void {
  peer.lastByteMs = now
  peer.headSinceMs = now
  peer.headBytes = 0
}
