/**
 * MACHINE: which item to ask whom for, and when to ask somebody else (states and flows in README.md beside this file).
 *
 * Items are numbers; what they stand for is the driver's business. It moves no bytes and has no clock, timer or randomness of its own:
 * the same events with the same random numbers give the same actions. Perform every action before feeding the next event.
 * An item is in exactly one of: unwanted, open (in one bucket), asked, checking, had.
 * An event costs the same with a million items as with a hundred: peers that could be asked stand in line, the others are not looked at.
 */
import { assert } from '../errors.ts'
import { IndexSet } from './index-set.ts'
import { Items } from './items.ts'
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
import { isLate, ownWaitMs, totalWindow, trialsMax, waitMs, windowOf } from './windows.ts'

export type { SwarmAction, SwarmEvent, SwarmLimits }

interface Flight {
  /** Peers that have it in their queue. */
  holders: SwarmPeer[]
  /** Peers whose copy is being verified. */
  checking: SwarmPeer[]
}

/** The download of one share. */
export class Swarm {
  readonly #limits: SwarmLimits
  /** Every instance starts reading elsewhere, so that downloaders of one seeder have something to give to each other. */
  readonly #rotation: number
  readonly #peers = new Map<string, SwarmPeer>()
  readonly #items: Items
  readonly #flights = new Map<number, Flight>()
  readonly #pace = new Pace()
  /** Peers that may have room for a request, next first. */
  #line: SwarmPeer[] = []
  /** Asked of proven peers or being checked, against the total; and first requests to peers that have yet to show what they are worth. */
  #requests = 0
  #trials = 0
  #provenCount = 0
  #isDoneSaid = true
  #tickedMs = 0

