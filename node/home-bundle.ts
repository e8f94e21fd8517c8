/**
 * What `export` takes out of a home and `import` makes a home of: identity, node secret, settings and records, keys included; no blocks.
 *
 * A bundle is one JSON object, version 1; bytes in it are {"base64": "…"}. Importing is all or nothing: a new home is made beside the place
 * and moved there once all of it is on disk.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, rename, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { NODE } from '../protocol/limits.ts'
import { loadConfig } from './config.ts'
import { JobError } from './control/api.ts'
import type { HomeBundle } from './control/bundle.ts'
import { toJobError } from './control/job-error.ts'
import { silentLog } from './log.ts'
import { peerIdOf } from './network/stack.ts'
import { diskFileSystem } from './storage/fs.ts'
import { prepareHome, readOrCreateFile } from './storage/home.ts'
import { HOME_VERSION, migrateHome } from './storage/home-version.ts'
import { openRecords, type Records } from './storage/records.ts'
import type { TableDump } from './storage/records-tables.ts'

/** The version of a bundle; a home that needs more than this says so with a higher one. */
const BUNDLE_VERSION = 1

const NOT_ABORTED = new AbortController().signal

/** What of a home goes into a bundle. */
export async function bundleOf(home: string, identity: Uint8Array, nodeSecret: Uint8Array, records: Records): Promise<HomeBundle> {
  const config = await readFile(join(home, 'config.json'), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw new JobError('BAD_CONFIG', 'config.json of the home cannot be read', { cause: error })
  })
  const { version, tables } = await records.dump()
  return {
    shoal: 'home',
    version: BUNDLE_VERSION,
    homeVersion: HOME_VERSION,
    madeMs: Date.now(),
    identity: encoded(identity),
    nodeSecret: encoded(nodeSecret),
    config,
    records: { version, tables: mapValues(tables, encodedValue) },
  }
}

export interface ImportResult {
  home: string
  peerId: string
  shares: number
}

/** Makes a home at `home`, which must not exist or be empty. Throws JobError EXISTS, NEWER, BAD_INPUT; nothing is then changed. */
export async function importHome(home: string, bundle: unknown): Promise<ImportResult> {
  const target = resolve(home)
  const parts = parseBundle(bundle)
  let peerId: string
  try {
    peerId = peerIdOf(parts.identity).text
  } catch (cause) {
    throw notABundle('it holds no identity', cause)
  }
  await mkdir(dirname(target), { recursive: true })
  const making = join(dirname(target), `.${basename(target)}.import-${randomBytes(8).toString('hex')}`)
  try {
    await fill(making, parts)
    await rename(making, target).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'ENOTEMPTY' && cause.code !== 'EEXIST' && cause.code !== 'ENOTDIR') throw cause
      throw new JobError('EXISTS', `${target} is not empty: a home is imported into a new place only; choose another with --home`, {
        cause,
      })
    })
    await diskFileSystem.syncDirectory(dirname(target))
  } catch (error) {
    throw toJobError(error, NOT_ABORTED)
  } finally {
    await rm(making, { recursive: true, force: true })
  }
  return { home: target, peerId, shares: parts.records.tables.share?.length ?? 0 }
}

async function fill(making: string, { identity, nodeSecret, config, records }: Parts): Promise<void> {
  const paths = await prepareHome(making)
  await readOrCreateFile(paths.identityFile, async () => identity)
  await readOrCreateFile(join(making, 'node-secret'), async () => nodeSecret)
  if (config !== null) await readOrCreateFile(paths.configFile, async () => new TextEncoder().encode(config))
  await loadConfig({ home: making, overrides: {} })
  const opened = await openRecords({ file: paths.recordsFile, log: silentLog })
  await opened.fill(records).finally(() => opened.close())
  await migrateHome(making)
}

interface Parts {
  identity: Uint8Array
  nodeSecret: Uint8Array
  config: string | null
  records: TableDump
}

const notABundle = (why: string, cause?: unknown): JobError =>
  new JobError('BAD_INPUT', `this is not what \`shoal export\` wrote: ${why}`, { cause })

function parseBundle(value: unknown): Parts {
  if (!isObject(value) || value.shoal !== 'home') throw notABundle('it is something else')
  const { version, homeVersion, identity, nodeSecret, config, records } = value
  if (typeof version !== 'number' || typeof homeVersion !== 'number') throw notABundle('it has no version')
  if (version > BUNDLE_VERSION || homeVersion > HOME_VERSION) {
    throw new JobError('NEWER', 'this was exported by a newer Shoal: import it with that one')
  }
  if (config !== null && typeof config !== 'string') throw notABundle('its settings are no text')
  const [idBytes, secretBytes] = [decoded(identity), decoded(nodeSecret)]
  if (!(idBytes instanceof Uint8Array) || !(secretBytes instanceof Uint8Array)) throw notABundle('it holds no identity')
  if (secretBytes.length !== NODE.secretBytes) throw notABundle(`its secret has ${secretBytes.length} bytes, expected ${NODE.secretBytes}`)
  return { identity: idBytes, nodeSecret: secretBytes, config, records: parseRecords(records) }
}

function parseRecords(value: unknown): TableDump {
  if (!isObject(value) || typeof value.version !== 'number' || !isObject(value.tables)) throw notABundle('it holds no records')
  const { version, tables } = value
  if (!Number.isSafeInteger(version) || version < 1) throw notABundle('its records have no version')
  for (const rows of Object.values(tables)) if (!Array.isArray(rows) || !rows.every(isObject)) throw notABundle('its records are damaged')
  // Every table is a list of objects, as was just checked.
  return { version, tables: mapValues(tables as Record<string, Record<string, unknown>[]>, decoded) }
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)

const encoded = (bytes: Uint8Array): { base64: string } => ({ base64: Buffer.from(bytes).toString('base64') })
const encodedValue = (value: unknown): unknown => (value instanceof Uint8Array ? encoded(value) : value)
const decoded = (value: unknown): unknown =>
  isObject(value) && typeof value.base64 === 'string' ? new Uint8Array(Buffer.from(value.base64, 'base64')) : value

const mapValues = (
  tables: Record<string, Record<string, unknown>[]>,
  change: (value: unknown) => unknown,
): Record<string, Record<string, unknown>[]> =>
  Object.fromEntries(
    Object.entries(tables).map(([name, rows]) => [
      name,
      rows.map((row) => Object.fromEntries(Object.entries(row).map(([column, value]) => [column, change(value)]))),
    ]),
  )
