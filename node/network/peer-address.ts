/** Addresses of peers as text: what a user or a link gives, and which neighbourhood a session comes from. */
import { multiaddr } from '@multiformats/multiaddr'
import { endpointOf, ipGroup } from './addresses.ts'
import type { FoundPeer } from './stack.ts'

/** Splits a multiaddr that ends in /p2p/PEER-ID; null when it is none. */
export function parsePeerAddress(text: string): FoundPeer | null {
  const match = /^(\/.+)\/p2p\/([1-9A-HJ-NP-Za-km-z]{32,64})$/.exec(text)
  const [, address, peerId] = match ?? []
  if (address === undefined || peerId === undefined) return null
  try {
    multiaddr(address)
  } catch {
    return null // not a multiaddr: the caller says so with the text it was given
  }
  return { peerId, addresses: [address] }
}

/** The group that limits by neighbourhood count by; '' where there is none (loopback, private and relayed addresses). */
export function groupOf(address: string, groupPrivate: boolean): string {
  const endpoint = endpointOf(multiaddr(address))
  return endpoint === null ? '' : (ipGroup(endpoint, groupPrivate) ?? '')
}
