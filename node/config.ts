/**
 * The one config object of a node: defaults, then HOME/config.json, then what the command line says; checked once, frozen, passed on.
 *
 * No other file knows a default. Every complaint about the file is given at once, each with the name of the setting.
 */
import { readFile } from 'node:fs/promises'
import { isAbsolute, join, resolve } from 'node:path'
import { HTTP, RATE } from '../protocol/limits.ts'
import { isPeerAddress } from '../protocol/peer-address.ts'
import { isCap } from '../protocol/wire/rate-queue.ts'
import { JobError } from './control/api.ts'
import { LOG_LEVELS, type LogLevel } from './log.ts'

export interface Config {
  /** Absolute. */
  home: string
  /** null: the public network. A name makes a separate one. */
  network: string | null
  /** Multiaddrs to listen on. */
  listen: string[]
  /** Multiaddrs, ending in /p2p/ID, of the peers that a node asks first. */
  bootstrap: string[]
  mdns: boolean
  /** Peer exchange: tell peers of others, and try those that they tell of. */
  pex: boolean
  /** One record in the DHT for each share, or for small shares one for each block as well. */
  announce: 'share' | 'blocks'
  logLevel: LogLevel
  /** Caps on what goes out and comes in for shares; null: none. */
  uploadBytesPerSecond: number | null
  downloadBytesPerSecond: number | null
  /** Port of the local API over HTTP on loopback, 0 for any; null: none. */
  http: number | null
  /** Absolute folders below which requests over HTTP may name paths. */
  httpRoots: string[]
  /** Limits by neighbourhood count loopback and private addresses too: for tests with many peers on one machine. */
  groupPrivate: boolean
}

export type ConfigOverrides = Partial<Omit<Config, 'home'>>

/** Any free port, on every address. Whoever forwards a port sets a fixed one. */
const DEFAULT_LISTEN = ['/ip4/0.0.0.0/tcp/0', '/ip6/::/tcp/0']

const CONFIG_BYTES_MAX = 64 * 1024
const ADDRESSES_MAX = 64
const ADDRESS = /^(\/[a-z0-9-]+(\/[^/\s]+)?)+$/
const NETWORK = /^[a-z0-9][a-z0-9-]{0,31}$/

/** Reads and checks the config of a home. Throws JobError BAD_CONFIG naming everything that is wrong. */
export async function loadConfig(init: { home: string; overrides: ConfigOverrides }): Promise<Config> {
  const home = resolve(init.home)
  const path = join(home, 'config.json')
  const fromFile = checkSettings(await readSettings(path), `config file ${path}`)
  const fromCaller = checkSettings({ ...init.overrides }, 'command line')
  const settings = { ...fromFile, ...fromCaller }
  const network = settings.network ?? null
  return Object.freeze({
    home,
    network,
    listen: settings.listen ?? DEFAULT_LISTEN,
    bootstrap: settings.bootstrap ?? [],
    mdns: settings.mdns ?? network === null,
    pex: settings.pex ?? true,
    announce: settings.announce ?? 'share',
    logLevel: settings.logLevel ?? 'info',
    uploadBytesPerSecond: settings.uploadBytesPerSecond ?? null,
    downloadBytesPerSecond: settings.downloadBytesPerSecond ?? null,
    http: settings.http ?? null,
    httpRoots: settings.httpRoots ?? [],
    groupPrivate: settings.groupPrivate ?? false,
  })
}

async function readSettings(path: string): Promise<Record<string, unknown>> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && (cause.code === 'ENOENT' || cause.code === 'ENOTDIR')) return {}
    throw new JobError('BAD_CONFIG', `config file ${path} cannot be read`, { cause })
  }
  if (text.length > CONFIG_BYTES_MAX) throw new JobError('BAD_CONFIG', `config file ${path} is over ${CONFIG_BYTES_MAX} bytes`)
  try {
    const value: unknown = JSON.parse(text)
    if (isRecord(value)) return value
  } catch (cause) {
    throw new JobError('BAD_CONFIG', `config file ${path} is not JSON`, { cause })
  }
  throw new JobError('BAD_CONFIG', `config file ${path} must hold one JSON object`)
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)

const CAP_SETTING = { accepts: isCap, must: `must be null or a whole number from ${RATE.bytesPerSecondMin} up` }

/** Each setting: whether a value will do, and the sentence when it will not. */
const SETTINGS: Record<keyof ConfigOverrides, { accepts: (value: unknown) => boolean; must: string }> = {
  network: {
    accepts: (value) => value === null || (typeof value === 'string' && NETWORK.test(value)),
    must: 'must be null or a name of 1 to 32 of a-z, 0-9 and "-"',
  },
  listen: { accepts: (value) => isAddressList(value, () => true), must: 'must be a list of multiaddrs like "/ip4/0.0.0.0/tcp/4801"' },
  bootstrap: {
    accepts: (value) => isAddressList(value, isPeerAddress),
    must: 'must be a list of multiaddrs that end in /p2p/ and a peer id',
  },
  mdns: { accepts: (value) => typeof value === 'boolean', must: 'must be true or false' },
  pex: { accepts: (value) => typeof value === 'boolean', must: 'must be true or false' },
  announce: { accepts: (value) => value === 'share' || value === 'blocks', must: 'must be "share" or "blocks"' },
  http: {
    accepts: (value) => value === null || (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 65_535),
    must: 'must be null or a port from 0 to 65535',
  },
  httpRoots: {
    accepts: (value) =>
      Array.isArray(value) && value.length <= HTTP.rootsMax && value.every((path) => typeof path === 'string' && isAbsolute(path)),
    must: 'must be a list of absolute paths of folders',
  },
  groupPrivate: { accepts: (value) => typeof value === 'boolean', must: 'must be true or false' },
  logLevel: {
    accepts: (value) => LOG_LEVELS.some((level) => level === value),
    must: `must be one of ${LOG_LEVELS.join(', ')}`,
  },
  uploadBytesPerSecond: CAP_SETTING,
  downloadBytesPerSecond: CAP_SETTING,
}

function isAddressList(value: unknown, also: (address: string) => boolean): boolean {
  if (!Array.isArray(value) || value.length > ADDRESSES_MAX) return false
  return value.every((address: unknown) => typeof address === 'string' && address.length <= 512 && ADDRESS.test(address) && also(address))
}

function checkSettings(settings: Record<string, unknown>, where: string): ConfigOverrides {
  const complaints: string[] = []
  for (const [name, value] of Object.entries(settings)) {
    if (!isSettingName(name)) complaints.push(`"${name}" is not a setting`)
    else if (!SETTINGS[name].accepts(value)) complaints.push(`${name} ${SETTINGS[name].must}`)
  }
  if (complaints.length > 0) throw new JobError('BAD_CONFIG', `${where}: ${complaints.join('; ')}`)
  // Every value was checked against its setting just above.
  return settings as ConfigOverrides
}

const isSettingName = (name: string): name is keyof ConfigOverrides => Object.hasOwn(SETTINGS, name)
