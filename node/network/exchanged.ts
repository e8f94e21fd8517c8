/** Peers of an exchange between their bytes on the wire and text. What strangers send and does not parse is left out. */
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { WIRE } from '../../protocol/limits.ts'
import type { ExchangedPeer } from '../../protocol/wire/messages.ts'
import { addressTexts, peerIdText } from './dht-results.ts'
import type { FoundPeer } from './stack.ts'

/** For the wire; peers without an address are left out. The addresses are our own: they parse. */
export function exchangedOf(peers: readonly FoundPeer[]): ExchangedPeer[] {
  return peers.flatMap(({ peerId, addresses }) => {
    const bytes = addresses.map((address) => multiaddr(address).bytes).filter(({ byteLength }) => byteLength <= WIRE.addressBytesMax)
    if (bytes.length === 0) return []
    return [{ id: peerIdFromString(peerId).toMultihash().bytes, addresses: bytes.slice(0, WIRE.addressesPerPeerMax) }]
  })
}

/** As text, from the wire. */
export function exchangedFrom(peers: readonly ExchangedPeer[]): FoundPeer[] {
  return peers.flatMap(({ id, addresses }) => {
    const peerId = peerIdText(id)
    return peerId === null ? [] : [{ peerId, addresses: addressTexts(addresses) }]
  })
}
