/**
 * A simulated Kademlia network: servers with tables of twenty peers a bucket, and look-ups as the library makes them, in several ways that
 * share no peer. No clock, no sockets: it counts whom a look-up asks. The same seed gives the same network.
 */
import { createHash } from 'node:crypto'
import { commonBits, farStarts, type KadId } from '../../node/network/provide-plan.ts'
import { DHT } from '../../protocol/limits.ts'

export interface Server {
  at: KadId
  /** The first 53 bits of its place in two parts, so that distances are quick to compare. */
  high: number
  low: number
}

const K = DHT.recordsNear

export const idOf = (text: string): KadId => createHash('sha256').update(text).digest()

/** `servers` of them, sorted by place; each knows, at each distance from itself, twenty others, or all where there are fewer. */
export class Kademlia {
  readonly servers: Server[]
  /** Buckets that were looked at before, by the owner of the table. */
  readonly #buckets = new Map<KadId, Server[][]>()

  constructor(count: number, seed = 'server') {
    const ids = Array.from({ length: count }, (_, i) => idOf(`${seed} ${i}`)).sort(Buffer.compare)
    this.servers = ids.map((at) => ({ at, ...partsOf(at) }))
  }

  /** Those that answer a look-up by the node at `self`, in the order in which they do. */
  lookUp(self: KadId, key: KadId, askedMax: number): Server[] {
    const distance = distanceTo(key)
    const table = this.#tableOf(self, key)
    const far = farStarts(
      key,
      table.map((peer) => ({ peer, at: peer.at })),
    )
    const starts = new Set([...nearestOf(table, distance), ...far])
    const seen = new Set<Server>(starts)
    const paths = Array.from({ length: DHT.lookUpPaths }, () => ({ queue: [] as Server[], closest: [] as number[] }))
    for (const [i, server] of [...starts].entries()) paths[i % paths.length]!.queue.push(server)
    const asked: Server[] = []
    for (let isMoving = true; isMoving; ) {
      isMoving = false
      for (const { queue, closest } of paths) {
        const server = queue.sort((a, b) => distance(a) - distance(b)).shift()
        if (server === undefined) continue
        isMoving = true
        const at = distance(server)
        if (asked.length >= askedMax || !canEnter(closest, at)) continue
        asked.push(server)
        enter(closest, at)
        for (const other of nearestOf(this.#tableOf(server.at, key), distance)) {
          if (seen.has(other) || distance(other) >= at || !canEnter(closest, distance(other))) continue
          seen.add(other)
          queue.push(other)
        }
      }
    }
    return asked
  }

  /** The nearest of all servers, as nobody in it can know. */
  nearest(key: KadId): Server[] {
    return nearestOf(this.servers, distanceTo(key))
  }

  /** What the peer at `at` knows, as far as it is of use for `key`: its bucket on that side, those nearer to itself, and some that are not. */
  #tableOf(at: KadId, key: KadId): Server[] {
    const depth = Math.min(commonBits(at, key), DEPTH_MAX)
    const known: Server[] = []
    for (let bits = depth; bits <= DEPTH_MAX && known.length < 2 * K; bits++) known.push(...this.#bucket(at, bits))
    for (let bits = depth - 1; bits >= 0 && known.length < 2 * K; bits--) known.push(...this.#bucket(at, bits))
    return known
  }

  /** Twenty of those that have exactly `bits` leading bits in common with the owner of a table, others for each owner. */
  #bucket(owner: KadId, bits: number): Server[] {
    const buckets = this.#buckets.get(owner) ?? []
    const bucket = buckets[bits] ?? this.#fill(owner, bits)
    buckets[bits] = bucket
    this.#buckets.set(owner, buckets)
    return bucket
  }

  #fill(owner: KadId, bits: number): Server[] {
    const side = flipped(owner, bits)
    const from = this.#countBefore(padded(side, bits + 1, 0))
    const to = this.#countBefore(padded(side, bits + 1, 1))
    const step = Math.max(1, (to - from) / K)
    const start = ((owner[30] ?? 0) * 256 + (owner[31] ?? 0)) / 65_536
    return Array.from({ length: Math.min(K, to - from) }, (_, i) => this.servers[from + (Math.floor((i + start) * step) % (to - from))]!)
  }

  #countBefore(at: KadId): number {
    let [left, right] = [0, this.servers.length]
    while (left < right) {
      const middle = (left + right) >> 1
      if (Buffer.compare(this.servers[middle]!.at, at) < 0) left = middle + 1
      else right = middle
    }
    return left
  }
}

/** Buckets beyond this are empty in any network that is simulated. */
const DEPTH_MAX = 24

const partsOf = (at: KadId): { high: number; low: number } => ({
  high: Buffer.from(at).readUInt32BE(0),
  low: Buffer.from(at).readUInt32BE(4) >>> 11,
})

/** Distances from a key, exact to 53 bits. */
function distanceTo(key: KadId): (server: Server) => number {
  const { high, low } = partsOf(key)
  return (server) => ((server.high ^ high) >>> 0) * 2 ** 21 + (server.low ^ low)
}

function nearestOf(servers: Server[], distance: (server: Server) => number): Server[] {
  return servers
    .map((server) => ({ server, at: distance(server) }))
    .sort((a, b) => a.at - b.at)
    .slice(0, K)
    .map(({ server }) => server)
}

const canEnter = (closest: number[], distance: number): boolean => closest.length < K || distance < closest[K - 1]!

function enter(closest: number[], distance: number): void {
  closest.push(distance)
  closest.sort((a, b) => a - b)
  closest.splice(K)
}

function flipped(at: KadId, bit: number): KadId {
  const other = Uint8Array.from(at)
  other[bit >> 3] = (other[bit >> 3] ?? 0) ^ (0x80 >> (bit & 7))
  return other
}

/** The first bits of a place, and zeros or ones for the rest. */
function padded(prefix: KadId, bits: number, rest: 0 | 1): KadId {
  const at = new Uint8Array(prefix.length).fill(rest === 0 ? 0 : 0xff)
  const whole = bits >> 3
  at.set(prefix.subarray(0, whole))
  const mask = 0xff00 >> (bits & 7)
  at[whole] = ((prefix[whole] ?? 0) & mask) | (at[whole]! & ~mask & 0xff)
  return at
}
