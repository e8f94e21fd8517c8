/**
 * Which addresses of peers may be passed on to which others, and which ones we take from them. Pure functions over multiaddr texts.
 *
 * The aim: what one peer says of another must not lead a third against somebody who never took part, nor show one network to another.
 * Dials are held to their budget all the same (dial-budget.ts).
 */
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { WIRE } from '../../protocol/limits.ts'
import { type AddressClass, classifyHost, type Endpoint, endpointOf } from './addresses.ts'

/** A connection with a peer, as far as its addresses go. */
export interface Seen {
  /** Where we see it. */
  address: string
  isRelayed: boolean
  direction: 'inbound' | 'outbound'
}

/**
 * Where others may dial a peer: addresses that it listens on, by its own word (`listens`), on the IP that we see it at, and the one at
 * which we reached it ourselves.
 */
export function dialableAddresses(seen: readonly Seen[], listens: readonly string[]): string[] {
  const reached: string[] = []
  const hosts = new Set<string>()
  for (const { address, isRelayed, direction } of seen) {
    const plain = plainEndpoint(address)
    if (plain === null || isRelayed) continue
    hosts.add(plain.endpoint.host)
    if (direction === 'outbound') reached.push(plain.text)
  }
  const told = listens.flatMap((text) => {
    const plain = plainEndpoint(text)
    return plain !== null && hosts.has(plain.endpoint.host) ? [plain.text] : []
  })
  return [...new Set([...reached, ...told])].filter(isUsablePort).slice(0, WIRE.addressesPerPeerMax)
}

/**
 * Whether an address may go to, or be taken from, a peer that we see at `seenAt`: public ones always, private ones only within private
 * networks, loopback only on this machine and on a separate network.
 */
export function mayPass(text: string, seenAt: string, isSeparate: boolean): boolean {
  const plain = plainEndpoint(text)
  const other = endpointFrom(seenAt)
  if (plain === null || other === null || !isUsablePort(text)) return false
  const kind = classifyHost(plain.endpoint)
  const otherKind: AddressClass = other.isRelayed ? 'public' : classifyHost(other)
  if (kind === 'public') return true
  if (kind === 'private') return otherKind !== 'public'
  return isSeparate && otherKind === 'loopback'
}

const isUsablePort = (text: string): boolean => {
  const port = endpointFrom(text)?.port ?? 0
  return port >= 1024 || port === 80 || port === 443
}

/** An IP and a TCP port and nothing else, without the peer id that may follow. */
function plainEndpoint(text: string): { text: string; endpoint: Endpoint } | null {
  const address = parse(text)
  if (address === null) return null
  const [host, port, ...rest] = address.getComponents()
  if ((host?.name !== 'ip4' && host?.name !== 'ip6') || port?.name !== 'tcp' || rest.some(({ name }) => name !== 'p2p')) return null
  const endpoint = endpointOf(address)
  return endpoint === null ? null : { text: `/${host.name}/${host.value}/tcp/${port.value}`, endpoint }
}

function endpointFrom(text: string): Endpoint | null {
  const address = parse(text)
  return address === null ? null : endpointOf(address)
}

function parse(text: string): Multiaddr | null {
  try {
    return multiaddr(text)
  } catch {
    return null // a stranger's text
  }
}
