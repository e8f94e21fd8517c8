/** What counts as the local network: this machine, and its neighbours at addresses that lead nowhere from afar. */
import { networkInterfaces } from 'node:os'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { classifyHost, endpointOf, isInSubnets } from './addresses.ts'

/** Subnets of this machine's own interfaces, loopback left out. */
export function ownSubnets(): string[] {
  return Object.values(networkInterfaces()).flatMap((entries) =>
    (entries ?? []).flatMap(({ cidr, internal }) => (internal || cidr === null ? [] : [cidr])),
  )
}

/** Whether a connection with this address stays on loopback, or on private or link-local addresses of one of our own subnets. */
export function isLocalNetwork(address: Multiaddr | string, subnets: () => readonly string[] = ownSubnets): boolean {
  const endpoint = endpointOf(typeof address === 'string' ? multiaddr(address) : address)
  if (endpoint === null || endpoint.isRelayed || endpoint.kind === 'dns') return false
  const kind = classifyHost(endpoint)
  return kind === 'loopback' || (kind === 'private' && isInSubnets(endpoint, subnets()))
}
