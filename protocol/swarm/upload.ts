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
import { Slots } from './slots.ts'

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

interface Wish {
  level: number
  index: number
  bytes: number
  sinceMs: number
}

/** What was served, counted from where the others stood when this one began to wait: no credit is saved up in absence. */
interface Account {
  bytes: number
  /** Blocks on their way. */
  active: number
}

interface UploadPeer {
  key: string
  share: string
  group: Group
  /** What a byte counts: who cannot be dialled has fewer to get it from. */
  weight: number
  account: Account
  queue: Wish[]
  /** What is on its way to it. */
  serving: Wish | null
  startedMs: number
  isStuck: boolean
  /** Served when nobody else waits. */
  isLast: boolean
}

interface Group {
  name: string
  account: Account
  peers: Set<UploadPeer>
}

/** Decides whom a node serves, over all shares. */
export class Upload {
  #limits: UploadLimits
  readonly #peers = new Map<string, UploadPeer>()
  readonly #groups = new Map<string, Group>()
  readonly #active = new Set<UploadPeer>()
  /** Peers with a wish and nothing on its way. */
  readonly #waiting = new Set<UploadPeer>()
  readonly #slots: Slots
  /** By share: what left already, where we are the only seeder. */
  readonly #copies = new Map<string, FirstCopies>()
  #leasedBytes = 0
  /** How often a block had to wait for memory. */
  waitsForMemory = 0
  #turn = 0
  /** When the last event came. */
  #nowMs = Number.NEGATIVE_INFINITY

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
    return this.#waiting.size > 0 && this.#leasedBytes > this.#limits.leaseBytesMax / 2
  }

  /** How long a peer may take nothing before it is `stuck`: as long as all of its block would take on a line that all slots share. */
  stuckAfterMs(peer: string): number {
    const { slotMs, stuckMs } = this.#limits
    return Math.min(slotMs, Math.max(stuckMs, this.#slots.fairMs(this.#peers.get(peer)?.serving?.bytes ?? 0)))
  }

  /** Feed one event; perform all actions before the next. */
  handle(event: UploadEvent, now: number): UploadAction[] {
    this.#nowMs = now
    const actions: UploadAction[] = []
    if (event.type === 'peerJoined') this.#join(event)
    else if (event.type === 'sole') this.#setSole(event, now, actions)
    else if (event.type !== 'tick') this.#apply(event, now)
    if (this.#waiting.size > 0) this.#fill(now, actions)
    if (this.#copies.size > 0) this.#suggestMore(event, now, actions)
    return actions
  }

  /** When `tick` can free a slot; undefined while there is no need. */
  nextTimeout(): number | undefined {
    if (this.#waiting.size === 0 || this.#active.size === 0) return undefined
    let earliest = Number.POSITIVE_INFINITY
    for (const peer of this.#active) {
      const overMs = peer.startedMs + this.#slots.patienceMs(peer.serving?.bytes ?? 0)
      if (overMs > this.#nowMs) earliest = Math.min(earliest, overMs)
    }
    return earliest === Number.POSITIVE_INFINITY ? undefined : earliest
  }

  checkInvariants(): void {
    const { requestsQueuedMax, leaseBytesMax } = this.#limits
    let leased = 0
    for (const peer of this.#peers.values()) {
      assert(peer.queue.length <= requestsQueuedMax, `queue of ${peer.key}`)
      assert(this.#groups.get(peer.group.name) === peer.group && peer.group.peers.has(peer), `${peer.key} is in no group`)
      assert(this.#waiting.has(peer) === (peer.serving === null && peer.queue.length > 0), `${peer.key} waits`)
      assert(this.#active.has(peer) === (peer.serving !== null), `${peer.key} is active`)
      assert(peer.account.active === (peer.serving === null ? 0 : 1), `slots of ${peer.key}`)
      leased += peer.serving?.bytes ?? 0
    }
    assert(leased === this.#leasedBytes, 'leased bytes')
    assert(leased <= leaseBytesMax, 'too much on its way')
    for (const { peers, account } of this.#groups.values()) {
      assert(peers.size > 0, 'empty group')
      assert(account.active === [...peers].filter(({ serving }) => serving !== null).length, 'slots of a group')
    }
  }

  #join({ peer: key, group: groupName, share, isReachable, isLast = false }: Extract<UploadEvent, { type: 'peerJoined' }>): void {
    assert(!this.#peers.has(key), `${key} joined twice`)
    const name = groupName === '' ? `peer ${key}` : groupName
    let group = this.#groups.get(name)
    if (group === undefined) {
      group = { name, account: { bytes: floorOf(this.#groups.values(), () => true), active: 0 }, peers: new Set() }
      this.#groups.set(name, group)
    }
    const account = { bytes: floorOf(group.peers, () => true), active: 0 }
    const peer: UploadPeer = {
      key,
      share,
      group,
      weight: isReachable ? 1 : this.#limits.unreachableWeight,
      account,
      queue: [],
      serving: null,
      startedMs: 0,
      isStuck: false,
      isLast,
    }
    group.peers.add(peer)
    this.#peers.set(key, peer)
  }

  #setSole({ share, leafCount }: Extract<UploadEvent, { type: 'sole' }>, now: number, actions: UploadAction[]): void {
    this.#copies.delete(share)
    if (leafCount === 0) return
    this.#copies.set(share, new FirstCopies(leafCount))
    for (const peer of this.#peers.values()) if (peer.share === share) this.#suggest(peer.key, now, actions)
  }

  /** To whoever came, asked, or is being served: of what was suggested to it, less is left. */
  #suggestMore(event: UploadEvent, now: number, actions: UploadAction[]): void {
    for (const { type, peer } of [...actions]) if (type === 'serve') this.#suggest(peer, now, actions)
    if (event.type === 'peerJoined' || event.type === 'requested') this.#suggest(event.peer, now, actions)
  }

  #suggest(key: string, now: number, actions: UploadAction[]): void {
    const copies = this.#copies.get(this.#peers.get(key)?.share ?? '')
    for (const index of copies?.suggestTo(key, now) ?? []) actions.push({ type: 'suggest', peer: key, index })
  }

  #apply(event: Exclude<UploadEvent, { type: 'peerJoined' | 'sole' | 'tick' }>, now: number): void {
    const peer = this.#peers.get(event.peer)
    if (peer === undefined) return // late news of a peer that left
    switch (event.type) {
      case 'requested':
        assert(peer.queue.length < this.#limits.requestsQueuedMax, 'the session lets no more through')
        if (peer.queue.length === 0 && peer.serving === null) this.#returned(peer)
        this.#copies.get(peer.share)?.asked(peer.key, event.level, event.index)
        peer.queue.push({ level: event.level, index: event.index, bytes: event.bytes, sinceMs: now })
        if (peer.serving === null) this.#waiting.add(peer)
        return
      case 'cancelled': {
        const at = peer.queue.findIndex(({ level, index }) => level === event.level && index === event.index)
        if (at >= 0) peer.queue.splice(at, 1)
        this.#copies.get(peer.share)?.cancelled(peer.key, event.level, event.index)
        if (peer.queue.length === 0) this.#waiting.delete(peer)
        return
      }
      case 'stuck':
        peer.isStuck = peer.serving !== null
        return
      case 'served': {
        const served = this.#free(peer)
        // What did not arrive whole is as good as never sent.
        if (served !== null && event.bytes < served.bytes) this.#copies.get(peer.share)?.failed(served.level, served.index)
        peer.account.bytes += event.bytes * peer.weight
        peer.group.account.bytes += event.bytes * peer.weight
        this.#slots.count(event.bytes, this.#waiting.size > 0, now)
        if (peer.queue.length > 0) this.#waiting.add(peer)
        return
      }
      case 'peerLeft': {
        const cut = this.#free(peer)
        if (cut !== null) this.#copies.get(peer.share)?.failed(cut.level, cut.index)
        this.#copies.get(peer.share)?.forget(peer.key)
        this.#waiting.delete(peer)
        this.#peers.delete(peer.key)
        peer.group.peers.delete(peer)
        if (peer.group.peers.size === 0) this.#groups.delete(peer.group.name)
      }
    }
  }

  /** It wanted nothing for a while: it starts level with those that did. */
  #returned(peer: UploadPeer): void {
    const isBusy = (other: UploadPeer): boolean => other.queue.length > 0 || other.serving !== null
    const group = peer.group
    peer.account.bytes = Math.max(peer.account.bytes, floorOf(group.peers, isBusy))
    for (const other of group.peers) if (isBusy(other)) return
    let low: number | null = null
    for (const other of this.#waiting) low = Math.min(low ?? other.group.account.bytes, other.group.account.bytes)
    for (const other of this.#active) low = Math.min(low ?? other.group.account.bytes, other.group.account.bytes)
    group.account.bytes = Math.max(group.account.bytes, low ?? 0)
  }

  #free(peer: UploadPeer): Wish | null {
    const { serving } = peer
    if (serving === null) return null
    peer.serving = null
    peer.account.active--
    peer.group.account.active--
    this.#active.delete(peer)
    this.#leasedBytes -= serving.bytes
    return serving
  }

  #fill(now: number, actions: UploadAction[]): void {
    let fresh = 0
    // A slow reader keeps what it has begun, but not the slot.
    for (const peer of this.#active) if (!peer.isStuck && !this.#isOver(peer, now)) fresh++
    for (; fresh < this.#slots.open && this.#waiting.size > 0; fresh++) {
      const peer = this.#next(this.#turn % this.#limits.optimisticEvery === this.#limits.optimisticEvery - 1)
      const wish = this.#wishOf(peer)
      if (this.#leasedBytes + wish.bytes > this.#limits.leaseBytesMax / (peer.isLast ? 2 : 1)) {
        this.waitsForMemory++
        return
      }
      this.#turn++
      this.#serve(peer, wish, now)
      actions.push({ type: 'serve', peer: peer.key, level: wish.level, index: wish.index })
    }
  }

  #isOver(peer: UploadPeer, now: number): boolean {
    return now - peer.startedMs >= this.#slots.patienceMs(peer.serving?.bytes ?? 0)
  }

  #serve(peer: UploadPeer, wish: Wish, now: number): void {
    peer.queue.splice(peer.queue.indexOf(wish), 1)
    peer.serving = wish
    peer.startedMs = now
    peer.isStuck = false
    peer.account.active++
    peer.group.account.active++
    this.#waiting.delete(peer)
    this.#active.add(peer)
    this.#leasedBytes += wish.bytes
    this.#copies.get(peer.share)?.leaves(wish.level, wish.index)
  }

  /** Its oldest wish; where we are the only seeder, the oldest for a block that never left. */
  #wishOf(peer: UploadPeer): Wish {
    const copies = this.#copies.get(peer.share)
    return (copies === undefined ? undefined : peer.queue.find(({ level, index }) => !copies.hasLeft(level, index))) ?? peer.queue[0]!
  }

  /** First copies before others; then by fairness, or by patience when it is its turn. */
  #next(isOptimistic: boolean): UploadPeer {
    let best: UploadPeer | null = null
    let isBestFirst = false
    let bestSinceMs = 0
    for (const peer of this.#waiting) {
      const { level, index, sinceMs } = this.#wishOf(peer)
      const isFirst = this.#copies.get(peer.share)?.hasLeft(level, index) !== true
      const isBetter =
        best === null ||
        (peer.isLast !== best.isLast
          ? best.isLast
          : isFirst !== isBestFirst
            ? isFirst
            : isOptimistic
              ? sinceMs < bestSinceMs
              : isFairer(peer, sinceMs, best, bestSinceMs))
      if (!isBetter) continue
      best = peer
      isBestFirst = isFirst
      bestSinceMs = sinceMs
    }
    assert(best !== null, 'nobody waits')
    return best
  }
}

/** Whether `peer` is to be served before `other`: by slots and bytes of the group, then by its own bytes, then by how long it waits. */
function isFairer(peer: UploadPeer, sinceMs: number, other: UploadPeer, otherSinceMs: number): boolean {
  const [mine, theirs] = [peer.group.account, other.group.account]
  if (peer.group !== other.group) {
    if (mine.active !== theirs.active) return mine.active < theirs.active
    if (mine.bytes !== theirs.bytes) return mine.bytes < theirs.bytes
  }
  if (peer.account.bytes !== other.account.bytes) return peer.account.bytes < other.account.bytes
  return sinceMs < otherSinceMs
}

/** The smallest of the accounts that count, 0 without any. */
function floorOf<T extends { account: Account }>(holders: Iterable<T>, counts: (holder: T) => boolean): number {
  let low: number | null = null
  for (const holder of holders) if (counts(holder)) low = Math.min(low ?? holder.account.bytes, holder.account.bytes)
  return low ?? 0
}
