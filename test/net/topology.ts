/**
 * A network as a table: one line for each machine, where it is plugged in, its address, what its router does, and what its line is like.
 *
 *   # name   on        address       nat        line
 *   relay    internet  5.9.0.2
 *   home     internet  91.7.0.2      cone       20ms-50mbit
 *   laptop   home      192.168.1.2
 *
 * A machine with an entry under `nat` is a router: it has the address on the internet, and its home behind it. "-" is nothing. Text only:
 * bed.ts builds it.
 */
import type { Line } from '../kit/namespaces.ts'

/**
 * What a router lets in beside answers. 'cone': nothing, and each inner port keeps its number outside, as far as it is free; 'full': the
 * same, and everything that comes goes to the first machine of the home; 'symmetric': nothing, and every connection has a random port.
 */
export type Nat = 'cone' | 'full' | 'symmetric'

export interface Machine {
  name: string
  /** 'internet', or the name of a router. */
  on: string
  /** IPv4; its network is the /24 around it, whose .1 is the next hop. */
  address: string
  nat: Nat | null
  /** Null: a cable. */
  line: Line | null
}

const NAME = /^[a-z][a-z0-9]{0,15}$/
const ADDRESS = /^(?:\d{1,3}\.){3}\d{1,3}$/
const NATS: readonly string[] = ['cone', 'full', 'symmetric'] satisfies Nat[]
const PRIVATE = /^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.)/
export const INTERNET = 'internet'

/** The network around an address, without its last number. */
export const networkOf = (address: string): string => address.slice(0, address.lastIndexOf('.'))

/** Reads a table. Throws an Error that names the line for whatever could not be built. */
export function parseTopology(table: string): Machine[] {
  const machines: Machine[] = []
  for (const row of table.split('\n')) {
    const cells = row.replace(/#.*/, '').split(/\s+/).filter(Boolean)
    if (cells.length === 0) continue
    const machine = parseMachine(cells)
    if (machine === null) throw new Error(`not a machine: ${row.trim()}`)
    const wrong = complaintOf(machine, machines)
    if (wrong !== null) throw new Error(`${machine.name}: ${wrong}`)
    machines.push(machine)
  }
  return machines
}

function parseMachine([name = '', on = '', address = '', nat = '-', line = '-', ...rest]: string[]): Machine | null {
  const parsed = parseLine(line)
  const isSound = NAME.test(name) && NAME.test(on) && ADDRESS.test(address) && (nat === '-' || NATS.includes(nat)) && rest.length === 0
  return isSound && parsed !== undefined ? { name, on, address, nat: nat === '-' ? null : (nat as Nat), line: parsed } : null // looked up in NATS
}

/** As "20ms", "20ms-50mbit" or "20ms-50mbit-1%": delay one way, rate both ways, loss. */
function parseLine(text: string): Line | null | undefined {
  if (text === '-') return null
  const [, delay, rate = '0', loss = '0'] = /^(\d+)ms(?:-(\d+)mbit)?(?:-(\d+(?:\.\d+)?)%)?$/.exec(text) ?? []
  return delay === undefined ? undefined : { delayMs: Number(delay), mbitPerSecond: Number(rate), lossPercent: Number(loss) }
}

function complaintOf(machine: Machine, before: readonly Machine[]): string | null {
  const { name, on, address, nat } = machine
  if (name === INTERNET || before.some((other) => other.name === name)) return 'this name is taken'
  if (address.split('.').some((part) => Number(part) > 255) || /\.(0|1|255)$/.test(address)) return 'no address for a machine'
  const router = before.find((other) => other.name === on)
  if (on !== INTERNET && (router === undefined || router.nat === null)) return `${on} is no router above it`
  if (on !== INTERNET && nat !== null) return 'a router is on the internet itself'
  if (on !== INTERNET && machine.line !== null) return 'lines lead to the internet, a home has cables'
  if (PRIVATE.test(address) !== (on !== INTERNET)) return 'public addresses are for the internet, private ones for homes'
  const sharing = before.filter((other) => other.on === on && networkOf(other.address) === networkOf(address))
  if (on === INTERNET && sharing.length > 0) return `its network is that of ${sharing[0]?.name}`
  const home = before.find((other) => other.on === on)
  if (on !== INTERNET && home !== undefined && networkOf(home.address) !== networkOf(address))
    return `its home is the network of ${home.name}`
  return before.some((other) => other.on === on && other.address === address) ? 'this address is taken' : null
}
