/** How many connections the node may have, and how often that was one too few: libp2p's own limits, changed and watched from outside. */
import type { MultiaddrConnection } from '@libp2p/interface'
import { type Hit, NO_HIT } from '../../protocol/limit-table.ts'
import { NETWORK } from '../../protocol/limits.ts'
import { endpointOf, ipGroup } from './addresses.ts'

/** What is used of libp2p's connection manager. */
interface Manager {
  getConnections(): { direction: 'inbound' | 'outbound' }[]
  setMaxConnections(count: number): void
  acceptIncomingConnection(connection: MultiaddrConnection): boolean
  incomingPendingConnections: number
}

export interface ConnectionRules {
  groupPrivate: boolean
  hit?: Hit
}

export class ConnectionLimits {
  readonly #hit: Hit
  readonly #groupPrivate: boolean
  /** Connections that came in and are not closed, by neighbourhood, where those are counted. */
  readonly #byGroup = new Map<string, number>()
  #manager: Manager | null = null
  #max: number = NETWORK.connectionsMax

  constructor({ groupPrivate, hit = NO_HIT }: ConnectionRules) {
    this.#groupPrivate = groupPrivate
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

  /**
   * The library refuses without a word; which limit it was is seen from its counts. It does not wait for the answer: a promise would be a
   * yes. Its limit by host is not for the local network.
   */
  #watch(manager: Manager): void {
    const accept = manager.acceptIncomingConnection.bind(manager)
    manager.acceptIncomingConnection = (connection) => {
      const endpoint = endpointOf(connection.remoteAddr)
      const group = endpoint === null ? null : ipGroup(endpoint, this.#groupPrivate)
      const isLocal = endpoint !== null && !endpoint.isRelayed && group === null
      const isFull = this.#isFull(manager)
      const isPendingFull = manager.incomingPendingConnections >= NETWORK.pendingInboundMax + NETWORK.pendingClosingMax
      const isGroupFull = group !== null && (this.#byGroup.get(group) ?? 0) >= NETWORK.inboundPerSubnetMax
      const isAccepted = !isFull && !isPendingFull && !isGroupFull && (isLocal || accept(connection))
      if (!isAccepted)
        this.#hit(isPendingFull ? 'pendingInbound' : isFull ? 'connections' : isGroupFull ? 'inboundPerSubnet' : 'inboundPerHost')
      else if (isLocal) manager.incomingPendingConnections++
      else if (group !== null) this.#seat(connection, group)
      return isAccepted
    }
  }

  #seat(connection: MultiaddrConnection, group: string): void {
    this.#byGroup.set(group, (this.#byGroup.get(group) ?? 0) + 1)
    const leave = (): void => {
      const count = (this.#byGroup.get(group) ?? 1) - 1
      if (count === 0) this.#byGroup.delete(group)
      else this.#byGroup.set(group, count)
    }
    connection.addEventListener('close', leave, { once: true })
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
