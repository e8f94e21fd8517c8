/** Which contact of a share goes first when there is no room, and how many were told of by whom: of one moment, kept up while more come. */
import { type Contact, isHearsay, RANK } from './contact.ts'

/** Fails count up to here. */
const FAILS_MAX = 8

const STEPS = 16
const BARRED_STEPS = STEPS / 2

/** In sixteenths of a rank: the higher, the sooner it goes. */
function badnessOf({ source, isUseful, isBarred, fails }: Contact): number {
  return STEPS * (isUseful ? RANK.known : RANK[source]) + (isBarred ? BARRED_STEPS : Math.min(fails, FAILS_MAX))
}

/** Holds until one of the contacts that it was made of changes. */
export class Standing {
  /** Who may go, by badness; in each the one that is known for longest first. */
  readonly #byBadness = new Map<number, [peer: string, contact: Contact][]>()
  readonly #told = new Map<string | null, number>()
  /** Nobody is worse. */
  #worst = 0

  /** `contacts`: in the order in which they became known. */
  constructor(contacts: Iterable<[peer: string, contact: Contact]>) {
    for (const [peer, contact] of contacts) this.admit(peer, contact)
  }

  /** One more, known for less long than all others. */
  admit(peer: string, contact: Contact): void {
    if (isHearsay(contact)) this.#told.set(contact.teller, this.heardFrom(contact.teller) + 1)
    if (contact.neighbour !== null || contact.diallingMs !== null) return
    const badness = badnessOf(contact)
    const alike = this.#byBadness.get(badness)
    if (alike === undefined) this.#byBadness.set(badness, [[peer, contact]])
    else alike.push([peer, contact])
    this.#worst = Math.max(this.#worst, badness)
  }

  /** Takes out the worst one that is worse than all untried ones of `rank`; null when there is none. */
  evict(rank: number): string | null {
    for (; this.#worst >= 0 && this.#worst > rank * STEPS; this.#worst--) {
      const first = this.#byBadness.get(this.#worst)?.shift()
      if (first === undefined) continue // and look at those less bad
      const [peer, contact] = first
      if (isHearsay(contact)) this.#told.set(contact.teller, this.heardFrom(contact.teller) - 1)
      return peer
    }
    return null
  }

  /** How many are known by the word of `teller` only. */
  heardFrom(teller: string | null): number {
    return this.#told.get(teller) ?? 0
  }

  /** For invariants. */
  equals(other: Standing): boolean {
    return this.#text() === other.#text()
  }

  #text(): string {
    const told = [...this.#told].filter(([, count]) => count > 0).map(([teller, count]) => `${teller} ${count}`)
    const alike = [...this.#byBadness]
      .filter(([, { length }]) => length > 0)
      .map(([badness, all]) => `${badness}: ${all.map(([peer]) => peer)}`)
    return [...told.sort(), ...alike.sort()].join()
  }
}
