/**
 * MACHINE: which item to ask whom for, and when to ask somebody else (states and flows in README.md beside this file).
 *
 * Items are numbers; what they stand for is the driver's business. It moves no bytes and has no clock, timer or randomness of its own:
 * the same events with the same random numbers give the same actions. Perform every action before feeding the next event.
 * An item is in exactly one of: unwanted, open (in one bucket), asked, checking, had.
 * An event costs the same with a million items as with a hundred: peers that could be asked stand in line, the others are not looked at.
 */
import { assert } from '../errors.ts'
import { checkPeers } from './checks.ts'
import { pickCopy, replaceable } from './copies.ts'
import { type Flight, removeFrom } from './flight.ts'
import { IndexSet } from './index-set.ts'
import { Items } from './items.ts'
import { Line } from './line.ts'
import { PRIORITIES } from './open-items.ts'
import { Pace } from './pace.ts'
import {
  countBlock,
  countBytes,
  headSilentMs,
  isHolder,
  newPeer,
  pause,
  pushRequest,
  type SwarmPeer,
  startHead,
  takeRequest,
} from './peers.ts'
import type { SwarmAction, SwarmEvent, SwarmLimits } from './swarm-events.ts'
import { isLate, totalWindow, trialsMax, windowOf } from './windows.ts'

export type { SwarmAction, SwarmEvent, SwarmLimits }

/** The download of one share. */
export class Swarm {
  readonly #limits: SwarmLimits
  readonly #random: () => number
  /** Where a pick begins to look: behind the last one, so that seeders are read in order. */
  #cursor: number
  readonly #peers = new Map<string, SwarmPeer>()
  readonly #items: Items
  readonly #flights = new Map<number, Flight>()
  readonly #pace = new Pace()
  readonly #line: Line
  /** Peers that would rather be asked for something. */
  #suggesting = 0
  /** Asked of proven peers or being checked, against the total; and first requests to peers that have yet to show what they are worth. */
  #requests = 0
  #trials = 0
  #provenCount = 0
  #isDoneSaid = true
  #tickedMs = 0

  /** `random` returns a number in [0, 1). */
  constructor(itemCount: number, limits: SwarmLimits, random: () => number) {
    this.#limits = limits
    this.#line = new Line(limits.forgetMs)
    this.#random = random
    this.#cursor = this.#anywhere(itemCount)
    this.#items = new Items(itemCount)
  }

  get wantedMissing(): number {
    return this.#items.missing
  }

  get haveCount(): number {
    return this.#items.hadCount
  }

  has(item: number): boolean {
    return this.#items.isHad(item)
  }

