/**
 * The guards around one kad-dht: how it reads and answers messages, and what its queries may dial.
 *
 * Message sizes and entries are limited in dht-decode.ts, records in dht-providers.ts, who enters the routing table in dht-table.ts.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Connection, PeerId, PeerInfo, Stream } from '@libp2p/interface'
import type { KadDHT, KadDHTComponents } from '@libp2p/kad-dht'
import { pbStream } from '@libp2p/utils'
import { RemoteError } from '../../protocol/errors.ts'
import { DHT, NETWORK, WAITS } from '../../protocol/limits.ts'
import type { Log } from '../log.ts'
import { endpointOf, ipGroup } from './addresses.ts'
import { type DhtCodec, type DhtMessage, type DhtPeer, usableAddresses } from './dht-decode.ts'
import { type Insides, insidesOf } from './dht-insides.ts'
import type { ProviderTable } from './dht-providers.ts'
import type { DialBudget, QueryDials } from './dial-budget.ts'
import { NetworkError } from './network-error.ts'

type Handle = (connection: Connection, message: DhtMessage) => Promise<Partial<DhtMessage> | undefined>

export interface DhtGuardInit {
  codec: DhtCodec
  table: ProviderTable
  /** Keys (see `keyText`) that this node itself provides. */
  own: ReadonlySet<string>
  self: Uint8Array
  /** Our addresses as this DHT may tell them, without the peer id. */
  ownAddresses: () => Uint8Array[]
  mapPeer: (peer: PeerInfo) => PeerInfo
  isEd25519Only: boolean
  groupPrivate: boolean
  log: Log
}

const KEY_BYTES = 34

/** A key as text: the hexadecimal digest of a SHA-256 multihash. Throws RemoteError BAD_FRAME for any other key. */
export function keyText(multihash: Uint8Array | undefined): string {
  const isSha256 = multihash?.byteLength === KEY_BYTES && multihash[0] === 0x12 && multihash[1] === 0x20
  if (!isSha256) throw new RemoteError('BAD_FRAME', `DHT key of ${multihash?.byteLength ?? 0} bytes`)
  return Buffer.from(multihash.subarray(2)).toString('hex')
}

/** Puts the guards around a DHT that has not been started yet. */
export function guardDht(dht: KadDHT, init: DhtGuardInit): void {
  const { rpc } = insidesOf(dht)
  const handles = createHandles(dht, init)
  rpc.onIncomingStream = (stream, connection) => serveStream(stream, connection, init, handles)
  // What the library would register by itself goes through the function above; nothing may reach its own handlers past it.
  delete rpc.handlers.PUT_VALUE
  delete rpc.handlers.GET_VALUE
}

/** Resolves once the routing table has a peer; false when there is none in time. */
export async function hasPeers(dht: KadDHT, signal: AbortSignal): Promise<boolean> {
  const { routingTable } = insidesOf(dht)
  if (routingTable.size > 0) return true
  const patience = AbortSignal.any([signal, AbortSignal.timeout(NETWORK.dhtFirstPeerMs)])
  return new Promise((resolve) => {
    routingTable.addEventListener('peer:add', () => resolve(true), { once: true, signal: patience })
    patience.addEventListener('abort', () => resolve(routingTable.size > 0), { once: true })
    if (patience.aborted) resolve(false)
  })
}

/** Peers in the routing table now. */
export const tableSize = (dht: KadDHT): number => insidesOf(dht).routingTable.size

/**
 * The components for one DHT: dials of its queries are taken from a budget, and it learns only the addresses that it may tell.
 * `onUnreachable` is called for a peer that is not there any more, as long as others are at addresses of this DHT: a neighbour on the local
 * network does not show that the line to the world is up.
 */
export function guardedComponents(
  components: KadDHTComponents,
  budget: DialBudget,
  addressFilter: (address: ReturnType<KadDHTComponents['addressManager']['getAddresses']>[number]) => boolean,
  onUnreachable: (peer: PeerId) => void,
): KadDHTComponents {
  const { connectionManager, addressManager } = components
  const openStream: typeof connectionManager.openStream = async (peer, protocol, options) => {
    const isConnected = !Array.isArray(peer) && 'toMultihash' in peer && connectionManager.getConnections(peer).length > 0
    const dials = (options as { dials?: QueryDials } | undefined)?.dials // our own field, given to the query, handed through by it
    if (!isConnected && !budget.takeForQuery(dials)) throw new NetworkError('BUDGET', 'this query has dialled enough')
    try {
      return await connectionManager.openStream(peer, protocol, options)
    } catch (error) {
      const isOnline = connectionManager.getConnections().some(({ remoteAddr }) => addressFilter(remoteAddr))
      if (isOnline && !Array.isArray(peer) && 'toMultihash' in peer && isUnreachable(error)) onUnreachable(peer)
      throw error
    }
  }
  const overrides: Partial<Record<PropertyKey, unknown>> = {
    connectionManager: override(connectionManager, { openStream }),
    addressManager: override(addressManager, { getAddresses: () => addressManager.getAddresses().filter(addressFilter) }),
  }
  return override(components, overrides)
}

const UNREACHABLE = new Set(['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ETIMEDOUT', 'ECONNRESET'])

/**
 * Whether a dial failed on the other side: a refusal of ours, or that nobody waits any more, says nothing about the peer; nor does that
 * this computer has no way to any of its addresses.
 */
export function isUnreachable(error: unknown): boolean {
  const codes = codesOf(error)
  // Time that ran out may be our own doing: a busy node must not forget everybody.
  return codes.every((code) => UNREACHABLE.has(code)) && codes.some((code) => code !== 'ENETUNREACH')
}

