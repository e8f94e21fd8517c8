/**
 * What an address is: its host and port, whether it is public, and which addresses count as one neighbourhood.
 *
 * Pure functions over multiaddrs. The rules that use them are in dial-budget.ts, gater.ts and dht.ts.
 */
import { isIPv4, isIPv6 } from 'node:net'
import type { Multiaddr } from '@multiformats/multiaddr'

export interface Endpoint {
  kind: 'ip4' | 'ip6' | 'dns'
  host: string
  /** 0 when the address names no port. */
  port: number
  isRelayed: boolean
}

export type AddressClass = 'public' | 'private' | 'loopback'

const DNS_NAMES = new Set(['dns', 'dns4', 'dns6', 'dnsaddr'])

/** Where a multiaddr leads to first, or null when it does not begin with a host. */
export function endpointOf(address: Multiaddr): Endpoint | null {
  const components = address.getComponents()
  const first = components[0]?.name === 'ip6zone' ? components[1] : components[0]
  if (first?.value === undefined) return null
  const portText = components.find(({ name }) => name === 'tcp' || name === 'udp')?.value
  const isRelayed = components.some(({ name }) => name === 'p2p-circuit')
  const port = portText === undefined ? 0 : Number(portText)
  if (first.name === 'ip4' || first.name === 'ip6') return { ...unmapped(first.value), port, isRelayed }
  return DNS_NAMES.has(first.name) ? { kind: 'dns', host: first.value.toLowerCase(), port, isRelayed } : null
}

/** The peer that a multiaddr leads to: through a relay, the one behind it. */
export function peerIn(address: Multiaddr): string | undefined {
  const components = address.getComponents()
  const behind = components.slice(components.findLastIndex(({ name }) => name === 'p2p-circuit') + 1)
  return behind.findLast(({ name }) => name === 'p2p')?.value
}

/** Whether a connection goes through a relay. */
export const isRelayed = ({ limits, remoteAddr }: { limits?: object | null | undefined; remoteAddr: Multiaddr }): boolean =>
  (limits !== undefined && limits !== null) || endpointOf(remoteAddr)?.isRelayed === true

/** Public, private (also link-local, shared, multicast, reserved and translated ranges: nothing to dial from afar) or loopback. */
export function classifyHost(endpoint: Pick<Endpoint, 'kind' | 'host'>): AddressClass {
  if (endpoint.kind === 'dns') return endpoint.host === 'localhost' || endpoint.host.endsWith('.local') ? 'private' : 'public'
  return endpoint.kind === 'ip4' ? classifyIp4(octetsOf(endpoint.host)) : classifyIp6(wordsOf(endpoint.host))
}

/** True for an address that strangers on the internet can use: public, or through a relay. */
export function isPublicAddress(address: Multiaddr): boolean {
  const endpoint = endpointOf(address)
  return endpoint !== null && (endpoint.isRelayed || classifyHost(endpoint) === 'public')
}

/**
 * The neighbourhood of an address: /24 for IPv4, /56 for IPv6, the name for DNS. Null for loopback, private and relayed addresses,
 * which are not limited by group, unless `groupPrivate` (tests) asks for it.
 */
export function ipGroup(endpoint: Endpoint, groupPrivate: boolean): string | null {
  if (!isGrouped(endpoint, groupPrivate)) return null
  if (endpoint.kind === 'dns') return endpoint.host
  if (endpoint.kind === 'ip4') return `${octetsOf(endpoint.host).slice(0, 3).join('.')}.0/24`
  const [a, b, c, d] = wordsOf(endpoint.host) as [number, number, number, number]
  return `${[a, b, c, d & 0xff00].map((word) => word.toString(16)).join(':')}::/56`
}

/** One machine as far as addresses tell: the IPv4 address, the /64 of an IPv6 one, the DNS name. Null like `ipGroup`. */
export function hostGroup(endpoint: Endpoint, groupPrivate: boolean): string | null {
  if (!isGrouped(endpoint, groupPrivate)) return null
  if (endpoint.kind !== 'ip6') return endpoint.host
  return `${wordsOf(endpoint.host)
    .slice(0, 4)
    .map((word) => word.toString(16))
    .join(':')}::/64`
}

