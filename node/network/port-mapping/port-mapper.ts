/**
 * Has the router pass on the port that this node listens on, and says where that is outside. Nothing is announced because of it: peers are asked
 * to dial the address first. Renewed at half of its time, taken back at the end.
 */
import { readFile } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { MAPPING } from '../../../protocol/limits.ts'
import type { Log } from '../../log.ts'
import { classifyHost } from '../addresses.ts'
import { asError } from '../network-error.ts'
import { externalHost, findGateways, type Gateway, type Mapping, mapPort, unmapPort } from './igd.ts'
import { externalHostByPmp, mapPortByPmp } from './nat-pmp.ts'

export interface PortMapperParts {
  log: Log
  /** The IPv4 TCP port that is listened on now; null: none. */
  port(): number | null
  /** What the router passes on from now on, by its own word; null: nothing. */
  onChange(mapping: Mapping | null): void
}

export class PortMapper {
  readonly #parts: PortMapperParts
  readonly #stopped = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #work: Promise<void> = Promise.resolve()
  readonly #undos = new Undos()

  constructor(parts: PortMapperParts) {
    this.#parts = parts
  }

  start(): void {
    this.#work = this.#renew()
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new Error('the network is stopping'))
    clearTimeout(this.#timer)
    await this.#work
    await this.#undos.run()
  }

  async #renew(): Promise<void> {
    const { log, onChange, port } = this.#parts
    const signal = this.#stopped.signal
    let mapping: Mapping | null = null
    const wanted = port()
    const homes = privateHosts()
    if (wanted !== null && homes.length > 0) {
      for (const host of homes) {
        mapping = (await this.#byUpnp(host, wanted)) ?? (await this.#byPmp(host, wanted))
        if (mapping !== null || signal.aborted) break
      }
      if (signal.aborted) return
      if (mapping === null) log.debug('no router passes a port on')
      else log.info('a router passes a port on', { host: mapping.host, port: mapping.port })
    }
    onChange(mapping)
    const waitMs = mapping === null ? MAPPING.retryMs : (MAPPING.leaseSeconds * 1000) / 2
    this.#timer = setTimeout(() => {
      this.#work = this.#renew()
    }, waitMs).unref()
  }

  async #byUpnp(localHost: string, port: number): Promise<Mapping | null> {
    const { signal } = this.#stopped
    try {
      for (const gateway of await findGateways(localHost, signal)) return await mapByUpnp(gateway, localHost, port, this.#undos, signal)
    } catch (thrown) {
      this.#parts.log.debug('UPnP did not help', { cause: asError(thrown) })
    }
    return null
  }

  async #byPmp(localHost: string, port: number): Promise<Mapping | null> {
    const router = await routerOf(localHost)
    try {
      const outside = await mapPortByPmp(router, port, MAPPING.leaseSeconds, this.#stopped.signal)
      this.#undos.add(`pmp ${router} ${port}`, () => mapPortByPmp(router, port, 0, AbortSignal.timeout(MAPPING.requestMs)))
      return { host: await externalHostByPmp(router, this.#stopped.signal), port: outside }
    } catch (thrown) {
      this.#parts.log.debug('NAT-PMP did not help', { cause: asError(thrown) })
      return null
    }
  }
}

/** What takes back the ports that are passed on; each is noted before anything else can fail. */
export class Undos {
  readonly #byName = new Map<string, () => Promise<unknown>>()

  add(name: string, undo: () => Promise<unknown>): void {
    this.#byName.delete(name)
    this.#byName.set(name, undo)
    if (this.#byName.size > MAPPING.undosMax) this.#byName.delete(this.#byName.keys().next().value!) // there is one
  }

  /** All of them, once. */
  async run(): Promise<void> {
    const undos = [...this.#byName.values()]
    this.#byName.clear()
    await Promise.all(undos.map((undo) => undo().catch(() => {}))) // a mapping ends by itself
  }
}

/** Has a router pass a port on. Throws when it will not, or does not say where. */
export async function mapByUpnp(gateway: Gateway, localHost: string, port: number, undos: Undos, signal: AbortSignal): Promise<Mapping> {
  const outside = await mapPort(gateway, localHost, port, signal)
  undos.add(`upnp ${gateway.control.href} ${outside}`, () => unmapPort(gateway, outside, AbortSignal.timeout(MAPPING.requestMs)))
  return { host: await externalHost(gateway, signal), port: outside }
}

/** This machine's own private IPv4 addresses: those that a router may translate. */
function privateHosts(): string[] {
  const entries = Object.values(networkInterfaces()).flatMap((found) => found ?? [])
  const hosts = entries.filter(
    ({ family, internal, address }) => family === 'IPv4' && !internal && classifyHost({ kind: 'ip4', host: address }) === 'private',
  )
  return hosts.map(({ address }) => address).slice(0, MAPPING.hostsMax)
}

/** The router of a home: as the system says, else the address that most have. */
async function routerOf(localHost: string): Promise<string> {
  const guess = localHost.replace(/\d+$/, '1')
  const table = await readFile('/proc/net/route', 'latin1').catch(() => '') // Linux alone has it
  const hex = table.split('\n').flatMap((line) => {
    const [, destination, gateway] = line.split('\t')
    return destination === '00000000' && gateway !== undefined && gateway !== '00000000' ? [gateway] : []
  })[0]
  // Four octets, the last one first.
  return hex === undefined
    ? guess
    : (hex.match(/../g) ?? [])
        .reverse()
        .map((octet) => Number.parseInt(octet, 16))
        .join('.')
}
