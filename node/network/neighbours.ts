/**
 * Peers that mDNS finds on the local network: dialled once, so that they get to know each other and the DHT of the local network fills.
 *
 * Anybody on the network can answer mDNS, so dials are few, seldom repeated, and held to the rules of the dial budget like all others.
 */
import type { Libp2p, PeerInfo } from '@libp2p/interface'
import { NETWORK, WAITS } from '../../protocol/limits.ts'
import type { Log } from '../log.ts'
import { asError } from './network-error.ts'

export class Neighbours {
  readonly #node: Libp2p
  readonly #log: Log
  readonly #now: () => number
  readonly #stopped = new AbortController()
  readonly #triedAt = new Map<string, number>()
  #dialling = 0

  constructor(parts: { node: Libp2p; log: Log; now: () => number }) {
    this.#node = parts.node
    this.#log = parts.log
    this.#now = parts.now
    parts.node.addEventListener('peer:discovery', this.#met)
  }

  stop(): void {
    this.#node.removeEventListener('peer:discovery', this.#met)
    this.#stopped.abort(new Error('the network is stopping'))
  }

  readonly #met = ({ detail }: CustomEvent<PeerInfo>): void => {
    const peer = detail.id.toString()
    const tried = this.#triedAt.get(peer)
    if (tried !== undefined && this.#now() - tried < NETWORK.neighbourRetryMs) return
    if (this.#dialling >= NETWORK.neighbourDialsAtOnceMax || this.#node.getConnections(detail.id).length > 0) return
    if (this.#triedAt.size >= NETWORK.neighboursMax) this.#triedAt.clear()
    this.#triedAt.set(peer, this.#now())
    this.#dialling += 1
    void this.#dial(detail).finally(() => {
      this.#dialling -= 1
    })
  }

  async #dial({ id, multiaddrs }: PeerInfo): Promise<void> {
    const signal = AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(WAITS.dialMs)])
    const whole = multiaddrs.slice(0, NETWORK.providerAddressesMax).map((address) => {
      return address.toString().includes('/p2p/') ? address : address.encapsulate(`/p2p/${id.toString()}`)
    })
    try {
      await this.#node.dial(whole, { signal })
    } catch (cause) {
      this.#log.debug('a neighbour did not answer', { peer: id.toString(), cause: asError(cause) })
    }
  }
}
