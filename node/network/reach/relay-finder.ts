/**
 * Being relayed: keeps reservations at as many relays as are wanted. Peers at hand that relay come first, then those that are found in the
 * DHT under the key of relays; of two in one neighbourhood the second is left alone while there are others. Relays are pinged, so that
 * neither a router nor the transport forgets the connection.
 */
import type { Connection, Libp2p, PeerId } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { RELAY, WAITS } from '../../../protocol/limits.ts'
import type { Log } from '../../log.ts'
import type { FoundPeer } from '../dht.ts'
import { asError } from '../network-error.ts'
import type { Far } from './far.ts'
import { HOP } from './relay-service.ts'

/** What is used of the library's transport: who may be reached through whom. */
export interface Reservations {
  addRelay(peer: PeerId, type: 'configured'): Promise<{ details: { reservation: { addrs: Uint8Array[] } } }>
  hasReservation(peer: PeerId): boolean
  addEventListener(type: 'relay:removed', listener: (event: { detail: { relay: PeerId } }) => void): void
  cancelReservations(): void
}

export interface RelayFinderParts {
  node: Libp2p
  reservations: Reservations
  far: Far
  swarmProtocol: string
  log: Log
  /** Who announces itself as a relay. */
  find(signal: AbortSignal): AsyncIterable<FoundPeer>
  ping(peer: PeerId, signal: AbortSignal): Promise<number>
  /** Our addresses through relays are these from now on, without our peer id. */
  onChange(addresses: Multiaddr[]): void
}

export class RelayFinder {
  readonly #parts: RelayFinderParts
  readonly #stopped = new AbortController()
  /** By relay. */
  readonly #held = new Map<string, { group: string; addresses: Multiaddr[] }>()
  #wanted = 0
  #round: Promise<void> | null = null
  #timer: NodeJS.Timeout | undefined
  #pauseMs: number = RELAY.retryMinMs
  readonly #pings: NodeJS.Timeout

