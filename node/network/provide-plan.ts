/**
 * Which peers are told of a key: a plan over what one look-up meets, without doing anything.
 *
 * The twenty nearest that answered, as everywhere in Kademlia; and a few at each of the larger distances, told at once as they answer: a
 * look-up passes some of them on its way, so a key is found before the announcement is complete, and also where a crowd of strangers has
 * taken all the places around it. Other keys of the same region have their nearest peers among the same: one look-up serves them too.
 */
import { DHT } from '../../protocol/limits.ts'

/** Where a peer or key lies in the DHT: 32 bytes. */
export type KadId = Uint8Array

/** Leading bits that two places have in common: 0 for the far half of the DHT, 256 for the same place. */
export function commonBits(a: KadId, b: KadId): number {
  for (let i = 0; i < a.length; i++) {
    const difference = (a[i] ?? 0) ^ (b[i] ?? 0)
    if (difference !== 0) return 8 * i + Math.clz32(difference) - 24
  }
  return 8 * a.length
}

/** Negative when `a` is nearer to `key` than `b`. */
export function compareDistance(key: KadId, a: KadId, b: KadId): number {
  for (let i = 0; i < key.length; i++) {
    const difference = ((a[i] ?? 0) ^ (key[i] ?? 0)) - ((b[i] ?? 0) ^ (key[i] ?? 0))
    if (difference !== 0) return difference
  }
  return 0
}

interface Met<Peer> {
  peer: Peer
  at: KadId
}

/** The plan of one look-up. `Peer` is whatever the caller knows peers by. */
export class ProvidePlan<Peer> {
  readonly #key: KadId
  readonly #met: Met<Peer>[] = []
  readonly #far = new Set<Peer>()
  readonly #farCounts = new Map<number, number>()
  /** Leading bits that the nearest peers have in common with the key, once somebody has asked. */
  #regionBits: number | null = null

  constructor(key: KadId) {
    this.#key = key
  }

  /** A peer has answered. True: it is told now, as one of few at its distance. */
  meet(peer: Peer, at: KadId): boolean {
    if (this.#met.length >= DHT.lookUpPeersMax) return false
    this.#met.push({ peer, at })
    this.#regionBits = null
    const distance = commonBits(this.#key, at)
    const count = this.#farCounts.get(distance) ?? 0
    if (distance >= DHT.recordDistances || count >= DHT.recordsPerDistance) return false
    this.#farCounts.set(distance, count + 1)
    this.#far.add(peer)
    return true
  }

  /** At the end: whom to tell of the first key, beside those who were told at once. */
  rest(): Peer[] {
    return this.peersFor(this.#key).filter((peer) => !this.#far.has(peer))
  }

  /** Whether the nearest peers of this key are among those that were met: it lies in the region that the nearest to the first key span. */
  covers(key: KadId): boolean {
    if (this.#met.length < DHT.recordsNear) return true // there are no others
    this.#regionBits ??= Math.min(...this.#nearest(this.#key).map(({ at }) => commonBits(this.#key, at)))
    return commonBits(this.#key, key) >= this.#regionBits
  }

  /** All that are told of a key: its nearest, the nearest at each of the larger distances, and those who were told at once of the first. */
  peersFor(key: KadId): Peer[] {
    const nearest = this.#nearest(key).map(({ peer }) => peer)
    return [...new Set([...nearest, ...farStarts(key, this.#met), ...this.#far])]
  }

  #nearest(key: KadId): Met<Peer>[] {
    return [...this.#met].sort((a, b) => compareDistance(key, a.at, b.at)).slice(0, DHT.recordsNear)
  }
}

/** Of the peers in a table the nearest at each of the larger distances from a key: where a look-up begins beside the nearest of all. */
export function farStarts<Peer>(key: KadId, peers: Iterable<Met<Peer>>): Peer[] {
  const firsts = new Map<number, Met<Peer>>()
  for (const met of peers) {
    const distance = commonBits(key, met.at)
    const first = firsts.get(distance)
    if (distance < DHT.recordDistances && (first === undefined || compareDistance(key, met.at, first.at) < 0)) firsts.set(distance, met)
  }
  return [...firsts.values()].map(({ peer }) => peer)
}
