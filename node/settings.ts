/**
 * Every setting of the config file: its type, its default, and what it may be. No file is read here.
 *
 * README.md has a table of the same settings; a test holds it against this one.
 */
import { isAbsolute } from 'node:path'
import { BUDGETS } from '../protocol/budget-limits.ts'
import { HTTP, NETWORK, RATE, RELAY } from '../protocol/limits.ts'
import { isPeerAddress } from '../protocol/peer-address.ts'
import { isCap } from '../protocol/wire/rate-queue.ts'
import { DAYS, parseTime, type ScheduleEntry } from './budgets/schedule.ts'
import { LOG_LEVELS, type LogLevel } from './log.ts'

export interface Settings {
  /** null: the public network. A name makes a separate one. */
  network: string | null
  /** Multiaddrs to listen on. */
  listen: string[]
  /** Multiaddrs, ending in /p2p/ID, of the peers that a node asks first. */
  bootstrap: string[]
  /** A network of its own meets on the IPFS DHT of its bootstrap peers, too; the public one always meets on the public IPFS DHT. */
  ipfsDht: boolean
  mdns: boolean
  /** Ask the router to pass a port on to this node. */
  portMapping: boolean
  /** Peer exchange: tell peers of others, and try those that they tell of. */
  pex: boolean
  /** One record in the DHT for each share, or for small shares one for each block as well. */
  announce: 'share' | 'blocks'
  /** Port of the local API over HTTP on loopback, 0 for any; null: none. */
  http: number | null
  /** Absolute folders below which requests over HTTP may name paths. */
  httpRoots: string[]
  logLevel: LogLevel
  /** Caps on what goes out and comes in for shares; null: none. */
  uploadBytesPerSecond: number | null
  downloadBytesPerSecond: number | null
  /** Neither the caps nor the volume of a month count what goes to and comes from peers on the local network. */
  lanExempt: boolean
  /** Other caps at some times. */
  schedule: ScheduleEntry[]
  /** What may go out and come in within a month, together and each; null: no end. */
  monthlyBytes: number | null
  monthlyUploadBytes: number | null
  monthlyDownloadBytes: number | null
  /** The day on which the month begins; the last one of a month that has no such day. */
  monthStartDay: number
  connectionsMax: number
  /** Memory for blocks on their way out, credit for those that come in, and caches. */
  memoryBytes: number
  /** Disk for blocks of what the user shares and seeds; null: no end. */
  pinnedBytes: number | null
  /** Disk for blocks that were fetched and are kept only as long as there is room; null: no end. */
  cachedBytes: number | null
  /** What is passed on for others in a day while anybody can reach this node, both ways together; 0: nothing. */
  relayBytesPerDay: number
  /** Free space that is always left on a disk that is written to; null: the larger of 1 GiB and 2 %, but never more than 10 %. */
  freeBytesKept: number | null
  /** Limits by neighbourhood count loopback and private addresses too: for tests with many peers on one machine. */
  groupPrivate: boolean
}

export type SettingName = keyof Settings

/** Those that can be changed while the node runs. */
export const RUNNING_SETTINGS = [
  'uploadBytesPerSecond',
  'downloadBytesPerSecond',
  'lanExempt',
  'schedule',
  'monthlyBytes',
  'monthlyUploadBytes',
  'monthlyDownloadBytes',
  'monthStartDay',
  'connectionsMax',
  'memoryBytes',
  'pinnedBytes',
  'cachedBytes',
  'relayBytesPerDay',
  'freeBytesKept',
] as const satisfies SettingName[]

export type RunningSettings = Pick<Settings, (typeof RUNNING_SETTINGS)[number]>

