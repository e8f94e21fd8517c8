/** The addresses that a link may carry, so that whoever gets it need not look for a seeder first. */
import { multiaddr } from '@multiformats/multiaddr'
import { FORMAT } from '../../protocol/limits.ts'
import { isPeerAddress } from '../../protocol/peer-address.ts'
import { JobError, OWN_HINT } from '../control/api.ts'
import { classifyHost, endpointOf } from '../network/addresses.ts'

/** The node whose link it is. */
export interface HintedNode {
  peerId: string
  /** With the peer id at the end. */
  addresses(): string[]
}

/**
 * What `share --hint` asks for, as it stands in the link: each address once, with a peer id, OWN_HINT replaced by where this node is best
 * reached. Throws JobError BAD_ADDRESS for an address that nobody would dial, and when this node has none.
 */
export function linkHints(wanted: readonly string[], node: HintedNode): string[] {
  const given = wanted.filter((hint) => hint !== OWN_HINT).map((hint) => checked(hint, node.peerId))
  const own = wanted.includes(OWN_HINT) ? ownHints(node) : []
  const hints = [...new Set([...given, ...own])]
  if (given.length > FORMAT.linkPeersMax)
    throw new JobError('BAD_ADDRESS', `a link carries at most ${FORMAT.linkPeersMax} addresses, not ${given.length}`)
  return hints.slice(0, FORMAT.linkPeersMax)
}

function checked(hint: string, peerId: string): string {
  const named = /\/p2p\/[^/]+$/.test(hint) ? hint : `${hint}/p2p/${peerId}`
  if (!isPeerAddress(named))
    throw new JobError('BAD_ADDRESS', 'a hint is an address like /ip4/5.9.0.2/tcp/4801, with or without /p2p/ and a peer id')
  const rank = rankOf(named)
  if (rank === null) throw new JobError('BAD_ADDRESS', 'nobody dials a hint that is a name, or has a port below 1024 other than 80 and 443')
  return named
}

/** From afar first, then through a relay. Where nobody comes from afar, the local network; where only this machine is left, that. */
function ownHints({ addresses }: HintedNode): string[] {
  const ranked = addresses().flatMap((address) => {
    const rank = rankOf(address)
    return rank === null ? [] : [{ address, rank }]
  })
  const best = ranked.sort((a, b) => a.rank - b.rank)
  // Links travel: what is inside of the home is of no use to others who have another choice, and not for them to know.
  const worst = Math.max(RELAYED, best[0]?.rank ?? LOOPBACK)
  const useful = best.filter(({ rank }) => rank <= worst)
  if (useful.length === 0) throw new JobError('BAD_ADDRESS', 'this node has no address that could stand in a link')
  return useful.map(({ address }) => address)
}

/** Whether strangers anywhere can use this address. */
export const worksFromAfar = (address: string): boolean => (rankOf(address) ?? LOOPBACK) <= RELAYED

const RELAYED = 1
const LOOPBACK = 3

/** 0: public, RELAYED, 2: private, LOOPBACK; null: dialled by nobody who has it from a link. */
function rankOf(address: string): number | null {
  const endpoint = endpointOf(multiaddr(address))
  if (endpoint === null || endpoint.kind === 'dns' || (endpoint.port < 1024 && endpoint.port !== 80 && endpoint.port !== 443)) return null
  if (endpoint.isRelayed) return RELAYED
  return { public: 0, private: 2, loopback: LOOPBACK }[classifyHost(endpoint)]
}
