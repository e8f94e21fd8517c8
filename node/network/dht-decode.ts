/**
 * Limits on every DHT message that comes in, before anything acts on it: size, entries, addresses of an entry, and entries that do not
 * parse are left out, so that one of them cannot spoil the rest.
 *
 * The library decodes all its messages by one function object that it does not export, so it is found by its place and replaced there.
 */
import { peerIdFromMultihash } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { decode as decodeMultihash } from 'multiformats/hashes/digest'
import type { Uint8ArrayList } from 'uint8arraylist'
import { RemoteError } from '../../protocol/errors.ts'
import { NETWORK } from '../../protocol/limits.ts'

export interface DhtPeer {
  id: Uint8Array
  multiaddrs: Uint8Array[]
}

export interface DhtMessage {
  type: string
  clusterLevel?: number
  key?: Uint8Array
  closer: DhtPeer[]
  providers: DhtPeer[]
}

/** The codec of DHT messages, as far as it is used here. */
export interface DhtCodec {
  encode(message: Partial<DhtMessage>): Uint8Array
  decode(bytes: Uint8Array | Uint8ArrayList, options?: object): DhtMessage
}

const DECODE_LIMITS = {
  limits: {
    closer: NETWORK.dhtCloserMax,
    providers: NETWORK.dhtProvidersMax,
    closer$: { multiaddrs: NETWORK.dhtAddressesPerEntryMax },
    providers$: { multiaddrs: NETWORK.dhtAddressesPerEntryMax },
  },
}

/** Messages that were refused since the process began: the codec is one for all DHTs. */
export const dhtRefusals = { tooLong: 0, tooManyEntries: 0 }

const LIMITED = Symbol('shoal.decodeLimits')

/** The module of the library that holds the codec, as a URL: the instance that the library itself uses. */
export const dhtMessageUrl = (): string => new URL('./message/dht.js', import.meta.resolve('@libp2p/kad-dht')).href

function decodeLimited(decode: DhtCodec['decode'], bytes: Uint8Array | Uint8ArrayList): DhtMessage {
  try {
    return decode(bytes, DECODE_LIMITS)
  } catch (error) {
    if (error instanceof Error && error.name === 'MaxLengthError') dhtRefusals.tooManyEntries++
    throw error
  }
}

/** Replaces the codec's decode for this process, once; later calls change nothing. Gives the codec. Throws when it is not where it was. */
export async function limitDhtDecoding(): Promise<DhtCodec> {
  const module: unknown = await import(dhtMessageUrl())
  const codec = (module as { Message?: DhtCodec & { [LIMITED]?: true } }).Message // the library hides this type
  if (typeof codec?.decode !== 'function' || typeof codec.encode !== 'function') throw new Error('kad-dht has moved its message codec')
  if (codec[LIMITED]) return codec
  const decode = codec.decode
  codec.decode = (bytes) => {
    if (bytes.byteLength > NETWORK.dhtReplyBytesMax) {
      dhtRefusals.tooLong++
      throw new RemoteError('FRAME_TOO_LARGE', `DHT message of ${bytes.byteLength} bytes, limit ${NETWORK.dhtReplyBytesMax}`)
    }
    const message = decodeLimited(decode, bytes)
    message.closer = usablePeers(message.closer, NETWORK.dialsPerResponderMax)
    message.providers = usablePeers(message.providers, NETWORK.dhtProvidersMax)
    return message
  }
  codec[LIMITED] = true
  return codec
}

/** At most `count` peers whose id parses, each with the addresses that do. */
function usablePeers(peers: DhtPeer[], count: number): DhtPeer[] {
  return peers
    .slice(0, count)
    .filter(({ id }) => isPeerId(id))
    .map(({ id, multiaddrs }) => ({ id, multiaddrs: usableAddresses(multiaddrs) }))
}

/** At most eight addresses, within the limits of size, that parse. */
export function usableAddresses(addresses: readonly Uint8Array[]): Uint8Array[] {
  const usable: Uint8Array[] = []
  let sizeBytes = 0
  for (const address of addresses.slice(0, NETWORK.dhtAddressesPerPeerMax)) {
    if (usable.length === NETWORK.providerAddressesMax) break
    if (sizeBytes + address.byteLength > NETWORK.providerAddressBytesMax || !isAddress(address)) continue
    usable.push(address)
    sizeBytes += address.byteLength
  }
  return usable
}

function isPeerId(id: Uint8Array): boolean {
  try {
    return peerIdFromMultihash(decodeMultihash(id)) !== null
  } catch {
    return false // malformed input of a stranger: the entry is left out
  }
}

function isAddress(bytes: Uint8Array): boolean {
  try {
    return multiaddr(bytes).getComponents().length > 0
  } catch {
    return false // malformed input of a stranger: the address is left out
  }
}
