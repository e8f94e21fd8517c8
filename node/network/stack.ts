/**
 * The network as the rest of the node sees it: streams of frames to peers, announce and find, and nothing of libp2p.
 *
 * The node itself is put together in libp2p-node.ts, what it does on which network is decided in plan.ts.
 */
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import type { Connection, Libp2p, Stream } from '@libp2p/interface'
import { peerIdFromPrivateKey, peerIdFromString } from '@libp2p/peer-id'
import type { Multiaddr } from '@multiformats/multiaddr'
import type { Datastore } from 'interface-datastore'
import { type Hit, NO_HIT } from '../../protocol/limit-table.ts'
import { LIVENESS, NETWORK, WAITS, WIRE } from '../../protocol/limits.ts'
import type { Log } from '../log.ts'
import { endpointOf, isRelayed } from './addresses.ts'
import { ConnectionLimits } from './connection-limits.ts'
import { DhtSet, type FoundPeer, type Provided } from './dht.ts'
import { DialBudget } from './dial-budget.ts'
import { isNear } from './dial-order.ts'
import { endDead } from './echo.ts'
import { FrameStream } from './frame-stream.ts'
import { Gater } from './gater.ts'
import { KnownPeers } from './known-peers.ts'
import { createNode } from './libp2p-node.ts'
import { keepPorts, withKeptPorts } from './listen-ports.ts'
import { ownSubnets } from './local-network.ts'
import { Neighbours } from './neighbours.ts'
import { asError, asNetworkError, NetworkError } from './network-error.ts'
import { OwnAddresses } from './own-addresses.ts'
import { hostsOfThisComputer, OwnHosts } from './own-hosts.ts'
import { parseAddress, parsePeerId, parseQuietly } from './parsing.ts'
import { dialableAddresses, mayPass } from './passing-on.ts'
import { type NetworkPlan, networkPlan } from './plan.ts'
import { Reachability, type ReachStatus } from './reach/reachability.ts'
import type { Remote } from './remote.ts'
import { type Link, Twins } from './twins.ts'

export { type FoundPeer, type Provided, phaseOf, placeOf } from './dht.ts'
export type { ReachStatus } from './reach/reachability.ts'

export interface StackOptions {
  /** Protobuf of an Ed25519 private key, as createIdentity gives it. */
  identity: Uint8Array
  /** Null is the default network. */
  network: string | null
  listen: string[]
  bootstrap: string[]
  /** A network of its own meets on the IPFS DHT of its bootstrap peers, too. Left out: no. */
  ipfsDht?: boolean
  mdns: boolean
  /** Ask the router to pass a port on. Left out: no. */
  portMapping?: boolean
  datastore: Datastore
  log: Log
  /** Count loopback and private addresses per IP group too (tests). */
  groupPrivate: boolean
  /** Sockets that may come in at once. Null or left out: as many as come. */
  socketsMax?: number | null
  /** Loopback counts as the world outside, for who can reach this node and for relays (tests). */
  isLoopbackFar?: boolean
  /** Host that this node dials from: many hosts on one machine (tests). */
  dialFrom?: string
  /** Never a server of any DHT (tests). */
  isDhtClient?: boolean
  /** Between two looks for connections that are spare (tests). */
  twinsLookMs?: number
  /** Called when somebody runs into a limit. */
  hit?: Hit
}

/** Whom to open a stream to. `isGiven`: the user named these addresses, so no dial budget applies to them. */
export interface SwarmTarget extends FoundPeer {
  isGiven?: boolean
}

export type SwarmHandler = (frames: FrameStream, remote: Remote, signal: AbortSignal) => Promise<void>

