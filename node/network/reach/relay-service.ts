/**
 * Relaying for others: circuit relay v2 by the library's server, with our own limits on who may reserve, and our own joining of streams, which
 * waits where the library would pile up. Only while this node is reached by anybody, and for peers that speak the protocols of this network.
 *
 * It touches fields of the library that it hides, and refuses to start when they have moved.
 */
import type { CircuitRelayServerComponents, CircuitRelayService } from '@libp2p/circuit-relay-v2'
import type { Connection, PeerId, Stream } from '@libp2p/interface'
import { peerIdFromMultihash } from '@libp2p/peer-id'
import { pbStream } from '@libp2p/utils'
import { decode as decodeMultihash } from 'multiformats/hashes/digest'
import type { Hit } from '../../../protocol/limit-table.ts'
import { RELAY } from '../../../protocol/limits.ts'
import type { Log } from '../../log.ts'
import { endpointOf, hostGroup } from '../addresses.ts'
import { asError } from '../network-error.ts'
import { joinStreams } from './circuit.ts'
import type { Codecs, HopMessage } from './messages.ts'
import { Pace } from './pace.ts'

export const HOP = '/libp2p/circuit/relay/0.2.0/hop'
const DAY_MS = 86_400_000

type Hop = ReturnType<ReturnType<typeof pbStream>['pb']> & { write(message: HopMessage, options: { signal: AbortSignal }): Promise<void> }

interface HopRequest {
  connection: Connection
  request: HopMessage
  stream: { pb(codec: unknown): Hop; unwrap(): Stream }
}

/** What is used of the library's server. */
interface Server extends CircuitRelayService {
  onHop(stream: Stream, connection: Connection): Promise<void>
  handleHopProtocol(request: HopRequest, options: { signal: AbortSignal }): Promise<void>
  handleConnect(request: HopRequest, options: { signal: AbortSignal }): Promise<void>
  stopHop(request: { connection: Connection; request: HopMessage }, options: { signal: AbortSignal }): Promise<Stream | undefined>
  reservationStore: { get(peer: PeerId): object | undefined; removeReservation(peer: PeerId): void }
  start(): Promise<void>
  stop(): Promise<void>
}

export interface RelayServiceParts {
  components: CircuitRelayServerComponents
  server: CircuitRelayService
  codecs: Codecs
  swarmProtocol: string
  log: Log
  hit: Hit
  now: () => number
}

export interface RelayingStatus {
  /** Peers that may be reached through us, and connections that we pass on. */
  peers: number
  circuits: number
  /** Passed on in the present day of this relay. */
  bytesToday: number
  bytesPerDay: number
}

export class RelayService {
  readonly #parts: RelayServiceParts
  readonly #server: Server
  readonly #pace: Pace
  readonly #stopped = new AbortController()
  /** By peer, at either end. */
  readonly #circuits = new Map<string, number>()
  #count = 0
  #day = { sinceMs: 0, bytes: 0, byPeer: new Map<string, number>() }
  #bytesPerDay: number = RELAY.bytesPerDay
  #isOn = false
  #turning: Promise<void> = Promise.resolve()

  constructor(parts: RelayServiceParts) {
    this.#parts = parts
    this.#server = checkedServer(parts.server)
    this.#pace = new Pace(RELAY.bytesPerSecond, parts.now)
    this.#server.onHop = (stream, connection) => this.#onHop(stream, connection)
    this.#server.handleConnect = (request, options) => this.#connect(request, options.signal)
  }

  get isOn(): boolean {
    return this.#isOn
  }

