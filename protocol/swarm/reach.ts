/**
 * MACHINE: who can reach this node. Which of its addresses strangers can dial is asked of peers, who dial them; and whether relays are needed.
 *
 * An address is unknown until enough neighbourhoods have reached it (open) or failed to (closed); one at an interface of this machine needs
 * one, any other two: whoever tells of it might lie, or stand in the same network. Both verdicts are looked at again in time. It dials nobody
 * and knows nobody's address but its own node's.
 */
import { assert } from '../errors.ts'

export interface ReachLimits {
  checkersMax: number
  addressesMax: number
  confirmationsMin: number
  denialsMin: number
  answersMax: number
  checkMs: number
  openAgainMs: number
  closedAgainMs: number
  graceMs: number
  relaysWanted: number
}

export type ReachEvent =
  /** All addresses that others might reach us at; `isOwn`: at an interface of this machine. */
  | { type: 'addresses'; addresses: { address: string; isOwn: boolean }[] }
  /** A peer at a public address that dials for others; `group` is its neighbourhood. */
  | { type: 'checker'; peer: string; group: string }
  | { type: 'checkerGone'; peer: string }
  /** What came of a check. 'refused': the peer did not try, or says nothing that counts. */
  | { type: 'answered'; peer: string; address: string; outcome: CheckOutcome }
  /** Something has changed for an address: what is known of it is found out anew, and what is under way says nothing. */
  | { type: 'changed'; address: string }
  | { type: 'tick' }

export type CheckOutcome = 'reached' | 'failed' | 'refused'

export type ReachAction =
  | { type: 'check'; peer: string; address: string }
  /** The address may be announced, or not any more. */
  | { type: 'open'; address: string; isOwn: boolean }
  | { type: 'closed'; address: string }
  /** Reservations at so many relays are wanted from now on. */
  | { type: 'wantRelays'; count: number }

export interface AddressState {
  address: string
  verdict: 'unknown' | 'open' | 'closed'
  /** Neighbourhoods that reached it, and that did not, in the last round. */
  reachedBy: number
  failedBy: number
}

interface Entry {
  isOwn: boolean
  verdict: AddressState['verdict']
  /** A round is under way: neighbourhoods are asked until there is a verdict. */
  isAsking: boolean
  reached: Set<string>
  failed: Set<string>
  /** Peers asked in this round, so as not to ask again. */
  asked: Set<string>
  checking: { peer: string; group: string; untilMs: number } | null
  /** When a round begins anew. */
  againMs: number
}

export class Reach {
  readonly #limits: ReachLimits
  readonly #random: () => number
  readonly #entries = new Map<string, Entry>()
  /** Group by peer. */
  readonly #checkers = new Map<string, string>()
  #firstCheckerMs: number | null = null
  #relays = 0

  constructor(limits: ReachLimits, random: () => number) {
    this.#limits = limits
    this.#random = random
  }

