/**
 * Which DHTs, protocols, entrances and addresses a node uses, as a value: decided here, without starting anything.
 *
 * The default network is the public IPFS DHT as a client, Shoal's own DHT, and one for the local network. A named network is one DHT and
 * one swarm protocol of its own, with no entrance but those given, so that nothing ever leaves for an address outside it.
 */
import type { Multiaddr } from '@multiformats/multiaddr'
import { isPublicAddress } from './addresses.ts'
import { PUBLIC_BOOTSTRAP } from './bootstrap.ts'
import { NetworkError } from './network-error.ts'

export interface DhtPlan {
  name: 'ipfs' | 'shoal' | 'lan' | 'net'
  protocol: string
  /** Null: a client until a public address is known, then a server. */
  clientMode: boolean | null
  /** Which addresses of ours and of others this DHT may learn. */
  addresses: 'public' | 'private' | 'all'
  isEd25519Only: boolean
}

export interface NetworkPlan {
  dhts: DhtPlan[]
  swarmProtocol: string
  mdnsTag: string
  bootstrap: string[]
  /** False: private hosts are dialled only inside this machine's own subnets. */
  anyAddress: boolean
  isEd25519Only: boolean
}

const NAME = /^[a-z0-9-]{1,32}$/

/** A rendezvous that others run: nobody there knows Shoal, and its servers have keys of any type. */
const IPFS_DHT: DhtPlan = { name: 'ipfs', protocol: '/ipfs/kad/1.0.0', clientMode: true, addresses: 'public', isEd25519Only: false }

/**
 * The plan for a network: null is the default one. `ipfsDht`: one of its own that meets on the IPFS DHT of its bootstrap peers, too. Throws
 * NetworkError BAD_ADDRESS for a name that is not a-z, 0-9 and dashes.
 */
export function networkPlan(network: string | null, bootstrap: readonly string[], ipfsDht = false): NetworkPlan {
  if (network === null) {
    return {
      dhts: [
        IPFS_DHT,
        { name: 'shoal', protocol: '/shoal/kad/1.0.0', clientMode: null, addresses: 'public', isEd25519Only: true },
        { name: 'lan', protocol: '/shoal/lan/kad/1.0.0', clientMode: false, addresses: 'private', isEd25519Only: true },
      ],
      swarmProtocol: '/shoal/swarm/1',
      mdnsTag: '_shoal._udp.local',
      bootstrap: [...PUBLIC_BOOTSTRAP, ...bootstrap],
      anyAddress: false,
      isEd25519Only: false,
    }
  }
  if (!NAME.test(network)) throw new NetworkError('BAD_ADDRESS', `network name ${JSON.stringify(network)} is not 1 to 32 of a-z, 0-9 and -`)
  const protocol = `/shoal/net/${network}/kad/1.0.0`
  const own: DhtPlan = { name: 'net', protocol, clientMode: false, addresses: 'all', isEd25519Only: true }
  return {
    dhts: ipfsDht ? [IPFS_DHT, own] : [own],
    swarmProtocol: `/shoal/net/${network}/swarm/1`,
    mdnsTag: `_shoal-${network}._udp.local`,
    bootstrap: [...bootstrap],
    anyAddress: true,
    isEd25519Only: !ipfsDht,
  }
}

/** The rule of a DHT for one address. */
export function acceptsAddress(plan: DhtPlan, address: Multiaddr): boolean {
  if (plan.addresses === 'all') return true
  return isPublicAddress(address) === (plan.addresses === 'public')
}
