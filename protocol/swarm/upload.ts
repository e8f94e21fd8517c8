/**
 * MACHINE: whom to serve next (states in README.md beside this file).
 *
 * Every peer has at most one block on its way. A free slot goes to the IP group with the fewest slots, then to the one that was served the
 * least, and within the group likewise, so a crowd behind one address gets what one neighbour gets. One slot in eight goes to whoever
 * waits longest, whatever was served: nobody starves.
 */
import { assert } from '../errors.ts'

/** Numbers of UPLOAD and WIRE that this machine needs. */
export interface UploadLimits {
  slotsMax: number
  slotMs: number
  activeMax: number
  requestsQueuedMax: number
}

export type UploadEvent =
  /** `group` is the IP group of the peer, '' when it has none: then it stands for itself. */
  | { type: 'peerJoined'; peer: string; group: string }
  | { type: 'peerLeft'; peer: string }
  | { type: 'requested'; peer: string; level: number; index: number }
  | { type: 'cancelled'; peer: string; level: number; index: number }
  /** What `serve` started is over, with so many bytes sent; also when it was cancelled or failed. */
  | { type: 'served'; peer: string; bytes: number }
  | { type: 'tick' }

export interface UploadAction {
  type: 'serve'
  peer: string
  level: number
  index: number
}

interface Wish {
  level: number
  index: number
  sinceMs: number
}

/** What was served, counted from where the others stood when this one began to wait: no credit is saved up in absence. */
interface Account {
  bytes: number
}

interface UploadPeer {
  key: string
  group: string
  account: Account
  queue: Wish[]
  /** Since when it holds a slot. */
  activeSinceMs: number | null
  isOptimistic: boolean
}

interface Group {
  account: Account
  peers: Set<UploadPeer>
}

/** Decides whom a node serves, over all shares. */
export class Upload {
  readonly #limits: UploadLimits
  readonly #peers = new Map<string, UploadPeer>()
  readonly #groups = new Map<string, Group>()
  #activeCount = 0

  constructor(limits: UploadLimits) {
    this.#limits = limits
  }

  /** Feed one event; perform all actions before the next. */
  handle(event: UploadEvent, now: number): UploadAction[] {
    if (event.type === 'peerJoined') this.#join(event.peer, event.group)
    else if (event.type !== 'tick') this.#apply(event, now)
    return this.#fill(now)
  }

