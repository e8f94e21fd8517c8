/**
 * The one config object of a node: defaults, then HOME/config.json, then what the command line says; checked once, frozen, passed on.
 *
 * What there is to set stands in settings.ts. Every complaint about the file is given at once.
 */
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { JobError } from './control/api.ts'
import { complaintsOf, DEFAULTS, isRecord, type Settings } from './settings.ts'

export interface Config extends Settings {
  /** Absolute. */
  home: string
  /** What the command line set, which a file that is read again does not change. */
  given: Readonly<Partial<Settings>>
}

export type ConfigOverrides = Partial<Settings>

const CONFIG_BYTES_MAX = 64 * 1024

/** Where the settings of a home stand. */
export const configPathOf = (home: string): string => join(home, 'config.json')

/** Reads and checks the config of a home. Throws JobError BAD_CONFIG naming everything that is wrong. */
export async function loadConfig(init: { home: string; overrides: ConfigOverrides }): Promise<Config> {
  const home = resolve(init.home)
  const path = configPathOf(home)
  const fromFile = checkSettings(await readSettings(path), `config file ${path}`)
  const given = checkSettings({ ...init.overrides }, 'command line')
  const settings: Settings = { ...DEFAULTS, ...fromFile, ...given }
  // On a network of its own a node calls out only when it was told to.
  const mdns = given.mdns ?? fromFile.mdns ?? settings.network === null
  const portMapping = given.portMapping ?? fromFile.portMapping ?? settings.network === null
  return Object.freeze({
    ...settings,
    mdns,
    portMapping,
    schedule: scheduleBeside(settings, given),
    home,
    given: Object.freeze({ ...given }),
  })
}

/** A cap that the command line gives holds at all times. */
function scheduleBeside({ schedule }: Settings, given: Partial<Settings>): Settings['schedule'] {
  const drop = (['uploadBytesPerSecond', 'downloadBytesPerSecond'] as const).filter((name) => given[name] !== undefined)
  if (drop.length === 0) return schedule
  return schedule.map(
    (entry) => Object.fromEntries(Object.entries(entry).filter(([name]) => !drop.includes(name as never))) as typeof entry,
  )
}

/** The settings as they stand in the file, not checked; none when there is no file. Throws JobError BAD_CONFIG. */
export async function readSettings(path: string): Promise<Record<string, unknown>> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && (cause.code === 'ENOENT' || cause.code === 'ENOTDIR')) return {}
    throw new JobError('BAD_CONFIG', `config file ${path} cannot be read`, { cause })
  }
  if (text.length > CONFIG_BYTES_MAX)
    throw new JobError('BAD_CONFIG', `config file ${path} has ${text.length} characters, limit ${CONFIG_BYTES_MAX}`)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new JobError('BAD_CONFIG', `config file ${path} is not JSON: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
    })
  }
  if (isRecord(value)) return value
  throw new JobError('BAD_CONFIG', `config file ${path} must hold one JSON object`)
}

/** Throws JobError BAD_CONFIG with all that is wrong. */
export function checkSettings(settings: Record<string, unknown>, where: string): Partial<Settings> {
  const complaints = complaintsOf(settings)
  if (complaints.length > 0) throw new JobError('BAD_CONFIG', `${where}: ${complaints.join('; ')}`)
  // Every value was checked against its setting just above.
  return settings as Partial<Settings>
}
