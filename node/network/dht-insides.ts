/**
 * What the guards use of the library's insides: private fields of kad-dht, looked at once for each DHT, so that an upgrade which moves one
 * is noticed at the start.
 */
import type { Connection, PeerId, PeerInfo, Stream } from '@libp2p/interface'
import type { KadDHT, QueryEvent } from '@libp2p/kad-dht'
import type { DhtMessage } from './dht-decode.ts'
import type { KadId } from './provide-plan.ts'

export interface TablePeer {
  peerId: PeerId
  kadId: KadId
}

type Closest = (key: KadId, options?: { count?: number; exclude?: unknown[] }) => PeerId[]

export interface Insides {
  rpc: {
    handlers: Record<string, { handle(peer: Connection['remotePeer'], message: DhtMessage): Promise<Partial<DhtMessage> | undefined> }>
    onIncomingStream(stream: Stream, connection: Connection): Promise<void>
  }
  network: { sendMessage(to: PeerId, message: Partial<DhtMessage>, options: object): AsyncGenerator<QueryEvent> }
  peerRouting: { getClosestPeersOffline(key: Uint8Array, options: { exclude: unknown[] }): Promise<PeerInfo[]> }
  routingTable: {
    size: number
    closestPeers: Closest
    remove(peer: PeerId): Promise<void>
    addEventListener(type: 'peer:add', listener: () => void, options?: { once: true; signal: AbortSignal }): void
    kb: {
      /** Asked before a peer enters the table. */
      verify(peer: TablePeer, options?: object): Promise<boolean>
      get(key: KadId): TablePeer | undefined
      toIterable(): Iterable<TablePeer>
      _determineBucket(key: KadId): { peers: TablePeer[] }
    }
  }
}

/** Throws when something is not where it was. */
export function insidesOf(dht: KadDHT): Insides {
  const insides = dht as unknown as Partial<Insides> // private fields, checked here
  const { rpc, network, peerRouting, routingTable } = insides
  const isAsKnown =
    typeof rpc?.onIncomingStream === 'function' &&
    ['ADD_PROVIDER', 'GET_PROVIDERS', 'FIND_NODE', 'PING'].every((type) => typeof rpc.handlers[type]?.handle === 'function') &&
    typeof network?.sendMessage === 'function' &&
    typeof peerRouting?.getClosestPeersOffline === 'function' &&
    typeof routingTable?.size === 'number' &&
    [routingTable.closestPeers, routingTable.remove].every((method) => typeof method === 'function') &&
    [routingTable.kb?.verify, routingTable.kb?.get, routingTable.kb?.toIterable, routingTable.kb?._determineBucket].every(
      (method) => typeof method === 'function',
    )
  if (!isAsKnown) throw new Error('kad-dht has moved what the guards hold on to')
  return insides as Insides
}
