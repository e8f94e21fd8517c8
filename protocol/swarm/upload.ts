/**
 * MACHINE: whom to serve next (states in README.md beside this file).
 *
 * Every peer has at most one block on its way. A free slot goes to the IP group with the fewest slots, then to the one that was served the
 * least, and within the group likewise, so a crowd behind one address gets what one neighbour gets. One block in eight goes to whoever waits
 * longest, whatever was served: nobody starves. Where we are the only seeder, blocks that never left go before all others: the crowd can spread
 * those itself once they are out. How many slots there are follows from whether more of them carry more. Who takes nothing of what it asked
 * for holds no slot, and whoever was sent away for that comes last, and to half of the memory at most, when it is back.
 */
import { assert } from '../errors.ts'
import { FirstCopies } from './first-copies.ts'
import { removeFrom } from './short-lists.ts'
import { Slots } from './slots.ts'
import {
  BYTES,
  FLAGS,
  GROUP,
  GROUP_ACTIVE,
  GROUP_BUSY,
  GROUP_BYTES,
  isBusy,
  LAST,
  SENDING_BYTES,
  SINCE_MS,
  STUCK,
  type UploadPeer,
  UploadPeers,
  type Wish,
} from './upload-peers.ts'

/** Numbers of UPLOAD and WIRE that this machine needs. */
export interface UploadLimits {
  slotsMin: number
  slotsMax: number
  slotMs: number
  stuckMs: number
  optimisticEvery: number
  unreachableWeight: number
  leaseBytesMax: number
  probeMs: number
  requestsQueuedMax: number
}

export type UploadEvent =
  /** `isReachable`: others can dial it. `peer` is one peer of one share. `group` is its IP group, '' when it has none: then it stands for itself. */
  | { type: 'peerJoined'; peer: string; group: string; share: string; isReachable: boolean; isLast?: boolean }
  | { type: 'peerLeft'; peer: string }
  /** It takes nothing of what is on its way to it. */
  | { type: 'stuck'; peer: string }
  /** `bytes`: how long the block is. */
  | { type: 'requested'; peer: string; level: number; index: number; bytes: number }
  | { type: 'cancelled'; peer: string; level: number; index: number }
  /** What `serve` started is over, with so many bytes sent; also when it was cancelled or failed. */
  | { type: 'served'; peer: string; bytes: number }
  /** From now on nobody who is connected has all of the share beside us, which has so many leaves; 0: somebody has. */
  | { type: 'sole'; share: string; leafCount: number }
  | { type: 'tick' }

export type UploadAction =
  | { type: 'serve'; peer: string; level: number; index: number }
  /** Tell the peer that it had better ask us for this leaf: it never left us. */
  | { type: 'suggest'; peer: string; index: number }

/** The answer to many events. */
const NOTHING: readonly UploadAction[] = Object.freeze([])

/** Decides whom a node serves, over all shares. */
export class Upload {
  #limits: UploadLimits
  #actions: readonly UploadAction[] | UploadAction[] = NOTHING
  readonly #peers = new UploadPeers()
  readonly #byKey: ReadonlyMap<string, UploadPeer> = this.#peers.byKey
  /** Rows of the peers with a block on its way. */
  readonly #active: number[] = []
  /** Of those with a wish and nothing on its way, who came first first. */
  readonly #waiting: number[] = []
  readonly #slots: Slots
  /** By share: what left already, where we are the only seeder. */
  readonly #copies = new Map<string, FirstCopies>()
  /** Of any share. */
  #isSole = false
  #leasedBytes = 0
  /** How often a block had to wait for memory. */
  waitsForMemory = 0
  #turn = 0
  /** When the last event came. */
  #nowMs = 0

  constructor(limits: UploadLimits) {
    this.#limits = limits
    this.#slots = new Slots(limits)
  }

  /** Bytes of blocks that are on their way, in memory. */
  get leasedBytes(): number {
    return this.#leasedBytes
  }

  /** Another budget of memory; more than a smaller one, which may be on its way already, is let through. */
  setLeaseBytesMax(leaseBytesMax: number): void {
    this.#limits = { ...this.#limits, leaseBytesMax }
  }

  /** Whether somebody waits while much of the memory is taken. */
  get isShort(): boolean {
    return this.#waiting.length > 0 && this.#leasedBytes > this.#limits.leaseBytesMax / 2
  }

