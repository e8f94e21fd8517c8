/**
 * MACHINE: which item to ask whom for, and when to ask somebody else (states and flows in README.md beside this file).
 *
 * Items are numbers; what they stand for is the driver's business. It moves no bytes and has no clock, timer or randomness of its own:
 * the same events with the same random numbers give the same actions. Perform every action before feeding the next event.
 * An item is in exactly one of: unwanted, open (in one bucket), asked, checking, had.
 */
import { assert } from '../errors.ts'
import { IndexSet } from './index-set.ts'
import { OpenItems, PRIORITIES } from './open-items.ts'
import { countBytes, isHolder, newPeer, pause, pushRequest, type SwarmPeer, startHead, takeRequest } from './peers.ts'
import type { SwarmAction, SwarmEvent, SwarmLimits } from './swarm-events.ts'

export type { SwarmAction, SwarmEvent, SwarmLimits }

const UNWANTED = PRIORITIES

interface Flight {
  /** Peers that have it in their queue. */
  holders: string[]
  /** Peers whose copy is being verified. */
  checking: string[]
}

/** The download of one share. */
export class Swarm {
  readonly #itemCount: number
  readonly #limits: SwarmLimits
  /** Every instance starts reading elsewhere, so that downloaders of one seeder have something to give to each other. */
  readonly #rotation: number
  readonly #peers = new Map<string, SwarmPeer>()
  readonly #priority: Uint8Array
  readonly #had: IndexSet
  readonly #availability: Uint16Array
  readonly #openItems: OpenItems
  readonly #flights = new Map<number, Flight>()
  #wantedMissing = 0
  #requestCount = 0
  #isDoneSaid = true
  #tickedMs = 0
  #turn = 0

  /** `random` returns a number in [0, 1). */
  constructor(itemCount: number, limits: SwarmLimits, random: () => number) {
    this.#itemCount = itemCount
    this.#limits = limits
    this.#rotation = Math.floor(random() * itemCount)
    this.#priority = new Uint8Array(itemCount).fill(UNWANTED)
    this.#had = new IndexSet(itemCount)
    this.#openItems = new OpenItems(itemCount)
    this.#availability = new Uint16Array(itemCount)
  }

  get wantedMissing(): number {
    return this.#wantedMissing
  }

  get haveCount(): number {
    return this.#had.count
  }

  has(item: number): boolean {
    return this.#had.has(item)
  }

