/**
 * The neighbours of one share: who of them gave something, and whom to tell of whom. Part of the contacts machine.
 *
 * Most events find nothing due. So it is kept in mind when that can be the case at the earliest, and nobody is looked at before.
 */

/** Numbers of CONTACTS that are needed here. */
export interface NeighboursLimits {
  gatherMs: number
  exchangeIntervalMs: number
  exchangePeersMax: number
  doubtMs: number
}

/** A peer and where it listens. */
export interface Contactable {
  peer: string
  addresses: string[]
}

export interface Neighbour {
  readonly peer: string
  readonly sinceMs: number
  /** It gave us a block in this session. */
  isUseful: boolean
  isDropped: boolean
  /** What others may dial. */
  addresses: string[]
  isGone: boolean
  /** Others that it has yet to be told of; some may have gone meanwhile. */
  readonly news: Neighbour[]
  /** No exchange before this. */
  exchangeFromMs: number
  /** When to tell what is new; null when nothing is. */
  exchangeMs: number | null
}

const NEVER = Number.POSITIVE_INFINITY
/** So many times as many as there are neighbours are listed before those that have gone are taken out. */
const NEWS_PER_NEIGHBOUR = 2
const UNKNOWN = Number.NEGATIVE_INFINITY

export class Neighbours {
  readonly #limits: NeighboursLimits
  readonly #random: () => number
  readonly #byPeer = new Map<string, Neighbour>()
  /** When the first exchange is due. */
  #exchangeMs = NEVER
  /** How many give hope, and until when that is so. */
  #hopeful = 0
  #hopefulUntilMs = UNKNOWN

  /** `random` returns a number in [0, 1). */
  constructor(limits: NeighboursLimits, random: () => number) {
    this.#limits = limits
    this.#random = random
  }

  get size(): number {
    return this.#byPeer.size
  }

  get(peer: string): Neighbour | undefined {
    return this.#byPeer.get(peer)
  }

  entries(): Iterable<[peer: string, neighbour: Neighbour]> {
    return this.#byPeer
  }

  add(peer: string, now: number): Neighbour {
    const fromMs = now + this.#limits.gatherMs
    const neighbour: Neighbour = {
      peer,
      sinceMs: now,
      isUseful: false,
      isDropped: false,
      addresses: [],
      isGone: false,
      news: this.#reachable(peer),
      exchangeFromMs: fromMs,
      exchangeMs: fromMs,
    }
    this.#byPeer.set(peer, neighbour)
    this.#exchangeMs = Math.min(this.#exchangeMs, fromMs)
    this.#hopefulUntilMs = UNKNOWN
    return neighbour
  }

  delete(peer: string): void {
    const neighbour = this.#byPeer.get(peer)
    if (neighbour === undefined) return
    neighbour.isGone = true
    neighbour.news.length = 0 // else those that list it would keep whom it lists
    this.#byPeer.delete(peer)
    this.#exchangeMs = UNKNOWN
    this.#hopefulUntilMs = UNKNOWN
  }

  praise(peer: string): void {
    const neighbour = this.#byPeer.get(peer)
    if (neighbour === undefined) return
    neighbour.isUseful = true
    this.#hopefulUntilMs = UNKNOWN
  }

  /** Where a neighbour can be dialled is known now: that is news for the others. */
  spread(news: Neighbour, now: number): void {
    for (const other of this.#byPeer.values()) {
      if (other === news) continue
      other.exchangeMs ??= Math.max(other.exchangeFromMs, now + this.#limits.gatherMs)
      if (other.news.length >= NEWS_PER_NEIGHBOUR * this.#byPeer.size) removeGone(other.news)
      other.news.push(news)
    }
    this.#exchangeMs = UNKNOWN
  }

  /** How many gave us something, or have not been here for long. */
  hopeful(now: number): number {
    if (now < this.#hopefulUntilMs) return this.#hopeful
    this.#hopeful = 0
    this.#hopefulUntilMs = NEVER
    for (const { isUseful, sinceMs } of this.#byPeer.values()) {
      const untilMs = isUseful ? NEVER : sinceMs + this.#limits.doubtMs
      if (now >= untilMs) continue
      this.#hopeful++
      this.#hopefulUntilMs = Math.min(this.#hopefulUntilMs, untilMs)
    }
    return this.#hopeful
  }

  /** When one of those that give hope does so no longer; infinite when that is never. */
  hopefulUntilMs(now: number): number {
    this.hopeful(now)
    return this.#hopefulUntilMs
  }

  /** When the next exchange is due; infinite when none is. */
  get exchangeMs(): number {
    if (this.#exchangeMs === UNKNOWN) {
      this.#exchangeMs = NEVER
      for (const { exchangeMs } of this.#byPeer.values()) if (exchangeMs !== null) this.#exchangeMs = Math.min(this.#exchangeMs, exchangeMs)
    }
    return this.#exchangeMs
  }

  /** Tells everybody who is due: `say` is called with what to tell to whom. */
  exchange(now: number, say: (peer: string, peers: Contactable[]) => void): void {
    if (now < this.exchangeMs) return
    for (const [peer, neighbour] of this.#byPeer) {
      if (neighbour.exchangeMs === null || neighbour.exchangeMs > now) continue
      neighbour.exchangeMs = null
      removeGone(neighbour.news)
      if (neighbour.news.length === 0) continue
      const said = this.#some(neighbour.news)
      neighbour.news.splice(0, said.length)
      say(peer, said)
      neighbour.exchangeFromMs = now + this.#limits.exchangeIntervalMs
      if (neighbour.news.length > 0) neighbour.exchangeMs = neighbour.exchangeFromMs
    }
    this.#exchangeMs = UNKNOWN
  }

  /** What to tell somebody who is none of them. */
  newsFor(peer: string): Contactable[] {
    return this.#some(this.#reachable(peer))
  }

  /** Those whose addresses are known, but for one. */
  #reachable(not: string): Neighbour[] {
    const found: Neighbour[] = []
    for (const other of this.#byPeer.values()) if (other.peer !== not && other.addresses.length > 0) found.push(other)
    return found
  }

  /** As many as may be told of at once, drawn at random: they are the first of `news` then. */
  #some(news: Neighbour[]): Contactable[] {
    const count = Math.min(news.length, this.#limits.exchangePeersMax)
    const said: Contactable[] = []
    for (let i = 0; i < count; i++) {
      const j = i + Math.floor(this.#random() * (news.length - i))
      const [a, b] = [news[i]!, news[j]!]
      news[i] = b
      news[j] = a
      said.push({ peer: b.peer, addresses: b.addresses })
    }
    return said
  }
}

function removeGone(news: Neighbour[]): void {
  let kept = 0
  for (const neighbour of news) if (!neighbour.isGone) news[kept++] = neighbour
  news.length = kept
}
