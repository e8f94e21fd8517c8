/**
 * Hosts in the test's own process, put together as main.ts does it, but each part within reach, and with a DHT only where a test wants one.
 */

import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MemoryDatastore } from 'datastore-core'
import { Budgets } from '../../node/budgets/budgets.ts'
import { loadConfig } from '../../node/config.ts'
import { CryptoPool } from '../../node/crypto/pool.ts'
import { Damage } from '../../node/jobs/damage.ts'
import { DiskCache } from '../../node/jobs/disk-cache.ts'
import type { JobEnvironment, StoreEnvironment } from '../../node/jobs/environment.ts'
import { Keeping } from '../../node/jobs/keeping.ts'
import { Pins } from '../../node/jobs/pins.ts'
import { Sources } from '../../node/jobs/sources.ts'
import { SwarmHost } from '../../node/jobs/swarm-host.ts'
import { silentLog } from '../../node/log.ts'
import { RateLimiter } from '../../node/network/rate-limiter.ts'
import { createIdentity, createStack, type Stack } from '../../node/network/stack.ts'
import { openBlockStore } from '../../node/storage/blocks.ts'
import { DeleteLog } from '../../node/storage/delete-log.ts'
import { diskFileSystem } from '../../node/storage/fs.ts'
import { openRecords } from '../../node/storage/records.ts'
import { SourceStore } from '../../node/storage/source-store.ts'
import { nodePrimitives } from '../primitives-node.ts'

export interface Host {
  env: JobEnvironment
  stack: Stack
  addresses: string[]
  /** Names of those it has a session with, and where it heard of them. */
  sessions(): Record<string, string>
  stop(): Promise<void>
}

export interface HostOptions {
  identity?: Uint8Array
  port?: string | undefined
  pex?: boolean
  announce?: 'share' | 'blocks'
  /** Addresses of hosts that it asks first; without any, look-ups find nobody and announcements reach nobody. */
  dht?: string[]
}

const never = new AbortController().signal

/** A temporary folder and a network name, and all that was started on it. */
export class Hosts {
  readonly dir: string
  readonly network = `test-${randomBytes(5).toString('hex')}`
  readonly #names = new Map<string, string>()
  readonly #stops: (() => Promise<void>)[] = []

  private constructor(dir: string) {
    this.dir = dir
  }

  static async create(): Promise<Hosts> {
    return new Hosts(await mkdtemp(join(tmpdir(), 'shoal-hosts-')))
  }

  async clear(): Promise<void> {
    await Promise.all(this.#stops.splice(0).map((stop) => stop()))
    await rm(this.dir, { recursive: true, force: true })
  }

  async host(name: string, options: HostOptions = {}): Promise<Host> {
    const home = join(this.dir, name)
    await mkdir(home, { recursive: true, mode: 0o700 })
    const records = await openRecords({ file: join(home, 'records.sqlite'), log: silentLog })
    const pool = new CryptoPool()
    const blocks = await openBlockStore({
      dir: home,
      fs: diskFileSystem,
      verify: async (bytes) => ({ digest: await nodePrimitives.sha256(bytes), bytes }),
      allocate: pool.buffers.take,
      log: silentLog,
      signal: never,
    })
    const stack = await createStack({
      identity: options.identity ?? (await createIdentity()),
      network: this.network,
      listen: [`/ip4/127.0.0.1/tcp/${options.port ?? 0}`],
      bootstrap: options.dht ?? [],
      mdns: false,
      datastore: new MemoryDatastore(),
      log: silentLog,
      groupPrivate: false,
    })
    const { pex = true, announce = 'share' } = options
    if (options.dht === undefined)
      Object.assign(stack, {
        provideAll: async () => ({ told: 0, covered: [] }),
        find: async function* () {},
        connectBootstrap: async () => 0,
      })
    else await stack.connectBootstrap(never)
    const limiter = new RateLimiter({ uploadBytesPerSecond: null, downloadBytesPerSecond: null })
    const sources = new Sources({
      store: await SourceStore.open(diskFileSystem, home),
      blocks,
      pool,
      nodeSecret: new Uint8Array(32),
      log: silentLog,
    })
    const host = new SwarmHost({ stack, blocks, records, pool, sources, limiter, log: silentLog, groupPrivate: false, pex, announce })
    await host.start()
    this.#names.set(stack.peerId, name)
    const keeping = await Keeping.open(records)
    const damage = new Damage({ blocks, records, keeping, host, log: silentLog })
    const deleteLog = new DeleteLog({ dir: home, fs: diskFileSystem, log: silentLog })
    const budgets = await Budgets.open({ config: await loadConfig({ home, overrides: {} }), limiter, records, log: silentLog })
    const shared = { blocks, records, pool, sources, host, budgets, log: silentLog }
    const parts = { ...shared, pins: new Pins(), keeping, deleteLog, damage, addresses: () => stack.addresses() }
    const stored: StoreEnvironment = { ...parts, home, peerId: stack.peerId, nodeSecret: new Uint8Array(32), isOneShot: false }
    const env: JobEnvironment = { ...stored, cache: new DiskCache(stored) }
    let stopping: Promise<void> | null = null
    const stop = (): Promise<void> => {
      stopping ??= (async () => {
        await damage.stop()
        await host.stop()
        await budgets.stop()
        limiter.stop()
        await stack.stop()
        await sources.stop()
        await blocks.close()
        await pool.close()
        await records.close()
      })()
      return stopping
    }
    this.#stops.push(stop)
    return { env, stack, addresses: stack.addresses(), sessions: () => this.#sessionsOf(host), stop }
  }

  #sessionsOf(host: SwarmHost): Record<string, string> {
    const links = host.holdings().flatMap(({ live, dialling }) => (live?.links ?? []).map(({ remote }) => ({ remote, dialling })))
    return Object.fromEntries(
      links.map(({ remote, dialling }) => [this.#names.get(remote.peerId) ?? '?', dialling?.sourceOf(remote.peerId) ?? '?']),
    )
  }
}