/** What holds where neither the file nor the command line says anything. */
export const DEFAULTS: Readonly<Settings> = Object.freeze({
  network: null,
  // Any free port, on every address. Whoever forwards a port sets a fixed one.
  listen: ['/ip4/0.0.0.0/tcp/0', '/ip6/::/tcp/0'],
  bootstrap: [],
  ipfsDht: false,
  mdns: true,
  portMapping: true,
  pex: true,
  announce: 'share',
  http: null,
  httpRoots: [],
  logLevel: 'info',
  uploadBytesPerSecond: null,
  downloadBytesPerSecond: null,
  lanExempt: true,
  schedule: [],
  monthlyBytes: null,
  monthlyUploadBytes: null,
  monthlyDownloadBytes: null,
  monthStartDay: 1,
  connectionsMax: NETWORK.connectionsMax,
  memoryBytes: BUDGETS.memoryBytes,
  pinnedBytes: null,
  cachedBytes: BUDGETS.cachedBytes,
  relayBytesPerDay: RELAY.bytesPerDay,
  freeBytesKept: null,
  groupPrivate: false,
})

/** Says what is wrong with a value, and nothing when it will do. */
type Check = (name: string, value: unknown) => string[]

const ADDRESSES_MAX = 64
const ADDRESS = /^(\/[a-z0-9-]+(\/[^/\s]+)?)+$/
const NETWORK_NAME = /^[a-z0-9][a-z0-9-]{0,31}$/
const SHOWN_CHARACTERS_MAX = 60
/** A petabyte: more than anybody has, less than what a number holds. */
const BYTES_MAX = 1e15