  handle(event: ReachEvent, now: number): ReachAction[] {
    const actions: ReachAction[] = []
    if (event.type === 'addresses') this.#set(event.addresses, now, actions)
    else if (event.type === 'checker') this.#add(event.peer, event.group, now)
    else if (event.type === 'checkerGone') this.#checkers.delete(event.peer)
    else if (event.type === 'changed') this.#doubt(event.address, now)
    else if (event.type === 'answered') this.#take(event, now, actions)
    for (const [address, entry] of this.#entries) this.#goOn(address, entry, now, actions)
    this.#wantRelays(now, actions)
    return actions
  }

  nextTimeout(): number | undefined {
    const times = [...this.#entries.values()].map(({ checking, againMs }) => checking?.untilMs ?? againMs)
    if (this.#relays === 0 && this.#firstCheckerMs !== null && !this.isOpen) times.push(this.#firstCheckerMs + this.#limits.graceMs)
    return times.length === 0 ? undefined : Math.min(...times)
  }

  get isOpen(): boolean {
    return [...this.#entries.values()].some(({ verdict }) => verdict === 'open')
  }

  /** Whether there are peers outside, to whom being reached means anything. */
  get hasCheckers(): boolean {
    return this.#checkers.size > 0
  }

  get addresses(): AddressState[] {
    return [...this.#entries].map(([address, { verdict, reached, failed }]) => ({
      ...{ address, verdict, reachedBy: reached.size, failedBy: failed.size },
    }))
  }

  checkInvariants(): void {
    const { addressesMax, checkersMax } = this.#limits
    assert(this.#entries.size <= addressesMax && this.#checkers.size <= checkersMax, 'too many entries')
    for (const { asked } of this.#entries.values()) assert(asked.size <= checkersMax, 'too many were asked')
  }

  #set(addresses: { address: string; isOwn: boolean }[], now: number, actions: ReachAction[]): void {
    const kept = new Map(addresses.slice(0, this.#limits.addressesMax).map(({ address, isOwn }) => [address, isOwn]))
    for (const [address, { verdict }] of this.#entries) {
      if (kept.has(address)) continue
      this.#entries.delete(address)
      if (verdict === 'open') actions.push({ type: 'closed', address })
    }
    for (const [address, isOwn] of kept) {
      if (this.#entries.has(address)) continue
      const sets = { reached: new Set<string>(), failed: new Set<string>(), asked: new Set<string>() }
      this.#entries.set(address, { isOwn, verdict: 'unknown', isAsking: false, ...sets, checking: null, againMs: now })
    }
  }

  #add(peer: string, group: string, now: number): void {
    if (this.#checkers.size >= this.#limits.checkersMax && !this.#checkers.has(peer)) return
    this.#checkers.set(peer, group)
    this.#firstCheckerMs ??= now
  }

  #doubt(address: string, now: number): void {
    const entry = this.#entries.get(address)
    if (entry === undefined) return
    entry.checking = null
    entry.isAsking = false
    entry.againMs = now
  }

  #take(event: Extract<ReachEvent, { type: 'answered' }>, now: number, actions: ReachAction[]): void {
    const entry = this.#entries.get(event.address)
    // An answer that comes after its time, or that nobody waits for, says nothing.
    if (entry === undefined || entry.checking?.peer !== event.peer) return
    const { group } = entry.checking
    entry.checking = null
    if (event.outcome === 'reached') entry.reached.add(group)
    if (event.outcome === 'failed' && !entry.reached.has(group)) entry.failed.add(group)
    this.#judge(event.address, entry, now, actions)
  }

  /** To be reached proves more than not to be: a failure may be the fault of whoever tried. */
  #judge(address: string, entry: Entry, now: number, actions: ReachAction[]): void {
    const { confirmationsMin, denialsMin, answersMax, openAgainMs, closedAgainMs } = this.#limits
    const { reached, failed, isOwn, verdict } = entry
    if (reached.size >= (isOwn ? 1 : confirmationsMin)) {
      if (verdict !== 'open') actions.push({ type: 'open', address, isOwn })
      this.#end(entry, 'open', now + openAgainMs)
    } else if (failed.size >= denialsMin && (reached.size === 0 || reached.size + failed.size >= answersMax)) {
      if (verdict === 'open') actions.push({ type: 'closed', address })
      this.#end(entry, 'closed', now + closedAgainMs)
    }
  }

  #end(entry: Entry, verdict: 'open' | 'closed', againMs: number): void {
    entry.verdict = verdict
    entry.isAsking = false
    // Not all of a network that came up together at the same moment.
    entry.againMs = againMs + this.#random() * this.#limits.graceMs
  }

  /** A round that is due begins, or goes on with somebody of another neighbourhood. */
  #goOn(address: string, entry: Entry, now: number, actions: ReachAction[]): void {
    if (entry.checking !== null && now >= entry.checking.untilMs) entry.checking = null
    if (entry.checking === null && now >= entry.againMs) {
      // Nobody has confirmed it in a whole round: nobody knows.
      if (entry.isAsking && entry.verdict === 'open') {
        entry.verdict = 'unknown'
        actions.push({ type: 'closed', address })
      }
      entry.reached.clear()
      entry.failed.clear()
      entry.asked.clear()
      entry.isAsking = true
      // One that finds nobody to ask, or no verdict, begins again like any other.
      entry.againMs = now + this.#limits.closedAgainMs
    }
    const next = entry.isAsking && entry.checking === null ? this.#nextChecker(entry) : null
    if (next === null) return
    entry.asked.add(next.peer)
    entry.checking = { ...next, untilMs: now + this.#limits.checkMs }
    actions.push({ type: 'check', peer: next.peer, address })
  }

  #nextChecker({ asked, reached, failed }: Entry): { peer: string; group: string } | null {
    if (asked.size >= this.#limits.checkersMax) return null
    const free = [...this.#checkers].filter(([peer, group]) => !asked.has(peer) && !reached.has(group) && !failed.has(group))
    // Whoever came first, and stays, does not have the word every time.
    const chosen = free[Math.floor(this.#random() * free.length)]
    return chosen === undefined ? null : { peer: chosen[0], group: chosen[1] }
  }

  #wantRelays(now: number, actions: ReachAction[]): void {
    const { graceMs, relaysWanted } = this.#limits
    const isLate = this.#firstCheckerMs !== null && now >= this.#firstCheckerMs + graceMs
    const isClosed = this.#entries.size > 0 && [...this.#entries.values()].every(({ verdict }) => verdict === 'closed')
    const count = this.isOpen ? 0 : isLate || isClosed ? relaysWanted : this.#relays
    if (count === this.#relays) return
    this.#relays = count
    actions.push({ type: 'wantRelays', count })
  }
}
