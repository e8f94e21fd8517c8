/**
 * Connections that come in and are not upgraded yet: few of each host, not too many in all, and handshakes at a pace that leaves time for
 * everything else.
 *
 * A socket that says nothing costs a place and no more. When the places run out the one that has waited longest goes, so a mass of silent
 * ones shuts nobody out. A handshake costs some milliseconds, so those that have begun to speak take turns, the newest first: when more come
 * than can be served, the older ones have been waiting in vain anyway.
 */
import type { MultiaddrConnection } from '@libp2p/interface'
import type { Hit } from '../../protocol/limit-table.ts'
import { NETWORK } from '../../protocol/limits.ts'
import { endpointOf, hostGroup } from './addresses.ts'
import type { ReadableSocket } from './fair-reads.ts'
import { NetworkError } from './network-error.ts'

export interface ArrivalRules {
  /** Milliseconds; only differences matter. */
  now: () => number
  groupPrivate: boolean
  hit?: Hit
}

interface Waiting {
  connection: MultiaddrConnection
  go: (isServed: boolean) => void
}

/** Turns are given out so often, while somebody waits. */
const STEP_MS = 20

export class Arrivals {
  readonly #rules: ArrivalRules
  /** In the order in which they came, with the host where hosts are counted. */
  readonly #pending = new Map<MultiaddrConnection, string | null>()
  readonly #byHost = new Map<string, number>()
  readonly #waiting: Waiting[] = []
  #turns: number = NETWORK.handshakesAtOnceMax
  #turnsMs: number
  #timer: NodeJS.Timeout | undefined

  constructor(rules: ArrivalRules) {
    this.#rules = rules
    this.#turnsMs = rules.now()
  }

  get pending(): number {
    return this.#pending.size
  }

  /** Whether one that has just come is to be refused; resolves when it is its turn to be upgraded. */
  async refuses(connection: MultiaddrConnection): Promise<boolean> {
    const endpoint = endpointOf(connection.remoteAddr)
    const host = endpoint === null ? null : hostGroup(endpoint, this.#rules.groupPrivate)
    if (host !== null && (this.#byHost.get(host) ?? 0) >= NETWORK.pendingInboundPerHostMax) {
      this.#rules.hit?.('pendingInboundPerHost')
      return true
    }
    this.#makeRoom()
    this.#pending.set(connection, host)
    if (host !== null) this.#byHost.set(host, (this.#byHost.get(host) ?? 0) + 1)
    connection.addEventListener('close', () => this.settle(connection), { once: true })
    await firstBytes(connection)
    return !(await this.#turn(connection))
  }

  /** It is upgraded, or closed. */
  settle(connection: MultiaddrConnection): void {
    const host = this.#pending.get(connection)
    if (host === undefined) return
    this.#pending.delete(connection)
    if (host === null) return
    const count = (this.#byHost.get(host) ?? 1) - 1
    if (count === 0) this.#byHost.delete(host)
    else this.#byHost.set(host, count)
  }

  #makeRoom(): void {
    if (this.#pending.size < NETWORK.pendingInboundMax) return
    this.#rules.hit?.('pendingInbound')
    for (const connection of this.#pending.keys()) {
      this.settle(connection)
      connection.abort(new NetworkError('REFUSED', 'others have come since'))
      return
    }
  }

  #turn(connection: MultiaddrConnection): Promise<boolean> {
    if (this.#waiting.length === 0 && this.#take()) return Promise.resolve(connection.status === 'open')
    this.#rules.hit?.('handshakes')
    return new Promise((resolve) => {
      this.#waiting.push({ connection, go: resolve })
      // As many as there are places: those that were aborted for a newer one stand at the front.
      if (this.#waiting.length > NETWORK.pendingInboundMax) this.#waiting.shift()?.go(false)
      this.#timer ??= setTimeout(this.#serve, STEP_MS)
    })
  }

  #take(): boolean {
    const now = this.#rules.now()
    this.#turns = Math.min(NETWORK.handshakesAtOnceMax, this.#turns + ((now - this.#turnsMs) * NETWORK.handshakesPerSecond) / 1000)
    this.#turnsMs = now
    if (this.#turns < 1) return false
    this.#turns -= 1
    return true
  }

  readonly #serve = (): void => {
    this.#timer = undefined
    for (let newest = this.#waiting.pop(); newest !== undefined; newest = this.#waiting.pop()) {
      if (newest.connection.status !== 'open') newest.go(false)
      else if (this.#take()) newest.go(true)
      else {
        this.#waiting.push(newest)
        this.#timer = setTimeout(this.#serve, STEP_MS)
        return
      }
    }
  }
}

/** Resolves when the other side has said anything, or is gone. Only a socket of the machine can be silent: others come over one. */
function firstBytes(connection: MultiaddrConnection): Promise<void> {
  const { socket } = connection as MultiaddrConnection & { socket?: ReadableSocket & FirstRead } // as in libp2p-node.ts
  if (socket === undefined || socket.bytesRead > 0) return Promise.resolve()
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off('data', done)
      resolve()
    }
    socket.once('data', done)
    connection.addEventListener('close', done, { once: true })
  })
}

interface FirstRead {
  bytesRead: number
  once(event: 'data', listener: () => void): unknown
  off(event: 'data', listener: () => void): unknown
}