  /** Requests that this machine believes to be under way, as "peer/item", sorted: to be compared with the wire. */
  inFlight(): string[] {
    return [...this.#peers.values()].flatMap((peer) => peer.queue.map((item) => `${peer.key}/${item}`)).sort()
  }

  /** Whether a peer has said that it has an item. */
  isTold(peer: string, item: number): boolean {
    const known = this.#peers.get(peer)
    return known !== undefined && (known.have === null || known.have.has(item))
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
    return this.#flights.size > 0 || (this.#items.missing > 0 && this.#peers.size > 0) ? this.#tickedMs + this.#limits.tickMs : undefined
  }

  /** Feed one event; perform all actions before the next. */
  handle(event: SwarmEvent, now: number): SwarmAction[] {
    const actions: SwarmAction[] = []
    this.#apply(event, now, actions)
    if (this.#items.missing > 0 && !this.#line.isEmpty) this.#assign(now, actions)
    if (this.#items.missing === 0 && !this.#isDoneSaid) {
      this.#isDoneSaid = true
      actions.push({ type: 'done' })
    }
    return actions
  }

  #apply(event: SwarmEvent, now: number, actions: SwarmAction[]): void {
    switch (event.type) {
      case 'progress': {
        const peer = this.#peers.get(event.peer)
        this.#pace.count(event.bytes, now)
        if (peer === undefined) return
        if (countBytes(peer, event.item, event.bytes, now) && peer.isProven) this.#settle(peer, event.item, now, actions)
        return
      }
      case 'peerHas':
        this.#learn(event.peer, event.first, event.count)
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
      case 'suggested':
        this.#suggest(event.peer, event.item)
        return
      case 'peerJoined':
        this.#remove(event.peer)
        this.#peers.set(event.peer, newPeer(event.peer, new IndexSet(this.#items.count), this.#limits.requestsPerPeerMin))
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
        if (event.isDropped === true) this.#items.unwant(event.item)
        this.#lose(event.item)
        return
      case 'unwantAll':
        this.#unwantAll(now, actions)
        return
      case 'tick':
        this.#tickedMs = now
        this.#pace.look(now)
        this.#expire(now, actions)
    }
  }

  #learn(key: string, first: number, count: number): void {
    const peer = this.#peers.get(key)
    if (peer === undefined) return
    assert(first >= 0 && first + count <= this.#items.count, 'items beyond the last')
    if (peer.refused !== null) for (let item = first; item < first + count; item++) peer.refused.delete(item)
    if (count === this.#items.count && peer.have !== null) {
      this.#countInRarity(peer, -1)
      peer.have = null
    }
    let isOfUse = peer.have === null
    if (peer.have !== null) {
      for (let item = first; item < first + count; item++) {
        if (!peer.have.add(item)) continue
        if (peer.isProven) this.#items.changeHolders(item, 1)
        isOfUse ||= this.#items.isMissing(item)
      }
    }
    if (isOfUse) this.#wet(peer)
  }

  #suggest(key: string, item: number): void {
    const peer = this.#peers.get(key)
    const max = this.#limits.requestsPerPeerMax
    if (peer === undefined || this.#items.isHad(item) || peer.suggested.length + peer.suggestedEarly.length >= max) return
    if (!this.#items.isMissing(item)) {
      peer.suggestedEarly.push(item)
      return
    }
    if (peer.suggested.push(item) === 1) this.#suggesting++
    this.#wet(peer)
  }

  #want({ first, count, priority }: Extract<SwarmEvent, { type: 'want' }>): void {
    assert(priority >= 0 && priority < PRIORITIES && first >= 0 && first + count <= this.#items.count, 'want out of range')
    this.#isDoneSaid = false
    for (let item = first; item < first + count; item++) this.#items.want(item, priority)
    for (const peer of this.#peers.values()) {
      for (const item of peer.suggestedEarly.splice(0)) this.#suggest(peer.key, item)
    }
    this.#wetAll()
  }

  /** The item is on disk, wherever it came from. */
  #gain(item: number, now: number, actions: SwarmAction[]): void {
    if (!this.#items.gain(item)) return // the second copy of an endgame
    const flight = this.#flights.get(item)
    if (flight === undefined) return
    for (const peer of [...flight.holders]) this.#takeBack(peer, item, now, actions)
    for (const peer of [...flight.checking]) this.#endRequest(peer, item, now)
    this.#end(item)
  }

  #lose(item: number): void {
    if (!this.#items.lose(item)) return
    this.#isDoneSaid = false
    this.#wetAll()
  }

  #unwantAll(now: number, actions: SwarmAction[]): void {
    for (let item = 0; item < this.#items.count; item++) this.#items.unwant(item)
    for (const [item, flight] of this.#flights) {
      for (const peer of [...flight.holders]) this.#takeBack(peer, item, now, actions)
      this.#release(item)
    }
    this.#isDoneSaid = true
  }

  /** A peer that delivers has begun with an item: others that have not are no longer needed. */
  #settle(peer: SwarmPeer, item: number, now: number, actions: SwarmAction[]): void {
    const flight = this.#flights.get(item)
    if (flight === undefined || flight.holders.length < 2) return
    for (const other of [...flight.holders]) {
      if (other !== peer && (other.queue[0] !== item || other.headBytes === 0)) this.#takeBack(other, item, now, actions)
    }
  }