export interface Stack {
  readonly peerId: string
  readonly peerIdBytes: Uint8Array
  addresses(): string[]
  handleSwarm(handler: SwarmHandler): Promise<void>
  openSwarm(target: SwarmTarget, signal: AbortSignal): Promise<{ frames: FrameStream; remote: Remote }>
  provide(rendezvous: Uint8Array, signal: AbortSignal): Promise<number>
  /** The same for a key and neighbours of it in the DHT, with one look-up. */
  provideAll(keys: readonly Uint8Array[], signal: AbortSignal): Promise<Provided>
  stopProviding(rendezvous: Uint8Array): Promise<void>
  find(rendezvous: Uint8Array, signal: AbortSignal): AsyncIterable<FoundPeer>
  connections(): { peerId: string; address: string; direction: 'inbound' | 'outbound'; openedMs: number }[]
  /** Where others may dial a connected peer, as far as we know; without peer ids. */
  dialableAddresses(peerId: string): string[]
  /** Calls `listener` when this node listens elsewhere than before, or than when it last ran. */
  onAddressesChanged(listener: () => void): void
  /** Calls `listener` when this computer has another address, before the connections end that were made from the old one. */
  onMoved(listener: () => void): void
  /** Asks over every connection to a peer whether it is there, and ends those without an answer, unless `isHeard` by then; how many. */
  endDead(peerId: string, isHeard: () => boolean): Promise<number>
  /** Calls `listener` whenever a connected peer has told where it listens. */
  onListens(listener: (peerId: string) => void): void
  /** Whether this address may be told to, or taken from, a peer at `seenAt`. */
  mayPass(address: string, seenAt: string): boolean
  /** The user named these addresses: no dial budget applies to them. */
  trustAddresses(peer: FoundPeer): void
  dht(): { name: string; peers: number; mode: 'client' | 'server' }[]
  /** Who can reach this node, and for whom it relays. */
  reach(): ReachStatus
  /** What is passed on for others at most; 0 bytes a day: nothing. */
  setRelayLimits(bytesPerDay: number, bytesPerSecond: number): void
  /** Provider records of others that this node holds. */
  recordCount(): number
  connectBootstrap(signal: AbortSignal): Promise<number>
  trust(peerId: string): void
  /** Connections at most, from now on; when there are more, some are closed. */
  setConnectionsMax(count: number): void
  /** As set last, and those that come in and are not upgraded yet. */
  connectionUse(): { max: number; pending: number }
  /** `untilMs` on the monotonic clock (performance.now()). */
  ban(peerId: string, untilMs: number): void
  stop(): Promise<void>
}

/** A new Ed25519 identity: the bytes to keep secret and give to createStack. */
export async function createIdentity(): Promise<Uint8Array> {
  return privateKeyToProtobuf(await generateKeyPair('Ed25519'))
}

/** The public name of an identity. */
export function peerIdOf(identity: Uint8Array): { text: string; bytes: Uint8Array } {
  const peerId = peerIdFromPrivateKey(privateKeyFromProtobuf(identity))
  return { text: peerId.toString(), bytes: peerId.toMultihash().bytes }
}

/** Starts a node. Throws NetworkError BAD_ADDRESS for an address that does not parse, PORT_TAKEN when none can be listened on. */
export async function createStack(options: StackOptions): Promise<Stack> {
  const plan = planOf(options)
  const { datastore, log, groupPrivate, hit = NO_HIT } = options
  const now = (): number => performance.now()
  const budget = new DialBudget({ now, groupPrivate, anyAddress: plan.anyAddress, ownSubnets, hit })
  const gater = new Gater({ now, groupPrivate, isEd25519Only: plan.isEd25519Only, budget, hit })
  const entrances = plan.bootstrap.map(parseAddress)
  for (const address of entrances) budget.trustAddress(address)
  for (const address of options.listen) parseAddress(address)
  const known = await KnownPeers.open(datastore, log)
  const dhts = await DhtSet.open({ plan, datastore, budget, groupPrivate, log, hit })
  const privateKey = privateKeyFromProtobuf(options.identity)
  const limits = new ConnectionLimits({ groupPrivate, hit })
  const isLoopbackFar = options.isLoopbackFar === true
  const reach = await Reachability.open({ swarmProtocol: plan.swarmProtocol, dhts, budget, log, hit, now, isLoopbackFar })
  gater.hooks.denyInboundRelayReservation = (peer) => reach.deniesReservation(peer)
  const { mdns, socketsMax = null, dialFrom = null } = options
  const hosts = new OwnHosts({ hosts: hostsOfThisComputer, log })
  const listen = await withKeptPorts(options.listen, datastore, log)
  const parts = { limits, privateKey, plan, listen, mdns, datastore, budget, gater, dhts, reach, hosts, socketsMax, dialFrom, hit }
  const node = await createNode(parts)
  node.addEventListener('connection:open', ({ detail }) => {
    // A relay is found anew each time, and whoever asks to be dialled is not one that we looked for.
    const isOurs = detail.direction === 'outbound' && !reach.isCheck(detail.remotePeer)
    if (isOurs && endpointOf(detail.remoteAddr)?.isRelayed !== true)
      known.remember(detail.remotePeer.toString(), detail.remoteAddr.toString())
  })
  const neighbours = options.mdns ? new Neighbours({ node, log, now }) : null
  try {
    await node.start()
  } catch (thrown) {
    const cause = asError(thrown)
    const isPort = /EADDRINUSE|EADDRNOTAVAIL|EACCES/.test(cause.message) || cause.name.startsWith('UnsupportedListenAddress')
    throw new NetworkError(isPort ? 'PORT_TAKEN' : 'UNREACHABLE', `cannot listen on ${options.listen.join(', ')}: ${cause.message}`, {
      cause,
    })
  }
  await keepPorts(options.listen, reach.listening(), datastore, log)
  await reach.start(node, (peer, signal) => node.services.ping.ping(peer, { signal }))
  if (options.portMapping === true) reach.mapPorts()
  const own = new OwnAddresses({ node, datastore, log })
  hosts.onMoved(() => {
    own.moved()
    setImmediate(() => reach.moved()) // when the connections are closed
  })
  hosts.start()
  return new NodeStack({
    node,
    limits,
    plan,
    dhts,
    budget,
    gater,
    known,
    own,
    hosts,
    neighbours,
    twinsLookMs: options.twinsLookMs,
    entrances,
    reach,
    log,
  })
}