  /** `random` returns a number in [0, 1). */
  constructor(itemCount: number, limits: SwarmLimits, random: () => number) {
    this.#limits = limits
    this.#rotation = Math.floor(random() * itemCount)
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
    if (this.#line.length > 0 && this.#items.missing > 0) this.#assign(now, actions)
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
        if (peer !== undefined) countBytes(peer, event.bytes, now)
        this.#pace.count(event.bytes, now)
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

  #want({ first, count, priority }: Extract<SwarmEvent, { type: 'want' }>): void {
    assert(priority >= 0 && priority < PRIORITIES && first >= 0 && first + count <= this.#items.count, 'want out of range')
    this.#isDoneSaid = false
    for (let item = first; item < first + count; item++) this.#items.want(item, priority)
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

  #receive(key: string, item: number, now: number): void {
    const peer = this.#peers.get(key)
    const flight = this.#flights.get(item)
    if (peer === undefined || flight === undefined) return
    if (peer.queue[0] === item) countBlock(peer, peer.headBytes, now)
    if (!takeRequest(peer, item, now)) return
    flight.holders.splice(flight.holders.indexOf(peer), 1)
    flight.checking.push(peer)
    peer.checking.push(item)
    this.#endTrial(peer)
    this.#standInLine(peer)
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
    this.#endTrial(peer)
    peer.isProven = true
    this.#provenCount++
    this.#requests += peer.queue.length + peer.checking.length
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
    for (const item of peer.queue) {
      const flight = this.#flights.get(item)
      if (flight === undefined) continue
      flight.holders.splice(flight.holders.indexOf(peer), 1)
      this.#release(item)
    }
    for (const item of peer.checking) {
      const flight = this.#flights.get(item)
      if (flight === undefined) continue
      flight.checking.splice(flight.checking.indexOf(peer), 1)
      this.#release(item)
    }
    if (peer.isInLine) this.#line = this.#line.filter((other) => other !== peer)
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
    const side = isAsked ? flight?.holders : flight?.checking
    const place = side?.indexOf(peer) ?? -1
    if (place >= 0) side?.splice(place, 1)
    this.#standInLine(peer)
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
      this.#standInLine(peer) // rested, or a copy of what hangs elsewhere is worth asking for now
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
    const total = totalWindow(this.#limits, this.#pace.bytesPerSecond)
    if (this.#provenCount > 0 && this.#requests < total) this.#askAlong(true, total, now, actions)
    if (this.#trials < trialsMax(this.#limits, total, this.#provenCount)) this.#askAlong(false, total, now, actions)
    // Peers in disgrace are better than none.
    if (this.#flights.size === 0) for (const peer of this.#peers.values()) if (this.#ask(peer, now, actions)) return
  }

  #askAlong(isProven: boolean, total: number, now: number, actions: SwarmAction[]): void {
    const line = this.#line
    const max = isProven ? total : trialsMax(this.#limits, total, this.#provenCount)
    let kept = 0
    for (let at = 0; at < line.length; at++) {
      const peer = line[at]!
      if (peer.isProven !== isProven || (isProven ? this.#requests : this.#trials) >= max) {
        line[kept++] = peer // stays in line
        continue
      }
      peer.isInLine = false
      if (peer.queue.length >= windowOf(this.#limits, peer) || !this.#isUsable(peer, now) || !this.#ask(peer, now, actions)) continue
      if (peer.queue.length < windowOf(this.#limits, peer)) this.#standInLine(peer) // at the end, beyond `at`
    }
    line.length = kept
  }

  #standInLine(peer: SwarmPeer): void {
    if (peer.isInLine || peer.isGone) return
    peer.isInLine = true
    this.#line.push(peer)
  }

  #ask(peer: SwarmPeer, now: number, actions: SwarmAction[]): boolean {
    const open = this.#pickOpen(peer)
    // An item that matters more than any open one, and hangs at a slow peer, is worth a copy first.
    const copy = this.#flights.size === 0 ? -1 : this.#pickCopy(peer, open, now)
    const item = copy >= 0 ? copy : open
    if (item < 0) return false
    const flight = this.#flights.get(item)
    if (flight === undefined) {
      this.#items.take(item)
      this.#flights.set(item, { holders: [peer], checking: [] })
    } else {
      if (flight.holders.length >= this.#limits.endgameCopiesMax) this.#steal(flight, item, now, actions)
      flight.holders.push(peer)
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
    const item = this.#items.pick(this.#rotation, peer.have, peer.refused)
    peer.isDry = item < 0
    return item
  }

  /** Endgame, stealing and deadlines: a second copy of what a stalled or much slower peer was asked for. -1 when `open` is better. */
  #pickCopy(peer: SwarmPeer, open: number, now: number): number {
    const isIdler = (holder: SwarmPeer): boolean => this.#isIdler(holder, now)
    let best = -1
    let bestWaitMs = 1.5 * ownWaitMs(this.#limits, peer)
    for (const [item, flight] of this.#flights) {
      if (flight.checking.length > 0 || !this.#items.isBefore(item, open)) continue
      if (flight.holders.length >= this.#limits.endgameCopiesMax && !(peer.isProven && flight.holders.some(isIdler))) continue
      if (flight.holders[0] === peer || flight.holders[1] === peer || !isHolder(peer, item)) continue
      let expectedMs = Number.POSITIVE_INFINITY
      for (const holder of flight.holders) expectedMs = Math.min(expectedMs, waitMs(this.#limits, holder, item, now))
      if (expectedMs <= bestWaitMs) continue
      best = item
      bestWaitMs = expectedMs
    }
    return best
  }

  /** It never delivered anything, and nothing comes. */
  #isIdler(peer: SwarmPeer, now: number): boolean {
    return !peer.isProven && headSilentMs(peer, now) >= this.#limits.coldMs
  }

  /** Makes room for a copy at a peer that delivers. */
  #steal(flight: Flight, item: number, now: number, actions: SwarmAction[]): void {
    const idler = flight.holders.find((holder) => this.#isIdler(holder, now))
    assert(idler !== undefined, 'nobody to steal from')
    pause(idler, this.#limits.coolMs, now)
    this.#takeBack(idler, item, now, actions)
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
    this.#standInLine(peer)
  }

  #wetAll(): void {
    for (const peer of this.#peers.values()) this.#wet(peer)
  }

  /** Cross-checks every derived number against its source. O(items × peers): for tests. */
  checkInvariants(): void {
    const { requestsPerPeerMax, requestsTotalMax, endgameCopiesMax } = this.#limits
    const peers = [...this.#peers.values()]
    this.#items.checkInvariants(
      (item) => this.#flights.has(item),
      (item) => peers.filter((peer) => peer.isProven && peer.have?.has(item) === true).length,
    )
    for (const [item, { holders, checking }] of this.#flights) {
      assert(holders.length + checking.length > 0 && holders.length + checking.length <= endgameCopiesMax, `copies of item ${item}`)
      for (const peer of holders) assert(!peer.isGone && peer.queue.includes(item), `item ${item} is not with ${peer.key}`)
      for (const peer of checking) assert(!peer.isGone && peer.checking.includes(item), `item ${item} is not from ${peer.key}`)
    }
    let [proven, requests, trials] = [0, 0, 0]
    for (const peer of peers) {
      const asked = peer.queue.length + peer.checking.length
      assert(asked <= (peer.isProven ? requestsPerPeerMax + requestsTotalMax : 1), `requests to ${peer.key}`)
      assert(peer.queue.length <= requestsPerPeerMax, `queue of ${peer.key}`)
      for (const item of peer.queue) assert(this.#flights.get(item)?.holders.includes(peer) === true, `item ${item} of ${peer.key}`)
      for (const item of peer.checking) assert(this.#flights.get(item)?.checking.includes(peer) === true, `item ${item} from ${peer.key}`)
      assert(peer.isInLine === this.#line.includes(peer), `${peer.key} in line`)
      if (peer.isProven) proven++
      if (peer.isProven) requests += asked
      if (peer.isTrial) trials++
    }
    assert(proven === this.#provenCount && trials === this.#trials, 'proven and trial peers')
    assert(requests === this.#requests && requests <= requestsTotalMax, `requests ${this.#requests}, counted ${requests}`)
  }
}
