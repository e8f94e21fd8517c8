/**
 * Who enters the routing table of a DHT, and from whom look-ups start.
 *
 * Few of one neighbourhood, by the address that a peer is really connected from or at: a crowd on one line fills no bucket. And each look-up
 * starts not only from the nearest peers to its key, who may all be of one crowd, but also from the nearest at each larger distance.
 */
import type { Connection, PeerId } from '@libp2p/interface'
import type { Hit } from '../../protocol/limit-table.ts'
import { DHT, WAITS } from '../../protocol/limits.ts'
import { endpointOf, tableGroup } from './addresses.ts'
import type { Insides, TablePeer } from './dht-insides.ts'
import { farStarts, type KadId } from './provide-plan.ts'

/** From being let in to standing in the table: no more than some turns of the event loop. */
const ENTERING_MS = 1_000

export interface TableInit {
  connectionsOf: (peer: PeerId) => Connection[]
  groupPrivate: boolean
  now: () => number
  hit?: Hit
}

interface Entered {
  kadId: KadId
  group: string
  atMs: number
}

/** Holds the table to few peers of one neighbourhood. */
export function diversifyTable({ routingTable: { kb } }: Pick<Insides, 'routingTable'>, init: TableInit): void {
  const entered = new Map<string, Entered>()
  const verify = kb.verify.bind(kb)

  const isThere = ({ kadId, atMs }: Entered): boolean => kb.get(kadId) !== undefined || init.now() - atMs < ENTERING_MS

  const isFull = (group: string, { kadId }: TablePeer): boolean => {
    const bucket = kb._determineBucket(kadId)
    let [inTable, inBucket] = [0, 0]
    for (const [peer, other] of entered) {
      if (other.group !== group) continue
      if (!isThere(other)) {
        entered.delete(peer)
        continue
      }
      inTable++
      if (kb._determineBucket(other.kadId) === bucket) inBucket++
    }
    return inTable >= DHT.tablePerGroupMax || inBucket >= DHT.tablePerGroupPerBucketMax
  }

  const note = (peer: string, entry: Entered): void => {
    if (entered.size >= DHT.tablePeersMax) for (const [name, other] of entered) if (!isThere(other)) entered.delete(name)
    entered.set(peer, entry)
  }

  /** Undefined: not connected, so nobody knows. Null: neighbourhoods do not count there. */
  const groupOf = (peer: PeerId): string | null | undefined => {
    const connection = init.connectionsOf(peer).find(({ status }) => status === 'open')
    if (connection === undefined) return undefined
    const endpoint = endpointOf(connection.remoteAddr)
    return endpoint === null ? undefined : tableGroup(endpoint, init.groupPrivate)
  }

  const isRefused = (group: string | null | undefined, peer: TablePeer): boolean => {
    if (group === null || group === undefined || !isFull(group, peer)) return false
    init.hit?.('tablePerGroup')
    return true
  }

  kb.verify = async (peer, options) => {
    if (isRefused(groupOf(peer.peerId), peer)) return false
    if (!(await verify(peer, options))) return false
    // Others may have entered meanwhile, and only now it is certain where this one is.
    const group = groupOf(peer.peerId)
    if (group === undefined || isRefused(group, peer)) return false
    if (group !== null) note(peer.peerId.toString(), { kadId: peer.kadId, group, atMs: init.now() })
    return true
  }
}

/** Adds starts at the larger distances to those that a query takes from the table; answers to others stay as they are. */
export function spreadStarts({ routingTable }: Pick<Insides, 'routingTable'>): void {
  const closest = routingTable.closestPeers.bind(routingTable)
  routingTable.closestPeers = (key, options) => {
    const nearest = closest(key, options)
    const isQuery = options?.count !== undefined && options.count > 1 && options.exclude === undefined
    if (!isQuery) return nearest
    const known = new Set(nearest.map((peer) => peer.toString()))
    const table = function* (): Generator<{ peer: PeerId; at: KadId }> {
      for (const { peerId, kadId } of routingTable.kb.toIterable()) yield { peer: peerId, at: kadId }
    }
    return [...nearest, ...farStarts(key, table()).filter((peer) => !known.has(peer.toString()))]
  }
}

/**
 * Looks for the peers around this node as soon as there is anybody to ask. The library does so a second after the start, when the entrances
 * may not have answered yet, and then no sooner than five minutes later.
 */
export function fillTable({ routingTable }: Pick<Insides, 'routingTable'>, lookAround: (signal: AbortSignal) => Promise<void>): void {
  let isPlanned = false
  routingTable.addEventListener('peer:add', () => {
    if (isPlanned || routingTable.size > DHT.entrancesMax) return
    isPlanned = true
    // Others of the first ones come at the same time.
    const look = (): void => {
      lookAround(AbortSignal.timeout(WAITS.findMs)).catch(() => {}) // the node is stopping, or nobody answers: the library looks again
    }
    setTimeout(look, DHT.fillAfterMs).unref()
    const again = (): void => {
      isPlanned = false
    }
    setTimeout(again, DHT.fillEveryMs).unref()
  })
}