  /** When `tick` can free a slot; undefined while there is no need. */
  nextTimeout(): number | undefined {
    let earliest: number | undefined
    let isWaiting = false
    for (const peer of this.#peers.values()) {
      if (peer.activeSinceMs === null) isWaiting ||= peer.queue.length > 0
      else earliest = Math.min(earliest ?? Number.POSITIVE_INFINITY, peer.activeSinceMs + this.#limits.slotMs)
    }
    return isWaiting && this.#activeCount < this.#limits.activeMax ? earliest : undefined
  }

  checkInvariants(): void {
    const peers = [...this.#peers.values()]
    assert(peers.filter((peer) => peer.activeSinceMs !== null).length === this.#activeCount, 'active count')
    assert(this.#activeCount <= this.#limits.activeMax, 'too many active')
    for (const peer of peers) {
      assert(peer.queue.length <= this.#limits.requestsQueuedMax, `queue of ${peer.key}`)
      assert(this.#groups.get(peer.group)?.peers.has(peer) === true, `${peer.key} is in no group`)
    }
    for (const group of this.#groups.values()) assert(group.peers.size > 0, 'empty group')
  }

  #join(key: string, groupName: string): void {
    assert(!this.#peers.has(key), `${key} joined twice`)
    const name = groupName === '' ? `peer ${key}` : groupName
    const group = this.#groups.get(name) ?? { account: { bytes: floorOf([...this.#groups.values()]) }, peers: new Set() }
    const account = { bytes: floorOf([...group.peers]) }
    const peer: UploadPeer = { key, group: name, account, queue: [], activeSinceMs: null, isOptimistic: false }
    group.peers.add(peer)
    this.#groups.set(name, group)
    this.#peers.set(key, peer)
  }

  #apply(event: Exclude<UploadEvent, { type: 'peerJoined' | 'tick' }>, now: number): void {
    const peer = this.#peers.get(event.peer)
    if (peer === undefined) return // late news of a peer that left
    const group = this.#groups.get(peer.group)
    assert(group !== undefined, 'a peer without a group')
    switch (event.type) {
      case 'peerLeft':
        this.#free(peer)
        this.#peers.delete(peer.key)
        group.peers.delete(peer)
        if (group.peers.size === 0) this.#groups.delete(peer.group)
        return
      case 'requested':
        assert(peer.queue.length < this.#limits.requestsQueuedMax, 'the session lets no more through')
        if (peer.queue.length === 0 && peer.activeSinceMs === null) this.#returned(peer, group)
        peer.queue.push({ level: event.level, index: event.index, sinceMs: now })
        return
      case 'cancelled':
        peer.queue = peer.queue.filter(({ level, index }) => level !== event.level || index !== event.index)
        return
      case 'served':
        this.#free(peer)
        peer.account.bytes += event.bytes
        group.account.bytes += event.bytes
    }
  }

  /** It wanted nothing for a while: it starts level with those that did. */
  #returned(peer: UploadPeer, group: Group): void {
    const isBusy = (other: UploadPeer): boolean => other.queue.length > 0 || other.activeSinceMs !== null
    peer.account.bytes = Math.max(peer.account.bytes, floorOf([...group.peers].filter(isBusy)))
    if ([...group.peers].some(isBusy)) return
    const busy = [...this.#groups.values()].filter((other) => [...other.peers].some(isBusy))
    group.account.bytes = Math.max(group.account.bytes, floorOf(busy))
  }

  #free(peer: UploadPeer): void {
    if (peer.activeSinceMs === null) return
    peer.activeSinceMs = null
    peer.isOptimistic = false
    this.#activeCount--
  }

  #fill(now: number): UploadAction[] {
    const actions: UploadAction[] = []
    let [fresh, hasOptimistic] = [0, false]
    for (const peer of this.#peers.values()) {
      // A slow reader keeps what it has begun, but not the slot.
      if (peer.activeSinceMs === null || now - peer.activeSinceMs >= this.#limits.slotMs) continue
      fresh++
      hasOptimistic ||= peer.isOptimistic
    }
    while (fresh < this.#limits.slotsMax && this.#activeCount < this.#limits.activeMax) {
      const isOptimistic = !hasOptimistic && fresh > 0
      const peer = isOptimistic ? this.#longestWaiting() : this.#leastServed()
      const wish = peer?.queue.shift()
      if (peer === null || wish === undefined) break
      hasOptimistic ||= isOptimistic
      peer.activeSinceMs = now
      peer.isOptimistic = isOptimistic
      this.#activeCount++
      fresh++
      actions.push({ type: 'serve', peer: peer.key, level: wish.level, index: wish.index })
    }
    return actions
  }

  #longestWaiting(): UploadPeer | null {
    return least(this.#peers.values(), (peer) => (isWaiting(peer) ? [peer.queue[0]!.sinceMs] : null))
  }

  #leastServed(): UploadPeer | null {
    const group = least(this.#groups.values(), ({ peers, account }) => {
      let active = 0
      let hasWaiting = false
      for (const peer of peers) {
        if (peer.activeSinceMs !== null) active++
        hasWaiting ||= isWaiting(peer)
      }
      return hasWaiting ? [active, account.bytes] : null
    })
    return group === null ? null : least(group.peers, (peer) => (isWaiting(peer) ? [peer.account.bytes, peer.queue[0]!.sinceMs] : null))
  }
}

const isWaiting = (peer: UploadPeer): boolean => peer.activeSinceMs === null && peer.queue.length > 0

/** The smallest of the accounts, 0 without any. */
function floorOf(holders: { account: Account }[]): number {
  let low: number | null = null
  for (const { account } of holders) low = Math.min(low ?? account.bytes, account.bytes)
  return low ?? 0
}

/** The candidate with the smallest rank, compared number by number; those ranked null do not count. */
function least<T>(candidates: Iterable<T>, rankOf: (candidate: T) => number[] | null): T | null {
  let best: T | null = null
  let bestRank: number[] | null = null
  for (const candidate of candidates) {
    const rank = rankOf(candidate)
    if (rank === null || (bestRank !== null && !isBefore(rank, bestRank))) continue
    best = candidate
    bestRank = rank
  }
  return best
}

function isBefore(a: number[], b: number[]): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! < b[i]!
  return false
}
