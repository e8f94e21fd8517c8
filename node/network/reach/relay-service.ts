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
import { endpointOf, hostGroup, isRelayed } from '../addresses.ts'
import { asError } from '../network-error.ts'
import { joinStreams } from './circuit.ts'
import type { Codecs, HopMessage } from './messages.ts'
import { Pace } from './pace.ts'
import { type End, RelayCounts } from './relay-counts.ts'
import { type Places, tidyPlaces } from './relay-places.ts'

export const HOP = '/libp2p/circuit/relay/0.2.0/hop'

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
  reservationStore: Places
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
  /** Passed on since the node began. */
  bytes: number
}

export class RelayService {
  readonly #parts: RelayServiceParts
  readonly #server: Server
  readonly #pace: Pace
  readonly #stopped = new AbortController()
  readonly #counts: RelayCounts
  #isOn = false
  #turning: Promise<void> = Promise.resolve()

  constructor(parts: RelayServiceParts) {
    this.#parts = parts
    this.#server = checkedServer(parts.server)
    tidyPlaces(this.#server.reservationStore, (peer) => this.#hasRoom(peer))
    this.#counts = new RelayCounts(parts.now)
    this.#pace = new Pace(RELAY.bytesPerSecond, parts.now)
    this.#server.onHop = (stream, connection) => this.#onHop(stream, connection)
    this.#server.handleConnect = (request, options) => this.#connect(request, options.signal)
  }

  get isOn(): boolean {
    return this.#isOn
  }

  status(): RelayingStatus | null {
    if (!this.#isOn) return null
    const { circuits, bytesToday, bytesPerDay, bytesPassed: bytes } = this.#counts
    return { peers: this.#server.reservations.size, circuits, bytesToday, bytesPerDay, bytes }
  }

  /** What it may pass on; `bytesPerDay` of 0 ends relaying. */
  setLimits(bytesPerDay: number, bytesPerSecond: number): void {
    this.#counts.bytesPerDay = bytesPerDay
    this.#pace.bytesPerSecond = bytesPerSecond
  }

  get mayRelay(): boolean {
    return this.#counts.bytesPerDay > 0
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
    if (!this.#isOn || peer.type !== 'Ed25519' || !(await this.#speaks(peer)) || !this.#isOn) return true
    return this.#counts.isDayOver([{ peer: peer.toString(), host: this.#hostOf(peer) }])
  }

  /** Whether the machine of a peer has not taken all the places that it may. */
  #hasRoom(peer: PeerId): boolean {
    const host = this.#hostOf(peer)
    const others = [...this.#server.reservations.keys()].filter((other) => !other.equals(peer))
    return host === null || others.filter((other) => this.#hostOf(other) === host).length < RELAY.peersPerHostMax
  }

  /** Whether a peer is relayed by this node. */
  hasPlace(peer: PeerId): boolean {
    return this.#isOn && this.#server.reservations.has(peer)
  }

  /** The peer has gone: its place is for somebody else. */
  forget(peer: PeerId): void {
    this.#server.reservationStore.removeReservation(peer)
  }

  #hostOf(peer: PeerId): string | null {
    const connection = this.#directTo(peer)
    return connection === undefined ? null : hostAt(connection)
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
    const answer = (status: string): Promise<void> => hop.write({ type: 'STATUS', status }, { signal })
    const target = targetOf(request)
    if (target === null) return await answer('MALFORMED_MESSAGE')
    let asked = this.#look(connection, target)
    if (typeof asked !== 'string' && !(await this.#speaks(connection.remotePeer))) asked = 'PERMISSION_DENIED'
    // Others may have come meanwhile. From here to the taking of a place nothing is waited for.
    if (typeof asked !== 'string') asked = this.#look(connection, target)
    if (typeof asked === 'string') return await answer(asked)
    const ends = [connection, asked].map((end) => ({ peer: end.remotePeer.toString(), host: hostAt(end) }))
    const release = this.#counts.take(ends)
    let there: Stream | undefined
    try {
      const limit = { data: BigInt(RELAY.circuitBytesMax), duration: RELAY.circuitMs / 1000 }
      const peer = { id: connection.remotePeer.toMultihash().bytes, addrs: [] }
      there = await this.#server.stopHop({ connection: asked, request: { type: 'CONNECT', peer, limit } }, { signal })
      if (there === undefined) await answer('CONNECTION_FAILED')
      else await hop.write({ type: 'STATUS', status: 'OK', limit }, { signal })
    } catch (thrown) {
      there?.abort(asError(thrown))
      release()
      throw thrown
    }
    if (there === undefined) release()
    else void this.#relay(stream.unwrap(), there, ends).finally(release)
  }

  #directTo(peer: PeerId): Connection | undefined {
    return this.#parts.components.connectionManager.getConnections(peer).find((connection) => !isRelayed(connection))
  }

  /** The connection with whom is asked for, or why it is not passed on to. */
  #look(from: Connection, target: PeerId): Connection | string {
    const { hit } = this.#parts
    if ((from.limits !== undefined && from.limits !== null) || from.remotePeer.equals(target)) return 'PERMISSION_DENIED'
    const there = this.#directTo(target)
    if (this.#server.reservationStore.get(target) === undefined || there === undefined) return 'NO_RESERVATION'
    const ends = [from, there].map((end) => ({ peer: end.remotePeer.toString(), host: hostAt(end) }))
    const [isFull, isDayOver] = [this.#counts.isFull(ends), this.#counts.isDayOver(ends)]
    if (isFull) hit('circuits')
    else if (isDayOver) hit('relayedBytes')
    return isFull || isDayOver ? 'RESOURCE_LIMIT_EXCEEDED' : there
  }

  async #relay(a: Stream, b: Stream, ends: readonly End[]): Promise<void> {
    let passed = 0
    const count = (bytes: number): boolean => {
      passed += bytes
      this.#counts.pass(ends, bytes)
      return this.#isOn && passed <= RELAY.circuitBytesMax && !this.#counts.isDayOver(ends)
    }
    const signal = AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(RELAY.circuitMs)])
    await joinStreams(a, b, { pace: this.#pace, count, signal })
    this.#parts.log.debug('a circuit has ended', { source: ends[0]?.peer, target: ends[1]?.peer, bytes: passed })
  }
}

function hostAt({ remoteAddr }: Connection): string | null {
  const endpoint = endpointOf(remoteAddr)
  return endpoint === null ? null : hostGroup(endpoint, true)
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
  const isAsKnown = methods.every((name) => typeof server[name] === 'function') && typeof server.reservationStore === 'object'
  if (!isAsKnown) throw new Error('the relay server has moved what its limits hold on to')
  return server as Server
}
