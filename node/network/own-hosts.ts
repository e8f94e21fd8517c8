/**
 * Notices that this computer has another address: another network, a new lease. Sockets that were made from an address which is gone lead
 * nowhere, and the system does not say so; they are ended at once, so that what went over them goes on over others.
 *
 * An address that is only away, as while a cable is out, may come back, and what goes over it goes on: sockets end when another one has come.
 */
import type { Socket } from 'node:net'
import { networkInterfaces } from 'node:os'
import { LIVENESS } from '../../protocol/limits.ts'
import type { Log } from '../log.ts'

/** What of a socket is needed; a net.Socket has all of it. */
export type OwnSocket = Pick<Socket, 'localAddress' | 'once' | 'destroy'>

export interface OwnHostsParts {
  /** Addresses of all interfaces that are up. */
  hosts(): ReadonlySet<string>
  log: Log
}

export class OwnHosts {
  readonly #parts: OwnHostsParts
  /** Bounded by the limit of connections. */
  readonly #sockets = new Set<OwnSocket>()
  readonly #listeners = new Set<() => void>()
  #known: ReadonlySet<string>
  #timer: NodeJS.Timeout | undefined

  constructor(parts: OwnHostsParts) {
    this.#parts = parts
    this.#known = parts.hosts()
  }

  start(): void {
    this.#timer ??= setInterval(() => this.look(), LIVENESS.hostsLookMs).unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /** Calls `listener` whenever sockets end because of another address, before their owners hear of it. */
  onMoved(listener: () => void): void {
    this.#listeners.add(listener)
  }

  watch(socket: OwnSocket): void {
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
  }

  look(): void {
    const hosts = this.#parts.hosts()
    const isNew = [...hosts].some((host) => !this.#known.has(host))
    if (!isNew) return
    this.#known = hosts
    const lost = [...this.#sockets].filter(({ localAddress }) => localAddress !== undefined && !hosts.has(plainHost(localAddress)))
    if (lost.length === 0) return
    this.#parts.log.info('this computer has another address', { connections: lost.length })
    for (const socket of lost) socket.destroy(new Error('the address that this connection came from is gone'))
    // What goes over them hears of it only after this.
    for (const listener of this.#listeners) listener()
  }
}

/** Addresses of all interfaces of this computer that are up. */
export const hostsOfThisComputer = (): ReadonlySet<string> =>
  new Set(Object.values(networkInterfaces()).flatMap((addresses) => (addresses ?? []).map(({ address }) => plainHost(address))))

/** Without the scope of IPv6, and IPv4 as it is where it came through a socket for both. */
const plainHost = (host: string): string => host.replace(/^::ffff:(?=\d+\.)/, '').replace(/%.*$/, '')
