/**
 * MACHINE: which item to ask whom for, and when to ask somebody else (states and flows in README.md beside this file).
 *
 * Items are numbers; what they stand for is the driver's business. It moves no bytes and has no clock, timer or randomness of its own:
 * the same events with the same random numbers give the same actions. Perform every action before feeding the next event.
 * An item is in exactly one of: unwanted, open (in one bucket), asked, checking, had.
 * An event costs the same with a million items as with a hundred: peers that could be asked stand in line, the others are not looked at.
 */
import { assert } from '../errors.ts'
import { type Counts, checkItems, checkPeers } from './checks.ts'
import { pickCopy, replaceable } from './copies.ts'
import { IndexSets } from './index-sets.ts'
import { Items } from './items.ts'
import { Line } from './line.ts'
import { PRIORITIES } from './open-items.ts'
import { Pace } from './pace.ts'
import {
  countBlock,
  countBytes,
  countGood,
  type Flight,
  headSilentMs,
  indexOfItem,
  isUsable,
  type PeerStatus,
  Peers,
  pause,
  ROW,
  type SwarmPeer,
  snub,
  startHead,
  statusOf,
} from './peers.ts'
import { Picks } from './picks.ts'
import type { SwarmAction, SwarmEvent, SwarmLimits } from './swarm-events.ts'
import { UnderWay } from './under-way.ts'
import { isFull, isIdle, isLate, lateFromMs, totalWindow, trialsMax, windowOf } from './windows.ts'

export type { SwarmAction, SwarmEvent, SwarmLimits }

/** The answer to most events. */
const NOTHING: readonly SwarmAction[] = Object.freeze([])

/** So many HAVEs are put off at most. */
const UNREAD_MAX = 32

/** The download of one share. */
export class Swarm {
  // In this order because the events that come most often need the first of these alone.
  /** Nobody that delivers can be asked for more, whatever they say: then what they say can wait. */
  #isFull = true
  #unreadCount = 0
  /** Who said so and which item, in turns: what stands together is fetched together. */
  readonly #unread: (string | number)[] = new Array<string | number>(2 * UNREAD_MAX).fill(0)
  /** Peers that have yet to deliver, and those that have. */
  #strangers = 0
  #provenCount = 0
  #actions: readonly SwarmAction[] | SwarmAction[] = NOTHING
  /** How much may be under way with peers that deliver. */
  #total: number
  readonly #underWay = new UnderWay()
  readonly #peers: Peers
  readonly #byKey: ReadonlyMap<string, SwarmPeer>
  readonly #pace = new Pace()
  readonly #line: Line
  readonly #items: Items
  readonly #picks: Picks
  readonly #sets: IndexSets
  readonly #limits: SwarmLimits
  #isDoneSaid = true
  /** Somebody left the line and was asked for nothing, since the last tick. */
  #isAnyIdle = false
  /** No peer that delivers is late before this. */
  #lateFromMs = 0
  #tickedMs = 0

  /** `random` returns a number in [0, 1). */
  constructor(itemCount: number, limits: SwarmLimits, random: () => number) {
    this.#limits = limits
    this.#sets = new IndexSets(itemCount)
    this.#items = new Items(itemCount, this.#sets)
    this.#peers = new Peers(this.#sets)
    this.#byKey = this.#peers.byKey
    this.#line = new Line(this.#peers, limits.forgetMs)
    this.#total = totalWindow(limits, 0)
    this.#picks = new Picks(this.#items, random)
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
    return this.#peers.list.flatMap((peer) => peer.queue.map(({ item }) => `${peer.key}/${item}`)).sort()
  }