/** One for each address that was dialled; '' where there is none. */
function codesOf(error: unknown): string[] {
  if (error instanceof AggregateError) return error.errors.flatMap(codesOf)
  return [error instanceof Error && 'code' in error ? String(error.code) : '']
}

/** `target` with some members replaced; methods keep their `this`. */
function override<T extends object>(target: T, members: Partial<Record<PropertyKey, unknown>>): T {
  return new Proxy(target, {
    get: (_, name) => {
      if (name in members) return members[name]
      const value: unknown = Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

function createHandles(dht: KadDHT, init: DhtGuardInit): Map<string, Handle> {
  const { rpc, peerRouting } = insidesOf(dht)
  const stock = (type: string): Handle => {
    const handler = rpc.handlers[type]!
    return (connection, message) => handler.handle(connection.remotePeer, message)
  }
  return new Map<string, Handle>([
    ['ADD_PROVIDER', async (connection, message) => void addProviders(connection, message, init)],
    ['GET_PROVIDERS', (connection, message) => getProviders(connection, message, init, peerRouting)],
    ['FIND_NODE', stock('FIND_NODE')],
    ['PING', stock('PING')],
  ])
}

/** Answers the messages of one stream until the peer ends it. Any fault of the peer resets the stream, nothing else. */
async function serveStream(stream: Stream, connection: Connection, init: DhtGuardInit, handles: Map<string, Handle>): Promise<void> {
  try {
    if (init.isEd25519Only && connection.remotePeer.type !== 'Ed25519') throw new RemoteError('BAD_HELLO', 'identity of another kind')
    const limits = { maxDataLength: NETWORK.dhtReplyBytesMax, maxBufferSize: 2 * NETWORK.dhtReplyBytesMax }
    const messages = pbStream(stream, limits)
    for (let count = 0; count < NETWORK.dhtMessagesPerStreamMax && stream.readStatus === 'readable'; count++) {
      const message = await messages.read(init.codec, { signal: AbortSignal.timeout(WAITS.helloMs) })
      const handle = handles.get(message.type)
      if (handle === undefined) throw new RemoteError('UNKNOWN_TYPE', `DHT message ${message.type}`)
      const reply = await handle(connection, message)
      if (reply !== undefined) await messages.write(reply, init.codec, { signal: AbortSignal.timeout(WAITS.helloMs) })
      // A window full of messages is here at once: others have their turn in between.
      if (count % DHT.messagesPerTurn === DHT.messagesPerTurn - 1) await nextTurn()
    }
    await stream.close({ signal: AbortSignal.timeout(WAITS.helloMs) })
  } catch (thrown) {
    if (isEnd(thrown)) {
      await stream.close({ signal: AbortSignal.timeout(WAITS.helloMs) }).catch(() => stream.abort(new Error('could not close')))
      return
    }
    init.log.debug('dht stream ended', { peer: connection.remotePeer.toString(), cause: thrown })
    stream.abort(thrown instanceof Error ? thrown : new Error('the stream was reset'))
  }
}

const isEnd = (thrown: unknown): boolean => thrown instanceof Error && thrown.name === 'UnexpectedEOFError'

/** Stores what the sender says about itself, and nothing that it says about others. */
function addProviders(connection: Connection, message: DhtMessage, init: DhtGuardInit): void {
  const key = keyText(message.key)
  const peer = connection.remotePeer.toMultihash().bytes
  const entry = message.providers.find(({ id }) => sameBytes(id, peer))
  const addresses = usableAddresses(entry?.multiaddrs ?? [])
  if (addresses.length === 0) return
  const endpoint = endpointOf(connection.remoteAddr)
  const group = endpoint === null ? null : ipGroup(endpoint, init.groupPrivate)
  init.table.add(key, { peerId: connection.remotePeer.toString(), peer, addresses, group })
}

async function getProviders(
  connection: Connection,
  message: DhtMessage,
  init: DhtGuardInit,
  peerRouting: Insides['peerRouting'],
): Promise<Partial<DhtMessage>> {
  const key = keyText(message.key)
  const ownAddresses = init.own.has(key) ? usableAddresses(init.ownAddresses()) : []
  const own: DhtPeer[] = ownAddresses.length > 0 ? [{ id: init.self, multiaddrs: ownAddresses }] : []
  const others = init.table.get(key).map(({ peer, addresses }) => ({ id: peer, multiaddrs: addresses }))
  return {
    type: 'GET_PROVIDERS',
    key: message.key!,
    providers: [...own, ...others].slice(0, NETWORK.providersPerKeyMax),
    closer: await closerPeers(connection, message.key!, init, peerRouting),
  }
}

async function closerPeers(
  connection: Connection,
  key: Uint8Array,
  init: DhtGuardInit,
  peerRouting: Insides['peerRouting'],
): Promise<DhtPeer[]> {
  try {
    const peers = await peerRouting.getClosestPeersOffline(key, { exclude: [connection.remotePeer] })
    return peers
      .map(init.mapPeer)
      .filter(({ multiaddrs }) => multiaddrs.length > 0)
      .slice(0, NETWORK.dialsPerResponderMax)
      .map(({ id, multiaddrs }) => ({ id: id.toMultihash().bytes, multiaddrs: multiaddrs.map((address) => address.bytes) }))
  } catch (cause) {
    // One broken entry of the peer store must not cost the providers.
    init.log.debug('closer peers are not readable', { cause })
    return []
  }
}

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => a.byteLength === b.byteLength && a.every((byte, i) => byte === b[i])
