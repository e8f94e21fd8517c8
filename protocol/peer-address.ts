/**
 * Whether a text is a multiaddr of a peer, by a strict pattern a component: enough to refuse a damaged link before any decoder sees it.
 *
 * It does not resolve, dial or judge addresses (private, loopback): the network layer does.
 */

const IP4_PART = '(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])'
const IP4 = new RegExp(`^${IP4_PART}(?:\\.${IP4_PART}){3}$`)
const IP6 = /^[0-9A-Fa-f:.]{2,45}$/
const DNS = /^[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63}){0,30}$/
const PORT = /^(?:0|[1-9][0-9]{0,4})$/
// Base58 multihash (Qm…, 12D3…) or a CIDv1 of the key in base32 or base36.
const PEER = /^(?:[1-9A-HJ-NP-Za-km-z]{40,64}|b[a-z2-7]{50,80}|k[0-9a-z]{50,80})$/
const CERTHASH = /^u[A-Za-z0-9_-]{20,100}$/

/** What may follow the name of each protocol; null: nothing. */
const VALUES: Record<string, RegExp | null> = {
  ip4: IP4,
  ip6: IP6,
  dns: DNS,
  dns4: DNS,
  dns6: DNS,
  dnsaddr: DNS,
  tcp: PORT,
  udp: PORT,
  sni: DNS,
  certhash: CERTHASH,
  p2p: PEER,
  'quic-v1': null,
  tls: null,
  ws: null,
  wss: null,
  webtransport: null,
  'webrtc-direct': null,
  webrtc: null,
  'p2p-circuit': null,
}

/** Whether `text` is a multiaddr whose last component is /p2p/PEER. */
export function isPeerAddress(text: string): boolean {
  const parts = text.split('/')
  if (parts[0] !== '' || parts.length < 3 || parts.length > 40) return false
  let last = ''
  for (let i = 1; i < parts.length; i++) {
    last = parts[i]!
    if (!Object.hasOwn(VALUES, last)) return false
    const pattern = VALUES[last]
    if (pattern === null || pattern === undefined) continue
    i++
    const value = parts[i]
    if (value === undefined || !pattern.test(value)) return false
    if (pattern === PORT && Number(value) > 65_535) return false
  }
  return last === 'p2p'
}