/** The neighbourhood as routing tables count it: /24 for IPv4, /48 for IPv6. Whoever is reached through a relay counts with the relay. */
export function tableGroup(endpoint: Endpoint, groupPrivate: boolean): string | null {
  const direct = { ...endpoint, isRelayed: false }
  if (endpoint.kind !== 'ip6' || !isGrouped(direct, groupPrivate)) return ipGroup(direct, groupPrivate)
  return `${wordsOf(endpoint.host)
    .slice(0, 3)
    .map((word) => word.toString(16))
    .join(':')}::/48`
}

/** True when an IPv4 or IPv6 host lies in one of `subnets` (CIDR text, e.g. of this machine's interfaces). */
export function isInSubnets(endpoint: Endpoint, subnets: readonly string[]): boolean {
  return subnets.some((subnet) => {
    const [base, bitsText] = subnet.split('/') as [string, string]
    const version = isIPv4(base) ? 'ip4' : isIPv6(base) ? 'ip6' : 'dns'
    if (version !== endpoint.kind || version === 'dns') return false
    return prefixOf(endpoint.host, version, Number(bitsText)) === prefixOf(base, version, Number(bitsText))
  })
}

const isGrouped = (endpoint: Endpoint, groupPrivate: boolean): boolean =>
  !endpoint.isRelayed && (groupPrivate || classifyHost(endpoint) === 'public')

const octetsOf = (host: string): number[] => host.split('.').map(Number)

/** The eight 16-bit words of an IPv6 address; a URL writes the embedded IPv4 and zone-free form that it parses. */
function wordsOf(host: string): number[] {
  const text = host.split('%')[0] ?? host
  const canonical = new URL(`http://[${text}]`).hostname.slice(1, -1)
  const [head = '', tail] = canonical.split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const gap = tail === undefined ? 0 : 8 - left.length - right.length
  return [...left, ...new Array<string>(gap).fill('0'), ...right].map((word) => Number.parseInt(word, 16))
}

/** ::ffff:1.2.3.4 is the IPv4 address in other clothes: it must not get around a rule for IPv4. */
function unmapped(host: string): { kind: 'ip4' | 'ip6'; host: string } {
  if (isIPv4(host)) return { kind: 'ip4', host }
  const words = wordsOf(host)
  const isMapped = words.slice(0, 5).every((word) => word === 0) && words[5] === 0xffff
  if (!isMapped) return { kind: 'ip6', host }
  const [high, low] = words.slice(6) as [number, number]
  return { kind: 'ip4', host: [high >> 8, high & 255, low >> 8, low & 255].join('.') }
}

function classifyIp4([a = 0, b = 0, c = 0]: number[]): AddressClass {
  if (a === 127) return 'loopback'
  const isPrivate =
    a === 0 ||
    a === 10 ||
    a >= 224 ||
    (a === 100 && b >= 64 && b < 128) ||
    (a === 169 && b === 254) ||
    (a === 172 && b >= 16 && b < 32) ||
    (a === 192 && b === 168) ||
    (a === 192 && b === 0 && (c === 0 || c === 2)) ||
    (a === 198 && (b === 18 || b === 19 || (b === 51 && c === 100))) ||
    (a === 203 && b === 0 && c === 113)
  return isPrivate ? 'private' : 'public'
}

function classifyIp6(words: number[]): AddressClass {
  const [a = 0, b = 0] = words
  if (words.slice(0, 7).every((word) => word === 0)) return words[7] === 1 ? 'loopback' : 'private'
  // Global unicast is 2000::/3; of it, documentation, Teredo and 6to4 lead elsewhere.
  const isGlobal = a >= 0x2000 && a < 0x4000 && a !== 0x2002 && !(a === 0x2001 && (b === 0x0db8 || b < 0x0200))
  return isGlobal ? 'public' : 'private'
}

function prefixOf(host: string, kind: 'ip4' | 'ip6', bits: number): string {
  const words = kind === 'ip4' ? octetsOf(host) : wordsOf(host)
  const width = kind === 'ip4' ? 8 : 16
  return words
    .map((word) => word.toString(2).padStart(width, '0'))
    .join('')
    .slice(0, bits)
}
