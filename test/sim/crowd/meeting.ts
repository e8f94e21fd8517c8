/**
 * How the nodes of an hour find each other: the drivers of the contacts and announce machines, and a DHT that answers with peers which
 * have announced themselves.
 *
 * A look-up takes a while and gives at most twenty at random, all alive. A dial takes six latencies (TCP, Noise, hello); one to a node
 * that is gone, or between two behind NAT, is given up after the usual wait. Two that are full refuse, and tell whom they know instead.
 */
import { ANNOUNCE, CONTACTS, WAITS } from '../../../protocol/limits.ts'
import { Announce, type AnnounceAction, type AnnounceEvent } from '../../../protocol/swarm/announce.ts'
import { Contacts, type ContactsAction, type ContactsEvent } from '../../../protocol/swarm/contacts.ts'
import type { Crowd } from './crowd.ts'
import { OTHER } from './lines.ts'
import type { Half, Member } from './members.ts'
import type { Row } from './meter.ts'
import { latencyOf } from './model.ts'
import { Random } from './random.ts'

/** Events of the wheel that `due` takes. */
const FOUND = OTHER + 16
const FIND_DONE = FOUND + 1
const PROVIDED = FOUND + 2
const DIALLED = FOUND + 3
const TOLD = FOUND + 4
const CONTACTS_TICK = FOUND + 5
const ANNOUNCE_TICK = FOUND + 6
const LOOK_AROUND = FOUND + 7

const SHARE = 'share'
const NEVER = Number.POSITIVE_INFINITY
const FOUND_MAX = 20
const FIND_MIN_MS = 500
const FIND_MAX_MS = 2_000
const PROVIDE_MIN_MS = 1_000
const PROVIDE_MAX_MS = 5_000
const LATENCIES_PER_DIAL = 6
/** How often a node sees whether anything comes. */
const LOOK_AROUND_MS = 1_000

interface Guest {
  readonly member: Member
  readonly contacts: Contacts
  readonly announce: Announce
  contactsTickMs: number
  announceTickMs: number
  /** When its last block came. */
  gainedMs: number
  /** Place in the list of those announced; -1 when it is not there. */
  announcedAt: number
}

interface Message {
  toId: number
  tellerKey: string
  peers: string[]
}

export class Meeting {
  finds = 0
  provides = 0
  dials = 0
  dialsFailed = 0
  refusals = 0
  exchanges = 0
  readonly #crowd: Crowd
  readonly #seed: number
  readonly #guests = new Map<number, Guest>()
  /** What the DHT would answer with. */
  readonly #announced: Guest[] = []
  readonly #messages: Message[] = []
  readonly #spareMessages: number[] = []
  readonly #contactsRow: Row
  readonly #foundRow: Row
  readonly #announceRow: Row

  constructor(crowd: Crowd, seed: number) {
    this.#crowd = crowd
    this.#seed = seed
    this.#contactsRow = crowd.meter.row('contacts others')
    this.#foundRow = crowd.meter.row('contacts found')
    this.#announceRow = crowd.meter.row('announce all')
  }