  /** Whether a peer has said that it has an item. */
  isTold(peer: string, item: number): boolean {
    this.#catchUp()
    const known = this.#byKey.get(peer)
    return known !== undefined && (known.have === null || this.#sets.has(known.have, item))
  }

  /** For status displays. */
  peers(): PeerStatus[] {
    return this.#peers.list.map(statusOf)
  }

  /** When to feed `tick`; undefined while nothing can time out. */
  nextTimeout(): number | undefined {
    const isWaiting = this.#underWay.flights.length > 0 || (this.#items.missing > 0 && this.#peers.list.length > 0)
    return isWaiting ? this.#tickedMs + this.#limits.tickMs : undefined
  }

  /** Feed one event; perform all actions before the next. */
  handle(event: SwarmEvent, now: number): readonly SwarmAction[] {
    const isNews = event.type === 'peerHas' && event.count === 1
    // Whoever has yet to deliver is asked as soon as it has something.
    if (isNews && this.#isFull && (this.#strangers === 0 || this.#byKey.get(event.peer)?.isProven !== false)) {
      if (this.#unreadCount === 2 * UNREAD_MAX) this.#catchUp()
      this.#unread[this.#unreadCount++] = event.peer
      this.#unread[this.#unreadCount++] = event.first
      return NOTHING
    }
    // Some change nothing that is waited for.
    const isSmall = isNews || event.type === 'progress' || event.type === 'received' || event.type === 'tick'
    if (!isSmall) this.#catchUp()
    this.#apply(event, now)
    if (this.#hasRoom || (this.#strangers > 0 && this.#line.hasOthers)) this.#fill(now)
    if (!isSmall && this.#items.missing === 0 && !this.#isDoneSaid) {
      this.#isDoneSaid = true
      this.#act({ type: 'done' })
    }
    this.#isFull = !this.#hasRoom
    const actions = this.#actions
    this.#actions = NOTHING
    return actions
  }

  #act(action: SwarmAction): void {
    if (this.#actions === NOTHING) this.#actions = [action]
    else (this.#actions as SwarmAction[]).push(action)
  }

  /** Looks at what was put off. */
  #catchUp(): void {
    for (let at = 0; at < this.#unreadCount; at += 2) this.#learn(this.#unread[at] as string, this.#unread[at + 1] as number, 1)
    this.#unreadCount = 0
  }

  #apply(event: SwarmEvent, now: number): void {
    switch (event.type) {
      case 'progress':
        this.#progress(event, now)
        return
      case 'peerHas':
        this.#learn(event.peer, event.first, event.count)
        return
      case 'received':
        this.#receive(event.peer, event.item, now)
        return
      case 'verified':
        this.#gain(event.item, this.#praise(event.peer, event.item, now), now)
        return
      case 'rejected':
        this.#reject(event, now)
        return
      case 'suggested':
        this.#suggest(event.peer, event.item)
        return
      case 'peerJoined':
        this.#remove(event.peer)
        this.#peers.add(event.peer, this.#limits.requestsPerPeerMin)
        this.#strangers++
        return
      case 'peerLeft':
        this.#remove(event.peer)
        return
      case 'want':
        this.#want(event)
        return
      case 'have':
        for (let item = event.first; item < event.first + event.count; item++) this.#gain(item, undefined, now)
        return
      case 'lost':
        if (event.isDropped === true) this.#items.unwant(event.item)
        if (this.#items.lose(event.item)) this.#wantAgain()
        return
      case 'unwantAll':
        this.#unwantAll(now)
        return
      case 'tick':
        this.#tickedMs = now
        if (this.#pace.look(now)) this.#total = totalWindow(this.#limits, this.#pace.bytesPerSecond)
        this.#expire(now)
    }
  }

  #progress({ peer: key, item, bytes }: Extract<SwarmEvent, { type: 'progress' }>, now: number): void {
    if (this.#pace.count(bytes, now)) this.#total = totalWindow(this.#limits, this.#pace.bytesPerSecond)
    const peer = this.#byKey.get(key)
    if (peer !== undefined && countBytes(peer, item, bytes, now) && peer.isProven && peer.isSharing) this.#settle(peer, peer.queue[0]!, now)
  }

  #learn(key: string, first: number, count: number): void {
    const peer = this.#byKey.get(key)
    if (peer === undefined) return
    assert(first >= 0 && first + count <= this.#items.count, 'items beyond the last')
    if (peer.refused !== null) for (let item = first; item < first + count; item++) this.#sets.delete(peer.refused, item)
    if (count === this.#items.count && peer.have !== null) {
      if (peer.isProven) this.#items.changeHoldersOfAll(peer.have, -1)
      this.#sets.drop(peer.have)
      peer.have = null
    }
    let isOfUse = peer.have === null
    if (peer.have !== null) {
      const { isProven } = peer
      for (let item = first; item < first + count; item++) {
        if (!this.#sets.add(peer.have, item)) continue
        if (isProven) this.#items.changeHolders(item, 1)
        isOfUse ||= this.#items.isMissing(item)
      }
    }
    if (isOfUse) this.#wet(peer)
  }

  #suggest(key: string, item: number): void {
    const peer = this.#byKey.get(key)
    if (peer !== undefined && this.#picks.suggest(peer, item, this.#limits.requestsPerPeerMax)) this.#wet(peer)
  }

  #want({ first, count, priority }: Extract<SwarmEvent, { type: 'want' }>): void {
    assert(priority >= 0 && priority < PRIORITIES && first >= 0 && first + count <= this.#items.count, 'want out of range')
    for (let item = first; item < first + count; item++) this.#items.want(item, priority)
    for (const peer of this.#peers.list) for (const item of peer.suggestedEarly.splice(0)) this.#suggest(peer.key, item)
    this.#wantAgain()
  }

  /** The item is on disk, wherever it came from. `brought`: the flight that has brought it, if one did. */
  #gain(item: number, brought: Flight | undefined, now: number): void {
    const flight = brought ?? (this.#items.isTaken(item) ? this.#underWay.of(item) : undefined)
    if (!this.#items.gain(item) || flight === undefined) return // not, for the second copy of an endgame
    for (let peer = flight.peers[0]; peer !== undefined; peer = flight.peers[0]) {
      if (peer.checking.includes(flight)) this.#endRequest(peer, flight, now)
      else this.#takeBack(peer, flight, now)
    }
    this.#end(flight)
  }

  #wantAgain(): void {
    this.#isDoneSaid = false
    this.#wetAll()
  }

  #unwantAll(now: number): void {
    for (let item = 0; item < this.#items.count; item++) this.#items.unwant(item)
    for (const flight of [...this.#underWay.flights]) {
      for (const peer of [...flight.peers]) if (peer.queue.includes(flight)) this.#takeBack(peer, flight, now)
      this.#release(flight)
    }
    this.#isDoneSaid = true
  }

  /** A peer that delivers has begun with an item: others that have not are no longer needed. */
  #settle(peer: SwarmPeer, flight: Flight, now: number): void {
    if (flight.peers.length - flight.checking < 2) return
    this.#catchUp()
    for (const other of [...flight.peers]) {
      const isBehind = other.queue[0] !== flight || other.headBytes === 0
      if (other !== peer && isBehind && other.queue.includes(flight)) this.#takeBack(other, flight, now)
    }
  }

  #receive(key: string, item: number, now: number): void {
    const peer = this.#byKey.get(key)
    if (peer === undefined) return
    if (peer.headItem === item) countBlock(peer, now)
    if (this.#underWay.deliver(peer, item, now) !== null) this.#line.enter(peer)
  }

  /** The flight that brought the item, if any did. */
  #praise(key: string, item: number, now: number): Flight | undefined {
    const peer = this.#byKey.get(key)
    if (peer === undefined) return undefined
    // Brought by an earlier session of this peer, perhaps: then what it is asked now is called off with the other copies.
    const flight = peer.checking[indexOfItem(peer.checking, item)]
    if (flight !== undefined) this.#endRequest(peer, flight, now)
    countGood(peer)
    peer.window = Math.min(peer.window + 1, this.#limits.requestsPerPeerMax)
    if (!peer.isProven) this.#prove(peer)
    return flight
  }

  /** What it says counts from now on. */
  #prove(peer: SwarmPeer): void {
    this.#line.leave(peer)
    this.#underWay.prove(peer)
    this.#provenCount++
    this.#strangers--
    // Peers with everything make nothing rarer or less rare; those that never delivered may be lying.
    if (peer.have !== null) this.#items.changeHoldersOfAll(peer.have, 1)
    this.#line.enter(peer)
  }

  #reject({ peer: key, item, reason }: Extract<SwarmEvent, { type: 'rejected' }>, now: number): void {
    const peer = this.#byKey.get(key)
    const delivered = peer?.checking[indexOfItem(peer.checking, item)]
    if (peer === undefined || (reason === 'store' && delivered === undefined)) return
    const flight = delivered ?? peer.queue[indexOfItem(peer.queue, item)]
    if (flight !== undefined) {
      this.#endRequest(peer, flight, now)
      this.#release(flight)
    }
    if (reason === 'hash') {
      this.#remove(key)
      this.#act({ type: 'dropPeer', peer: key, reason: 'badBlock' })
    }
    if (reason !== 'absent') return
    peer.refused ??= this.#sets.make()
    this.#sets.add(peer.refused, item)
    this.#fail(peer, now)
  }

  #fail(peer: SwarmPeer, now: number): void {
    peer.window = Math.max(this.#limits.requestsPerPeerMin, peer.window >>> 1)
    if (++peer.fails < this.#limits.failsBeforeSnub) return
    snub(peer, now + this.#limits.snubMs)
  }

  #remove(key: string): void {
    const peer = this.#byKey.get(key)
    if (peer === undefined) return
    peer.isGone = true
    this.#line.leave(peer)
    if (peer.isProven) this.#provenCount--
    else this.#strangers--
    if (peer.isProven && peer.have !== null) this.#items.changeHoldersOfAll(peer.have, -1)
    for (const flight of this.#underWay.leave(peer)) this.#release(flight)
    this.#picks.leave(peer)
    this.#peers.remove(peer)
  }

  /** Takes an item out of a peer's hands, delivered or not. */
  #endRequest(peer: SwarmPeer, flight: Flight, now: number): void {
    this.#underWay.takeBack(peer, flight, now)
    this.#line.enter(peer)
  }

  #takeBack(peer: SwarmPeer, flight: Flight, now: number): void {
    this.#endRequest(peer, flight, now)
    this.#act({ type: 'cancel', peer: peer.key, item: flight.item })
  }

  /** Back among the open items, once nobody works on it. */
  #release(flight: Flight): void {
    if (flight.peers.length === 0 && this.#end(flight)) this.#wetAll()
  }

  /** True when the item is open again. */
  #end(flight: Flight): boolean {
    this.#underWay.end(flight)
    return this.#items.giveBack(flight.item)
  }

  /** Takes away from peers that are silent or crawl what others have, and looks at everybody who found nothing to do. */
  #expire(now: number): void {
    if (now < this.#lateFromMs && !this.#isAnyIdle && this.#strangers === 0) return
    const { list, rows } = this.#peers
    this.#isAnyIdle = false
    this.#lateFromMs = now + this.#limits.blockMs
    for (let index = 0; index < list.length; index++) {
      if (now >= lateFromMs(this.#limits, rows, index * ROW)) this.#doubt(list[index]!, now)
      this.#lateFromMs = Math.min(this.#lateFromMs, lateFromMs(this.#limits, rows, index * ROW))
      // Rested, or a copy of what hangs elsewhere is worth asking for now.
      if (isIdle(this.#limits, rows, index * ROW)) this.#line.enter(list[index]!)
    }
  }

  #doubt(peer: SwarmPeer, now: number): void {
    if (peer.isTrial && headSilentMs(peer, now) >= this.#limits.coldMs) this.#underWay.endTrial(peer)
    if (isLate(this.#limits, peer, now)) this.#takeAway(peer, now)
  }

  #takeAway(peer: SwarmPeer, now: number): void {
    this.#catchUp()
    const movable = peer.queue.filter(({ item }) => this.#peers.isElsewhere(item, peer, now))
    if (!movable.includes(peer.queue[0]!)) startHead(peer, now) // the only source: keep waiting
    if (movable.length === 0) return
    this.#fail(peer, now)
    pause(peer, this.#limits.coolMs, now)
    for (const flight of movable) {
      this.#takeBack(peer, flight, now)
      this.#release(flight)
    }
  }

  /** Whether those that deliver may be asked for more. */
  get #hasRoom(): boolean {
    const { requests } = this.#underWay
    return requests < this.#total || (requests < this.#limits.requestsTotalMax && this.#picks.isAnyAwaited)
  }

  /** Asks those in line, one request each in turn, while there is room: first those that have delivered, then the others. */
  #fill(now: number): void {
    if (this.#items.missing === 0) return
    if (this.#hasRoom) {
      this.#catchUp()
      if (this.#line.isEmpty) return
      this.#askProven(now)
    }
    while (this.#line.hasOthers && this.#underWay.trials < trialsMax(this.#limits, this.#total, this.#provenCount)) {
      this.#catchUp()
      this.#askNext(this.#line.takeOther(), now)
    }
    // Peers in disgrace are better than none.
    if (this.#underWay.flights.length === 0) for (const peer of this.#peers.list) if (this.#ask(peer, now)) return
  }

  #askProven(now: number): void {
    const underWay = this.#underWay
    while (underWay.requests < this.#total) {
      const peer = this.#line.takeProven(now)
      if (peer === null) break
      this.#askNext(peer, now)
    }
    // Beyond the total: what a sole seeder would rather be asked for.
    const { requestsTotalMax } = this.#limits
    if (underWay.requests >= requestsTotalMax || !this.#picks.isAnyAwaited) return
    for (const peer of this.#line.takeAwaited(this.#picks.suggesting)) {
      if (underWay.requests < requestsTotalMax) this.#askNext(peer, now)
      else this.#line.enter(peer)
    }
  }

  /** Asks a peer that left the line; it goes to the end of it if it has room for more. */
  #askNext(peer: SwarmPeer, now: number): void {
    const isDenied = isFull(this.#limits, peer.rows, peer.at) || peer.asked >= windowOf(this.#limits, peer) || !isUsable(peer, now)
    if (isDenied || !this.#ask(peer, now)) {
      this.#isAnyIdle = true
      return
    }
    if (peer.asked < windowOf(this.#limits, peer)) this.#line.enter(peer)
  }

  #ask(peer: SwarmPeer, now: number): boolean {
    const open = this.#picks.next(peer)
    // An item that matters more than any open one, and hangs at a slow peer, is worth a copy first.
    const copy = pickCopy(this.#limits, this.#items, this.#underWay.flights, peer, open, this.#provenCount, now)
    if (copy === null && open < 0) return false
    if (copy === null) {
      this.#items.take(open)
      this.#picks.began(open)
      this.#underWay.begin(peer, open, now)
    } else {
      this.#makeRoom(copy, peer, now)
      this.#underWay.copy(peer, copy, now)
    }
    this.#act({ type: 'request', peer: peer.key, item: copy?.item ?? open })
    return true
  }

  /** For a copy at `peer`: where enough are asked already, one of them is no longer. */
  #makeRoom(flight: Flight, peer: SwarmPeer, now: number): void {
    if (flight.peers.length < this.#limits.endgameCopiesMax) return
    const loser = replaceable(this.#limits, flight, peer, this.#provenCount, now)
    assert(loser !== undefined, 'a copy too many')
    if (!loser.isProven) pause(loser, this.#limits.coolMs, now)
    this.#takeBack(loser, flight, now)
  }

  #wet(peer: SwarmPeer): void {
    peer.isDry = false
    this.#line.enter(peer)
  }

  #wetAll(): void {
    for (const peer of this.#peers.list) this.#wet(peer)
  }

  /** Cross-checks every derived number against its source. O(items × peers): for tests. */
  checkInvariants(): void {
    const { requests, trials } = this.#underWay
    checkItems(this.#sets, this.#items, this.#peers, this.#underWay)
    const suggesting = this.#picks.suggesting.length
    const kept: Counts = { proven: this.#provenCount, strangers: this.#strangers, requests, trials, suggesting }
    checkPeers(this.#limits, this.#peers, this.#underWay, kept)
    this.#line.checkInvariants()
    assert(this.#total === totalWindow(this.#limits, this.#pace.bytesPerSecond), 'total')
    assert(this.#unreadCount === 0 || !this.#hasRoom, 'news is put off while somebody could be asked')
  }
}
