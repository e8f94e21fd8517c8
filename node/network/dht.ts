/**
 * The DHTs of a network as one: provide and find ask all of them at once, each behind its guards and with a budget of dials.
 *
 * Re-announcing is not decided here (that is the announce machine's); the library's own re-announcer is set so that it never acts.
 */
import type { PeerInfo } from '@libp2p/interface'
import { type KadDHT, type KadDHTComponents, kadDHT } from '@libp2p/kad-dht'
import { CODE_P2P } from '@multiformats/multiaddr'
import type { Datastore } from 'interface-datastore'
import { Key } from 'interface-datastore'
import { CID } from 'multiformats/cid'
import { create as createDigest } from 'multiformats/hashes/digest'
import type { Hit } from '../../protocol/limit-table.ts'
import { NETWORK, WAITS } from '../../protocol/limits.ts'
import type { Log } from '../log.ts'
import { limitDhtDecoding, usableAddresses } from './dht-decode.ts'
import { guardDht, guardedComponents, hasPeers, keyText, tableSize } from './dht-guard.ts'
import { type ProviderRecord, ProviderTable } from './dht-providers.ts'
import { addressTexts, mergeAll, peerIdText } from './dht-results.ts'
import type { DialBudget, QueryDials } from './dial-budget.ts'
import { acceptsAddress, type DhtPlan, type NetworkPlan } from './plan.ts'

export interface FoundPeer {
  peerId: string
  /** Multiaddr texts. */
  addresses: string[]
}

export interface DhtSetInit {
  plan: NetworkPlan
  datastore: Datastore
  budget: DialBudget
  groupPrivate: boolean
  log: Log
  hit?: Hit
}

const SHA256 = 0x12
const RAW = 0x55
/** Longer than any clock: records of our own never come near their end, so the library never re-announces them by itself. */
const NEVER_MS = 1e15

/** All DHTs of one node. Built before the node; each enters it as a service by `factory`. */
export class DhtSet {
  readonly #init: DhtSetInit
  readonly #own = new Set<string>()
  readonly #members: { plan: DhtPlan; dht: KadDHT; table: ProviderTable }[] = []
  readonly #codec: Awaited<ReturnType<typeof limitDhtDecoding>>

  private constructor(init: DhtSetInit, codec: Awaited<ReturnType<typeof limitDhtDecoding>>) {
    this.#init = init
    this.#codec = codec
  }

  /** Reads from the datastore what this node provides. */
  static async open(init: DhtSetInit): Promise<DhtSet> {
    const set = new DhtSet(init, await limitDhtDecoding())
    for (const plan of init.plan.dhts) {
      for await (const key of init.datastore.queryKeys({ prefix: `${prefixOf(plan)}/own` })) set.#own.add(key.name())
    }
    return set
  }

  /** Keys of this node's own records: one per share and DHT network, whichever DHT took it. */
  get ownCount(): number {
    return this.#own.size
  }

  /** A service factory for the node. */
  factory(plan: DhtPlan): (components: KadDHTComponents) => KadDHT {
    return (components) => {
      const { budget, groupPrivate, log, hit } = this.#init
      const mapPeer = (peer: PeerInfo): PeerInfo => mapAddresses(plan, budget, peer)
      const guarded = guardedComponents(components, budget, (address) => acceptsAddress(plan, address))
      const dht = kadDHT({
        protocol: plan.protocol,
        logPrefix: `shoal:dht:${plan.name}`,
        datastorePrefix: prefixOf(plan),
        metricsPrefix: `shoal_dht_${plan.name}`,
        ...(plan.clientMode === null ? {} : { clientMode: plan.clientMode }),
        peerInfoMapper: mapPeer,
        allowQueryWithZeroPeers: true,
        maxInboundStreams: NETWORK.inboundStreamsPerProtocolMax,
        reprovide: { threshold: 0, interval: 3_600_000, validity: NEVER_MS },
      })(guarded) as KadDHT
      const table = new ProviderTable({ now: () => performance.now(), random: Math.random, ...(hit && { hit }) })
      guardDht(dht, {
        codec: this.#codec,
        table,
        own: this.#own,
        self: components.peerId.toMultihash().bytes,
        ownAddresses: () => guarded.addressManager.getAddresses().map((address) => address.decapsulateCode(CODE_P2P).bytes),
        mapPeer,
        isEd25519Only: plan.isEd25519Only,
        groupPrivate,
        log,
      })
      this.#members.push({ plan, dht, table })
      return dht
    }
  }

