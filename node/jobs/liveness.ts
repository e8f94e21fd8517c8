/**
 * Notices connections that lead nowhere any more while something is wanted: a router forgot them, a line is dead, the other computer sleeps or
 * has another address. TCP alone tries for minutes, in steps that grow, and goes on long after the line does.
 *
 * A peer from which not a byte came for a while is asked for an echo; whatever comes counts as an answer. One that is silent for a good
 * reason, as a peer with a long queue, answers at once; so nobody loses a place in a queue.
 */
import { LIVENESS } from '../../protocol/limits.ts'
import type { Log } from '../log.ts'
import type { FrameStream } from '../network/frame-stream.ts'
import type { Remote } from '../network/remote.ts'

export interface LivenessParts {
  /** Monotonic milliseconds. */
  now(): number
  /** Asks over every connection to a peer, and ends those without an answer, unless bytes came meanwhile; how many. */
  endDead(peerId: string, isHeard: () => boolean): Promise<number>
  track(task: Promise<void>): void
  log: Log
}

/** What of a link is needed; a PeerLink has it. */
export interface Link {
  remote: Remote
  /** Whether the peer owes anything that it was asked for. */
  isAsked: boolean
}

export class Liveness {
  readonly #parts: LivenessParts
  readonly #streams = new WeakMap<Remote, Pick<FrameStream, 'arrivedMs'>>()
  /** The links of which something is wanted, by peer, as seen last. */
  #watched = new Map<string, Link[]>()
  /** Peers that are being asked. */
  readonly #asked = new Set<string>()
  /** Those that answered, and when: not asked again at once. */
  #answered = new Map<string, number>()

  constructor(parts: LivenessParts) {
    this.#parts = parts
  }

  /** What comes over `stream` comes from `remote`. */
  follow(remote: Remote, stream: Pick<FrameStream, 'arrivedMs'>): void {
    this.#streams.set(remote, stream)
  }

  /** For how long nothing has come over a link. */
  silentMs(remote: Remote): number {
    return this.#parts.now() - (this.#streams.get(remote)?.arrivedMs ?? this.#parts.now())
  }

  /** Once a second or so, with all links of downloads. Where nothing is owed, a dead one costs little, and an echo as much as ever: a stream
   *  of its own at both ends. */
  look(links: readonly Link[]): void {
    const now = this.#parts.now()
    this.#watched = Map.groupBy(links, ({ remote }) => remote.peerId)
    this.#answered = new Map([...this.#answered].filter(([peerId]) => this.#watched.has(peerId)))
    for (const [peerId, own] of this.#watched) {
      const lastMs = Math.max(this.#heardMs(peerId), this.#answered.get(peerId) ?? Number.NEGATIVE_INFINITY)
      const silentMs = own.some(({ isAsked }) => isAsked) ? LIVENESS.silentMs : LIVENESS.idleSilentMs
      if (now - lastMs < silentMs || this.#asked.has(peerId) || this.#asked.size >= LIVENESS.questionsAtOnceMax) continue
      this.#asked.add(peerId)
      this.#parts.track(this.#ask(peerId, now))
    }
  }

  /** When bytes came for the last time over any of these links. */
  #heardMs(peerId: string): number {
    const links = this.#watched.get(peerId) ?? []
    return links.reduce(
      (last, { remote }) => Math.max(last, this.#streams.get(remote)?.arrivedMs ?? Number.NEGATIVE_INFINITY),
      Number.NEGATIVE_INFINITY,
    )
  }

  async #ask(peer: string, sinceMs: number): Promise<void> {
    try {
      const ended = await this.#parts.endDead(peer, () => this.#heardMs(peer) > sinceMs)
      if (ended > 0) this.#parts.log.info('connections without an answer were ended', { peer, ended })
      else this.#answered.set(peer, this.#parts.now())
    } finally {
      this.#asked.delete(peer)
    }
  }
}
