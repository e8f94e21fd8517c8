/**
 * Two that dial each other at once have two connections, and the library keeps both for as long as the nodes run.
 *
 * The spare one of such twins is that which was dialled by the greater peer id: both sides see the same one. No new stream goes over it, and
 * when no stream is left on it, whoever dialled it closes it. Connections that were opened further apart in time than a dead one can be noticed
 * are no twins: the older one may lead nowhere. Neither is one on the local network a twin of one that goes around it.
 */
import type { Connection, PeerId } from '@libp2p/interface'
import { compareBytes } from '../../protocol/bytes.ts'
import { NETWORK, WAITS } from '../../protocol/limits.ts'
import { isRelayed } from './addresses.ts'
import { isLocalNetwork } from './local-network.ts'

/** What is looked at of a connection; one of libp2p is one. */
export type Link = Pick<Connection, 'remotePeer' | 'remoteAddr' | 'direction' | 'status' | 'limits' | 'streams' | 'close' | 'abort'> & {
  timeline: { open: number }
}

export interface TwinsParts {
  node: { peerId: PeerId; getConnections(peer?: PeerId): Link[] }
  /** A peer whose connections are left as they are. */
  isTied(peer: PeerId): boolean
  /** Told of each that is closed. */
  onSpare(link: Link): void
  /** Milliseconds between two looks; a connection younger than that may just be about to be used. Left out: as in limits.ts. */
  everyMs?: number | undefined
}

export class Twins {
  readonly #parts: TwinsParts
  readonly #everyMs: number
  readonly #timer: NodeJS.Timeout

  constructor(parts: TwinsParts) {
    this.#parts = parts
    this.#everyMs = parts.everyMs ?? NETWORK.twinsLookMs
    this.#timer = setInterval(() => this.look(Date.now()), this.#everyMs).unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** Of the connections with one peer, in the order they were opened, the one to use; undefined when there is none. The newest: who opened
   *  another one has lost the others, though we may not have heard of it. */
  best<L extends Link>(connections: readonly L[]): L | undefined {
    return connections.findLast((link) => !this.#isSpare(link, connections)) ?? connections.at(-1)
  }

  /** Closes what is spare; `nowMs` on the clock of Connection.timeline. */
  look(nowMs: number): void {
    const { node, isTied } = this.#parts
    const direct = node.getConnections().filter((link) => link.status === 'open' && !isRelayed(link))
    const byPeer = Map.groupBy(direct, ({ remotePeer }) => remotePeer.toString())
    for (const links of byPeer.values()) {
      if (links.length < 2) continue
      for (const link of links) {
        const isOld = nowMs - link.timeline.open >= this.#everyMs
        if (link.direction !== 'outbound' || link.streams.length > 0 || !isOld || isTied(link.remotePeer)) continue
        if (this.#isSpare(link, links)) this.#close(link)
      }
    }
  }

  #isSpare(link: Link, links: readonly Link[]): boolean {
    const weAreGreater = compareBytes(this.#parts.node.peerId.toMultihash().bytes, link.remotePeer.toMultihash().bytes) > 0
    if ((link.direction === 'outbound') !== weAreGreater) return false
    return links.some((other) => {
      const isAtOnce = Math.abs(other.timeline.open - link.timeline.open) <= NETWORK.twinsApartMs
      return other.direction !== link.direction && isAtOnce && isLocalNetwork(other.remoteAddr) === isLocalNetwork(link.remoteAddr)
    })
  }

  #close(link: Link): void {
    this.#parts.onSpare(link)
    const late = (): void => link.abort(new Error('there is another connection'))
    link.close({ signal: AbortSignal.timeout(WAITS.stopMs) }).catch(late)
  }
}
