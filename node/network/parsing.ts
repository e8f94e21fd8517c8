/** Texts that name addresses and peers: the user's, where a mistake is told, and strangers', of which nothing is expected. */
import { peerIdFromString } from '@libp2p/peer-id'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { peerIn } from './addresses.ts'
import { NetworkError } from './network-error.ts'

export function parseAddress(text: string): Multiaddr {
  try {
    return multiaddr(text)
  } catch (cause) {
    throw new NetworkError('BAD_ADDRESS', `not an address: ${text}`, { cause })
  }
}

/** The address with the peer id at its end; nothing when it does not parse or names somebody else. */
export function parseQuietly(text: string, peerId?: string): Multiaddr[] {
  try {
    const address = multiaddr(text)
    const named = peerIn(address)
    if (peerId === undefined) return [address]
    if (named === undefined) return [address.encapsulate(`/p2p/${peerId}`)]
    return named === peerId ? [address] : []
  } catch {
    return [] // a stranger's text; the peer may have better ones
  }
}

export function parsePeerId(text: string): ReturnType<typeof peerIdFromString> {
  try {
    return peerIdFromString(text)
  } catch (cause) {
    throw new NetworkError('BAD_ADDRESS', 'not a peer id', { cause })
  }
}
