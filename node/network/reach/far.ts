/** Peers and addresses outside of home, and the neighbourhoods that count as one when they say something of us. */
import type { Connection } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { classifyHost, type Endpoint, endpointOf } from '../addresses.ts'

/** Which addresses are outside. Tests on one machine take loopback for it. */
export class Far {
  readonly #isLoopbackFar: boolean

  constructor(isLoopbackFar: boolean) {
    this.#isLoopbackFar = isLoopbackFar
  }

  /** Where a direct TCP address that strangers could dial leads to; null for any other. */
  endpoint(address: Multiaddr): Endpoint | null {
    const endpoint = endpointOf(address)
    const isPlain = /^\/ip[46]\/[^/]+\/tcp\/\d+(\/p2p\/[^/]+)?$/.test(address.toString())
    if (endpoint === null || !isPlain || endpoint.port === 0) return null
    const kind = classifyHost(endpoint)
    return kind === 'public' || (kind === 'loopback' && this.#isLoopbackFar) ? endpoint : null
  }

  /** The neighbourhood of a peer outside that we are connected with directly; null for any other. */
  groupOf(connection: Connection): string | null {
    if (connection.limits !== undefined && connection.limits !== null) return null
    const endpoint = this.endpoint(connection.remoteAddr)
    if (endpoint === null) return null
    // Half of an IPv4 address, and what a provider is given of IPv6: other people's networks are further away.
    return this.#isLoopbackFar ? `${endpoint.host}:${endpoint.port}` : endpoint.host.split(/[.:]/).slice(0, 2).join('.')
  }
}