  /** Announces on every DHT that has peers; how many peers took the record. Throws only the signal's reason. */
  async provide(rendezvous: Uint8Array, signal: AbortSignal): Promise<number> {
    signal.throwIfAborted()
    await this.#keepOwn(rendezvous)
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(WAITS.provideMs)])
    const counts = await Promise.all(this.#members.map(({ plan, dht }) => this.#provideOn(plan, dht, cidOf(rendezvous), deadline)))
    signal.throwIfAborted()
    return counts.reduce((sum, count) => sum + count, 0)
  }

  /** No DHT server of ours names us any more for this key; records at others end by their age. */
  async stopProviding(rendezvous: Uint8Array): Promise<void> {
    this.#own.delete(ownName(rendezvous))
    for (const { plan, dht } of this.#members) {
      await this.#init.datastore.delete(ownKey(plan, rendezvous))
      await dht.cancelReprovide(cidOf(rendezvous))
    }
  }

  /** Who has announced the key, by our own records and all DHTs, each peer once. Ends when all have answered, or by the signal. */
  async *find(rendezvous: Uint8Array, self: string, signal: AbortSignal): AsyncGenerator<FoundPeer> {
    const stop = new AbortController()
    const deadline = AbortSignal.any([signal, stop.signal, AbortSignal.timeout(WAITS.findMs)])
    const seen = new Set([self])
    try {
      const sources = this.#members.map(({ plan, dht, table }) => this.#findOn(plan, dht, table, rendezvous, deadline))
      for await (const peer of mergeAll(sources, NETWORK.findPeersMax)) {
        if (seen.has(peer.peerId)) continue
        seen.add(peer.peerId)
        yield peer
        if (seen.size > NETWORK.findPeersMax) return
      }
      signal.throwIfAborted()
    } finally {
      stop.abort()
    }
  }

  /** Whether this node answers queries on the DHT of a separate network: of no use to others where they cannot dial it. */
  async setServing(isServing: boolean): Promise<void> {
    for (const { plan, dht } of this.#members) {
      // The others see by its addresses what it is, or are what they are for ever.
      if (plan.name === 'net' && plan.clientMode === false)
        await (dht as KadDHT & { setMode(mode: 'client' | 'server'): Promise<void> }).setMode(isServing ? 'server' : 'client')
    }
  }

  status(): { name: string; peers: number; mode: 'client' | 'server' }[] {
    return this.#members.map(({ plan, dht }) => ({ name: plan.name, peers: tableSize(dht), mode: dht.getMode() }))
  }

  /** Records of others held, over all DHTs. */
  recordCount(): number {
    return this.#members.reduce((sum, { table }) => sum + table.size, 0)
  }

  async #keepOwn(rendezvous: Uint8Array): Promise<void> {
    if (this.#own.has(ownName(rendezvous))) return
    this.#own.add(ownName(rendezvous))
    for (const { plan } of this.#members) await this.#init.datastore.put(ownKey(plan, rendezvous), new Uint8Array(1))
  }

  async #provideOn(plan: DhtPlan, dht: KadDHT, cid: CID, signal: AbortSignal): Promise<number> {
    let count = 0
    try {
      if (!(await hasPeers(dht, signal))) return 0
      const dials: QueryDials = { left: NETWORK.dialsPerProvideMax }
      for await (const event of dht.provide(cid, queryOptions(signal, dials))) {
        if (event.name === 'PEER_RESPONSE' && event.messageName === 'ADD_PROVIDER') count++
      }
    } catch (cause) {
      // One DHT that fails or is too slow must not cost what the others took.
      this.#init.log.debug('provide ended early', { dht: plan.name, count, cause })
    }
    return count
  }

  async *#findOn(plan: DhtPlan, dht: KadDHT, table: ProviderTable, rendezvous: Uint8Array, signal: AbortSignal): AsyncGenerator<FoundPeer> {
    for (const record of table.get(keyText(cidOf(rendezvous).multihash.bytes))) yield* foundFrom(record)
    try {
      if (!(await hasPeers(dht, signal))) return
      const dials: QueryDials = { left: NETWORK.dialsPerFindMax }
      for await (const event of dht.findProviders(cidOf(rendezvous), queryOptions(signal, dials))) {
        if (event.name !== 'PROVIDER') continue
        for (const { id, multiaddrs } of event.providers) {
          const usable = multiaddrs.filter((address) => acceptsAddress(plan, address)).slice(0, NETWORK.providerAddressesMax)
          yield { peerId: id.toString(), addresses: usable.map((address) => address.toString()) }
        }
      }
    } catch (cause) {
      // One DHT that fails must not cost what the others find; an abort shows in the caller's signal.
      this.#init.log.debug('find ended early', { dht: plan.name, cause })
    }
  }
}

/** `dials` is our own field: queries hand their options through to openStream, where it is counted (dht-guard.ts). */
const queryOptions = (signal: AbortSignal, dials: QueryDials): { signal: AbortSignal } => ({ signal, ...{ dials } })

const prefixOf = (plan: DhtPlan): string => `/dht-${plan.name}`
const cidOf = (rendezvous: Uint8Array): CID => CID.createV1(RAW, createDigest(SHA256, rendezvous))
const ownName = (rendezvous: Uint8Array): string => Buffer.from(rendezvous).toString('hex')
const ownKey = (plan: DhtPlan, rendezvous: Uint8Array): Key => new Key(`${prefixOf(plan)}/own/${ownName(rendezvous)}`)

/** The peer with only what this DHT may tell and dial: usable addresses, few and short. */
function mapAddresses(plan: DhtPlan, budget: DialBudget, peer: PeerInfo): PeerInfo {
  const usable = peer.multiaddrs.filter((address) => acceptsAddress(plan, address) && budget.isUsable(address))
  const bytes = usable.map((address) => address.bytes)
  const kept = new Set(usableAddresses(bytes))
  return { ...peer, multiaddrs: usable.filter((_, i) => kept.has(bytes[i]!)) }
}

function* foundFrom(record: ProviderRecord): Generator<FoundPeer> {
  const peerId = peerIdText(record.peer)
  if (peerId !== null) yield { peerId, addresses: addressTexts(record.addresses) }
}
