/** In which order the addresses of one peer are dialled, one after another: the nearest and surest first, relays only when nothing else works. */
import type { Address } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { classifyHost, endpointOf, isInSubnets } from './addresses.ts'
import { ownSubnets } from './local-network.ts'

/** For sorting: our own subnets, public hosts, relays, other people's subnets, loopback, names. */
export function nearestFirst(a: Pick<Address, 'multiaddr'>, b: Pick<Address, 'multiaddr'>): -1 | 0 | 1 {
  const subnets = ownSubnets()
  const difference = rankOf(a, subnets) - rankOf(b, subnets)
  return difference < 0 ? -1 : difference > 0 ? 1 : 0
}

/** Whether an address is dialled before any relay: it is likely to be a direct way. */
export const isNear = (multiaddr: Multiaddr): boolean => rankOf({ multiaddr }, ownSubnets()) < RELAYED

const RELAYED = 2

function rankOf({ multiaddr }: Pick<Address, 'multiaddr'>, subnets: readonly string[]): number {
  const endpoint = endpointOf(multiaddr)
  if (endpoint === null || endpoint.kind === 'dns') return 5
  if (endpoint.isRelayed) return RELAYED
  const kind = classifyHost(endpoint)
  if (kind === 'loopback') return 4
  if (kind === 'public') return 1
  // A private address elsewhere is most often nobody's: silence, and time lost.
  return isInSubnets(endpoint, subnets) ? 0 : 3
}