  #receive(key: string, item: number, now: number): void {
    const peer = this.#peers.get(key)
    const flight = this.#flights.get(item)
    if (peer === undefined || flight === undefined) return
    if (peer.queue[0] === item) countBlock(peer, peer.headBytes, now)
    if (!takeRequest(peer, item, now)) return
    removeFrom(flight.holders, peer)
    flight.checking.push(peer)
    peer.checking.push(item)
    this.#endTrial(peer)
    this.#line.enter(peer)
  }

  #praise(key: string, item: number, now: number): void {
    const peer = this.#peers.get(key)
    if (peer === undefined) return
    // Brought by an earlier session of this peer, perhaps: then what it is asked now is called off with the other copies.
    if (peer.checking.includes(item)) this.#endRequest(peer, item, now)
    peer.verified++
    peer.fails = 0
    peer.pauses = 0
    peer.window = Math.min(peer.window + 1, this.#limits.requestsPerPeerMax)
    if (peer.isProven) return
    this.#endTrial(peer)
    this.#line.leave(peer)
    peer.isProven = true
    this.#provenCount++
    this.#requests += peer.queue.length + peer.checking.length
    this.#countInRarity(peer, 1)
    this.#line.enter(peer)
  }

  #reject({ peer: key, item, reason }: Extract<SwarmEvent, { type: 'rejected' }>, now: number, actions: SwarmAction[]): void {
    const peer = this.#peers.get(key)
    if (peer === undefined || (reason === 'store' && !peer.checking.includes(item))) return
    this.#endRequest(peer, item, now)
    this.#release(item)
    if (reason === 'hash') {
      this.#remove(key)
      actions.push({ type: 'dropPeer', peer: key, reason: 'badBlock' })
    }
    if (reason !== 'absent') return
    peer.refused ??= new IndexSet(this.#items.count)
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
    peer.isGone = true
    this.#endTrial(peer)
    if (peer.isProven) {
      this.#provenCount--
      this.#requests -= peer.queue.length + peer.checking.length
    }
    this.#countInRarity(peer, -1)
    for (const item of [...peer.queue, ...peer.checking]) {
      const flight = this.#flights.get(item)
      if (flight === undefined) continue
      removeFrom(flight.holders, peer)
      removeFrom(flight.checking, peer)
      this.#release(item)
    }
    if (peer.suggested.length > 0) this.#suggesting--
    this.#line.leave(peer)
  }

  /** Takes an item out of a peer's hands, delivered or not. */
  #endRequest(peer: SwarmPeer, item: number, now: number): void {
    const at = peer.checking.indexOf(item)
    const isAsked = at < 0 && takeRequest(peer, item, now)
    if (at < 0 && !isAsked) return
    if (at >= 0) peer.checking.splice(at, 1)
    if (peer.isProven) this.#requests--
    this.#endTrial(peer)
    const flight = this.#flights.get(item)
    if (flight !== undefined) removeFrom(isAsked ? flight.holders : flight.checking, peer)
    this.#line.enter(peer)
  }

  #takeBack(peer: SwarmPeer, item: number, now: number, actions: SwarmAction[]): void {
    this.#endRequest(peer, item, now)
    actions.push({ type: 'cancel', peer: peer.key, item })
  }

  /** Back among the open items, once nobody works on it. */
  #release(item: number): void {
    const flight = this.#flights.get(item)
    if (flight === undefined || flight.holders.length + flight.checking.length > 0) return
    if (this.#end(item)) this.#wetAll()
  }

  /** True when the item is open again. */
  #end(item: number): boolean {
    this.#flights.delete(item)
    return this.#items.giveBack(item)
  }

  /** Takes away from peers that are silent or crawl what others have, and looks at everybody once a tick. */
  #expire(now: number, actions: SwarmAction[]): void {
    for (const peer of this.#peers.values()) {
      if (peer.isTrial && headSilentMs(peer, now) >= this.#limits.coldMs) this.#endTrial(peer)
      if (isLate(this.#limits, peer, now)) this.#takeAway(peer, now, actions)
      this.#line.enter(peer) // rested, or a copy of what hangs elsewhere is worth asking for now
    }
  }

  #takeAway(peer: SwarmPeer, now: number, actions: SwarmAction[]): void {
    const movable = peer.queue.filter((item) => this.#isElsewhere(item, peer, now))
    if (!movable.includes(peer.queue[0]!)) startHead(peer, now) // the only source: keep waiting
    if (movable.length === 0) return
    this.#fail(peer, now)
    pause(peer, this.#limits.coolMs, now)
    for (const item of movable) {
      this.#takeBack(peer, item, now, actions)
      this.#release(item)
    }
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

  /** Asks those in line, one request each in turn, while there is room: first those that have delivered, then the others. */
  #assign(now: number, actions: SwarmAction[]): void {
    const { requestsTotalMax } = this.#limits
    const total = totalWindow(this.#limits, this.#pace.bytesPerSecond)
    const ask = (peer: SwarmPeer): void => this.#askNext(peer, now, actions)
    if (this.#requests < total) this.#line.serveProven(now, () => this.#requests < total, ask)
    // Beyond the total: what a sole seeder would rather be asked for.
    if (this.#suggesting > 0 && this.#requests < requestsTotalMax) {
      for (const peer of this.#line.takeAwaited()) {
        if (this.#requests < requestsTotalMax) this.#askNext(peer, now, actions)
        else this.#line.enter(peer)
      }
    }
    const trials = trialsMax(this.#limits, total, this.#provenCount)
    if (this.#trials < trials) this.#line.serveOthers(() => this.#trials < trials, ask)
    // Peers in disgrace are better than none.
    if (this.#flights.size === 0) for (const peer of this.#peers.values()) if (this.#ask(peer, now, actions)) return
  }

  /** Asks a peer that left the line; it goes to the end of it if it has room for more. */
  #askNext(peer: SwarmPeer, now: number, actions: SwarmAction[]): void {
    if (peer.queue.length >= windowOf(this.#limits, peer) || !this.#isUsable(peer, now) || !this.#ask(peer, now, actions)) return
    if (peer.queue.length < windowOf(this.#limits, peer)) this.#line.enter(peer)
  }

  #ask(peer: SwarmPeer, now: number, actions: SwarmAction[]): boolean {
    const open = this.#pickOpen(peer)
    // An item that matters more than any open one, and hangs at a slow peer, is worth a copy first.
    const copy = this.#flights.size === 0 ? -1 : pickCopy(this.#limits, this.#items, this.#flights, peer, open, this.#provenCount, now)
    const item = copy >= 0 ? copy : open
    if (item < 0) return false
    const flight = this.#flights.get(item)
    if (flight === undefined) {
      this.#items.take(item)
      if (item === this.#cursor) this.#cursor = item + 1 === this.#items.count ? 0 : item + 1
      this.#flights.set(item, { holders: [peer], checking: [], askedMs: now })
    } else {
      const full = flight.holders.length >= this.#limits.endgameCopiesMax
      const loser = full ? replaceable(this.#limits, flight, item, peer, this.#provenCount, now) : undefined
      assert(full === (loser !== undefined), 'a copy too many')
      if (loser !== undefined) {
        if (!loser.isProven) pause(loser, this.#limits.coolMs, now)
        this.#takeBack(loser, item, now, actions)
      }
      flight.holders.push(peer)
      flight.askedMs = now
    }
    pushRequest(peer, item, now)
    if (peer.isProven) this.#requests++
    else {
      peer.isTrial = true
      this.#trials++
    }
    actions.push({ type: 'request', peer: peer.key, item })
    return true
  }

  #pickOpen(peer: SwarmPeer): number {
    if (peer.isDry) return -1
    let item = this.#items.pick(this.#cursor, peer.have, peer.refused)
    peer.isDry = item < 0
    if (item < 0) return item
    if (this.#items.isOrdered(item)) return item
    // The run is over where somebody else has been: going on behind them would be asking for what they ask for next.
    if (item !== this.#cursor) item = this.#items.pick(this.#anywhere(this.#items.count), peer.have, peer.refused)
    this.#cursor = item
    while (peer.suggested.length > 0) {
      const suggested = peer.suggested[0]!
      if (this.#items.isAsRare(suggested, item) && isHolder(peer, suggested)) return suggested
      peer.suggested.shift()
      if (peer.suggested.length === 0) this.#suggesting--
    }
    return item
  }

  /** Every instance reads elsewhere, so that downloaders of one seeder have something to give to each other. */
  #anywhere(itemCount: number): number {
    return Math.floor(this.#random() * itemCount)
  }

  #endTrial(peer: SwarmPeer): void {
    if (!peer.isTrial) return
    peer.isTrial = false
    this.#trials--
  }

  /** Peers with everything make nothing rarer or less rare; those that never delivered may be lying. */
  #countInRarity(peer: SwarmPeer, change: 1 | -1): void {
    if (!peer.isProven || peer.have === null) return
    for (let item = peer.have.findFrom(0, null, null), last = -1; item > last; item = peer.have.findFrom(item + 1, null, null)) {
      last = item
      this.#items.changeHolders(item, change)
    }
  }

  #wet(peer: SwarmPeer): void {
    peer.isDry = false
    this.#line.enter(peer)
  }

  #wetAll(): void {
    for (const peer of this.#peers.values()) this.#wet(peer)
  }

  /** Cross-checks every derived number against its source. O(items × peers): for tests. */
  checkInvariants(): void {
    const peers = [...this.#peers.values()]
    this.#items.checkInvariants(
      (item) => this.#flights.has(item),
      (item) => peers.filter((peer) => peer.isProven && peer.have?.has(item) === true).length,
    )
    const { proven, requests, trials, suggesting } = checkPeers(this.#limits, peers, this.#flights)
    assert(proven === this.#provenCount && trials === this.#trials && suggesting === this.#suggesting, 'kinds of peers')
    this.#line.checkInvariants(peers)
    assert(requests === this.#requests && requests <= this.#limits.requestsTotalMax, `requests ${this.#requests}, counted ${requests}`)
  }
}
