/**
 * MACHINE: which peers of one share to dial, when again, and whom to tell of whom (states in README.md beside this file).
 *
 * It knows peers by name and addresses as text; which addresses may be passed on, and whether a dial is within its budget, is the
 * driver's business. Every `dial` ends in `joined` (outbound) or `dialFailed`. The cap on neighbours is the driver's too: it refuses
 * whoever comes while `hasRoom` is false, and may ask with `refused` for what to tell it.
 */
import { assert } from '../errors.ts'
import { type Contact, type ContactSource, isHearsay, isKnown, isLasting, newContact, RANK, turnOf } from './contact.ts'
import { type Contactable, type Neighbour, Neighbours, type NeighboursLimits } from './neighbours.ts'
import { Standing } from './standing.ts'

export type { Contactable, ContactSource }

/** CONTACTS of the limits. */
export interface ContactsLimits extends NeighboursLimits {
  contactsMax: number
  contactsPerTellerMax: number
  addressesMax: number
  dialsAtOnceMax: number
  dialSlowMs: number
  neighboursWanted: number
  neighboursMax: number
  contactsFew: number
  neighboursEnough: number
  redialMinMs: number
  redialMaxMs: number
  redialsMax: number
  givenMaxMs: number
  strangerRetryMs: number
  strangerTriesMax: number
  barMs: number
  dropMs: number
  dropAfterMs: number
  movedMs: number
}

export type ContactsEvent =
  /** `teller` is the peer that told us, for source 'exchange'. */
  | { type: 'found'; peer: string; addresses: string[]; source: ContactSource; teller?: string }
  /** Something is to be fetched: dial. Otherwise we only answer. */
  | { type: 'wanting'; isWanting: boolean }
  /** `addresses`: what others may dial, [] when none is known. May come again when they become known. */
  | { type: 'joined'; peer: string; addresses: string[]; direction: 'inbound' | 'outbound' }
  /** `wasUseful`: it gave us verified blocks. */
  | { type: 'left'; peer: string; wasUseful: boolean }
  /** It gave us the first verified block of this session. */
  | { type: 'useful'; peer: string }
  /** Something is wanted, and no block has come for a while. */
  | { type: 'stalled' }
  /** `isFinal`: it does not know the share, or is banned. */
  | { type: 'dialFailed'; peer: string; isFinal: boolean }
  /** It came while we had no room: tell it of others before it goes. */
  | { type: 'refused'; peer: string }
  /** We have another address: neighbours that lose us now cannot know it, and are dialled whether anything is wanted or not. */
  | { type: 'moved' }
  | { type: 'tick' }

export type ContactsAction =
  | { type: 'dial'; peer: string; addresses: string[] }
  /** Tell this peer of these. */
  | { type: 'exchange'; peer: string; peers: Contactable[] }
  /** It holds a seat and never gave a thing, while others wait to be tried: end its session. `left` follows. */
  | { type: 'drop'; peer: string }
  /** For the announce machine: look in the DHT, or stop. `wantPeers` comes again when all neighbours are lost. */
  | { type: 'wantPeers' | 'enoughPeers' }

/** The answer to most events. */
const NOTHING: readonly ContactsAction[] = Object.freeze([])

const UNKNOWN = Number.NEGATIVE_INFINITY

/** The peers of one share. */
export class Contacts {
  readonly #limits: ContactsLimits
  readonly #random: () => number
  readonly #contacts = new Map<string, Contact>()
  #actions: readonly ContactsAction[] | ContactsAction[] = NOTHING
  readonly #neighbours: Neighbours
  /** Being dialled, in the order in which that began. */
  readonly #dialling = new Set<Contact>()
  #isWanting = false
  #isAsking = false
  /** The latest of all contacts. */
  #missedUntilMs = 0
  /** The last neighbour has gone: the DHT is asked again at once. */
  #isAlone = false
  #handledMs = 0
  /** Until then everybody who is left to try is dialled while there are seats: those who gave something have no more of what is wanted. */
  #stalledUntilMs = 0
  #stalledFromMs = 0
  /** No seat is taken from anybody before this. */
  #dropFromMs = 0
  /** Nobody is worth a look before this; and when the first may be dialled. */
  #readyFromMs = UNKNOWN
  #dialFromMs = UNKNOWN
  /** Who goes first when room is needed; null when something has changed since. */
  #standing: Standing | null = null