  constructor(parts: RelayFinderParts) {
    this.#parts = parts
    parts.reservations.addEventListener('relay:removed', ({ detail }) => this.#lost(detail.relay.toString()))
    this.#pings = setInterval(() => this.#pingAll(), RELAY.pingMs).unref()
  }

  get relays(): string[] {
    return [...this.#held.keys()]
  }

  want(count: number): void {
    this.#wanted = count
    if (count === 0) this.#letGo()
    else this.look()
  }

  /** Somebody came who may relay. */
  look(): void {
    if (this.#held.size >= this.#wanted || this.#stopped.signal.aborted || this.#round !== null) return
    clearTimeout(this.#timer)
    this.#round = this.#search().finally(() => {
      this.#round = null
      this.#again()
    })
  }

  async stop(): Promise<void> {
    this.#wanted = 0
    this.#stopped.abort(new Error('the network is stopping'))
    clearTimeout(this.#timer)
    clearInterval(this.#pings)
    await this.#round
  }

  #again(): void {
    if (this.#held.size >= this.#wanted) {
      this.#pauseMs = RELAY.retryMinMs
      return
    }
    this.#timer = setTimeout(() => this.look(), this.#pauseMs).unref()
    this.#pauseMs = Math.min(RELAY.retryMaxMs, this.#pauseMs * 2)
  }

  async #search(): Promise<void> {
    const { node, log, find } = this.#parts
    const signal = AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(WAITS.findMs)])
    try {
      for (const connection of node.getConnections()) await this.#try(connection, signal)
      if (this.#held.size >= this.#wanted) return
      let tried = 0
      for await (const found of find(signal)) {
        if (this.#held.size >= this.#wanted || tried++ >= RELAY.candidatesMax) return
        const connection = await this.#dial(found, signal)
        if (connection !== null) await this.#try(connection, signal)
      }
    } catch (thrown) {
      if (!this.#stopped.signal.aborted) log.debug('looking for relays failed', { cause: asError(thrown) })
    }
  }

  async #dial({ peerId, addresses }: FoundPeer, signal: AbortSignal): Promise<Connection | null> {
    const { node, far, log } = this.#parts
    const direct = addresses.map((address) => multiaddr(address)).filter((address) => far.endpoint(address) !== null)
    if (direct.length === 0) return null
    try {
      const whole = direct.slice(0, RELAY.addressesMax).map((address) => address.encapsulate(`/p2p/${peerId}`))
      return await node.dial(whole, { signal: AbortSignal.any([signal, AbortSignal.timeout(WAITS.dialMs)]) })
    } catch (thrown) {
      signal.throwIfAborted()
      log.debug('a relay did not answer', { peer: peerId, cause: asError(thrown) })
      return null
    }
  }

  async #try(connection: Connection, signal: AbortSignal): Promise<void> {
    const { reservations, far, log, node } = this.#parts
    const peer = connection.remotePeer
    const group = far.groupOf(connection)
    const isTaken = this.#held.has(peer.toString()) || [...this.#held.values()].some((held) => held.group === group)
    if (this.#held.size >= this.#wanted || group === null || isTaken || !(await this.#relays(node, peer))) return
    try {
      signal.throwIfAborted()
      const patience = AbortSignal.any([signal, AbortSignal.timeout(RELAY.reserveMs)])
      // The library forgets those that wait when it stops.
      const { details } = await before(patience, reservations.addRelay(peer, 'configured'))
      const addresses = usableAddresses(details.reservation.addrs, connection, far)
      if (this.#stopped.signal.aborted || !reservations.hasReservation(peer) || addresses.length === 0) return
      this.#held.set(peer.toString(), { group, addresses })
      log.info('reached through a relay from now on', { relay: peer.toString() })
      this.#tell()
    } catch (thrown) {
      log.debug('a relay has no place for us', { peer: peer.toString(), cause: asError(thrown) })
    }
  }

  /** Whether a peer says that it relays, for this network. */
  async #relays(node: Libp2p, peer: PeerId): Promise<boolean> {
    const protocols = await node.peerStore.get(peer).then(
      (known) => known.protocols,
      (): string[] => [],
    )
    return protocols.includes(HOP) && protocols.includes(this.#parts.swarmProtocol)
  }

  #tell(): void {
    this.#parts.onChange([...this.#held.values()].flatMap(({ addresses }) => addresses))
  }

  #lost(relay: string): void {
    if (!this.#held.delete(relay)) return
    this.#parts.log.info('a relay is gone', { relay })
    this.#tell()
    this.look()
  }

  #letGo(): void {
    clearTimeout(this.#timer)
    if (this.#held.size === 0) return
    this.#held.clear()
    this.#parts.reservations.cancelReservations()
    this.#tell()
  }

  #pingAll(): void {
    for (const relay of this.#held.keys()) {
      const peer = peerIdFromString(relay)
      this.#parts.ping(peer, AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(RELAY.pingTimeoutMs)])).catch(() => {
        if (this.#stopped.signal.aborted) return
        for (const connection of this.#parts.node.getConnections(peer)) connection.abort(new Error('the relay does not answer'))
      })
    }
  }
}

/** What `work` gives, unless the signal is aborted before; then throws its reason, and nobody hears of `work` any more. */
async function before<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const ended = (): void => reject(signal.reason)
  signal.addEventListener('abort', ended, { once: true })
  if (signal.aborted) ended()
  try {
    return await Promise.race([work, promise])
  } finally {
    signal.removeEventListener('abort', ended)
  }
}

/**
 * The addresses that a relay may have us announce: where we see it ourselves, and nobody else. Its port on a connection that it opened is
 * one that it does not listen on.
 */
export function usableAddresses(
  addresses: readonly Uint8Array[],
  { remoteAddr, remotePeer, direction }: Pick<Connection, 'remoteAddr' | 'remotePeer' | 'direction'>,
  far: Far,
): Multiaddr[] {
  const seen = far.endpoint(remoteAddr)
  if (seen === null) return []
  const whole = addresses.slice(0, RELAY.addressesReadMax).flatMap((bytes) => {
    const address = parsed(bytes)
    const endpoint = address === null ? null : far.endpoint(address)
    if (address === null || endpoint === null || !address.toString().endsWith(`/p2p/${remotePeer.toString()}`)) return []
    const isOutgoing = direction === 'inbound' && endpoint.port === seen.port
    return endpoint.host === seen.host && !isOutgoing ? [address.encapsulate('/p2p-circuit')] : []
  })
  return [...new Map(whole.map((address) => [address.toString(), address])).values()].slice(0, RELAY.addressesMax)
}

function parsed(bytes: Uint8Array): Multiaddr | null {
  try {
    return multiaddr(bytes)
  } catch {
    return null // a stranger's bytes
  }
}
