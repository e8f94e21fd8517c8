/**
 * What the upload machine keeps about peers and about the groups that they are in. Plain bookkeeping, no decisions.
 *
 * The numbers that are looked at for all who wait stand in one array, a row of eight for each peer: going through forty rows costs less
 * than fetching as many objects from all over the memory. The numbers of a group, which most often is one peer, stand in the row of its first.
 */

import { removeFrom } from './short-lists.ts'

/** A request that waits, or is being served. */
export interface Wish {
  readonly level: number
  readonly index: number
  readonly bytes: number
  readonly sinceMs: number
}

/** What stands where in the row of a peer; first where the row begins that has the numbers of its group. */
export const GROUP = 0
/** What was served, counted from where the others stood when this one began to wait: no credit is saved up in absence. */
export const BYTES = 1
/** Since when its oldest wish waits; of one that is being served, since when. */
export const SINCE_MS = 2
/** How long the block is that is on its way to it. */
export const SENDING_BYTES = 3
export const FLAGS = 4
/** Of the group: what was served, how many blocks are on their way, how many of its peers have a wish or a block on its way. */
export const GROUP_BYTES = 5
export const GROUP_ACTIVE = 6
export const GROUP_BUSY = 7

/** Bits of FLAGS: it takes nothing of what is on its way; it is served when nobody else waits. */
export const STUCK = 1
export const LAST = 2

const ROW = 8
const ROWS_AT_FIRST = 40

export interface UploadPeer {
  readonly key: string
  readonly share: string
  readonly group: Group
  /** Where its row begins. */
  readonly at: number
  /** What a byte counts: who cannot be dialled has fewer to get it from. */
  readonly weight: number
  readonly queue: Wish[]
  /** What is on its way to it. */
  serving: Wish | null
}

export interface Group {
  readonly name: string
  /** The row with its numbers: that of the first of its peers. */
  at: number
  readonly peers: UploadPeer[]
}

/** What is said of a peer that joins. */
export interface Newcomer {
  readonly key: string
  readonly share: string
  /** '': it stands for itself. */
  readonly group: string
  readonly weight: number
  readonly isLast: boolean
}

export const isBusy = ({ queue, serving }: UploadPeer): boolean => queue.length > 0 || serving !== null

/** Peers and groups by name, and their rows. */
export class UploadPeers {
  rows = new Float64Array(ROW * ROWS_AT_FIRST)
  readonly byKey = new Map<string, UploadPeer>()
  readonly #groups = new Map<string, Group>()
  /** By the number of their row. */
  readonly #byRow: (UploadPeer | undefined)[] = []
  readonly #spare: number[] = []
  #rowCount = 0

  /** Whose row begins there. */
  at(at: number): UploadPeer {
    return this.#byRow[at / ROW]! // callers have `at` from a peer that is here
  }

  groups(): Iterable<Group> {
    return this.#groups.values()
  }

  /** A newcomer, and a new group, start level with those that got the least. */
  add({ key, share, group: groupName, weight, isLast }: Newcomer): void {
    const name = groupName === '' ? `peer ${key}` : groupName
    const at = this.#takeRow()
    let group = this.#groups.get(name)
    if (group === undefined) {
      this.rows[at + GROUP_BYTES] = this.#floorOf(this.#groups.values(), GROUP_BYTES)
      group = { name, at, peers: [] }
      this.#groups.set(name, group)
    }
    const peer: UploadPeer = { key, share, group, at, weight, queue: [], serving: null }
    this.rows[at + GROUP] = group.at
    this.rows[at + BYTES] = this.#floorOf(group.peers, BYTES)
    this.rows[at + FLAGS] = isLast ? LAST : 0
    group.peers.push(peer)
    this.byKey.set(key, peer)
    this.#byRow[at / ROW] = peer
  }

  /** It must not be busy any more. */
  remove(peer: UploadPeer): void {
    const { at, group } = peer
    this.byKey.delete(peer.key)
    this.#byRow[at / ROW] = undefined
    this.#spare.push(at)
    removeFrom(group.peers, peer)
    const first = group.peers[0]
    if (first === undefined) this.#groups.delete(group.name)
    else if (group.at === at) this.#moveGroup(group, first.at)
  }

  /** To the row of another of its peers. */
  #moveGroup(group: Group, at: number): void {
    for (const field of [GROUP_BYTES, GROUP_ACTIVE, GROUP_BUSY]) this.rows[at + field] = this.rows[group.at + field]!
    group.at = at
    for (const peer of group.peers) this.rows[peer.at + GROUP] = at
  }

  /** The least that any of them got, 0 without any. */
  #floorOf(holders: Iterable<{ at: number }>, field: number): number {
    let low = Number.POSITIVE_INFINITY
    for (const { at } of holders) low = Math.min(low, this.rows[at + field]!)
    return low === Number.POSITIVE_INFINITY ? 0 : low
  }

  /** A row of zeros. */
  #takeRow(): number {
    const at = this.#spare.pop() ?? this.#rowCount++ * ROW
    if (at === this.rows.length) {
      const rows = new Float64Array(this.rows.length * 2)
      rows.set(this.rows)
      this.rows = rows
    }
    this.rows.fill(0, at, at + ROW)
    return at
  }
}
