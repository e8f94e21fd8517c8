/**
 * DRIVER of the reach machine: collects the addresses at which others might dial this node, has them checked, announces those that are open,
 * and takes places at relays while none is. A node that anybody can reach relays for others and says so in the DHT.
 */
import { createHash } from 'node:crypto'
import { isIPv4 } from 'node:net'
import type { CircuitRelayServerComponents, CircuitRelayService } from '@libp2p/circuit-relay-v2'
import type { Connection, IdentifyResult, Libp2p, PeerId } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import type { Hit } from '../../../protocol/limit-table.ts'
import { NETWORK, REACH, RELAY, WAITS } from '../../../protocol/limits.ts'
import { type AddressState, Reach, type ReachAction, type ReachEvent } from '../../../protocol/swarm/reach.ts'
import type { Log } from '../../log.ts'
import { endpointOf, isRelayed } from '../addresses.ts'
import type { DhtSet } from '../dht.ts'
import type { DialBudget } from '../dial-budget.ts'
import { asError } from '../network-error.ts'
import type { Mapping } from '../port-mapping/igd.ts'
import { PortMapper } from '../port-mapping/port-mapper.ts'
import { DIAL_REQUEST, DialBack } from './dial-back.ts'
import { Far } from './far.ts'
import { type Codecs, loadCodecs } from './messages.ts'
import { ObservedHosts } from './observed-hosts.ts'
import { RelayFinder, type Reservations } from './relay-finder.ts'
import { type RelayingStatus, RelayService } from './relay-service.ts'

/** The name of relays in the DHT, hashed like that of a share. */
const RELAY_KEY = new Uint8Array(createHash('sha256').update('shoal/relay/1').digest())

const LOOPBACK_GRACE_MS = 200

export interface ReachabilityInit {
  swarmProtocol: string
  dhts: DhtSet
  budget: DialBudget
  log: Log
  hit: Hit
  now: () => number
  /** Loopback counts as the world outside: for tests on one machine. */
  isLoopbackFar: boolean
}

export interface ReachStatus {
  /**
   * 'open': anybody dials this node; 'relayed': anybody reaches it through a relay; 'closed': nobody from outside; 'checking': not known yet;
   * 'local': nobody outside is connected who could tell.
   */
  kind: 'open' | 'relayed' | 'closed' | 'checking' | 'local'
  addresses: AddressState[]
  /** Peer ids. */
  relays: string[]
  /** Null while this node does not relay for others. */
  relaying: RelayingStatus | null
}

type Components = CircuitRelayServerComponents & { transportManager: { getAddrs(): Multiaddr[] } }

/** Made before the node, attached while it is made, started after it. */
export class Reachability {
  readonly #init: ReachabilityInit
  readonly #codecs: Codecs
  readonly #far: Far
  readonly #machine: Reach
  readonly #stopped = new AbortController()
  readonly #observed = new ObservedHosts()
  /** Addresses at interfaces of this machine. */
  #own = new Set<string>()
  #components: Components | null = null
  #relay: RelayService | null = null
  #reservations: Reservations | null = null
  #node: Libp2p | null = null
  #finder: RelayFinder | null = null
  #checks: DialBack | null = null
  #relayed: Multiaddr[] = []
  #mapper: PortMapper | null = null
  /** What the router says it passes on. */
  #mapping: Mapping | null = null
  #timer: NodeJS.Timeout | undefined
  #looks: NodeJS.Timeout | undefined
  #announcing: NodeJS.Timeout | undefined
  readonly #tasks = new Set<Promise<void>>()

  private constructor(init: ReachabilityInit, codecs: Codecs) {
    this.#init = init
    this.#codecs = codecs
    this.#far = new Far(init.isLoopbackFar)
    // Where the world outside is this machine, nobody is far and slow.
    this.#machine = new Reach({ ...REACH, ...(init.isLoopbackFar ? { graceMs: LOOPBACK_GRACE_MS } : {}) }, Math.random)
  }

  static async open(init: ReachabilityInit): Promise<Reachability> {
    return new Reachability(init, await loadCodecs())
  }

  /** A service of the node. */
  attach(components: Components, server: CircuitRelayService): void {
    this.#components = components
    const { swarmProtocol, log, hit, now } = this.#init
    this.#relay = new RelayService({ components, server, codecs: this.#codecs, swarmProtocol, log, hit, now })
  }