  /** A node begins: the origin announces, the others look. */
  enter(member: Member, isOrigin: boolean): void {
    const { next } = new Random(this.#seed ^ Math.imul(member.id + 1, 0x85ebca6b))
    const contacts = new Contacts(CONTACTS, next)
    const announce = new Announce(ANNOUNCE, next)
    const guest: Guest = { member, contacts, announce, contactsTickMs: NEVER, announceTickMs: NEVER, announcedAt: -1, gainedMs: this.#now }
    this.#guests.set(member.id, guest)
    this.#addShare(guest, isOrigin ? 'seeder' : 'downloader')
    if (isOrigin) return
    this.#crowd.wheel.add(this.#now + LOOK_AROUND_MS, LOOK_AROUND, member.id, 0)
    this.#feedContacts(guest, { type: 'wanting', isWanting: true })
    this.#feedAnnounce(guest, { type: 'wantPeers', cid: SHARE })
  }

  /** It has everything and stays: it looks for nobody and announces itself as a seeder. */
  settle(member: Member): void {
    const guest = this.#guests.get(member.id)
    if (guest === undefined) return
    this.#feedContacts(guest, { type: 'wanting', isWanting: false })
    this.#feedAnnounce(guest, { type: 'enoughPeers', cid: SHARE })
    this.#addShare(guest, 'seeder')
  }

  leave(member: Member): void {
    const guest = this.#guests.get(member.id)
    if (guest === undefined) return
    this.#guests.delete(member.id)
    this.#unlist(guest)
  }

  gained(member: Member, half: Half): void {
    const guest = this.#guests.get(member.id)
    if (guest === undefined) return
    guest.gainedMs = this.#now
    if (half.verifiedCount === 1) this.#feedContacts(guest, { type: 'useful', peer: half.peer.key })
  }

  /** A neighbour was lost. */
  left(member: Member, half: Half): void {
    const guest = this.#guests.get(member.id)
    if (guest !== undefined) this.#feedContacts(guest, { type: 'left', peer: half.peer.key, wasUseful: half.verifiedCount > 0 })
  }

  due(kind: number, a: number, b: number): void {
    if (kind === TOLD) {
      this.#told(a)
      return
    }
    const guest = this.#guests.get(a)
    if (guest === undefined) return
    switch (kind) {
      case FOUND:
        this.#found(guest, { type: 'found', peer: b.toString(36), addresses: [b.toString(36)], source: 'dht' })
        return
      case FIND_DONE:
        this.#feedAnnounce(guest, { type: 'findDone', cid: SHARE, live: guest.member.halves.length + guest.contacts.dialling })
        return
      case PROVIDED:
        if (guest.announcedAt < 0) guest.announcedAt = this.#announced.push(guest) - 1
        this.#feedAnnounce(guest, { type: 'provideDone', cid: SHARE, ok: true })
        return
      case DIALLED:
        this.#dialled(guest, b)
        return
      case CONTACTS_TICK:
        if (guest.contactsTickMs !== this.#now) return
        guest.contactsTickMs = NEVER
        this.#feedContacts(guest, { type: 'tick' })
        return
      case LOOK_AROUND:
        if (guest.member.finishedMs < NEVER) return
        if (this.#now - guest.gainedMs >= CONTACTS.stallMs) this.#feedContacts(guest, { type: 'stalled' })
        this.#crowd.wheel.add(this.#now + LOOK_AROUND_MS, LOOK_AROUND, a, 0)
        return
      case ANNOUNCE_TICK:
        if (guest.announceTickMs !== this.#now) return
        guest.announceTickMs = NEVER
        this.#feedAnnounce(guest, { type: 'tick' })
    }
  }

  get #now(): number {
    return this.#crowd.wheel.now
  }

  #dialled(guest: Guest, otherId: number): void {
    const { member, contacts } = guest
    const other = this.#guests.get(otherId)
    const peer = otherId.toString(36)
    const isReachable = other !== undefined && !(other.member.isNated && member.isNated)
    if (!isReachable || member.halfOf.has(peer)) {
      this.dialsFailed++
      this.#feedContacts(guest, { type: 'dialFailed', peer, isFinal: false })
      return
    }
    if (!contacts.hasRoom || !other.contacts.hasRoom) {
      this.refusals++
      if (!other.contacts.hasRoom) this.#feedContacts(other, { type: 'refused', peer: member.key })
      this.#feedContacts(guest, { type: 'dialFailed', peer, isFinal: false })
      return
    }
    this.#crowd.connect(member, other.member, false)
    this.#feedContacts(guest, { type: 'joined', peer, addresses: [peer], direction: 'outbound' })
    this.#feedContacts(other, { type: 'joined', peer: member.key, addresses: [member.key], direction: 'inbound' })
  }

  #told(at: number): void {
    const { toId, tellerKey, peers } = this.#messages[at]!
    this.#spareMessages.push(at)
    const guest = this.#guests.get(toId)
    if (guest === undefined) return
    for (const peer of peers) {
      if (peer !== guest.member.key) this.#found(guest, { type: 'found', peer, addresses: [peer], source: 'exchange', teller: tellerKey })
    }
  }

  #performContacts({ member, announce }: Guest, action: ContactsAction): void {
    const guest = this.#guests.get(member.id)
    if (guest === undefined || guest.announce !== announce) return
    if (action.type === 'dial') this.#dial(member, action.peer)
    else if (action.type === 'exchange') this.#exchange(member, action.peer, action.peers)
    else if (action.type !== 'drop') this.#feedAnnounce(guest, { type: action.type, cid: SHARE }) // nobody is hostile here: whoever gives nothing keeps its seat
  }

  #dial(member: Member, peer: string): void {
    this.dials++
    const other = this.#guests.get(Number.parseInt(peer, 36))?.member
    const isReachable = other !== undefined && !(other.isNated && member.isNated)
    const waitMs = isReachable ? LATENCIES_PER_DIAL * latencyOf(member, other) : WAITS.dialMs
    this.#crowd.wheel.add(this.#now + waitMs, DIALLED, member.id, Number.parseInt(peer, 36))
  }