  /** `random` returns a number in [0, 1). */
  constructor(limits: ContactsLimits, random: () => number) {
    this.#limits = limits
    this.#random = random
    this.#neighbours = new Neighbours(limits, random)
  }

  /** Whether one more neighbour may join. */
  get hasRoom(): boolean {
    return this.#neighbours.size < this.#limits.neighboursMax
  }

  get dialling(): number {
    return this.#dialling.size
  }

  /** Whether a neighbour was lost that cannot know where we are. */
  isMissing(now: number): boolean {
    if (now >= this.#missedUntilMs) return false
    for (const { missedUntilMs, neighbour } of this.#contacts.values()) if (neighbour === null && now < missedUntilMs) return true
    return false
  }

  /** Where we heard of a peer; null when we do not know it. */
  sourceOf(peer: string): ContactSource | 'itself' | null {
    const contact = this.#contacts.get(peer)
    if (contact === undefined) return null
    return contact.source === 'exchange' && contact.teller === peer ? 'itself' : contact.source
  }

  /** Feed one event; perform all actions before the next. */
  handle(event: ContactsEvent, now: number): readonly ContactsAction[] {
    this.#handledMs = now
    if (this.#apply(event, now)) {
      this.#readyFromMs = UNKNOWN
      if (event.type !== 'found') this.#standing = null
    }
    if (now >= this.#neighbours.exchangeMs) this.#neighbours.exchange(now, (peer, peers) => this.#act({ type: 'exchange', peer, peers }))
    this.#dial(now)
    this.#ask()
    const actions = this.#actions
    this.#actions = NOTHING
    return actions
  }

  /** False when it changed nothing about who could be dialled, or forgotten. */
  #apply(event: ContactsEvent, now: number): boolean {
    switch (event.type) {
      case 'found':
        return this.#found(event, now)
      case 'wanting':
        this.#isWanting = event.isWanting
        return true
      case 'joined':
        this.#joined(event, now)
        return true
      case 'left':
        this.#left(event.peer, event.wasUseful, now)
        return true
      case 'dialFailed':
        this.#dialFailed(event.peer, event.isFinal, now)
        return true
      case 'refused': {
        const peers = this.#neighbours.newsFor(event.peer)
        if (peers.length > 0) this.#act({ type: 'exchange', peer: event.peer, peers })
        return false
      }
      case 'useful':
        this.#neighbours.praise(event.peer)
        return false
      case 'stalled':
        this.#makeSeat(now)
        return false
      case 'moved':
        this.#missedUntilMs = now + this.#limits.movedMs
        for (const contact of this.#contacts.values()) if (contact.neighbour !== null) contact.missedUntilMs = this.#missedUntilMs
        return true
      case 'tick':
        return false
    }
  }

  #act(action: ContactsAction): void {
    if (this.#actions === NOTHING) this.#actions = [action]
    else (this.#actions as ContactsAction[]).push(action)
  }

  nextTimeout(): number | undefined {
    let earliest = this.#neighbours.exchangeMs
    if (this.#isWanting) earliest = Math.min(earliest, this.#neighbours.hopefulUntilMs(this.#handledMs))
    if (this.#mayDial(this.#handledMs))
      earliest = Math.min(earliest, this.#readyFromMs === UNKNOWN ? this.#candidateMs() : this.#dialFromMs)
    else if (this.#isTrying(this.#handledMs)) earliest = Math.min(earliest, this.#slowFromMs(this.#handledMs))
    return earliest === Number.POSITIVE_INFINITY ? undefined : earliest
  }

  checkInvariants(): void {
    const { contactsMax, contactsPerTellerMax, addressesMax, dialsAtOnceMax, neighboursMax } = this.#limits
    const contacts = [...this.#contacts.values()]
    assert(contacts.length <= contactsMax, 'too many contacts')
    assert(contacts.filter(({ diallingMs }) => diallingMs !== null).length === this.#dialling.size, 'dialling')
    assert(this.#prompt(this.#handledMs) <= dialsAtOnceMax && this.#dialling.size <= neighboursMax, 'too many dials')
    assert(contacts.filter(({ neighbour }) => neighbour !== null).length === this.#neighbours.size, 'neighbours')
    assert(this.#readyFromMs === UNKNOWN || this.#dialFromMs === this.#candidateMs(), 'who can be dialled first')
    const byTeller = new Map<string | null, number>()
    for (const [peer, contact] of this.#contacts) {
      assert((contact.neighbour?.news.length ?? 0) <= 2 * neighboursMax, 'too much news')
      assert((this.#neighbours.get(peer) ?? null) === contact.neighbour, 'a neighbour under another name')
      assert(contact.addresses.length <= addressesMax, 'too many addresses')
      assert(!contact.isBarred || (contact.neighbour === null && contact.diallingMs === null), 'a barred neighbour')
      if (isHearsay(contact)) byTeller.set(contact.teller, (byTeller.get(contact.teller) ?? 0) + 1)
    }
    for (const count of byTeller.values()) assert(count <= contactsPerTellerMax, 'too many from one teller')
    assert(!this.#isAsking || this.#isWanting, 'asking for what nobody wants')
    assert(this.#standing?.equals(new Standing(this.#contacts)) !== false, 'who goes first')
  }

  // What is heard of peers.

  /** True when it is news. */
  #found({ peer, addresses, source, teller = peer }: Extract<ContactsEvent, { type: 'found' }>, now: number): boolean {
    let contact = this.#contacts.get(peer)
    if (contact?.isBarred === true && (source === 'given' || contact.readyMs <= now)) {
      this.#forget(peer)
      contact = undefined
    }
    if (contact === undefined) {
      if (!this.#hasPlaceFor(source, teller)) return false
      contact = newContact(source, teller, addresses.slice(0, this.#limits.addressesMax), now)
      this.#contacts.set(peer, contact)
      this.#standing?.admit(peer, contact)
      return true
    }
    if (contact.isBarred) return false
    const isDearer = RANK[source] < RANK[contact.source]
    if (!isDearer && source !== 'given' && isKnown(contact.addresses, addresses)) return false
    const isMoved = addresses.slice(0, this.#limits.addressesMax).some((address) => contact.addresses.includes(address) === false)
    contact.addresses = this.#merge(contact.addresses.slice(0, 1), addresses, contact.addresses)
    if (isDearer) {
      Object.assign(contact, { source, teller: null })
      this.#standing = null
    }
    if (source === 'given') contact.readyMs = Math.min(contact.readyMs, now)
    else if (isMoved) contact.readyMs = Math.min(contact.readyMs, now + this.#limits.redialMinMs)
    return true
  }

  /** Makes room, if need be; false when there is none for what comes from there. */
  #hasPlaceFor(source: ContactSource, teller: string): boolean {
    if (source === 'exchange' && this.#stand().heardFrom(teller) >= this.#limits.contactsPerTellerMax) return false
    return this.#makeRoom(RANK[source])
  }

  #joined({ peer, addresses, direction }: Extract<ContactsEvent, { type: 'joined' }>, now: number): void {
    let contact = this.#contacts.get(peer)
    if (contact === undefined) {
      // Whoever came by itself told us where it listens, if anybody did.
      this.#makeRoom(Number.NEGATIVE_INFINITY)
      contact = newContact('exchange', peer, [], now)
      this.#contacts.set(peer, contact)
    }
    contact.isBarred = false
    if (direction === 'outbound') this.#endDial(contact)
    contact.addresses = this.#merge(addresses, contact.addresses)
    contact.neighbour ??= this.#neighbours.add(peer, now)
    const isNews = contact.neighbour.addresses.length === 0 && addresses.length > 0
    if (addresses.length > 0) contact.neighbour.addresses = addresses.slice(0, this.#limits.addressesMax)
    if (isNews) this.#neighbours.spread(contact.neighbour, now)
  }

  #left(peer: string, wasUseful: boolean, now: number): void {
    const contact = this.#contacts.get(peer)
    if (contact === undefined || contact.neighbour === null) return
    contact.neighbour = null
    this.#neighbours.delete(peer)
    this.#isAlone = this.#neighbours.size === 0
    if (wasUseful) {
      contact.isUseful = true
      contact.fails = 0
    }
    this.#fail(contact, now)
    if (contact.diallingMs === null && (contact.addresses.length === 0 || this.#isTooMuch(contact))) this.#forget(peer)
  }

  #dialFailed(peer: string, isFinal: boolean, now: number): void {
    const contact = this.#contacts.get(peer)
    if (contact === undefined || contact.diallingMs === null) return
    this.#endDial(contact)
    if (contact.neighbour !== null) return // it came to us meanwhile
    if (isFinal) this.#bar(contact, now)
    else this.#fail(contact, now)
    if (this.#isTooMuch(contact)) this.#forget(peer)
  }

  #endDial(contact: Contact): void {
    this.#dialling.delete(contact)
    contact.diallingMs = null
  }

  #fail(contact: Contact, now: number): void {
    const { redialMinMs, redialMaxMs, redialsMax, givenMaxMs, strangerRetryMs, strangerTriesMax, barMs } = this.#limits
    contact.fails++
    const isSeen = contact.isUseful || now < contact.missedUntilMs
    if (!isLasting(contact) && contact.fails >= (isSeen ? redialsMax : strangerTriesMax)) {
      this.#bar(contact, now)
      return
    }
    const isQuick = isSeen || contact.source === 'given'
    const mostMs = isSeen ? redialMaxMs : isQuick ? givenMaxMs : barMs
    const waitMs = Math.min((isQuick ? redialMinMs : strangerRetryMs) * 2 ** Math.min(contact.fails - 1, 30), mostMs)
    contact.readyMs = now + waitMs * (0.75 + 0.25 * this.#random())
  }

  #bar(contact: Contact, now: number): void {
    contact.isBarred = true
    contact.isUseful = false
    contact.fails = 0
    contact.readyMs = now + this.#limits.barMs
  }

  /** Without doubles, as many as are kept. */
  #merge(...lists: string[][]): string[] {
    return [...new Set(lists.flat())].slice(0, this.#limits.addressesMax)
  }

  #stand(): Standing {
    this.#standing ??= new Standing(this.#contacts)
    return this.#standing
  }

  #forget(peer: string): void {
    this.#contacts.delete(peer)
    this.#standing = null
  }

  /** Its teller has told us of enough others since. */
  #isTooMuch(contact: Contact): boolean {
    if (!isHearsay(contact)) return false
    let count = 0
    for (const other of this.#contacts.values()) if (isHearsay(other) && other.teller === contact.teller) count++
    return count > this.#limits.contactsPerTellerMax
  }

  /** Lets go of the worst one that is worse than `rank`, if need be; false when there is none. */
  #makeRoom(rank: number): boolean {
    if (this.#contacts.size < this.#limits.contactsMax) return true
    const worst = this.#stand().evict(rank)
    return worst !== null && this.#contacts.delete(worst)
  }

  // Whom to dial.

  #mayDial(now: number): boolean {
    const { dialsAtOnceMax, neighboursWanted, neighboursMax } = this.#limits
    if (!this.#isTrying(now) || this.#neighbours.size + this.#dialling.size >= neighboursMax) return false
    const prompt = this.#prompt(now)
    return prompt < dialsAtOnceMax && (now < this.#stalledUntilMs || this.#neighbours.hopeful(now) + prompt < neighboursWanted)
  }

  #isTrying(now: number): boolean {
    return this.#isWanting || now < this.#missedUntilMs
  }

  /** Dials that have only just begun. Slower ones go on, but hold nobody up: those that never answer may be many. */
  #prompt(now: number): number {
    let count = 0
    for (const { diallingMs } of this.#dialling) if (diallingMs !== null && now - diallingMs < this.#limits.dialSlowMs) count++
    return count
  }

  /** When the next dial that is under way becomes a slow one. */
  #slowFromMs(now: number): number {
    for (const { diallingMs } of this.#dialling) {
      const slowMs = (diallingMs ?? now) + this.#limits.dialSlowMs
      if (slowMs > now) return slowMs
    }
    return Number.POSITIVE_INFINITY
  }

  /** Nothing comes. Where every seat is taken and somebody is left to try, whoever has sat here in vain for longest goes. */
  #makeSeat(now: number): void {
    const { neighboursMax, doubtMs, dropMs, dropAfterMs } = this.#limits
    if (now > this.#stalledUntilMs) this.#stalledFromMs = now
    this.#stalledUntilMs = now + dropMs
    const seats = this.#neighbours.size + this.#dialling.size
    if (
      !this.#isWanting ||
      now < Math.max(this.#dropFromMs, this.#stalledFromMs + dropAfterMs) ||
      seats < neighboursMax ||
      this.#nextReady(now) === null
    )
      return
    let idle: [peer: string, neighbour: Neighbour] | null = null
    for (const entry of this.#neighbours.entries()) {
      const { isUseful, isDropped, sinceMs } = entry[1]
      if (!isUseful && !isDropped && now - sinceMs >= doubtMs && (idle === null || sinceMs < idle[1].sinceMs)) idle = entry
    }
    if (idle === null) return
    idle[1].isDropped = true
    this.#dropFromMs = now + dropMs
    this.#act({ type: 'drop', peer: idle[0] })
  }

  #dial(now: number): void {
    while (this.#mayDial(now)) {
      const next = this.#nextReady(now)
      if (next === null) return
      const [peer, contact] = next
      contact.diallingMs = now
      this.#standing = null
      this.#dialling.add(contact)
      this.#readyFromMs = UNKNOWN
      this.#act({ type: 'dial', peer, addresses: contact.addresses })
    }
  }

  /** The first in order of source, drawn at random from those that are alike. */
  #nextReady(now: number): [peer: string, contact: Contact] | null {
    if (now < this.#readyFromMs) return null
    let best: [peer: string, contact: Contact] | null = null
    let bestTurn = Number.POSITIVE_INFINITY
    let alike = 0
    for (const entry of this.#contacts) {
      const contact = entry[1]
      if (contact.readyMs > now) continue
      if (contact.isBarred) {
        if (isLasting(contact)) {
          contact.isBarred = false
          this.#standing = null
        } else {
          this.#forget(entry[0])
          continue
        }
      }
      if (!this.#isCandidate(contact)) continue
      const turn = turnOf(contact)
      if (turn < bestTurn) alike = 0
      if (turn > bestTurn) continue
      bestTurn = turn
      alike++
      if (this.#random() * alike < 1) best = entry
    }
    if (best === null) this.#lookAhead()
    return best
  }

  /** Nobody can be dialled now: notes when that may be otherwise. */
  #lookAhead(): void {
    this.#dialFromMs = this.#candidateMs()
    this.#readyFromMs = this.#dialFromMs
    for (const { isBarred, readyMs } of this.#contacts.values()) if (isBarred) this.#readyFromMs = Math.min(this.#readyFromMs, readyMs)
  }

  /** When the first may be dialled; infinite when there is none. */
  #candidateMs(): number {
    let earliest = Number.POSITIVE_INFINITY
    for (const contact of this.#contacts.values()) if (this.#isCandidate(contact)) earliest = Math.min(earliest, contact.readyMs)
    return earliest
  }

  /** May be dialled, once its time has come. */
  #isCandidate(contact: Contact): boolean {
    const { neighbour, diallingMs, isBarred, readyMs, missedUntilMs } = contact
    return neighbour === null && diallingMs === null && (!isBarred || isLasting(contact)) && (this.#isWanting || readyMs < missedUntilMs)
  }

  #ask(): void {
    const { contactsFew, neighboursEnough } = this.#limits
    if (this.#isAsking) {
      if (this.#isWanting && this.#neighbours.size < neighboursEnough) {
        if (this.#isAlone) this.#act({ type: 'wantPeers' })
        this.#isAlone = false
        return
      }
      this.#isAsking = false
      this.#act({ type: 'enoughPeers' })
      return
    }
    if (!this.#isWanting || this.#neighbours.size >= contactsFew) return
    let hopes = this.#neighbours.size
    for (const { neighbour, isBarred, fails } of this.#contacts.values()) if (neighbour === null && !isBarred && fails === 0) hopes++
    if (hopes >= contactsFew) return
    this.#isAsking = true
    this.#act({ type: 'wantPeers' })
  }
}
