/**
 * The DHTs of a network as one: provide and find ask all of them at once, each behind its guards and with a budget of dials.
 *
 * Re-announcing is not decided here (that is the announce machine's); the library's own re-announcer is set so that it never acts.
 */
import type { Connection, PeerId, PeerInfo } from '@libp2p/interface'
import { type KadDHT, type KadDHTComponents, kadDHT } from '@libp2p/kad-dht'
import { CODE_P2P } from '@multiformats/multiaddr'
import type { Datastore } from 'interface-datastore'
import { Key } from 'interface-datastore'
import { CID } from 'multiformats/cid'
import { create as createDigest } from 'multiformats/hashes/digest'
import type { Hit } from '../../protocol/limit-table.ts'
import { DHT, NETWORK, WAITS } from '../../protocol/limits.ts'
import type { Log } from '../log.ts'
import { type DhtPeer, limitDhtDecoding, usableAddresses } from './dht-decode.ts'
import { guardDht, guardedComponents, hasPeers, keyText, tableSize } from './dht-guard.ts'
import { insidesOf } from './dht-insides.ts'
import { kadIdOf, type Provided, provideKeys } from './dht-provide.ts'
import { type ProviderRecord, ProviderTable } from './dht-providers.ts'
import { addressTexts, mergeAll, peerIdText } from './dht-results.ts'
import { diversifyTable, fillTable, spreadStarts } from './dht-table.ts'
import type { DialBudget, QueryDials } from './dial-budget.ts'
import { acceptsAddress, type DhtPlan, type NetworkPlan } from './plan.ts'

export interface FoundPeer {
  peerId: string
  /** Multiaddr texts. */
  addresses: string[]
}

export type { Provided } from './dht-provide.ts'

/** Where the key of a share lies in the order of DHT keys, from 0 to 1: shares that lie beside each other have the same nearest peers. */
export const placeOf = (rendezvous: Uint8Array): number => placeIn(kadIdOf(multihashOf(rendezvous)))

/** A number for each peer id, in [0, 1). */
export const phaseOf = (peerId: Uint8Array): number => placeIn(kadIdOf(peerId))

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

interface Member {
  plan: DhtPlan
  dht: KadDHT
  table: ProviderTable
  /** What records of ours on this DHT say. */
  self: () => DhtPeer
}

/** All DHTs of one node. Built before the node; each enters it as a service by `factory`. */
export class DhtSet {
  readonly #init: DhtSetInit
  readonly #own = new Set<string>()
  readonly #members: Member[] = []
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

  /** A service factory for the node. */
  factory(plan: DhtPlan): (components: KadDHTComponents) => KadDHT {
    return (components) => {
      const { budget, groupPrivate, log, hit } = this.#init
      const mapPeer = (peer: PeerInfo): PeerInfo => mapAddresses(plan, budget, peer)
      const forget = (peer: PeerId): void =>
        void insidesOf(dht)
          .routingTable.remove(peer)
          .catch(() => {}) // gone already, or the node is stopping
      const guarded = guardedComponents(components, budget, (address) => acceptsAddress(plan, address), forget)
      const dht: KadDHT = kadDHT({
        protocol: plan.protocol,
        logPrefix: `shoal:dht:${plan.name}`,
        datastorePrefix: prefixOf(plan),
        metricsPrefix: `shoal_dht_${plan.name}`,
        ...(plan.clientMode === null ? {} : { clientMode: plan.clientMode }),
        peerInfoMapper: mapPeer,
        allowQueryWithZeroPeers: true,
        alpha: DHT.lookUpParallel,
        disjointPaths: DHT.lookUpPaths,
        kBucketSize: DHT.recordsNear,
        maxInboundStreams: NETWORK.inboundStreamsPerProtocolMax,
        reprovide: { threshold: 0, interval: 3_600_000, validity: NEVER_MS },
      })(guarded) as KadDHT
      const now = (): number => performance.now()
      const table = new ProviderTable({ now, random: Math.random, ...(hit && { hit }) })
      const ownAddresses = (): Uint8Array[] =>
        guarded.addressManager.getAddresses().map((address) => address.decapsulateCode(CODE_P2P).bytes)
      const self = components.peerId.toMultihash().bytes
      guardDht(dht, {
        codec: this.#codec,
        table,
        own: this.#own,
        self,
        ownAddresses,
        mapPeer,
        isEd25519Only: plan.isEd25519Only,
        groupPrivate,
        log,
      })
      const connectionsOf = (peer: PeerId): Connection[] => components.connectionManager.getConnections(peer)
      diversifyTable(insidesOf(dht), { connectionsOf, groupPrivate, now, ...(hit && { hit }) })
      spreadStarts(insidesOf(dht))
      fillTable(insidesOf(dht), async (signal) => {
        for await (const _ of dht.getClosestPeers(self, queryOptions(signal, { left: NETWORK.dialsPerFindMax })));
      })
      this.#members.push({ plan, dht, table, self: () => ({ id: self, multiaddrs: ownAddresses() }) })
      return dht
    }
  }

  /** Announces on every DHT that has peers; how many peers took the record, as below. Throws only the signal's reason. */
  async provide(rendezvous: Uint8Array, signal: AbortSignal): Promise<number> {
    return (await this.provideAll([rendezvous], signal)).told
  }

  /**
   * The same for several keys, the nearest neighbours of the first: those of the others whose records could go out with it, on every DHT
   * that took the first. Where there are others, the DHT of the local network does not count: being told there is not to be announced.
   */
  async provideAll(keys: readonly Uint8Array[], signal: AbortSignal): Promise<Provided> {
    signal.throwIfAborted()
    for (const key of keys) await this.#keepOwn(key)
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(WAITS.provideMs)])
    const results = await Promise.all(this.#members.map((member) => this.#provideOn(member, keys, deadline)))
    signal.throwIfAborted()
    const wide = results.filter((_, i) => this.#members[i]?.plan.name !== 'lan')
    const took = (wide.length > 0 ? wide : results).filter(({ told }) => told > 0)
    const covered = (took[0]?.covered ?? []).filter((index) => took.every((other) => other.covered.includes(index)))
    return { told: took.reduce((sum, { told }) => sum + told, 0), covered }
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

  async #provideOn({ plan, dht, self }: Member, keys: readonly Uint8Array[], signal: AbortSignal): Promise<Provided> {
    try {
      if (!(await hasPeers(dht, signal))) return { told: 0, covered: [] }
      const dials: QueryDials = { left: NETWORK.dialsPerProvideMax }
      return await provideKeys(dht, { keys: keys.map(multihashOf), self: self(), options: queryOptions(signal, dials) })
    } catch (cause) {
      // One DHT that fails or is too slow must not cost what the others took.
      this.#init.log.debug('provide failed', { dht: plan.name, cause })
      return { told: 0, covered: [] }
    }
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
const multihashOf = (rendezvous: Uint8Array): Uint8Array => cidOf(rendezvous).multihash.bytes
const placeIn = (kadId: Uint8Array): number => Buffer.from(kadId).readUIntBE(0, 6) / 2 ** 48
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
