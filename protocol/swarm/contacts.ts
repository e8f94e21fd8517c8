/**
 * MACHINE: which peers of one share to dial, when again, and whom to tell of whom (states in README.md beside this file).
 *
 * It knows peers by name and addresses as text; which addresses may be passed on, and whether a dial is within its budget, is the
 * driver's business. Every `dial` ends in `joined` (outbound) or `dialFailed`. The cap on neighbours is the driver's too: it refuses
 * whoever comes while `hasRoom` is false, and may ask with `refused` for what to tell it.
 */
import { assert } from '../errors.ts'

/** CONTACTS of the limits. */
export interface ContactsLimits {
  contactsMax: number
  contactsPerTellerMax: number
  addressesMax: number
  dialsAtOnceMax: number
  neighboursWanted: number
  neighboursMax: number
  contactsFew: number
  neighboursEnough: number
  redialMinMs: number
  redialMaxMs: number
  redialsMax: number
  strangerRetryMs: number
  strangerTriesMax: number
  barMs: number
  gatherMs: number
  exchangeIntervalMs: number
  exchangePeersMax: number
  toldMax: number
  doubtMs: number
  dropMs: number
  dropAfterMs: number
}

/** Where we heard of a peer: the user, a link, the DHT, another peer, or an earlier run. */
export type ContactSource = 'given' | 'hint' | 'dht' | 'exchange' | 'known'

/** A peer and where it listens. */
export interface Contactable {
  peer: string
  addresses: string[]
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
  | { type: 'tick' }

export type ContactsAction =
  | { type: 'dial'; peer: string; addresses: string[] }
  /** Tell this peer of these. */
  | { type: 'exchange'; peer: string; peers: Contactable[] }
  /** It holds a seat and never gave a thing, while others wait to be tried: end its session. `left` follows. */
  | { type: 'drop'; peer: string }
  /** For the announce machine: look in the DHT, or stop. `wantPeers` comes again when all neighbours are lost. */
  | { type: 'wantPeers' | 'enoughPeers' }

interface Contact {
  source: ContactSource
  teller: string | null
  /** One that worked first, then what was heard of last. */
  addresses: string[]
  isUseful: boolean
  fails: number
  /** Not dialled before. */
  readyMs: number
  /** Forgotten; kept in mind until `readyMs` only so that nobody brings it back. */
  isBarred: boolean
  isDialling: boolean
  neighbour: Neighbour | null
}

interface Neighbour {
  readonly sinceMs: number
  /** It gave us a block in this session. */
  isUseful: boolean
  isDropped: boolean
  /** What others may dial. */
  addresses: string[]
  told: Set<string>
  /** No exchange before this. */
  exchangeFromMs: number
  /** When to tell what is new; null when nothing is. */
  exchangeMs: number | null
}

/** The peers of one share. */
export class Contacts {
  readonly #limits: ContactsLimits
  readonly #random: () => number
  readonly #contacts = new Map<string, Contact>()
  readonly #neighbours = new Map<string, Neighbour>()
  #dialling = 0
  #isWanting = false
  #isAsking = false
  /** The last neighbour has gone: the DHT is asked again at once. */
  #isAlone = false
  #handledMs = 0
  /** Until then everybody who is left to try is dialled while there are seats: those who gave something have no more of what is wanted. */
  #stalledUntilMs = 0
  #stalledFromMs = 0
  /** No seat is taken from anybody before this. */
  #dropFromMs = 0

  /** `random` returns a number in [0, 1). */
  constructor(limits: ContactsLimits, random: () => number) {
    this.#limits = limits
    this.#random = random
  }

  /** Whether one more neighbour may join. */
  get hasRoom(): boolean {
    return this.#neighbours.size < this.#limits.neighboursMax
  }

  get dialling(): number {
    return this.#dialling
  }

  /** Where we heard of a peer; null when we do not know it. */
  sourceOf(peer: string): ContactSource | 'itself' | null {
    const contact = this.#contacts.get(peer)
    if (contact === undefined) return null
    return contact.source === 'exchange' && contact.teller === peer ? 'itself' : contact.source
  }

  /** Feed one event; perform all actions before the next. */
  handle(event: ContactsEvent, now: number): ContactsAction[] {
    const actions: ContactsAction[] = []
    this.#handledMs = now
    if (event.type === 'found') this.#found(event, now)
    else if (event.type === 'wanting') this.#isWanting = event.isWanting
    else if (event.type === 'joined') this.#joined(event, now)
    else if (event.type === 'left') this.#left(event.peer, event.wasUseful, now)
    else if (event.type === 'dialFailed') this.#dialFailed(event.peer, event.isFinal, now)
    else if (event.type === 'refused') this.#tell(event.peer, new Set(), actions)
    else if (event.type === 'useful') this.#praise(event.peer)
    else if (event.type === 'stalled') this.#makeSeat(now, actions)
    this.#exchange(now, actions)
    this.#dial(now, actions)
    this.#ask(actions)
    return actions
  }