  /** The node's transport over relays. */
  useTransport(reservations: Reservations): void {
    this.#reservations = reservations
  }

  async start(node: Libp2p, ping: (peer: PeerId, signal: AbortSignal) => Promise<number>): Promise<void> {
    const { budget, log, hit, now, dhts, swarmProtocol } = this.#init
    if (this.#reservations === null) throw new Error('the node was made without a transport over relays')
    this.#node = node
    this.#checks = new DialBack({ node, codecs: this.#codecs, budget, far: this.#far, log, hit, now })
    await this.#checks.start()
    this.#finder = new RelayFinder({
      ...{ node, reservations: this.#reservations, far: this.#far, swarmProtocol, log, ping },
      find: (signal) => dhts.find(RELAY_KEY, node.peerId.toString(), signal),
      onChange: (addresses) => this.#announceRelayed(addresses),
    })
    node.addEventListener('peer:identify', this.#identified)
    node.addEventListener('peer:disconnect', this.#gone)
    node.addEventListener('self:peer:update', this.#look)
    this.#looks = setInterval(this.#look, REACH.lookMs).unref()
    this.#look()
  }

  /** Asks the router to pass a port on, from now on. What it says is checked like any other address. */
  mapPorts(): void {
    const port = (): number | null => this.#listeningPorts()[0] ?? null
    const onChange = (mapping: Mapping | null): void => {
      const isSame = mapping?.host === this.#mapping?.host && mapping?.port === this.#mapping?.port
      this.#mapping = mapping
      this.#look()
      // The address may be known already, as one that nobody reaches.
      if (!isSame) for (const address of this.#mapped()) this.#feed({ type: 'changed', address })
    }
    this.#mapper = new PortMapper({ log: this.#init.log, port, onChange })
    this.#mapper.start()
  }

  /** This computer has another address: that is looked at now. */
  moved(): void {
    this.#look()
  }

  /** Where the node listens, whoever may know it. */
  listening(): Multiaddr[] {
    return this.#components?.transportManager.getAddrs() ?? []
  }

  status(): ReachStatus {
    const { isOpen, hasCheckers, addresses } = this.#machine
    const relays = this.#finder?.relays ?? []
    const isClosed = addresses.length === 0 || addresses.every(({ verdict }) => verdict === 'closed')
    const otherwise = relays.length > 0 ? 'relayed' : hasCheckers ? (isClosed ? 'closed' : 'checking') : 'local'
    return { kind: isOpen ? 'open' : otherwise, addresses, relays, relaying: this.#relay?.status() ?? null }
  }

  get isOpen(): boolean {
    return this.#machine.isOpen
  }

  /** What is passed on for others at most; 0 bytes a day: nothing. */
  setRelayLimits(bytesPerDay: number, bytesPerSecond: number): void {
    this.#relay?.setLimits(bytesPerDay, bytesPerSecond)
    this.#turnRelay()
  }

  deniesReservation(peer: PeerId): Promise<boolean> {
    return this.#relay?.deniesReservation(peer) ?? Promise.resolve(true)
  }

  /** Whether we hold a place at this relay, so that connections through it are ours to take. */
  isOurRelay(peer: PeerId): boolean {
    return this.#reservations?.hasReservation(peer) === true
  }

  /** Whether a place at a relay, at this peer or here, may hang on one connection with it, or a check is being made of it. */
  isTied(peer: PeerId): boolean {
    return this.isOurRelay(peer) || this.isCheck(peer) || this.#relay?.hasPlace(peer) === true
  }

  /** Whether a peer is dialled only because it asked who can reach it. */
  isCheck(peer: PeerId): boolean {
    return this.#checks?.isDialling(peer) === true
  }

  /** The direct connection with a peer that dials us back in time; null when none comes, or when nobody could. */
  async directFrom(peer: PeerId, signal: AbortSignal): Promise<Connection | null> {
    const node = this.#node
    if (node === null || !this.isOpen) return null
    const { promise, resolve } = Promise.withResolvers<Connection | null>()
    const opened = ({ detail }: CustomEvent<Connection>): void => {
      if (detail.remotePeer.equals(peer) && isDirect(detail)) resolve(detail)
    }
    const patience = AbortSignal.any([signal, AbortSignal.timeout(REACH.upgradeMs)])
    patience.addEventListener('abort', () => resolve(null), { once: true })
    node.addEventListener('connection:open', opened)
    const already = node.getConnections(peer).find(isDirect)
    if (already !== undefined || patience.aborted) resolve(already ?? null)
    try {
      return await promise
    } finally {
      node.removeEventListener('connection:open', opened)
    }
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new Error('the network is stopping'))
    clearTimeout(this.#timer)
    clearTimeout(this.#announcing)
    clearInterval(this.#looks)
    this.#node?.removeEventListener('peer:identify', this.#identified)
    this.#node?.removeEventListener('peer:disconnect', this.#gone)
    this.#node?.removeEventListener('self:peer:update', this.#look)
    await this.#mapper?.stop()
    await this.#finder?.stop()
    await this.#relay?.stop()
    await Promise.all(this.#tasks)
  }

  #track(task: Promise<void>): void {
    const guarded = task.catch((thrown: unknown) => {
      if (!this.#stopped.signal.aborted) this.#init.log.warn('finding out who can reach this node failed', { cause: asError(thrown) })
    })
    this.#tasks.add(guarded)
    void guarded.finally(() => this.#tasks.delete(guarded))
  }

  #feed(event: ReachEvent): void {
    if (this.#stopped.signal.aborted) return
    for (const action of this.#machine.handle(event, this.#init.now())) this.#perform(action)
    clearTimeout(this.#timer)
    const at = this.#machine.nextTimeout()
    if (at === undefined) return
    this.#timer = setTimeout(() => this.#feed({ type: 'tick' }), Math.max(1, Math.ceil(at - this.#init.now()))).unref()
  }

  #perform(action: ReachAction): void {
    if (action.type === 'check') this.#track(this.#check(action.peer, action.address))
    else if (action.type === 'wantRelays') this.#wantRelays(action.count)
    else {
      this.#init.log.info(action.type === 'open' ? 'anybody can dial this node' : 'an address is not reached from outside', {
        address: action.address,
      })
      const manager = this.#components?.addressManager
      if (action.type === 'open') manager?.confirmObservedAddr(multiaddr(action.address), { type: action.isOwn ? 'transport' : 'observed' })
      else manager?.removeObservedAddr(multiaddr(action.address))
      this.#turnRelay()
    }
  }

  #wantRelays(count: number): void {
    this.#finder?.want(count)
    this.#track(this.#init.dhts.setServing(count === 0))
  }

  async #check(peer: string, address: string): Promise<void> {
    const connection = this.#node?.getConnections(peerIdFromString(peer)).find((open) => this.#far.groupOf(open) !== null)
    const outcome =
      connection === undefined || this.#checks === null
        ? 'refused'
        : await this.#checks.check(connection, multiaddr(address), this.#own.has(address), this.#stopped.signal)
    this.#feed({ type: 'answered', peer, address, outcome })
  }

  readonly #identified = ({ detail }: CustomEvent<IdentifyResult>): void => {
    const { peerId, connection, protocols, observedAddr, listenAddrs } = detail
    const group = this.#far.groupOf(connection)
    if (group !== null) {
      if (observedAddr !== undefined) this.#sawUs(observedAddr, peerId, group)
      if (protocols.includes(DIAL_REQUEST)) this.#feed({ type: 'checker', peer: peerId.toString(), group })
      this.#finder?.look()
    }
    if (!isDirect(connection) && connection.direction === 'inbound') this.#track(this.#dialBack(peerId, listenAddrs))
  }

  readonly #gone = ({ detail }: CustomEvent<PeerId>): void => {
    this.#relay?.forget(detail)
    this.#observed.forget(detail.toString())
    this.#feed({ type: 'checkerGone', peer: detail.toString() })
  }

  /** Somebody outside says that it sees us at this host; its port is that of an outgoing connection. */
  #sawUs(address: Multiaddr, peer: PeerId, group: string): void {
    const endpoint = this.#far.endpoint(address)
    if (endpoint === null || endpoint.kind !== 'ip4') return
    this.#observed.tell(peer.toString(), group, endpoint.host)
    this.#look()
  }

  #observedHosts(): readonly string[] {
    const open = this.#machine.addresses.filter(({ verdict }) => verdict === 'open').map(({ address }) => address)
    return this.#observed.hosts((host) => open.some((address) => address.startsWith(`/ip4/${host}/tcp/`)), this.#init.now())
  }

  readonly #look = (): void => {
    if (this.#components === null || this.#stopped.signal.aborted) return
    const { addressManager } = this.#components
    const own = addressManager
      .getAddressesWithMetadata()
      .filter(({ type, multiaddr: address }) => type === 'transport' && this.#far.endpoint(address) !== null)
      .map(({ multiaddr: address }) => plain(address))
    this.#own = new Set(own)
    const ports = this.#listeningPorts()
    const told = [...this.#mapped(), ...this.#observedHosts().flatMap((host) => ports.map((port) => `/ip4/${host}/tcp/${port}`))]
    const addresses = [...own.map((address) => ({ address, isOwn: true })), ...told.map((address) => ({ address, isOwn: false }))]
    const unique = new Map(addresses.reverse().map((entry) => [entry.address, entry]))
    this.#feed({ type: 'addresses', addresses: [...unique.values()].reverse() })
  }

  /** IPv4 and TCP, each once. */
  #listeningPorts(): number[] {
    const ports = this.listening().flatMap((address) => {
      const endpoint = endpointOf(address)
      return endpoint?.kind === 'ip4' && !endpoint.isRelayed && endpoint.port > 0 ? [endpoint.port] : []
    })
    return [...new Set(ports)]
  }

  /** A router behind another router says that its address is a private one: that is none for others. */
  #mapped(): string[] {
    const mapping = this.#mapping
    if (mapping === null || !isIPv4(mapping.host)) return []
    const address = `/ip4/${mapping.host}/tcp/${mapping.port}`
    return this.#far.endpoint(multiaddr(address)) === null ? [] : [address]
  }

  #announceRelayed(addresses: Multiaddr[]): void {
    const manager = this.#components?.addressManager
    const texts = new Set(addresses.map((address) => address.toString()))
    for (const address of addresses) manager?.confirmObservedAddr(address, { type: 'observed' })
    for (const address of this.#relayed) if (!texts.has(address.toString())) manager?.removeObservedAddr(address)
    this.#relayed = addresses
  }

  /** A peer reached us through a relay, and can be dialled: directly is better for all three. */
  async #dialBack(peerId: PeerId, listens: readonly Multiaddr[]): Promise<void> {
    const node = this.#node
    const { budget, log } = this.#init
    const direct = listens
      .slice(0, NETWORK.listenAddressesMax)
      .filter((address) => this.#far.endpoint(address) !== null && budget.allows(address))
    if (node === null || direct.length === 0 || node.getConnections(peerId).some(isDirect)) return
    // It may name anybody: few of them, out of what this node dials by itself in a minute.
    const whole = direct
      .slice(0, RELAY.addressesMax)
      .filter(() => budget.takeForQuery(undefined))
      .map((address) => multiaddr(plain(address)).encapsulate(`/p2p/${peerId.toString()}`))
    try {
      await node.dial(whole, { signal: AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(WAITS.dialMs)]) })
    } catch (thrown) {
      log.debug('a relayed peer could not be dialled directly', { peer: peerId.toString(), cause: asError(thrown) })
    }
  }

  #turnRelay(): void {
    const relay = this.#relay
    if (relay === null || this.#node === null) return
    const isOn = this.isOpen && relay.mayRelay
    if (isOn === relay.isOn) return
    this.#track(relay.turn(isOn).then(() => (isOn ? this.#announce() : this.#init.dhts.stopProviding(RELAY_KEY))))
    if (!isOn) clearTimeout(this.#announcing)
  }

  /** Says in the DHT that this node relays, now and again. */
  async #announce(): Promise<void> {
    const { dhts, log } = this.#init
    const told = await dhts.provide(RELAY_KEY, AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(WAITS.provideMs)])).catch(() => 0) // again soon
    if (this.#stopped.signal.aborted || this.#relay?.isOn !== true) return
    log.debug('announced as a relay', { told })
    const waitMs = told > 0 ? RELAY.announceMs : RELAY.announceRetryMs
    this.#announcing = setTimeout(() => this.#track(this.#announce()), waitMs).unref()
  }
}

const isDirect = (connection: Connection): boolean => !isRelayed(connection)

/** Without the peer id. */
const plain = (address: Multiaddr): string => address.toString().replace(/\/p2p\/[^/]+$/, '')