  #exchange(member: Member, peer: string, peers: { peer: string }[]): void {
    this.exchanges++
    const toId = Number.parseInt(peer, 36)
    const other = this.#guests.get(toId)?.member
    if (other === undefined) return
    const message: Message = { toId, tellerKey: member.key, peers: peers.map((entry) => entry.peer) }
    const at = this.#spareMessages.pop() ?? this.#messages.length
    this.#messages[at] = message
    this.#crowd.wheel.add(this.#now + latencyOf(member, other), TOLD, at, 0)
  }

  #performAnnounce(guest: Guest, { type }: AnnounceAction): void {
    const { random, wheel } = this.#crowd
    if (type === 'stopProviding') {
      this.#unlist(guest)
      return
    }
    if (type === 'provide') {
      this.provides++
      wheel.add(this.#now + random.between(PROVIDE_MIN_MS, PROVIDE_MAX_MS), PROVIDED, guest.member.id, 0)
      return
    }
    this.finds++
    const durationMs = random.between(FIND_MIN_MS, FIND_MAX_MS)
    const chosen = this.#pick(guest)
    for (const [i, id] of chosen.entries()) wheel.add(this.#now + (durationMs * (i + 1)) / (chosen.length + 1), FOUND, guest.member.id, id)
    wheel.add(this.#now + durationMs, FIND_DONE, guest.member.id, 0)
  }

  /** Some of those announced, without the one who asks. */
  #pick(asking: Guest): number[] {
    const { random } = this.#crowd
    const chosen = new Set<number>()
    const count = this.#announced.length
    if (count <= FOUND_MAX) for (const { member } of this.#announced) chosen.add(member.id)
    else while (chosen.size < FOUND_MAX) chosen.add(this.#announced[random.below(count)]!.member.id)
    chosen.delete(asking.member.id)
    const list = [...chosen]
    random.shuffle(list)
    return list
  }

  #unlist(guest: Guest): void {
    const at = guest.announcedAt
    if (at < 0) return
    guest.announcedAt = -1
    const last = this.#announced.pop()!
    if (last === guest) return
    this.#announced[at] = last
    last.announcedAt = at
  }

  #addShare(guest: Guest, role: 'seeder' | 'downloader'): void {
    this.#feedAnnounce(guest, { type: 'shareAdded', cid: SHARE, announcedMs: null, role, wallNow: this.#now })
  }

  // Feeding the machines.

  #found(guest: Guest, event: Extract<ContactsEvent, { type: 'found' }>): void {
    this.#feedContacts(guest, event, this.#foundRow)
  }

  #feedContacts(guest: Guest, event: ContactsEvent, row = this.#contactsRow): void {
    const { meter, wheel } = this.#crowd
    for (const action of meter.handle(row, guest.contacts, event, this.#now)) this.#performContacts(guest, action)
    const atMs = meter.nextTimeout(guest.contacts)
    if (atMs === undefined) return
    const dueMs = Math.max(this.#now + 1, Math.ceil(atMs))
    if (dueMs >= guest.contactsTickMs) return
    guest.contactsTickMs = dueMs
    wheel.add(dueMs, CONTACTS_TICK, guest.member.id, 0)
  }

  #feedAnnounce(guest: Guest, event: AnnounceEvent): void {
    const { meter, wheel } = this.#crowd
    for (const action of meter.handle(this.#announceRow, guest.announce, event, this.#now)) this.#performAnnounce(guest, action)
    const atMs = meter.nextTimeout(guest.announce)
    if (atMs === undefined) return
    const dueMs = Math.max(this.#now + 1, Math.ceil(atMs))
    if (dueMs >= guest.announceTickMs) return
    guest.announceTickMs = dueMs
    wheel.add(dueMs, ANNOUNCE_TICK, guest.member.id, 0)
  }
}
