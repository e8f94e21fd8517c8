/** What the swarm machine keeps about one peer: what it has, what it was asked, how fast it is. Plain bookkeeping, no decisions. */
import type { IndexSet } from './index-set.ts'

/** One peer of a swarm. */
export interface SwarmPeer {
  readonly key: string
  /** Null: it has everything. */
  have: IndexSet | null
  /** What it said that it does not have after all. */
  refused: IndexSet | null
  /** What it would rather be asked for, oldest first. */
  suggested: number[]
  /** The same for items that nobody here wants yet. */
  suggestedEarly: number[]
  /** Asked and not delivered, in the order asked. */
  queue: number[]
  /** Delivered and being verified. */
  checking: number[]
  window: number
  /** It delivered a good block: from then on what it says it has counts in rarity. */
  isProven: boolean
  /** Its first request takes one of the places that are kept for peers that never delivered. */
  isTrial: boolean
  verified: number
  fails: number
  /** How often in a row requests were taken back: the pauses double. */
  pauses: number
  snubbedUntilMs: number
  coolUntilMs: number
  /** Nothing open that it has; until something changes. */
  isDry: boolean
  /** It is in line for being asked more. */
  isInLine: boolean
  isGone: boolean
  /** When the request at the head of the queue came there, its first byte, and the last byte of any. */
  headSinceMs: number
  headFirstMs: number
  headBytes: number
  lastByteMs: number
  /** Bytes per second while it had something to do, waiting included; 0 = not known yet. */
  rate: number
}

/** A peer of which nothing is known but that it is there. */
export function newPeer(key: string, have: IndexSet, window: number): SwarmPeer {
  return {
    key,
    have,
    refused: null,
    suggested: [],
    suggestedEarly: [],
    queue: [],
    checking: [],
    window,
    isProven: false,
    isTrial: false,
    verified: 0,
    fails: 0,
    pauses: 0,
    snubbedUntilMs: 0,
    coolUntilMs: 0,
    isDry: false,
    isInLine: false,
    isGone: false,
    headSinceMs: 0,
    headFirstMs: 0,
    headBytes: 0,
    lastByteMs: 0,
    rate: 0,
  }
}

/** Whether it can be asked for an item at all. */
export function isHolder(peer: SwarmPeer, item: number): boolean {
  return (peer.have === null || peer.have.has(item)) && (peer.refused === null || !peer.refused.has(item))
}

/** Bytes of an item came in. A peer answers in the order that it likes: what it sends now is the head of its queue. True for the first of it. */
export function countBytes(peer: SwarmPeer, item: number, bytes: number, now: number): boolean {
  const at = peer.queue.indexOf(item)
  if (at > 0) {
    peer.queue.splice(at, 1)
    peer.queue.unshift(item)
    startHead(peer, now)
  }
  peer.lastByteMs = now
  if (at < 0) return false // cancelled, and on its way already
  const isFirst = peer.headBytes === 0
  if (isFirst) peer.headFirstMs = now
  peer.headBytes += bytes
  return isFirst
}

/** A block came in whole: `bytes` since it was at the head, waiting included. */
export function countBlock(peer: SwarmPeer, bytes: number, now: number): void {
  const rate = (bytes * 1000) / Math.max(1, now - peer.headSinceMs)
  peer.rate = peer.rate === 0 ? rate : peer.rate * 0.6 + rate * 0.4
}

const PAUSE_DOUBLINGS_MAX = 6

/** Requests were taken back: it rests a while, longer each time. */
export function pause(peer: SwarmPeer, firstMs: number, now: number): void {
  peer.coolUntilMs = now + firstMs * 2 ** Math.min(peer.pauses++, PAUSE_DOUBLINGS_MAX)
}

/** Something was asked of it. */
export function pushRequest(peer: SwarmPeer, item: number, now: number): void {
  peer.queue.push(item)
  if (peer.queue.length === 1) startHead(peer, now)
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
  peer.headSinceMs = now
  peer.headFirstMs = now
  peer.headBytes = 0
}

/** How long the request at the head has been without progress, and whether any byte of it has come. */
export function headSilentMs(peer: SwarmPeer, now: number): number {
  return now - (peer.headBytes === 0 ? peer.headSinceMs : peer.lastByteMs)
}
