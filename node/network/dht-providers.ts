/**
 * Provider records that other peers stored with us, in memory, each with its addresses: who has what, for 48 hours.
 *
 * Bounded per key, per key and neighbourhood, per peer, per peer and minute, and in total. Where a bound is reached a random record gives
 * way, so nobody can hold a key's places by coming first. Answers never depend on anything else that could be missing.
 */
import { RemoteError } from '../../protocol/errors.ts'
import type { Hit, LimitName } from '../../protocol/limit-table.ts'
import { NETWORK } from '../../protocol/limits.ts'

export interface ProviderRecord {
  /** Multihash bytes of the provider's id. */
  peer: Uint8Array
  addresses: Uint8Array[]
}

interface Stored extends ProviderRecord {
  key: string
  peerId: string
  group: string | null
  expiresMs: number
  index: number
}

export interface ProviderTableInit {
  /** Milliseconds; only differences matter. */
  now: () => number
  /** Uniform in [0, 1). */
  random: () => number
  hit?: Hit
}

export interface ProviderOffer extends ProviderRecord {
  peerId: string
  /** Neighbourhood of the address that the offer came from, null when groups do not apply to it. */
  group: string | null
}

const MINUTE_MS = 60_000

/** The records, by key (any text) and peer. */
export class ProviderTable {
  readonly #init: ProviderTableInit
  readonly #byKey = new Map<string, Map<string, Stored>>()
  readonly #all: Stored[] = []
  readonly #countByPeer = new Map<string, number>()
  readonly #rates = new Map<string, { startMs: number; count: number }>()

  constructor(init: ProviderTableInit) {
    this.#init = init
  }

  get size(): number {
    return this.#all.length
  }

  /** Stores or refreshes. Throws RemoteError FLOOD when this peer offers too much. */
  add(key: string, offer: ProviderOffer): void {
    const now = this.#init.now()
    this.#countRate(offer.peerId, now)
    this.#sweep(now)
    const known = this.#byKey.get(key)?.get(offer.peerId)
    if (known !== undefined) this.#remove(known)
    if ((this.#countByPeer.get(offer.peerId) ?? 0) >= NETWORK.providersPerPeerMax) {
      this.#init.hit?.('providersPerPeer')
      throw new RemoteError('FLOOD', `more than ${NETWORK.providersPerPeerMax} provider records from one peer`)
    }
    this.#makeRoom(key, offer.group)
    this.#insert({ ...offer, key, expiresMs: now + NETWORK.providerValidityMs, index: this.#all.length })
  }

  /** Records of a key that have not expired, in random order. */
  get(key: string): ProviderRecord[] {
    const now = this.#init.now()
    const records = [...(this.#byKey.get(key)?.values() ?? [])]
    for (const record of records) if (record.expiresMs <= now) this.#remove(record)
    const living = records.filter(({ expiresMs }) => expiresMs > now)
    for (let i = living.length - 1; i > 0; i--) {
      const j = Math.floor(this.#init.random() * (i + 1))
      const swapped = living[i]!
      living[i] = living[j]!
      living[j] = swapped
    }
    return living.map(({ peer, addresses }) => ({ peer, addresses }))
  }

  #countRate(peerId: string, now: number): void {
    const rate = this.#rates.get(peerId)
    if (rate === undefined || rate.startMs <= now - MINUTE_MS) {
      this.#rates.delete(peerId)
      this.#rates.set(peerId, { startMs: now, count: 1 })
      if (this.#rates.size > NETWORK.trustedPeersMax) this.#rates.delete(this.#rates.keys().next().value!)
      return
    }
    rate.count++
    if (rate.count > NETWORK.providersPerPeerPerMinuteMax) {
      this.#init.hit?.('providersPerMinute')
      throw new RemoteError('FLOOD', `${rate.count} provider records in a minute, limit ${NETWORK.providersPerPeerPerMinuteMax}`)
    }
  }

  #makeRoom(key: string, group: string | null): void {
    const records = [...(this.#byKey.get(key)?.values() ?? [])]
    const neighbours = group === null ? [] : records.filter((record) => record.group === group)
    if (neighbours.length >= NETWORK.providersPerKeyPerGroupMax) this.#giveWay(neighbours, 'providersPerGroup')
    else if (records.length >= NETWORK.providersPerKeyMax) this.#giveWay(records, 'providersPerKey')
    if (this.#all.length >= NETWORK.providersTotalMax) this.#giveWay(this.#all, 'providersTotal')
  }

  #giveWay(records: Stored[], limit: LimitName): void {
    this.#init.hit?.(limit)
    this.#remove(this.#pick(records))
  }

  /** Two random records a step: expired ones go within a few rounds of additions, with no pass over the whole table. */
  #sweep(now: number): void {
    for (let i = 0; i < 2 && this.#all.length > 0; i++) {
      const record = this.#pick(this.#all)
      if (record.expiresMs <= now) this.#remove(record)
    }
  }

  #pick(records: Stored[]): Stored {
    return records[Math.floor(this.#init.random() * records.length)]!
  }

  #insert(record: Stored): void {
    const records = this.#byKey.get(record.key) ?? new Map<string, Stored>()
    records.set(record.peerId, record)
    this.#byKey.set(record.key, records)
    record.index = this.#all.length
    this.#all.push(record)
    this.#countByPeer.set(record.peerId, (this.#countByPeer.get(record.peerId) ?? 0) + 1)
  }

  #remove(record: Stored): void {
    const last = this.#all.pop()!
    if (last !== record) {
      this.#all[record.index] = last
      last.index = record.index
    }
    const records = this.#byKey.get(record.key)
    records?.delete(record.peerId)
    if (records?.size === 0) this.#byKey.delete(record.key)
    const count = (this.#countByPeer.get(record.peerId) ?? 1) - 1
    if (count === 0) this.#countByPeer.delete(record.peerId)
    else this.#countByPeer.set(record.peerId, count)
  }
}
