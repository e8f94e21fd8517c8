/** How many connections the node may have, and how often that was one too few: libp2p's own limits, changed and watched from outside. */
import type { Hit } from '../../protocol/limit-table.ts'
import { NETWORK } from '../../protocol/limits.ts'

/** What is used of libp2p's connection manager. */
interface Manager {
  getConnections(): { direction: 'inbound' | 'outbound' }[]
  setMaxConnections(count: number): void
  acceptIncomingConnection(connection: { remoteAddr: unknown }): Promise<boolean>
  incomingPendingConnections: number
}

export class ConnectionLimits {
  readonly #hit: Hit
  #manager: Manager | null = null
  #max: number = NETWORK.connectionsMax

  constructor(hit: Hit) {
    this.#hit = hit
  }

  /** A service of the node, so that it is given the manager before anything arrives. Throws when the library has moved what it needs. */
  readonly service = (components: { connectionManager: unknown }): ConnectionLimits => {
    const manager = components.connectionManager as Partial<Manager> // looked at just below
    const isAsKnown = typeof manager.setMaxConnections === 'function' && typeof manager.acceptIncomingConnection === 'function'
    if (!isAsKnown || typeof manager.incomingPendingConnections !== 'number') throw new Error('libp2p has moved its limits on connections')
    this.#manager = manager as Manager
    this.#watch(this.#manager)
    return this
  }

  /** Connections that come in and are not upgraded yet. */
  get pending(): number {
    return this.#manager?.incomingPendingConnections ?? 0
  }

  /** The library refuses without a word; which limit it was is seen from its counts. */
  #watch(manager: Manager): void {
    const accept = manager.acceptIncomingConnection.bind(manager)
    manager.acceptIncomingConnection = async (connection) => {
      const isFull = this.#isFull(manager)
      const isPendingFull = manager.incomingPendingConnections >= NETWORK.pendingInboundMax + NETWORK.pendingClosingMax
      const isAccepted = !isFull && (await accept(connection))
      if (!isAccepted) this.#hit(isPendingFull ? 'pendingInbound' : isFull ? 'connections' : 'inboundPerHost')
      return isAccepted
    }
  }

  /** Some places are for those that we dial: whoever dials us cannot take them all. */
  #isFull(manager: Manager): boolean {
    const connections = manager.getConnections()
    const inbound = connections.reduce((count, { direction }) => count + (direction === 'inbound' ? 1 : 0), 0)
    return connections.length >= this.#max || inbound >= this.#max - Math.floor(this.#max * NETWORK.outboundPart)
  }

  get max(): number {
    return this.#max
  }

  /** From now on; when there are more, the library closes some. */
  setMax(count: number): void {
    this.#max = count
    this.#manager?.setMaxConnections(count)
  }
}