  status(): RelayingStatus | null {
    if (!this.#isOn) return null
    this.#turnDay()
    return { peers: this.#server.reservations.size, circuits: this.#count, bytesToday: this.#day.bytes, bytesPerDay: this.#bytesPerDay }
  }

  /** What it may pass on; `bytesPerDay` of 0 ends relaying. */
  setLimits(bytesPerDay: number, bytesPerSecond: number): void {
    this.#bytesPerDay = bytesPerDay
    this.#pace.bytesPerSecond = bytesPerSecond
  }

  get mayRelay(): boolean {
    return this.#bytesPerDay > 0
  }

  async turn(isOn: boolean): Promise<void> {
    if (isOn === this.#isOn || this.#stopped.signal.aborted) return
    this.#isOn = isOn
    // One after another: the library takes a start during a stop for one too many.
    this.#turning = this.#turning.then(() => (isOn ? this.#server.start() : this.#server.stop()))
    await this.#turning
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new Error('the relay stops'))
    this.#pace.stop()
    await this.#turning
    if (this.#isOn) await this.#server.stop()
    this.#isOn = false
  }

  /** For the connection gater: whether a peer may not reserve. */
  async deniesReservation(peer: PeerId): Promise<boolean> {
    if (!this.#isOn || peer.type !== 'Ed25519' || this.#isDayOver(peer.toString())) return true
    const host = this.#hostOf(peer)
    const sameHost = [...this.#server.reservations.keys()].filter(
      (other) => !other.equals(peer) && host !== null && this.#hostOf(other) === host,
    )
    if (sameHost.length >= RELAY.peersPerHostMax) return true
    return !(await this.#speaks(peer))
  }

  /** The peer has gone: its place is for somebody else. */
  forget(peer: PeerId): void {
    this.#server.reservationStore.removeReservation(peer)
  }

  #hostOf(peer: PeerId): string | null {
    const connection = this.#parts.components.connectionManager.getConnections(peer)[0]
    const endpoint = connection === undefined ? null : endpointOf(connection.remoteAddr)
    return endpoint === null ? null : hostGroup(endpoint, true)
  }

  /** Whether a peer is of this network, as it says itself once it is identified. */
  async #speaks(peer: PeerId): Promise<boolean> {
    const { peerStore } = this.#parts.components
    const deadline = Date.now() + RELAY.identifyMs
    for (;;) {
      const known = await peerStore.get(peer).catch(() => null) // not identified yet
      if (known?.protocols.includes(this.#parts.swarmProtocol)) return true
      // Some protocols are noted before, as they are used; this is noted at the end.
      if (Date.now() >= deadline || known?.metadata.has('AgentVersion') === true) return false
      await new Promise((resolve) => setTimeout(resolve, RELAY.stepMs))
    }
  }

  async #onHop(stream: Stream, connection: Connection): Promise<void> {
    const signal = AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(RELAY.messageMs)])
    const messages = pbStream(stream, { maxDataLength: RELAY.messageBytesMax })
    try {
      const request = await messages.pb(this.#parts.codecs.hop).read({ signal })
      await this.#server.handleHopProtocol({ connection, request, stream: messages as unknown as HopRequest['stream'] }, { signal })
    } catch (thrown) {
      this.#parts.log.debug('a request to relay failed', { peer: connection.remotePeer.toString(), cause: asError(thrown) })
      stream.abort(asError(thrown))
    }
  }

  async #connect({ connection, request, stream }: HopRequest, signal: AbortSignal): Promise<void> {
    const hop = stream.pb(this.#parts.codecs.hop)
    const target = targetOf(request)
    const refusal = target === null ? 'MALFORMED_MESSAGE' : await this.#refusal(connection, target)
    if (target === null || refusal !== null) return await hop.write({ type: 'STATUS', status: refusal ?? 'MALFORMED_MESSAGE' }, { signal })
    const there = this.#directTo(target)
    const id = connection.remotePeer.toMultihash().bytes
    const limit = { data: BigInt(RELAY.circuitBytesMax), duration: RELAY.circuitMs / 1000 }
    const asked =
      there && (await this.#server.stopHop({ connection: there, request: { type: 'CONNECT', peer: { id, addrs: [] }, limit } }, { signal }))
    if (!asked) return await hop.write({ type: 'STATUS', status: 'CONNECTION_FAILED' }, { signal })
    await hop.write({ type: 'STATUS', status: 'OK', limit }, { signal })
    void this.#relay(stream.unwrap(), asked, connection.remotePeer.toString(), target.toString())
  }

  #directTo(peer: PeerId): Connection | undefined {
    const isDirect = ({ limits }: Connection): boolean => limits === undefined || limits === null
    return this.#parts.components.connectionManager.getConnections(peer).find(isDirect)
  }

  async #refusal(from: Connection, target: PeerId): Promise<string | null> {
    const { hit } = this.#parts
    const source = from.remotePeer.toString()
    const name = target.toString()
    if ((from.limits !== undefined && from.limits !== null) || from.remotePeer.equals(target)) return 'PERMISSION_DENIED'
    if (this.#server.reservationStore.get(target) === undefined || this.#directTo(target) === undefined) return 'NO_RESERVATION'
    const isBusy = [source, name].some((peer) => (this.#circuits.get(peer) ?? 0) >= RELAY.circuitsPerPeerMax)
    if (this.#count >= RELAY.circuitsMax || isBusy) {
      hit('circuits')
      return 'RESOURCE_LIMIT_EXCEEDED'
    }
    if (this.#isDayOver(source) || this.#isDayOver(name)) {
      hit('relayedBytes')
      return 'RESOURCE_LIMIT_EXCEEDED'
    }
    return (await this.#speaks(from.remotePeer)) ? null : 'PERMISSION_DENIED'
  }

  async #relay(a: Stream, b: Stream, source: string, target: string): Promise<void> {
    const peers = [source, target]
    this.#count++
    for (const peer of peers) this.#circuits.set(peer, (this.#circuits.get(peer) ?? 0) + 1)
    let passed = 0
    const count = (bytes: number): boolean => {
      passed += bytes
      this.#turnDay()
      this.#day.bytes += bytes
      for (const peer of peers) this.#day.byPeer.set(peer, (this.#day.byPeer.get(peer) ?? 0) + bytes)
      return this.#isOn && passed <= RELAY.circuitBytesMax && !peers.some((peer) => this.#isDayOver(peer))
    }
    const signal = AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(RELAY.circuitMs)])
    await joinStreams(a, b, { pace: this.#pace, count, signal })
    this.#count--
    for (const peer of peers) {
      const left = (this.#circuits.get(peer) ?? 1) - 1
      if (left === 0) this.#circuits.delete(peer)
      else this.#circuits.set(peer, left)
    }
    this.#parts.log.debug('a circuit has ended', { source, target, bytes: passed })
  }

  #turnDay(): void {
    const now = this.#parts.now()
    if (now - this.#day.sinceMs >= DAY_MS || this.#day.sinceMs === 0) this.#day = { sinceMs: now, bytes: 0, byPeer: new Map() }
  }

  #isDayOver(peer: string): boolean {
    this.#turnDay()
    return this.#day.bytes >= this.#bytesPerDay || (this.#day.byPeer.get(peer) ?? 0) >= RELAY.bytesPerPeerPerDayMax
  }
}

function targetOf({ peer }: HopMessage): PeerId | null {
  try {
    return peer === undefined ? null : peerIdFromMultihash(decodeMultihash(peer.id))
  } catch {
    return null // a stranger's bytes
  }
}

function checkedServer(service: CircuitRelayService): Server {
  const server = service as Partial<Server> // looked at just below
  const methods = ['onHop', 'handleHopProtocol', 'handleConnect', 'stopHop', 'start', 'stop'] as const
  const isAsKnown =
    methods.every((name) => typeof server[name] === 'function') && typeof server.reservationStore?.removeReservation === 'function'
  if (!isAsKnown) throw new Error('the relay server has moved what its limits hold on to')
  return server as Server
}
