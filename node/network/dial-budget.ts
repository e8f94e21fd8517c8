/**
 * How often we may dial where, when strangers tell us the address: what a DHT reply, peer exchange or a link suggests must not turn this
 * node against a third party.
 *
 * Counted at the moment a TCP connection is opened, so each attempt counts once, whoever asked for it. Peers that passed hello and
 * addresses given by the user are exempt. A query carries a budget of its own (QueryDials) as well.
 */
import type { Multiaddr } from '@multiformats/multiaddr'
import type { Hit } from '../../protocol/limit-table.ts'
import { NETWORK } from '../../protocol/limits.ts'
import { classifyHost, type Endpoint, endpointOf, hostGroup, ipGroup, isInSubnets, peerIn } from './addresses.ts'

const MINUTE_MS = 60_000
const HOST_FULL = 'too many dials to this host'
const SUBNET_FULL = 'too many dials to this subnet'

/** What one look-up or announcement may still dial. Travels inside the options of a DHT query. */
export interface QueryDials {
  left: number
}

export interface DialRules {
  now: () => number
  /** Limit loopback and private hosts too (tests). */
  groupPrivate: boolean
  /** A named network may use any address; the default one only public hosts and those of the subnets below. */
  anyAddress: boolean
  /** This machine's own subnets, asked at each dial, as CIDR text. */
  ownSubnets: () => string[]
  hit?: Hit
}

/** Windows of one minute per host and neighbourhood, and the list of what is exempt. All maps are bounded. */
export class DialBudget {
  readonly #rules: DialRules
  readonly #hosts = new RateWindows(NETWORK.dialWindowsMax)
  readonly #groups = new RateWindows(NETWORK.dialWindowsMax)
  readonly #background = new RateWindows(1)
  readonly #trustedPeers = new BoundedSet(NETWORK.trustedPeersMax)
  readonly #givenAddresses = new BoundedSet(NETWORK.trustedPeersMax)

  constructor(rules: DialRules) {
    this.#rules = rules
  }

  /** A peer that passed hello, with the address at which it did: no budget applies to it at that host any more. A relay's host is not its. */
  trustPeer(peerId: string, address: Multiaddr): void {
    const endpoint = endpointOf(address)
    if (endpoint !== null && !endpoint.isRelayed) this.#trustedPeers.add(`${peerId} ${endpoint.host}`)
  }

  /** An address that the user gave by hand. */
  trustAddress(address: Multiaddr): void {
    this.#givenAddresses.add(withoutPeer(address))
  }

  /** Whether a dial would be allowed now; spends nothing, so it may be asked any number of times. */
  allows(address: Multiaddr): boolean {
    return this.refusal(address) === null
  }

  /** The opposite, for a dial that is about to be made: a window that is full is counted. */
  denies(address: Multiaddr): boolean {
    const refusal = this.refusal(address)
    if (refusal === HOST_FULL) this.#rules.hit?.('dialsPerHost')
    if (refusal === SUBNET_FULL) this.#rules.hit?.('dialsPerSubnet')
    return refusal !== null
  }

  /** Why a dial is not allowed now, or null. */
  refusal(address: Multiaddr): string | null {
    if (this.#isExempt(address)) return null
    const endpoint = endpointOf(address)
    if (endpoint === null) return 'address without a host'
    const rule = this.#standingRefusal(endpoint)
    if (rule !== null) return rule
    const now = this.#rules.now()
    const { groupPrivate } = this.#rules
    const host = hostGroup(endpoint, groupPrivate)
    if (host !== null && this.#hosts.count(host, now) >= NETWORK.dialsPerHostPerMinuteMax) return HOST_FULL
    const group = ipGroup(endpoint, groupPrivate)
    if (group !== null && this.#groups.count(group, now) >= NETWORK.dialsPerSubnetPerMinuteMax) return SUBNET_FULL
    return null
  }

  /** Counts one dial that is about to happen. */
  spend(address: Multiaddr): void {
    if (this.#isExempt(address)) return
    const endpoint = endpointOf(address)
    if (endpoint === null) return
    const now = this.#rules.now()
    const host = hostGroup(endpoint, this.#rules.groupPrivate)
    const group = ipGroup(endpoint, this.#rules.groupPrivate)
    if (host !== null) this.#hosts.add(host, now)
    if (group !== null) this.#groups.add(group, now)
  }

  /** Takes one dial from a query, or from the minute's allowance of everything that runs by itself (table refresh, self look-up). */
  takeForQuery(dials: QueryDials | undefined): boolean {
    if (dials !== undefined) {
      if (dials.left > 0) return dials.left-- > 0
      this.#rules.hit?.('dialsPerQuery')
      return false
    }
    const now = this.#rules.now()
    if (this.#background.count('', now) >= NETWORK.dialsBackgroundPerMinuteMax) {
      this.#rules.hit?.('dialsBackground')
      return false
    }
    this.#background.add('', now)
    return true
  }

  /** What holds at any time: no system ports, no hosts that lead into somebody's own network. Also a filter for what is remembered. */
  isUsable(address: Multiaddr): boolean {
    if (this.#isExempt(address)) return true
    const endpoint = endpointOf(address)
    return endpoint !== null && this.#standingRefusal(endpoint) === null
  }

  #standingRefusal(endpoint: Endpoint): string | null {
    if (endpoint.port < 1024 && endpoint.port !== 80 && endpoint.port !== 443) return 'system port'
    // A name can lead anywhere, also many names to one host, so it counts only when a person wrote it.
    if (endpoint.kind === 'dns') return 'name instead of a host'
    if (this.#rules.anyAddress || classifyHost(endpoint) === 'public') return null
    const isOwn = classifyHost(endpoint) === 'private' && isInSubnets(endpoint, this.#rules.ownSubnets())
    return isOwn ? null : 'host of another private network'
  }

  #isExempt(address: Multiaddr): boolean {
    const peerId = peerIn(address)
    if (peerId !== undefined && this.#trustedPeers.has(`${peerId} ${endpointOf(address)?.host}`)) return true
    return this.#givenAddresses.has(withoutPeer(address))
  }
}

const withoutPeer = (address: Multiaddr): string => {
  const text = address.toString()
  const at = text.lastIndexOf('/p2p/')
  return text.startsWith('/dnsaddr/') || at < 0 ? text : text.slice(0, at)
}

/** Times of the last minute per key; the key used longest ago goes first when there are too many. */
class RateWindows {
  readonly #keysMax: number
  readonly #times = new Map<string, number[]>()

  constructor(keysMax: number) {
    this.#keysMax = keysMax
  }

  count(key: string, now: number): number {
    const times = this.#times.get(key)
    if (times === undefined) return 0
    while (times.length > 0 && times[0]! <= now - MINUTE_MS) times.shift()
    return times.length
  }

  add(key: string, now: number): void {
    const times = this.#times.get(key) ?? []
    times.push(now)
    this.#times.delete(key)
    this.#times.set(key, times)
    if (this.#times.size > this.#keysMax) this.#times.delete(this.#times.keys().next().value!)
  }
}

/** A set that forgets what was added longest ago. */
class BoundedSet {
  readonly #sizeMax: number
  readonly #values = new Set<string>()

  constructor(sizeMax: number) {
    this.#sizeMax = sizeMax
  }

  add(value: string): void {
    this.#values.delete(value)
    this.#values.add(value)
    if (this.#values.size > this.#sizeMax) this.#values.delete(this.#values.values().next().value!)
  }

  has(value: string): boolean {
    return this.#values.has(value)
  }
}
