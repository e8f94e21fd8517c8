/**
 * Telling the peers of one DHT that this node provides keys: one look-up for the first key, then records for it and for its neighbours that
 * the same peers are nearest to (provide-plan.ts). Instead of the library's own `provide`, which knows one key and only the end of a look-up.
 */
import { createHash } from 'node:crypto'
import type { PeerId } from '@libp2p/interface'
import type { KadDHT } from '@libp2p/kad-dht'
import { DHT } from '../../protocol/limits.ts'
import type { DhtPeer } from './dht-decode.ts'
import { insidesOf } from './dht-insides.ts'
import { type KadId, ProvidePlan } from './provide-plan.ts'

/** Where a key (multihash bytes of it) or a peer id lies. */
export const kadIdOf = (multihash: Uint8Array): KadId => createHash('sha256').update(multihash).digest()

export interface Provided {
  /** Peers that took the record of the first key. */
  told: number
  /** Indices of the others whose records went out as well. */
  covered: number[]
}

export interface ProvideRequest {
  /** Multihash bytes, the first one is looked up. */
  keys: readonly Uint8Array[]
  /** What the records say: this node and its addresses. */
  self: DhtPeer
  /** For look-up and records, as the library's queries take them. */
  options: { signal: AbortSignal }
}

interface Known {
  id: PeerId
  text: string
}

/** Ends with what was done when the signal fires or the look-up fails; throws nothing but what the look-up throws before anybody was told. */
export async function provideKeys(dht: KadDHT, { keys, self, options }: ProvideRequest): Promise<Provided> {
  const [first, ...others] = keys
  if (first === undefined) return { told: 0, covered: [] }
  const { network } = insidesOf(dht)
  const peers = new Map<string, Known>()
  const told = new Map<Uint8Array, number>()
  const tasks = new Tasks(DHT.recordsAtOnceMax)

  const tell = async (peer: Known, wanted: readonly Uint8Array[]): Promise<void> => {
    for (const key of wanted) {
      let isTaken = false
      const message = { type: 'ADD_PROVIDER', key, closer: [], providers: [self] }
      for await (const event of network.sendMessage(peer.id, message, { ...options, path: NO_PATH }))
        if (event.name === 'PEER_RESPONSE') isTaken = true
      if (!isTaken) return // it does not answer any more
      told.set(key, (told.get(key) ?? 0) + 1)
    }
  }

  const plan = new ProvidePlan<Known>(kadIdOf(first))
  try {
    for await (const event of dht.getClosestPeers(first, options)) {
      if (event.name !== 'PEER_RESPONSE' || peers.has(event.from.toString())) continue
      const peer: Known = { id: event.from, text: event.from.toString() }
      peers.set(peer.text, peer)
      if (plan.meet(peer, kadIdOf(event.from.toMultihash().bytes))) tasks.add(() => tell(peer, [first]))
    }
  } catch (cause) {
    if (peers.size === 0) throw cause
  }
  for (const peer of plan.rest()) tasks.add(() => tell(peer, [first]))
  const near = others.filter((key) => plan.covers(kadIdOf(key)))
  const wanted = new Map(near.map((key) => [key, plan.peersFor(kadIdOf(key))]))
  for (const peer of peers.values()) {
    const forIt = near.filter((key) => wanted.get(key)?.includes(peer))
    if (forIt.length > 0) tasks.add(() => tell(peer, forIt))
  }
  await tasks.all()
  // Half of them is enough for a day; fewer, and the key is looked up by itself.
  const isCovered = (key: Uint8Array): boolean => 2 * (told.get(key) ?? 0) > (wanted.get(key)?.length ?? Number.POSITIVE_INFINITY)
  return { told: told.get(first) ?? 0, covered: others.flatMap((key, index) => (isCovered(key) ? [index] : [])) }
}

/** The library marks events with the way of a look-up that they belong to: these belong to none. */
const NO_PATH = { index: -1, queued: 0, running: 0, total: 0 }

/** Runs so many at a time, in order. */
class Tasks {
  readonly #atOnce: number
  readonly #waiting: (() => Promise<void>)[] = []
  readonly #running = new Set<Promise<void>>()

  constructor(atOnce: number) {
    this.#atOnce = atOnce
  }

  /** At most lookUpPeersMax and a few of them wait. */
  add(task: () => Promise<void>): void {
    this.#waiting.push(task)
    this.#next()
  }

  async all(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running)
  }

  #next(): void {
    if (this.#running.size >= this.#atOnce) return
    const task = this.#waiting.shift()
    if (task === undefined) return
    const running: Promise<void> = task()
      .catch(() => {}) // one peer that fails must not cost what the others take
      .finally(() => {
        this.#running.delete(running)
        this.#next()
      })
    this.#running.add(running)
  }
}