  nextTimeout(): number | undefined {
    let earliest = Number.POSITIVE_INFINITY
    for (const { exchangeMs } of this.#neighbours.values()) if (exchangeMs !== null) earliest = Math.min(earliest, exchangeMs)
    if (this.#isWanting)
      for (const { isUseful, sinceMs } of this.#neighbours.values()) {
        const doubtedMs = sinceMs + this.#limits.doubtMs
        if (!isUseful && doubtedMs > this.#handledMs) earliest = Math.min(earliest, doubtedMs)
      }
    if (this.#mayDial(this.#handledMs))
      for (const contact of this.#contacts.values()) if (isCandidate(contact)) earliest = Math.min(earliest, contact.readyMs)
    return earliest === Number.POSITIVE_INFINITY ? undefined : earliest
  }

  checkInvariants(): void {
    const { contactsMax, contactsPerTellerMax, addressesMax, dialsAtOnceMax, toldMax } = this.#limits
    const contacts = [...this.#contacts.values()]
    assert(contacts.length <= contactsMax, 'too many contacts')
    assert(contacts.filter(({ isDialling }) => isDialling).length === this.#dialling, 'dialling')
    assert(this.#dialling <= dialsAtOnceMax, 'too many dials')
    assert(contacts.filter(({ neighbour }) => neighbour !== null).length === this.#neighbours.size, 'neighbours')
    const byTeller = new Map<string | null, number>()
    for (const [peer, contact] of this.#contacts) {
      assert((this.#neighbours.get(peer) ?? null) === contact.neighbour, 'a neighbour under another name')
      assert(contact.addresses.length <= addressesMax, 'too many addresses')
      assert(!contact.isBarred || (contact.neighbour === null && !contact.isDialling), 'a barred neighbour')
      assert((contact.neighbour?.told.size ?? 0) <= toldMax, 'too much told')
      if (isHearsay(contact)) byTeller.set(contact.teller, (byTeller.get(contact.teller) ?? 0) + 1)
    }
    for (const count of byTeller.values()) assert(count <= contactsPerTellerMax, 'too many from one teller')
    assert(!this.#isAsking || this.#isWanting, 'asking for what nobody wants')
  }

  // What is heard of peers.

  #found({ peer, addresses, source, teller = peer }: Extract<ContactsEvent, { type: 'found' }>, now: number): void {
    let contact = this.#contacts.get(peer)
    if (contact?.isBarred === true && (source === 'given' || contact.readyMs <= now)) {
      this.#contacts.delete(peer)
      contact = undefined
    }
    if (contact === undefined) {
      if (source === 'exchange' && this.#heardFrom(teller) >= this.#limits.contactsPerTellerMax) return
      if (this.#makeRoom(RANK[source]))
        this.#contacts.set(peer, newContact(source, teller, addresses.slice(0, this.#limits.addressesMax), now))
      return
    }
    if (contact.isBarred) return
    const isMoved = addresses.slice(0, this.#limits.addressesMax).some((address) => contact.addresses.includes(address) === false)
    contact.addresses = this.#merge(contact.addresses.slice(0, 1), addresses, contact.addresses)
    if (RANK[source] < RANK[contact.source]) Object.assign(contact, { source, teller: null })
    if (source === 'given') contact.readyMs = Math.min(contact.readyMs, now)
    else if (isMoved) contact.readyMs = Math.min(contact.readyMs, now + this.#limits.redialMinMs)
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
    const { gatherMs, addressesMax } = this.#limits
    const exchange = { addresses: [], told: new Set<string>(), exchangeFromMs: now + gatherMs, exchangeMs: now + gatherMs }
    contact.neighbour ??= { ...exchange, sinceMs: now, isUseful: false, isDropped: false }
    this.#neighbours.set(peer, contact.neighbour)
    const isNews = contact.neighbour.addresses.length === 0 && addresses.length > 0
    if (addresses.length > 0) contact.neighbour.addresses = addresses.slice(0, addressesMax)
    if (!isNews) return
    for (const other of this.#neighbours.values()) {
      if (other !== contact.neighbour) other.exchangeMs ??= Math.max(other.exchangeFromMs, now + gatherMs)
    }
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
    if (!contact.isDialling && (contact.addresses.length === 0 || this.#isTooMuch(contact))) this.#contacts.delete(peer)
  }

  #dialFailed(peer: string, isFinal: boolean, now: number): void {
    const contact = this.#contacts.get(peer)
    if (contact === undefined || !contact.isDialling) return
    this.#endDial(contact)
    if (contact.neighbour !== null) return // it came to us meanwhile
    if (isFinal) this.#bar(contact, now)
    else this.#fail(contact, now)
    if (this.#isTooMuch(contact)) this.#contacts.delete(peer)
  }

  #endDial(contact: Contact): void {
    if (contact.isDialling) this.#dialling--
    contact.isDialling = false
  }

  #fail(contact: Contact, now: number): void {
    const { redialMinMs, redialMaxMs, redialsMax, strangerRetryMs, strangerTriesMax, barMs } = this.#limits
    contact.fails++
    if (!isLasting(contact) && contact.fails >= (contact.isUseful ? redialsMax : strangerTriesMax)) {
      this.#bar(contact, now)
      return
    }
    const isQuick = contact.isUseful || contact.source === 'given'
    const waitMs = Math.min((isQuick ? redialMinMs : strangerRetryMs) * 2 ** Math.min(contact.fails - 1, 30), isQuick ? redialMaxMs : barMs)
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

  #heardFrom(teller: string | null): number {
    let count = 0
    for (const contact of this.#contacts.values()) if (isHearsay(contact) && contact.teller === teller) count++
    return count
  }

  /** Its teller has told us of enough others since. */
  #isTooMuch(contact: Contact): boolean {
    return isHearsay(contact) && this.#heardFrom(contact.teller) > this.#limits.contactsPerTellerMax
  }

  /** Lets go of the worst one that is worse than `rank`, if need be; false when there is none. */
  #makeRoom(rank: number): boolean {
    if (this.#contacts.size < this.#limits.contactsMax) return true
    let worst: string | null = null
    let most = rank
    for (const [peer, contact] of this.#contacts) {
      if (contact.neighbour !== null || contact.isDialling) continue
      const badness = (contact.isUseful ? RANK.known : RANK[contact.source]) + (contact.isBarred ? 0.5 : Math.min(contact.fails, 8) / 16)
      if (badness <= most) continue
      most = badness
      worst = peer
    }
    if (worst === null) return false
    this.#contacts.delete(worst)
    return true
  }

  // Whom to dial.

  #mayDial(now: number): boolean {
    const { dialsAtOnceMax, neighboursWanted, neighboursMax } = this.#limits
    if (!this.#isWanting || this.#dialling >= dialsAtOnceMax || this.#neighbours.size + this.#dialling >= neighboursMax) return false
    return now < this.#stalledUntilMs || this.#hopeful(now) + this.#dialling < neighboursWanted
  }

  /** Neighbours that gave us something, or have not been here for long. */
  #hopeful(now: number): number {
    let count = 0
    for (const { isUseful, sinceMs } of this.#neighbours.values()) if (isUseful || now - sinceMs < this.#limits.doubtMs) count++
    return count
  }

  #praise(peer: string): void {
    const neighbour = this.#neighbours.get(peer)
    if (neighbour !== undefined) neighbour.isUseful = true
  }

  /** Nothing comes. Where every seat is taken and somebody is left to try, whoever has sat here in vain for longest goes. */
  #makeSeat(now: number, actions: ContactsAction[]): void {
    const { neighboursMax, doubtMs, dropMs, dropAfterMs } = this.#limits
    if (now > this.#stalledUntilMs) this.#stalledFromMs = now
    this.#stalledUntilMs = now + dropMs
    const seats = this.#neighbours.size + this.#dialling
    if (
      !this.#isWanting ||
      now < Math.max(this.#dropFromMs, this.#stalledFromMs + dropAfterMs) ||
      seats < neighboursMax ||
      this.#nextReady(now) === null
    )
      return
    let idle: [peer: string, neighbour: Neighbour] | null = null
    for (const entry of this.#neighbours) {
      const { isUseful, isDropped, sinceMs } = entry[1]
      if (!isUseful && !isDropped && now - sinceMs >= doubtMs && (idle === null || sinceMs < idle[1].sinceMs)) idle = entry
    }
    if (idle === null) return
    idle[1].isDropped = true
    this.#dropFromMs = now + dropMs
    actions.push({ type: 'drop', peer: idle[0] })
  }

  #dial(now: number, actions: ContactsAction[]): void {
    while (this.#mayDial(now)) {
      const next = this.#nextReady(now)
      if (next === null) return
      const [peer, contact] = next
      contact.isDialling = true
      this.#dialling++
      actions.push({ type: 'dial', peer, addresses: contact.addresses })
    }
  }

  /** The first in order of source, drawn at random from those that are alike. */
  #nextReady(now: number): [peer: string, contact: Contact] | null {
    let best: [peer: string, contact: Contact] | null = null
    let bestTurn = Number.POSITIVE_INFINITY
    let alike = 0
    for (const entry of this.#contacts) {
      const contact = entry[1]
      if (contact.readyMs > now) continue
      if (contact.isBarred) {
        if (isLasting(contact)) contact.isBarred = false
        else {
          this.#contacts.delete(entry[0])
          continue
        }
      }
      if (!isCandidate(contact)) continue
      const turn = turnOf(contact)
      if (turn < bestTurn) alike = 0
      if (turn > bestTurn) continue
      bestTurn = turn
      alike++
      if (this.#random() * alike < 1) best = entry
    }
    return best
  }

  #ask(actions: ContactsAction[]): void {
    const { contactsFew, neighboursEnough } = this.#limits
    if (this.#isAsking) {
      if (this.#isWanting && this.#neighbours.size < neighboursEnough) {
        if (this.#isAlone) actions.push({ type: 'wantPeers' })
        this.#isAlone = false
        return
      }
      this.#isAsking = false
      actions.push({ type: 'enoughPeers' })
      return
    }
    if (!this.#isWanting || this.#neighbours.size >= contactsFew) return
    let hopes = this.#neighbours.size
    for (const { neighbour, isBarred, fails } of this.#contacts.values()) if (neighbour === null && !isBarred && fails === 0) hopes++
    if (hopes >= contactsFew) return
    this.#isAsking = true
    actions.push({ type: 'wantPeers' })
  }

  // Whom to tell of whom.

  #exchange(now: number, actions: ContactsAction[]): void {
    for (const [peer, neighbour] of this.#neighbours) {
      if (neighbour.exchangeMs === null || neighbour.exchangeMs > now) continue
      neighbour.exchangeMs = null
      const said = this.#tell(peer, neighbour.told, actions)
      if (said === 0) continue
      neighbour.exchangeFromMs = now + this.#limits.exchangeIntervalMs
      if (said === this.#limits.exchangePeersMax) neighbour.exchangeMs = neighbour.exchangeFromMs
    }
  }

  /** Says what `told` does not hold yet, and notes it there; gives how many. */
  #tell(peer: string, told: Set<string>, actions: ContactsAction[]): number {
    const news: Contactable[] = []
    for (const [other, { addresses }] of this.#neighbours) {
      if (other !== peer && addresses.length > 0 && !told.has(other)) news.push({ peer: other, addresses })
    }
    const count = Math.min(news.length, this.#limits.exchangePeersMax)
    for (let i = 0; i < count; i++) {
      const j = i + Math.floor(this.#random() * (news.length - i))
      const [a, b] = [news[i], news[j]]
      if (a === undefined || b === undefined) continue
      news[i] = b
      news[j] = a
      told.add(b.peer)
    }
    for (const name of told) {
      if (told.size <= this.#limits.toldMax) break
      told.delete(name)
    }
    if (count > 0) actions.push({ type: 'exchange', peer, peers: news.slice(0, count) })
    return count
  }
}

/** The lower, the dearer. */
const RANK: Record<ContactSource, number> = { given: 0, hint: 1, known: 2, dht: 3, exchange: 4 }

/** Fails after which one that we would rather have waits behind the untried ones. */
const FAILS_IN_FRONT = 3

/** Given, hints, useful and known ones, untried others, all the rest. */
function turnOf({ source, isUseful, fails }: Contact): number {
  const rank = Math.min(RANK[source], isUseful ? RANK.known : RANK.dht)
  return fails >= (rank < RANK.dht ? FAILS_IN_FRONT : 1) ? RANK.exchange : rank
}

/** Somebody wants us to try those for as long as we look at all. */
const isLasting = ({ source }: Contact): boolean => source === 'given' || source === 'hint'

/** May be dialled, once its time has come. */
const isCandidate = (contact: Contact): boolean =>
  contact.neighbour === null && !contact.isDialling && (!contact.isBarred || isLasting(contact))

/** Known by the word of another peer only. */
const isHearsay = ({ source, isUseful, isDialling, neighbour }: Contact): boolean =>
  source === 'exchange' && !isUseful && !isDialling && neighbour === null

const newContact = (source: ContactSource, teller: string | null, addresses: string[], now: number): Contact => ({
  source,
  teller,
  addresses,
  isUseful: false,
  fails: 0,
  readyMs: now,
  isBarred: false,
  isDialling: false,
  neighbour: null,
})