function planOf({ network, bootstrap, ipfsDht, isDhtClient = false }: StackOptions): NetworkPlan {
  const plan = networkPlan(network, bootstrap, ipfsDht)
  return isDhtClient ? { ...plan, dhts: plan.dhts.map((dht) => ({ ...dht, clientMode: true })) } : plan
}

interface Parts {
  node: Libp2p
  limits: ConnectionLimits
  plan: NetworkPlan
  dhts: DhtSet
  budget: DialBudget
  gater: Gater
  known: KnownPeers
  own: OwnAddresses
  hosts: OwnHosts
  /** Null without mDNS. */
  neighbours: Neighbours | null
  twinsLookMs: number | undefined
  entrances: Multiaddr[]
  reach: Reachability
  log: Log
}

class NodeStack implements Stack {
  readonly peerId: string
  readonly peerIdBytes: Uint8Array
  readonly #parts: Parts
  readonly #stopping = new AbortController()
  /** What connected peers say that they listen on. */
  readonly #listens = new Map<string, string[]>()
  /** Where connections led that were closed because there is another one with the same peer; until that ends too. */
  readonly #reached = new Map<string, Remote>()
  readonly #twins: Twins
  #stopped: Promise<void> | undefined

  constructor(parts: Parts) {
    this.#parts = parts
    const { node, reach, twinsLookMs } = parts
    node.addEventListener('peer:disconnect', ({ detail }) => {
      for (const known of [this.#listens, this.#reached]) known.delete(detail.toString())
    })
    const onSpare = (link: Link): void => void this.#reached.set(link.remotePeer.toString(), remoteOf(link, link.direction))
    this.#twins = new Twins({ node, isTied: (peer) => reach.isTied(peer), onSpare, everyMs: twinsLookMs })
    this.peerId = parts.node.peerId.toString()
    this.peerIdBytes = parts.node.peerId.toMultihash().bytes
  }

  addresses(): string[] {
    return this.#parts.node.getMultiaddrs().map((address) => address.toString())
  }

  async handleSwarm(handler: SwarmHandler): Promise<void> {
    const { node, plan } = this.#parts
    await node.handle(plan.swarmProtocol, (stream, connection) => this.#serve(handler, stream, connection), {
      maxInboundStreams: WIRE.swarmStreamsPerConnectionMax,
      maxOutboundStreams: WIRE.swarmStreamsPerConnectionMax,
      runOnLimitedConnection: true,
    })
  }

  async openSwarm(target: SwarmTarget, signal: AbortSignal): Promise<{ frames: FrameStream; remote: Remote }> {
    signal.throwIfAborted()
    const connection = await this.#connect(target, AbortSignal.any([signal, this.#stopping.signal, AbortSignal.timeout(WAITS.dialMs)]))
    if (connection.remotePeer.type !== 'Ed25519') throw new NetworkError('REFUSED', 'the peer has an identity of another kind')
    const deadline = AbortSignal.any([signal, this.#stopping.signal, AbortSignal.timeout(WAITS.helloMs)])
    let stream: Stream
    try {
      stream = await connection.newStream(this.#parts.plan.swarmProtocol, { signal: deadline, runOnLimitedConnection: true })
    } catch (thrown) {
      signal.throwIfAborted()
      // Too late is what a connection says that leads nowhere any more: then the next try is over another one.
      if (deadline.aborted) void endDead([connection], this.#echoDeadline(), () => false)
      throw asNetworkError('REFUSED', 'the peer did not open a stream', thrown)
    }
    // Over the peer's limit a stream opens and is reset at once.
    if (stream.status !== 'open') throw new NetworkError('REFUSED', `the peer gave a stream that is ${stream.status}`)
    return { frames: new FrameStream(stream), remote: remoteOf(connection, 'outbound') }
  }

  provide(rendezvous: Uint8Array, signal: AbortSignal): Promise<number> {
    return this.#parts.dhts.provide(rendezvous, AbortSignal.any([signal, this.#stopping.signal]))
  }

  provideAll(keys: readonly Uint8Array[], signal: AbortSignal): Promise<Provided> {
    return this.#parts.dhts.provideAll(keys, AbortSignal.any([signal, this.#stopping.signal]))
  }

  stopProviding(rendezvous: Uint8Array): Promise<void> {
    return this.#parts.dhts.stopProviding(rendezvous)
  }

  find(rendezvous: Uint8Array, signal: AbortSignal): AsyncIterable<FoundPeer> {
    return this.#parts.dhts.find(rendezvous, this.peerId, AbortSignal.any([signal, this.#stopping.signal]))
  }

  connections(): { peerId: string; address: string; direction: 'inbound' | 'outbound'; openedMs: number }[] {
    return this.#parts.node.getConnections().map((connection) => ({
      peerId: connection.remotePeer.toString(),
      address: connection.remoteAddr.toString(),
      direction: connection.direction,
      openedMs: connection.timeline.open,
    }))
  }

  dialableAddresses(peerId: string): string[] {
    const seen = this.#parts.node.getConnections(peerIdFromString(peerId)).map((connection) => remoteOf(connection, connection.direction))
    const reached = seen.length === 0 ? undefined : this.#reached.get(peerId)
    return dialableAddresses(reached === undefined ? seen : [...seen, reached], this.#listens.get(peerId) ?? [])
  }

  onAddressesChanged(listener: () => void): void {
    this.#parts.own.onChange(listener)
  }

  onMoved(listener: () => void): void {
    this.#parts.hosts.onMoved(listener)
  }

  async endDead(peerId: string, isHeard: () => boolean): Promise<number> {
    return await endDead(this.#parts.node.getConnections(peerIdFromString(peerId)), this.#echoDeadline(), isHeard)
  }

  #echoDeadline(): AbortSignal {
    return AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(LIVENESS.answerMs)])
  }

  onListens(listener: (peerId: string) => void): void {
    const { node } = this.#parts
    node.addEventListener('peer:identify', ({ detail }) => {
      if (node.getConnections(detail.peerId).length === 0) return
      const told = detail.listenAddrs.slice(0, NETWORK.listenAddressesMax).map((address) => address.toString())
      this.#listens.set(detail.peerId.toString(), told)
      listener(detail.peerId.toString())
    })
  }

  mayPass(address: string, seenAt: string): boolean {
    return mayPass(address, seenAt, this.#parts.plan.anyAddress)
  }

  trustAddresses({ peerId, addresses }: FoundPeer): void {
    for (const text of addresses.slice(0, WIRE.addressesPerPeerMax))
      for (const address of parseQuietly(text, peerId)) this.#parts.budget.trustAddress(address)
  }

  dht(): { name: string; peers: number; mode: 'client' | 'server' }[] {
    return this.#parts.dhts.status()
  }

  reach(): ReachStatus {
    return this.#parts.reach.status()
  }

  setRelayLimits(bytesPerDay: number, bytesPerSecond: number): void {
    this.#parts.reach.setRelayLimits(bytesPerDay, bytesPerSecond)
  }

  recordCount(): number {
    return this.#parts.dhts.recordCount()
  }

  async connectBootstrap(signal: AbortSignal): Promise<number> {
    const { entrances, known, node } = this.#parts
    const remembered = known.list().flatMap(({ address }) => parseQuietly(address))
    const waiting = [...entrances, ...remembered]
    const dialNext = async (): Promise<void> => {
      for (let address = waiting.shift(); address !== undefined; address = waiting.shift()) {
        if (signal.aborted || this.#stopping.signal.aborted) return
        const deadline = AbortSignal.any([signal, this.#stopping.signal, AbortSignal.timeout(WAITS.dialMs)])
        try {
          await node.dial(address, { signal: deadline })
        } catch (cause) {
          this.#parts.log.debug('an entrance did not answer', { address: address.toString(), cause: asError(cause) })
        }
      }
    }
    await Promise.all(Array.from({ length: NETWORK.rememberedDialsAtOnceMax }, dialNext))
    signal.throwIfAborted()
    return node.getPeers().length
  }

  trust(peerId: string): void {
    for (const connection of this.#parts.node.getConnections(peerIdFromString(peerId))) {
      // The address of a relayed one begins with the host of the relay, which has passed nothing.
      if (!isRelayed(connection)) this.#parts.budget.trustPeer(peerId, connection.remoteAddr)
    }
  }

  connectionUse(): { max: number; pending: number } {
    const { max, pending } = this.#parts.limits
    return { max, pending }
  }

  setConnectionsMax(count: number): void {
    this.#parts.limits.setMax(count)
  }

  ban(peerId: string, untilMs: number): void {
    const { gater, node } = this.#parts
    gater.ban(peerId, untilMs)
    for (const connection of node.getConnections(peerIdFromString(peerId))) connection.abort(new NetworkError('REFUSED', 'banned'))
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #stop(): Promise<void> {
    const { node, known, reach, log } = this.#parts
    this.#stopping.abort(new NetworkError('CLOSED', 'the network is stopping'))
    this.#parts.neighbours?.stop()
    this.#twins.stop()
    this.#parts.own.stop()
    this.#parts.hosts.stop()
    const late = Promise.withResolvers<void>()
    const timer = setTimeout(late.resolve, WAITS.stopMs)
    const stopNode = async (): Promise<void> => {
      await reach.stop().finally(() => node.stop())
    }
    const ending = Promise.all([stopNode(), known.close()]).catch((cause: unknown) =>
      log.warn('the network did not stop cleanly', { cause: asError(cause) }),
    )
    await Promise.race([ending, late.promise])
    clearTimeout(timer)
    for (const connection of node.getConnections()) connection.abort(new NetworkError('CLOSED', 'the network has stopped'))
  }

  async #connect(target: SwarmTarget, deadline: AbortSignal): Promise<Connection> {
    const { node, budget } = this.#parts
    const peerId = parsePeerId(target.peerId)
    const open = node.getConnections(peerId).filter(({ status }) => status === 'open')
    const direct = this.#twins.best(open.filter((connection) => !isRelayed(connection)))
    if (direct !== undefined) return direct
    const addresses = target.addresses.slice(0, WIRE.addressesPerPeerMax).flatMap((text) => parseQuietly(text, target.peerId))
    if (addresses.length === 0) throw new NetworkError('BAD_ADDRESS', 'no address of this peer can be used')
    // Over a relay, and no better way is offered.
    if (open[0] !== undefined && !addresses.some(isNear)) return open[0]
    if (target.isGiven === true) this.trustAddresses(target)
    const refusals = addresses.map((address) => budget.refusal(address))
    if (refusals.every((refusal) => refusal !== null)) throw new NetworkError('BUDGET', `not dialled: ${refusals[0]}`)
    try {
      const connection = await node.dial(addresses, { signal: deadline })
      return isRelayed(connection) ? await this.#upgraded(connection, deadline) : connection
    } catch (thrown) {
      if (deadline.aborted) throw asNetworkError('TIMEOUT', 'the peer did not answer in time', deadline.reason)
      throw asNetworkError('UNREACHABLE', 'the peer cannot be reached', thrown)
    }
  }

  /** Whom we reached through a relay may dial us back: then the relay is let go of. */
  async #upgraded(relayed: Connection, deadline: AbortSignal): Promise<Connection> {
    const direct = await this.#parts.reach.directFrom(relayed.remotePeer, deadline)
    if (direct === null) return relayed
    await relayed.close({ signal: deadline }).catch(() => relayed.abort(new NetworkError('CLOSED', 'there is a direct connection')))
    return direct
  }

  /** One inbound stream. Nothing that happens here may escape: a fault ends this stream alone. */
  async #serve(handler: SwarmHandler, stream: Stream, connection: Connection): Promise<void> {
    const frames = new FrameStream(stream)
    try {
      if (connection.remotePeer.type !== 'Ed25519') throw new NetworkError('REFUSED', 'identity of another kind')
      await handler(frames, remoteOf(connection, 'inbound'), this.#stopping.signal)
      await frames.close(AbortSignal.timeout(WAITS.stopMs))
    } catch (thrown) {
      this.#parts.log.debug('swarm stream ended', { peer: connection.remotePeer.toString(), cause: asError(thrown) })
      frames.abort(asError(thrown))
    }
  }
}

const remoteOf = (connection: Link, direction: Remote['direction']): Remote => ({
  peerId: connection.remotePeer.toString(),
  peerIdBytes: connection.remotePeer.toMultihash().bytes,
  address: connection.remoteAddr.toString(),
  isRelayed: isRelayed(connection),
  direction,
})