  /** How long a peer may take nothing before it is `stuck`: as long as all of its block would take on a line that all slots share. */
  stuckAfterMs(peer: string): number {
    const { slotMs, stuckMs } = this.#limits
    return Math.min(slotMs, Math.max(stuckMs, this.#slots.fairMs(this.#byKey.get(peer)?.serving?.bytes ?? 0)))
  }

  /** Feed one event; perform all actions before the next. */
  handle(event: UploadEvent, now: number): readonly UploadAction[] {
    this.#nowMs = now
    if (event.type === 'peerJoined') this.#join(event)
    else if (event.type === 'sole') this.#setSole(event, now)
    else if (event.type !== 'tick') this.#apply(event, now)
    if (this.#waiting.length > 0) this.#fill(now)
    if (this.#isSole) this.#suggestMore(event, now)
    const actions = this.#actions
    this.#actions = NOTHING
    return actions
  }

  /** When `tick` can free a slot; undefined while there is no need. */
  nextTimeout(): number | undefined {
    if (this.#waiting.length === 0 || this.#active.length === 0) return undefined
    let earliest = Number.POSITIVE_INFINITY
    for (const at of this.#active) {
      const overMs = this.#overMs(at)
      if (overMs > this.#nowMs) earliest = Math.min(earliest, overMs)
    }
    return earliest === Number.POSITIVE_INFINITY ? undefined : earliest
  }

  checkInvariants(): void {
    const { requestsQueuedMax, leaseBytesMax } = this.#limits
    const { rows } = this.#peers
    let leased = 0
    for (const peer of this.#byKey.values()) {
      const { key, at, group, queue, serving } = peer
      assert(queue.length <= requestsQueuedMax, `queue of ${key}`)
      assert(this.#peers.at(at) === peer && rows[at + GROUP] === group.at && group.peers.includes(peer), `${key} is in no group`)
      assert(this.#waiting.includes(at) === (serving === null && queue.length > 0), `${key} waits`)
      assert(this.#active.includes(at) === (serving !== null), `${key} is active`)
      assert(serving !== null || queue.length === 0 || rows[at + SINCE_MS] === queue[0]!.sinceMs, `how long ${key} waits`)
      assert(serving === null || rows[at + SENDING_BYTES] === serving.bytes, `what is on its way to ${key}`)
      leased += serving?.bytes ?? 0
    }
    assert(new Set([...this.#waiting, ...this.#active]).size === this.#waiting.length + this.#active.length, 'a peer waits twice')
    assert(leased === this.#leasedBytes, 'leased bytes')
    assert(leased <= leaseBytesMax, 'too much on its way')
    for (const { peers, at } of this.#peers.groups()) {
      assert(peers.length > 0, 'empty group')
      assert(peers[0]?.at === at, 'a group with numbers elsewhere')
      assert(rows[at + GROUP_ACTIVE] === peers.filter(({ serving }) => serving !== null).length, 'slots of a group')
      assert(rows[at + GROUP_BUSY] === peers.filter(isBusy).length, 'busy peers of a group')
    }
    assert(this.#isSole === this.#copies.size > 0, 'sole seeder')
  }

  #act(action: UploadAction): void {
    if (this.#actions === NOTHING) this.#actions = [action]
    else (this.#actions as UploadAction[]).push(action)
  }

  #join({ peer: key, group, share, isReachable, isLast = false }: Extract<UploadEvent, { type: 'peerJoined' }>): void {
    assert(this.#byKey.get(key) === undefined, `${key} joined twice`)
    this.#peers.add({ key, share, group, weight: isReachable ? 1 : this.#limits.unreachableWeight, isLast })
  }

  #setSole({ share, leafCount }: Extract<UploadEvent, { type: 'sole' }>, now: number): void {
    this.#copies.delete(share)
    if (leafCount > 0) this.#copies.set(share, new FirstCopies(leafCount))
    this.#isSole = this.#copies.size > 0
    if (leafCount === 0) return
    for (const peer of this.#byKey.values()) if (peer.share === share) this.#suggest(peer.key, now)
  }

  #copiesOf({ share }: UploadPeer): FirstCopies | undefined {
    return this.#isSole ? this.#copies.get(share) : undefined
  }

  /** To whoever came, asked, or is being served: of what was suggested to it, less is left. */
  #suggestMore(event: UploadEvent, now: number): void {
    for (const { type, peer } of [...this.#actions]) if (type === 'serve') this.#suggest(peer, now)
    if (event.type === 'peerJoined' || event.type === 'requested') this.#suggest(event.peer, now)
  }

  #suggest(key: string, now: number): void {
    const peer = this.#byKey.get(key)
    const copies = peer === undefined ? undefined : this.#copiesOf(peer)
    for (const index of copies?.suggestTo(key, now) ?? []) this.#act({ type: 'suggest', peer: key, index })
  }

  #apply(event: Exclude<UploadEvent, { type: 'peerJoined' | 'sole' | 'tick' }>, now: number): void {
    const peer = this.#byKey.get(event.peer)
    if (peer === undefined) return // late news of a peer that left
    switch (event.type) {
      case 'requested':
        this.#request(peer, { level: event.level, index: event.index, bytes: event.bytes, sinceMs: now })
        return
      case 'cancelled':
        this.#cancel(peer, event.level, event.index)
        return
      case 'stuck':
        if (peer.serving !== null) this.#peers.rows[peer.at + FLAGS] = this.#peers.rows[peer.at + FLAGS]! | STUCK
        return
      case 'served':
        this.#served(peer, event.bytes, now)
        return
      case 'peerLeft':
        this.#leave(peer)
    }
  }

  #request(peer: UploadPeer, wish: Wish): void {
    const { rows } = this.#peers
    assert(peer.queue.length < this.#limits.requestsQueuedMax, 'the session lets no more through')
    if (!isBusy(peer)) {
      this.#returned(peer)
      rows[peer.group.at + GROUP_BUSY]!++
    }
    this.#copiesOf(peer)?.asked(peer.key, wish.level, wish.index)
    if (peer.queue.push(wish) === 1 && peer.serving === null) this.#wait(peer)
  }

  #cancel(peer: UploadPeer, level: number, index: number): void {
    const wish = peer.queue.find((other) => other.level === level && other.index === index)
    this.#copiesOf(peer)?.cancelled(peer.key, level, index)
    if (wish === undefined) return
    removeFrom(peer.queue, wish)
    const oldest = peer.queue[0]
    if (peer.serving === null && oldest !== undefined) this.#peers.rows[peer.at + SINCE_MS] = oldest.sinceMs
    if (isBusy(peer)) return
    removeFrom(this.#waiting, peer.at)
    this.#peers.rows[peer.group.at + GROUP_BUSY]!--
  }

  #served(peer: UploadPeer, bytes: number, now: number): void {
    const { rows } = this.#peers
    const served = this.#free(peer)
    // What did not arrive whole is as good as never sent.
    if (served !== null && bytes < served.bytes) this.#copiesOf(peer)?.failed(served.level, served.index)
    rows[peer.at + BYTES]! += bytes * peer.weight
    rows[peer.group.at + GROUP_BYTES]! += bytes * peer.weight
    this.#slots.count(bytes, this.#waiting.length > 0, now)
    if (served === null) return
    if (peer.queue.length > 0) this.#wait(peer)
    else rows[peer.group.at + GROUP_BUSY]!--
  }

  #leave(peer: UploadPeer): void {
    if (isBusy(peer)) this.#peers.rows[peer.group.at + GROUP_BUSY]!--
    const cut = this.#free(peer)
    if (cut !== null) this.#copiesOf(peer)?.failed(cut.level, cut.index)
    this.#copiesOf(peer)?.forget(peer.key)
    removeFrom(this.#waiting, peer.at)
    this.#peers.remove(peer)
  }

  /** It wanted nothing for a while: it starts level with those that did. */
  #returned({ at, group }: UploadPeer): void {
    const { rows } = this.#peers
    if (rows[group.at + GROUP_BUSY]! > 0) {
      let low = Number.POSITIVE_INFINITY
      for (const other of group.peers) if (isBusy(other)) low = Math.min(low, rows[other.at + BYTES]!)
      rows[at + BYTES] = Math.max(rows[at + BYTES]!, low)
      return
    }
    let low = Number.POSITIVE_INFINITY
    for (const other of this.#waiting) low = Math.min(low, rows[rows[other + GROUP]! + GROUP_BYTES]!)
    for (const other of this.#active) low = Math.min(low, rows[rows[other + GROUP]! + GROUP_BYTES]!)
    if (low < Number.POSITIVE_INFINITY) rows[group.at + GROUP_BYTES] = Math.max(rows[group.at + GROUP_BYTES]!, low)
  }

  #wait({ at, queue }: UploadPeer): void {
    this.#waiting.push(at)
    this.#peers.rows[at + SINCE_MS] = queue[0]!.sinceMs
  }

  #free(peer: UploadPeer): Wish | null {
    const { serving } = peer
    if (serving === null) return null
    peer.serving = null
    this.#peers.rows[peer.group.at + GROUP_ACTIVE]!--
    removeFrom(this.#active, peer.at)
    this.#leasedBytes -= serving.bytes
    return serving
  }

  #fill(now: number): void {
    const { rows } = this.#peers
    let fresh = 0
    // A slow reader keeps what it has begun, but not the slot.
    for (const at of this.#active) if ((rows[at + FLAGS]! & STUCK) === 0 && now < this.#overMs(at)) fresh++
    for (; fresh < this.#slots.open && this.#waiting.length > 0; fresh++) {
      const peer = this.#next(this.#turn % this.#limits.optimisticEvery === this.#limits.optimisticEvery - 1)
      const wish = this.#wishOf(peer)
      if (this.#leasedBytes + wish.bytes > this.#limits.leaseBytesMax / ((rows[peer.at + FLAGS]! & LAST) === 0 ? 1 : 2)) {
        this.waitsForMemory++
        return
      }
      this.#turn++
      this.#serve(peer, wish, now)
      this.#act({ type: 'serve', peer: peer.key, level: wish.level, index: wish.index })
    }
  }

  /** When what is on its way to a peer holds its slot no longer. */
  #overMs(at: number): number {
    const { rows } = this.#peers
    return rows[at + SINCE_MS]! + this.#slots.patienceMs(rows[at + SENDING_BYTES]!)
  }

  #serve(peer: UploadPeer, wish: Wish, now: number): void {
    const { rows } = this.#peers
    const { at, group } = peer
    removeFrom(peer.queue, wish)
    peer.serving = wish
    rows[at + SINCE_MS] = now
    rows[at + SENDING_BYTES] = wish.bytes
    rows[at + FLAGS] = rows[at + FLAGS]! & ~STUCK
    rows[group.at + GROUP_ACTIVE]!++
    removeFrom(this.#waiting, at)
    this.#active.push(at)
    this.#leasedBytes += wish.bytes
    this.#copiesOf(peer)?.leaves(wish.level, wish.index)
  }

  /** Its oldest wish; where we are the only seeder, the oldest for a block that never left. */
  #wishOf(peer: UploadPeer): Wish {
    const copies = this.#copiesOf(peer)
    return (copies === undefined ? undefined : peer.queue.find(({ level, index }) => !copies.hasLeft(level, index))) ?? peer.queue[0]!
  }

  /** First copies before others; then by fairness, or by patience when it is its turn. */
  #next(isOptimistic: boolean): UploadPeer {
    const { rows } = this.#peers
    let best = -1
    let isBestFirst = false
    let isBestLast = false
    let bestSinceMs = 0
    for (const at of this.#waiting) {
      let sinceMs = rows[at + SINCE_MS]!
      const isLast = (rows[at + FLAGS]! & LAST) !== 0
      let isFirst = true
      if (this.#isSole) {
        const peer = this.#peers.at(at)
        const wish = this.#wishOf(peer)
        sinceMs = wish.sinceMs
        isFirst = this.#copiesOf(peer)?.hasLeft(wish.level, wish.index) !== true
      }
      const isBetter =
        best < 0 ||
        (isLast !== isBestLast
          ? isBestLast
          : isFirst !== isBestFirst
            ? isFirst
            : isOptimistic
              ? sinceMs < bestSinceMs
              : isFairer(rows, at, sinceMs, best, bestSinceMs))
      if (!isBetter) continue
      best = at
      isBestFirst = isFirst
      isBestLast = isLast
      bestSinceMs = sinceMs
    }
    assert(best >= 0, 'nobody waits')
    return this.#peers.at(best)
  }
}

/** Whether a peer is to be served before another: by slots and bytes of the group, then by its own bytes, then by how long it waits. */
function isFairer(rows: Float64Array, at: number, sinceMs: number, other: number, otherSinceMs: number): boolean {
  const mine = rows[at + GROUP]!
  const theirs = rows[other + GROUP]!
  if (mine !== theirs) {
    if (rows[mine + GROUP_ACTIVE] !== rows[theirs + GROUP_ACTIVE]) return rows[mine + GROUP_ACTIVE]! < rows[theirs + GROUP_ACTIVE]!
    if (rows[mine + GROUP_BYTES] !== rows[theirs + GROUP_BYTES]) return rows[mine + GROUP_BYTES]! < rows[theirs + GROUP_BYTES]!
  }
  if (rows[at + BYTES] !== rows[other + BYTES]) return rows[at + BYTES]! < rows[other + BYTES]!
  return sinceMs < otherSinceMs
}