/** A value as it stands in the file, cut when it is long. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value)
  return text.length <= SHOWN_CHARACTERS_MAX ? text : `${text.slice(0, SHOWN_CHARACTERS_MAX)}…`
}

const must =
  (accepts: (value: unknown) => boolean, what: string): Check =>
  (name, value) =>
    accepts(value) ? [] : [`${name} is ${shown(value)}, but must be ${what}`]

const isWhole = (value: unknown, min: number, max: number): boolean =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max
const whole = (min: number, max: number): Check => must((value) => isWhole(value, min, max), `a whole number from ${min} to ${max}`)
const bytesOrNull = (min: number): Check =>
  must((value) => value === null || isWhole(value, min, BYTES_MAX), `null or a whole number of bytes from ${min} to ${BYTES_MAX}`)
const flag = must((value) => typeof value === 'boolean', 'true or false')
const cap = must(isCap, `null or a whole number of bytes a second from ${RATE.bytesPerSecondMin} up`)
const oneOf = (...values: string[]): Check =>
  must((value) => values.some((one) => one === value), `one of ${values.map((one) => `"${one}"`).join(', ')}`)

function addresses(also: (address: string) => boolean, what: string): Check {
  const isOne = (address: unknown): boolean =>
    typeof address === 'string' && address.length <= 512 && ADDRESS.test(address) && also(address)
  return (name, value) => {
    if (!Array.isArray(value)) return [`${name} is ${shown(value)}, but must be a list of ${what}`]
    if (value.length > ADDRESSES_MAX) return [`${name} has ${value.length} addresses, but may have at most ${ADDRESSES_MAX}`]
    return value.flatMap((address, i) => (isOne(address) ? [] : [`${name}[${i}] is ${shown(address)}, but must be one of ${what}`]))
  }
}

const ENTRY: Record<keyof ScheduleEntry, Check> = {
  days: must(
    (value) => Array.isArray(value) && value.length > 0 && new Set(value).size === value.length && value.every((day) => DAYS.includes(day)),
    `a list of ${DAYS.map((day) => `"${day}"`).join(', ')}, each at most once`,
  ),
  from: must((value) => parseTime(value) !== null && value !== '24:00', 'a time from "00:00" to "23:59"'),
  to: must((value) => parseTime(value) !== null, 'a time from "00:00" to "24:00"'),
  uploadBytesPerSecond: cap,
  downloadBytesPerSecond: cap,
}

function checkSchedule(name: string, value: unknown): string[] {
  if (!Array.isArray(value)) return [`${name} is ${shown(value)}, but must be a list of entries like {"from":"08:00","to":"18:00",…}`]
  const max = BUDGETS.scheduleEntriesMax
  if (value.length > max) return [`${name} has ${value.length} entries, but may have at most ${max}`]
  return value.flatMap((entry: unknown, i) => checkEntry(`${name}[${i}]`, entry))
}

function checkEntry(name: string, entry: unknown): string[] {
  if (!isRecord(entry)) return [`${name} is ${shown(entry)}, but must be an entry like {"from":"08:00","to":"18:00",…}`]
  const complaints = Object.entries(entry).flatMap(([field, value]) =>
    Object.hasOwn(ENTRY, field)
      ? ENTRY[field as keyof ScheduleEntry](`${name}.${field}`, value) // a key of ENTRY
      : [`${name}.${field} is no field of an entry${suggestion(field, Object.keys(ENTRY))}`],
  )
  for (const field of ['from', 'to']) if (!Object.hasOwn(entry, field)) complaints.push(`${name} has no "${field}", a time like "08:00"`)
  if (!Object.hasOwn(entry, 'uploadBytesPerSecond') && !Object.hasOwn(entry, 'downloadBytesPerSecond'))
    complaints.push(`${name} sets nothing: give it "uploadBytesPerSecond", "downloadBytesPerSecond" or both`)
  return complaints
}

const CHECKS: Record<SettingName, Check> = {
  network: must(
    (value) => value === null || (typeof value === 'string' && NETWORK_NAME.test(value)),
    'null or a name of 1 to 32 of a-z, 0-9 and "-"',
  ),
  listen: addresses(() => true, 'multiaddrs like "/ip4/0.0.0.0/tcp/4801"'),
  bootstrap: addresses(isPeerAddress, 'multiaddrs that end in /p2p/ and a peer id'),
  ipfsDht: flag,
  mdns: flag,
  portMapping: flag,
  pex: flag,
  announce: oneOf('share', 'blocks'),
  http: must((value) => value === null || isWhole(value, 0, 65_535), 'null or a port from 0 to 65535'),
  httpRoots: must(
    (value) => Array.isArray(value) && value.length <= HTTP.rootsMax && value.every((path) => typeof path === 'string' && isAbsolute(path)),
    `a list of absolute paths of folders, at most ${HTTP.rootsMax}`,
  ),
  logLevel: oneOf(...LOG_LEVELS),
  uploadBytesPerSecond: cap,
  downloadBytesPerSecond: cap,
  lanExempt: flag,
  schedule: checkSchedule,
  monthlyBytes: bytesOrNull(0),
  monthlyUploadBytes: bytesOrNull(0),
  monthlyDownloadBytes: bytesOrNull(0),
  monthStartDay: whole(1, 31),
  connectionsMax: whole(BUDGETS.connectionsMin, BUDGETS.connectionsMax),
  memoryBytes: whole(BUDGETS.memoryBytesMin, BUDGETS.memoryBytesMax),
  pinnedBytes: bytesOrNull(0),
  cachedBytes: bytesOrNull(0),
  relayBytesPerDay: whole(0, BYTES_MAX),
  freeBytesKept: bytesOrNull(0),
  groupPrivate: flag,
}

export const SETTING_NAMES: readonly SettingName[] = Object.keys(CHECKS) as SettingName[] // the keys of a Record over exactly these

export const isSettingName = (name: string): name is SettingName => Object.hasOwn(CHECKS, name)

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Everything that is wrong with these settings, each with the name of the setting, its value and what is allowed. */
export function complaintsOf(settings: Record<string, unknown>): string[] {
  return Object.entries(settings).flatMap(([name, value]) =>
    isSettingName(name) ? CHECKS[name](name, value) : [`"${name.slice(0, SHOWN_CHARACTERS_MAX)}" is not a setting${suggestion(name)}`],
  )
}

/** The known name that a mistyped one is nearest to, as a question; nothing when none is near. */
function suggestion(name: string, known: readonly string[] = SETTING_NAMES): string {
  const scored = known.map((one) => ({ one, distance: distanceOf(name.toLowerCase().slice(0, 64), one.toLowerCase()) }))
  const best = scored.reduce((a, b) => (b.distance < a.distance ? b : a))
  return best.distance <= Math.max(2, Math.floor(best.one.length / 3)) ? `; did you mean "${best.one}"?` : ''
}

/** Letters to add, drop or change to make one of the other. */
function distanceOf(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) next.push(Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    row = next
  }
  return row[b.length]!
}
