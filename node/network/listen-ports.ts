/**
 * Ports that the system chose are kept over restarts where they are still free: addresses that others remember, or that stand in links, go on
 * working, and a router's rule for the port too.
 */
import { createServer } from 'node:net'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import type { Datastore } from 'interface-datastore'
import { Key } from 'interface-datastore'
import type { Log } from '../log.ts'
import { endpointOf } from './addresses.ts'

const KEY = new Key('/shoal/listen-ports')
const ANY = /^\/ip[46]\/[^/]+\/tcp\/0(\/ws)?$/

/** The ports of the last run, by the address that asked for any. */
type Ports = Record<string, number>

/** The addresses to listen on, with the port of the last run where any was asked for and that one is free. */
export async function withKeptPorts(listen: readonly string[], datastore: Datastore, log: Log): Promise<string[]> {
  const ports = await read(datastore, log)
  const kept: string[] = []
  for (const address of listen) {
    const port = ANY.test(address) && Object.hasOwn(ports, address) ? ports[address] : undefined
    const isFree = port !== undefined && (await canListen(multiaddr(address), port))
    kept.push(isFree ? address.replace(/(?<=\/tcp\/)0/, String(port)) : address)
  }
  return kept
}

/** Remembers where the node listens now, for the addresses that left it open. */
export async function keepPorts(listen: readonly string[], listening: readonly Multiaddr[], datastore: Datastore, log: Log): Promise<void> {
  const ports: Ports = {}
  for (const address of listen.filter((text) => ANY.test(text))) {
    const wanted = endpointOf(multiaddr(address))
    const isWildcard = wanted?.host === '0.0.0.0' || wanted?.host === '::'
    const transport = new Set(['ip4', 'ip6', 'tcp', 'p2p', ...(address.endsWith('/ws') ? ['ws'] : [])])
    const isAlike = (one: Multiaddr): boolean => {
      const names = one.getComponents().map(({ name }) => name)
      return names.every((name) => transport.has(name)) && names.includes('ws') === transport.has('ws')
    }
    const found = listening
      .filter(isAlike)
      .map((one) => endpointOf(one))
      .find((one) => one !== null && one.kind === wanted?.kind && (isWildcard || one.host === wanted.host))
    if (found) ports[address] = found.port
  }
  try {
    if (Object.keys(ports).length > 0) await datastore.put(KEY, new TextEncoder().encode(JSON.stringify(ports)))
  } catch (cause) {
    log.warn('the ports of this run could not be remembered', { cause })
  }
}

async function read(datastore: Datastore, log: Log): Promise<Ports> {
  try {
    if (!(await datastore.has(KEY))) return {}
    const stored: unknown = JSON.parse(new TextDecoder().decode(await datastore.get(KEY)))
    const entries = typeof stored === 'object' && stored !== null ? Object.entries(stored) : []
    return Object.fromEntries(entries.filter((entry): entry is [string, number] => isPort(entry[1])))
  } catch (cause) {
    log.warn('the ports of the last run are not readable', { cause })
    return {}
  }
}

const isPort = (value: unknown): boolean => Number.isInteger(value) && Number(value) >= 1024 && Number(value) <= 65_535

/** Whether nobody listens there now. */
function canListen(address: Multiaddr, port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const server = createServer()
  server.once('error', () => resolve(false))
  server.listen({ port, host: endpointOf(address)?.host, ipv6Only: true }, () => server.close(() => resolve(true)))
  return promise
}