  /** Requests that this machine believes to be under way, as "peer/item", sorted: to be compared with the wire. */
  inFlight(): string[] {
    return [...this.#peers.values()].flatMap((peer) => peer.queue.map((item) => `${peer.key}/${item}`)).sort()
  }

  /** For status displays. */
  peers(): { peer: string; bytesPerSecond: number; asked: number; verified: number; hasAll: boolean }[] {
    return [...this.#peers.values()].map((peer) => ({
      peer: peer.key,
      bytesPerSecond: peer.queue.length === 0 ? 0 : Math.round(peer.rate),
      asked: peer.queue.length,
      verified: peer.verified,
      hasAll: peer.have === null,
    }))
  }

  /** When to feed `tick`; undefined while nothing can time out. */
  nextTimeout(): number | undefined {
    return this.#requestCount > 0 || (this.#wantedMissing > 0 && this.#peers.size > 0) ? this.#tickedMs + this.#limits.tickMs : undefined
  }

  /** Feed one event; perform all actions before the next. */
  handle(event: SwarmEvent, now: number): SwarmAction[] {
    const actions: SwarmAction[] = []
    if (event.type === 'progress') {
      const peer = this.#peers.get(event.peer)
      if (peer !== undefined) countBytes(peer, event.bytes, now)
      return actions // changes nothing that could be asked now
    }
    this.#apply(event, now, actions)
    this.#assign(now, actions)
    if (this.#wantedMissing === 0 && !this.#isDoneSaid) {
      this.#isDoneSaid = true
      actions.push({ type: 'done' })
    }
    return actions
  }

  #apply(event: Exclude<SwarmEvent, { type: 'progress' }>, now: number, actions: SwarmAction[]): void {
    switch (event.type) {
      case 'peerJoined':
        this.#remove(event.peer)
        this.#peers.set(event.peer, newPeer(event.peer, new IndexSet(this.#itemCount), this.#limits.requestsPerPeerMin))
        return
      case 'peerHas':
        this.#learn(event)
        return
      case 'peerLeft':
        this.#remove(event.peer)
        return
      case 'want':
        this.#want(event)
        return
      case 'have':
        for (let item = event.first; item < event.first + event.count; item++) this.#gain(item, now, actions)
        return
      case 'lost':
        this.#lose(event.item)
        return
      case 'unwantAll':
        this.#unwantAll(now, actions)
        return
      case 'received':
        this.#receive(event.peer, event.item, now)
        return
      case 'verified':
        this.#praise(event.peer, event.item, now)
        this.#gain(event.item, now, actions)
        return
      case 'rejected':
        this.#reject(event, now, actions)
        return
      case 'tick':
        this.#tickedMs = now
        this.#expire(now, actions)
    }
  }

  #learn({ peer: key, first, count }: Extract<SwarmEvent, { type: 'peerHas' }>): void {
    const peer = this.#peers.get(key)
    if (peer === undefined) return
    assert(first >= 0 && first + count <= this.#itemCount, `items ${first}+${count} of ${this.#itemCount}`)
    peer.isDry = false
    if (peer.refused !== null) for (let item = first; item < first + count; item++) peer.refused.delete(item)
    if (peer.have === null) return
    if (count === this.#itemCount) {
      this.#countInRarity(peer, -1)
      peer.have = null
      return
    }
    for (let item = first; item < first + count; item++) {
      if (peer.have.add(item) && peer.isProven) this.#changeAvailability(item, 1)
    }
  }

  #want({ first, count, priority }: Extract<SwarmEvent, { type: 'want' }>): void {
    assert(priority >= 0 && priority < PRIORITIES && first >= 0 && first + count <= this.#itemCount, 'want out of range')
    this.#isDoneSaid = false
    this.#wetAll()
    for (let item = first; item < first + count; item++) {
      if (this.#had.has(item)) continue
      const isOpen = !this.#flights.has(item)
      if (this.#priority[item] === UNWANTED) this.#wantedMissing++
      else if (isOpen) this.#close(item)
      this.#priority[item] = priority
      if (isOpen) this.#open(item)
    }
  }

  /** The item is on disk, wherever it came from. */
  #gain(item: number, now: number, actions: SwarmAction[]): void {
    if (!this.#had.add(item)) return // the second copy of an endgame
    const flight = this.#flights.get(item)
    const isWanted = this.#priority[item] !== UNWANTED
    if (isWanted) this.#wantedMissing--
    if (flight === undefined) {
      if (isWanted) this.#close(item)
      return
    }
    for (const key of [...flight.holders]) this.#takeBack(key, item, now, actions)
    for (const key of flight.checking) this.#peers.get(key)?.checking.delete(item)
    this.#requestCount -= flight.checking.length
    this.#flights.delete(item)
  }

  #lose(item: number): void {
    if (!this.#had.delete(item) || this.#priority[item] === UNWANTED) return
    this.#wantedMissing++
    this.#isDoneSaid = false
    this.#open(item)
    this.#wetAll()
  }

  #unwantAll(now: number, actions: SwarmAction[]): void {
    for (let item = 0; item < this.#itemCount; item++) {
      if (this.#priority[item] === UNWANTED) continue
      const flight = this.#flights.get(item)
      if (this.#isOpen(item)) this.#close(item)
      for (const key of [...(flight?.holders ?? [])]) this.#takeBack(key, item, now, actions)
      if (flight?.checking.length === 0) this.#flights.delete(item)
      this.#priority[item] = UNWANTED
    }
    this.#wantedMissing = 0
    this.#isDoneSaid = true
  }

  #receive(key: string, item: number, now: number): void {
    const peer = this.#peers.get(key)
    const flight = this.#flights.get(item)
    if (peer === undefined || flight === undefined || !takeRequest(peer, item, now)) return
    flight.holders.splice(flight.holders.indexOf(key), 1)
    flight.checking.push(key)
    peer.checking.add(item)
  }

  #praise(key: string, item: number, now: number): void {
    const peer = this.#peers.get(key)
    if (peer === undefined) return
    this.#endRequest(peer, item, now)
    peer.verified++
    peer.fails = 0
    peer.pauses = 0
    peer.window = Math.min(peer.window + 1, this.#limits.requestsPerPeerMax)
    if (peer.isProven) return
    peer.isProven = true
    this.#countInRarity(peer, 1)
  }

  #reject({ peer: key, item, reason }: Extract<SwarmEvent, { type: 'rejected' }>, now: number, actions: SwarmAction[]): void {
    const peer = this.#peers.get(key)
    if (peer === undefined) return
    this.#endRequest(peer, item, now)
    this.#release(item)
    if (reason === 'hash') {
      this.#remove(key)
      actions.push({ type: 'dropPeer', peer: key, reason: 'badBlock' })
    }
    if (reason !== 'absent') return
    peer.refused ??= new IndexSet(this.#itemCount)
    peer.refused.add(item)
    this.#fail(peer, now)
  }

  #fail(peer: SwarmPeer, now: number): void {
    peer.window = Math.max(this.#limits.requestsPerPeerMin, peer.window >>> 1)
    if (++peer.fails < this.#limits.failsBeforeSnub) return
    peer.fails = 0
    peer.snubbedUntilMs = now + this.#limits.snubMs
  }

  #remove(key: string): void {
    const peer = this.#peers.get(key)
    if (peer === undefined) return
    this.#peers.delete(key)
    this.#countInRarity(peer, -1)
    for (const item of [...peer.queue, ...peer.checking]) {
      const flight = this.#flights.get(item)
      if (flight === undefined) continue
      flight.holders = flight.holders.filter((holder) => holder !== key)
      flight.checking = flight.checking.filter((holder) => holder !== key)
      this.#requestCount--
      this.#release(item)
    }
  }

  /** Takes an item out of a peer's hands, delivered or not. */
  #endRequest(peer: SwarmPeer, item: number, now: number): void {
    const flight = this.#flights.get(item)
    if (!takeRequest(peer, item, now) && !peer.checking.delete(item)) return
    this.#requestCount--
    if (flight === undefined) return
    flight.holders = flight.holders.filter((holder) => holder !== peer.key)
    flight.checking = flight.checking.filter((holder) => holder !== peer.key)
  }

  #takeBack(key: string, item: number, now: number, actions: SwarmAction[]): void {
    const peer = this.#peers.get(key)
    assert(peer !== undefined, 'a request of nobody')
    this.#endRequest(peer, item, now)
    actions.push({ type: 'cancel', peer: key, item })
  }

  /** Back among the open items, once nobody works on it. */
  #release(item: number): void {
    const flight = this.#flights.get(item)
    if (flight === undefined || flight.holders.length + flight.checking.length > 0) return
    this.#flights.delete(item)
    if (this.#had.has(item) || this.#priority[item] === UNWANTED) return
    this.#open(item)
    this.#wetAll()
  }

  #expire(now: number, actions: SwarmAction[]): void {
    const { blockMs, coldMs, coolMs, rateMinBytesPerSecond, requestsTotalMax } = this.#limits
    const isContested = this.#requestCount >= requestsTotalMax && this.#isSlotMissed(now)
    for (const peer of this.#peers.values()) {
      const head = peer.queue[0]
      if (head === undefined) continue
      const isSilent = now - peer.lastByteMs >= blockMs
      const headMs = now - peer.headSinceMs
      const isCrawling = headMs >= blockMs && peer.headBytes * 1000 < rateMinBytesPerSecond * headMs
      const isCold = isContested && !peer.isProven && now - peer.lastByteMs >= coldMs
      if (!isSilent && !isCrawling && !isCold) continue
      const movable = peer.queue.filter((item) => this.#isElsewhere(item, peer, now))
      if (!movable.includes(head)) startHead(peer, now) // the only source: keep waiting
      if (movable.length === 0) continue
      if (!isCold) this.#fail(peer, now)
      pause(peer, coolMs, now)
      for (const item of movable) {
        this.#takeBack(peer.key, item, now, actions)
        this.#release(item)
      }
    }
  }

  /** Whether somebody could do more, if there were slots. */
  #isSlotMissed(now: number): boolean {
    for (const peer of this.#peers.values()) {
      if (peer.queue.length < this.#windowOf(peer) && !peer.isDry && this.#isUsable(peer, now)) return true
    }
    return false
  }

  #isUsable(peer: SwarmPeer, now: number): boolean {
    return now >= peer.snubbedUntilMs && now >= peer.coolUntilMs
  }

  /** Whether another peer could be asked; a snubbed one counts only against one that is snubbed too. */
  #isElsewhere(item: number, not: SwarmPeer, now: number): boolean {
    for (const peer of this.#peers.values()) {
      if (peer !== not && isHolder(peer, item) && (now >= peer.snubbedUntilMs || now < not.snubbedUntilMs)) return true
    }
    return false
  }

  #assign(now: number, actions: SwarmAction[]): void {
    if (this.#wantedMissing === 0 || this.#peers.size === 0) return
    const peers = [...this.#peers.values()]
    const start = this.#turn++ % peers.length
    const order = [...peers.slice(start), ...peers.slice(0, start)] // nobody is first for ever
    let isAsking = true
    while (isAsking) {
      isAsking = false
      for (const peer of order) {
        if (!this.#isUsable(peer, now) || peer.queue.length >= this.#windowOf(peer)) continue
        if (!peer.isProven && this.#isTrialFull()) continue
        if (this.#ask(peer, now, actions)) isAsking = true
      }
    }
    // Peers in disgrace are better than none.
    if (this.#requestCount === 0) for (const peer of order) if (peer.queue.length === 0 && this.#ask(peer, now, actions)) return
  }

  /** Beside peers that deliver, those that never did get a quarter of the slots: promises must not crowd out deeds. */
  #isTrialFull(): boolean {
    let [trials, proven] = [0, 0]
    for (const peer of this.#peers.values()) {
      if (peer.isProven) proven++
      else trials += peer.queue.length + peer.checking.size
    }
    return proven > 0 && trials >= this.#limits.requestsTotalMax / 4
  }

  /** Enough to keep a peer busy for a while at its pace; one item for a peer that never delivered. */
  #windowOf(peer: SwarmPeer): number {
    if (!peer.isProven) return 1
    if (peer.rate === 0) return peer.window
    const ahead = 1 + Math.ceil((peer.rate * this.#limits.queueAheadMs) / 1000 / this.#limits.itemBytes)
    return Math.min(peer.window, Math.max(this.#limits.requestsPerPeerMin, ahead))
  }

  #ask(peer: SwarmPeer, now: number, actions: SwarmAction[]): boolean {
    if (this.#requestCount >= this.#limits.requestsTotalMax) return false
    const open = this.#pickOpen(peer)
    // An item that matters more than any open one, and hangs at a slow peer, is worth a copy first.
    const copy = this.#pickCopy(peer, open < 0 ? UNWANTED : this.#priority[open]!, now)
    const item = copy >= 0 ? copy : open
    if (item < 0) return false
    const flight = this.#flights.get(item)
    if (flight === undefined) {
      this.#close(item)
      this.#flights.set(item, { holders: [peer.key], checking: [] })
    } else flight.holders.push(peer.key)
    pushRequest(peer, item, now)
    this.#requestCount++
    actions.push({ type: 'request', peer: peer.key, item })
    return true
  }

  #pickOpen(peer: SwarmPeer): number {
    if (peer.isDry || this.#openItems.count === 0) return -1
    const item = this.#openItems.pick(this.#rotation, peer.have, peer.refused)
    peer.isDry = item < 0
    return item
  }

  /** Endgame and stealing: a second copy of what a stalled or much slower peer was asked for. */
  #pickCopy(peer: SwarmPeer, beforePriority: number, now: number): number {
    let best = -1
    let bestWaitMs = 0
    for (const [item, flight] of this.#flights) {
      if (this.#priority[item]! >= beforePriority || flight.checking.length > 0) continue
      if (flight.holders.length >= this.#limits.endgameCopiesMax || flight.holders.includes(peer.key) || !isHolder(peer, item)) continue
      const waitMs = Math.min(...flight.holders.map((key) => this.#waitMs(key, item, now)))
      if (waitMs <= bestWaitMs || waitMs <= 1.5 * this.#ownWaitMs(peer)) continue
      best = item
      bestWaitMs = waitMs
    }
    return best
  }

  /** How long an item will take where it was asked: for ever where no byte comes, not known (0) where the first ones still may. */
  #waitMs(key: string, item: number, now: number): number {
    const peer = this.#peers.get(key)
    if (peer === undefined || now - peer.lastByteMs >= this.#limits.coldMs) return Number.POSITIVE_INFINITY
    if (peer.rate === 0) return 0
    const aheadBytes = (peer.queue.indexOf(item) + 1) * this.#limits.itemBytes - peer.headBytes
    return (aheadBytes * 1000) / peer.rate
  }

  #ownWaitMs(peer: SwarmPeer): number {
    if (peer.rate === 0) return this.#limits.coldMs
    return ((peer.queue.length + 1) * this.#limits.itemBytes * 1000) / peer.rate
  }

  #open(item: number): void {
    this.#openItems.add(item, this.#priority[item]!, this.#availability[item]!)
  }

  #close(item: number): void {
    this.#openItems.delete(item, this.#priority[item]!, this.#availability[item]!)
  }

  #isOpen(item: number): boolean {
    return this.#priority[item] !== UNWANTED && !this.#had.has(item) && !this.#flights.has(item)
  }

  /** Peers with everything make nothing rarer or less rare; those that never delivered may be lying. */
  #countInRarity(peer: SwarmPeer, change: 1 | -1): void {
    if (!peer.isProven || peer.have === null) return
    for (let item = peer.have.findFrom(0, null, null), last = -1; item > last; item = peer.have.findFrom(item + 1, null, null)) {
      last = item
      this.#changeAvailability(item, change)
    }
  }

  #changeAvailability(item: number, change: 1 | -1): void {
    const isOpen = this.#isOpen(item)
    if (isOpen) this.#close(item)
    this.#availability[item]! += change
    if (isOpen) this.#open(item)
  }

  #wetAll(): void {
    for (const peer of this.#peers.values()) peer.isDry = false
  }

  /** Cross-checks every derived number against its source. O(items × peers): for tests. */
  checkInvariants(): void {
    const { requestsPerPeerMax, requestsTotalMax, endgameCopiesMax } = this.#limits
    const peers = [...this.#peers.values()]
    let [open, missing] = [0, 0]
    for (let item = 0; item < this.#itemCount; item++) {
      this.#openItems.checkItem(item, this.#isOpen(item), this.#priority[item]!, this.#availability[item]!)
      if (this.#isOpen(item)) open++
      if (this.#priority[item] !== UNWANTED && !this.#had.has(item)) missing++
      const known = peers.filter((peer) => peer.isProven && peer.have?.has(item) === true).length
      assert(this.#availability[item] === known, `availability of item ${item}`)
    }
    assert(open === this.#openItems.count, 'open count')
    assert(missing === this.#wantedMissing, 'missing count')
    let requests = 0
    for (const [item, { holders, checking }] of this.#flights) {
      assert(!this.#had.has(item), `item ${item} is had and asked`)
      assert(holders.length + checking.length > 0 && holders.length + checking.length <= endgameCopiesMax, `copies of item ${item}`)
      requests += holders.length + checking.length
      for (const key of holders) assert(this.#peers.get(key)?.queue.includes(item) === true, `item ${item} is not with ${key}`)
      for (const key of checking) assert(this.#peers.get(key)?.checking.has(item) === true, `item ${item} is not from ${key}`)
    }
    assert(requests === this.#requestCount && requests <= requestsTotalMax, `requests ${this.#requestCount}, counted ${requests}`)
    assert(peers.reduce((sum, peer) => sum + peer.queue.length + peer.checking.size, 0) === requests, 'queues')
    for (const peer of peers) assert(peer.queue.length <= requestsPerPeerMax, `requests to ${peer.key}`)
  }
}
