/**
 * Composition: builds the parts of a node in order, stops them in reverse. The only file that wires.
 *
 * `openNode` gives a running node: the daemon, a one-shot `get`, or (offline) a look into the home folder without touching the network.
 */
import { EXIT } from '../protocol/errors.ts'
import { type Hit, LimitCounters } from '../protocol/limit-table.ts'
import { KEEPING, NODE, WAITS } from '../protocol/limits.ts'
import { Budgets } from './budgets/budgets.ts'
import { connectionsFor, openFilesMax, socketsFor } from './budgets/descriptors.ts'
import { gaugesOf } from './budgets/gauges.ts'
import { LimitRegistry } from './budgets/limit-registry.ts'
import { limitsResult } from './budgets/limits-result.ts'
import { memoryShares } from './budgets/memory.ts'
import { RelayLimits } from './budgets/relay-limits.ts'
import type { Config } from './config.ts'
import { JobError, type JobEvent, type LimitRow, type ShoalApi, type StatusResult, VERSION } from './control/api.ts'
import { toJobError } from './control/job-error.ts'
import { serveControl } from './control/server.ts'
import { removeStaleSocket } from './control/socket-folder.ts'
import { CryptoPool } from './crypto/pool.ts'
import { nodePrimitives } from './crypto/primitives.ts'
import { Figures } from './figures.ts'
import { diskRoom } from './free-space.ts'
import { tuneHeap } from './heap.ts'
import { bundleOf } from './home-bundle.ts'
import { openHttp } from './http-access.ts'
import { exportCarJob } from './jobs/car-export.ts'
import { importCarJob } from './jobs/car-import.ts'
import { catJob, listJob } from './jobs/cat.ts'
import { Damage } from './jobs/damage.ts'
import { DiskCache } from './jobs/disk-cache.ts'
import { pinnedBytes } from './jobs/disk-room.ts'
import type { JobEnvironment, StoreEnvironment } from './jobs/environment.ts'
import { gcJob, unseedJob } from './jobs/gc.ts'
import { Keeping } from './jobs/keeping.ts'
import { Pins } from './jobs/pins.ts'
import { restoreShares } from './jobs/restore.ts'
import { ResumedSeeds } from './jobs/resume.ts'
import { shareJob } from './jobs/share.ts'
import { SourceWatch } from './jobs/source-watch.ts'
import { Sources } from './jobs/sources.ts'
import { SwarmHost } from './jobs/swarm-host.ts'
import { UnfinishedGets } from './jobs/unfinished.ts'
import { Upkeep } from './jobs/upkeep.ts'
import { verifyJob } from './jobs/verify.ts'
import { LagMeter } from './lag.ts'
import { describeHolder } from './lock-holder.ts'
import type { LeveledLog, Log } from './log.ts'
import { RateLimiter } from './network/rate-limiter.ts'
import { createIdentity, createStack, peerIdOf, type Stack } from './network/stack.ts'
import { socketPathFor } from './paths.ts'
import { openBlockStore } from './storage/blocks.ts'
import { DeleteLog } from './storage/delete-log.ts'
import { diskFileSystem } from './storage/fs.ts'
import { loadOrCreateSecret, prepareHome, readOrCreateFile } from './storage/home.ts'
import { assertHomeIsKnown, migrateHome } from './storage/home-version.ts'
import { PinFiles, withPinFiles } from './storage/pin-files.ts'
import { openOrRebuildRecords } from './storage/records-rebuild.ts'
import { SourceStore } from './storage/source-store.ts'
import { faultyFiles, peerSummaries, shareSummary } from './summaries.ts'

export interface ShoalNode {
  api: ShoalApi
  peerId: string
  addresses(): string[]
  socketPath: string
  /** Reads the config file again. JobError BAD_CONFIG with all that is wrong; then nothing has changed. */
  reload(): Promise<void>
  stop(): Promise<void>
  /** Resolves when no job runs. */
  whenIdle(): Promise<void>
  /** Resolves when the node has stopped, whoever asked for it. */
  whenStopped(): Promise<void>
}

export interface NodeOptions {
  oneShot: boolean
  /** Opens the home only: no socket, no peers. */
  offline?: boolean
  log: LeveledLog
}

/** Starts a node on `config.home`. Throws JobError HOME_LOCKED when another process runs one there. */
export async function openNode(config: Config, options: NodeOptions): Promise<ShoalNode> {
  tuneHeap()
  const { log } = options
  const undo: (() => Promise<void>)[] = []
  // One handler that forgot a rejection must not end everybody else's transfers: it is logged as the fault that it is.
  const onRejection = (error: unknown): void => log.error('a promise was rejected and nobody listened', { error })
  process.on('unhandledRejection', onRejection)
  undo.push(async () => void process.off('unhandledRejection', onRejection))
  const unwind = async (): Promise<void> => {
    for (const step of undo.splice(0).reverse()) await step().catch((error: unknown) => log.warn('a part did not stop cleanly', { error }))
  }
  try {
    const counters = new LimitCounters()
    const { hit } = counters
    const parts = await openStorage(config, log, hit, undo)
    // Closed after the parts that take their time, so that `status` can say what goes on, and before the records that answers read.
    const servers: { close(): Promise<void> }[] = []
    undo.push(async () => void (await Promise.all(servers.map((server) => server.close()))))
    const identity = peerIdOf(parts.identity)
    const filesMax = await openFilesMax()
    const stack = options.offline === true ? null : await openStack(config, parts, log, hit, socketsFor(filesMax))
    if (stack !== null) undo.push(() => stack.stop())
    const { uploadBytesPerSecond, downloadBytesPerSecond } = config
    const limiter = new RateLimiter({ uploadBytesPerSecond, downloadBytesPerSecond })
    undo.push(async () => limiter.stop())
    const budgets = await Budgets.open({ config, limiter, records: parts.records, log, hit })
    undo.push(() => budgets.stop())
    const host = new SwarmHost({
      stack,
      limiter,
      blocks: parts.blocks,
      records: parts.records,
      pool: parts.pool,
      sources: parts.sources,
      log,
      groupPrivate: config.groupPrivate,
      pex: config.pex,
      announce: config.announce,
      hit,
    })
    undo.push(() => host.stop())
    const apply = (): void => {
      host.memory.set(memoryShares(budgets.current.memoryBytes))
      stack?.setConnectionsMax(connectionsFor(budgets.current.connectionsMax, filesMax))
    }
    apply()
    budgets.onChange(apply)
    host.holdBack(budgets.held)
    budgets.onHold((held) => host.holdBack(held))
    if (stack !== null) {
      const relaying = new RelayLimits({
        ...{ budgets, limiter },
        set: (day, second) => stack.setRelayLimits(day, second),
        passed: () => stack.reach().relaying?.bytes ?? null,
      })
      undo.push(async () => relaying.stop())
    }
    await host.start()
    const pins = new Pins()
    const keeping = await Keeping.open(parts.records)
    const damage = new Damage({ blocks: parts.blocks, records: parts.records, keeping, host, log })
    undo.push(() => damage.stop())
    const addresses = (): string[] => stack?.addresses() ?? []
    const store: StoreEnvironment = {
      ...{ ...parts, pins, keeping, damage, budgets, home: config.home, peerId: identity.text, addresses, host, log },
      isOneShot: options.oneShot,
    }
    const env: JobEnvironment = { ...store, cache: new DiskCache(store) }
    const resumed = new ResumedSeeds(env)
    undo.push(() => resumed.stop())
    const unfinished = new UnfinishedGets(env)
    undo.push(() => unfinished.stop())
    let node: RunningNode | null = null
    const upkeep = new Upkeep(env, {
      isOneShot: options.oneShot || options.offline === true,
      isBusy: () => node?.isBusy !== false,
      letGo: async (cid, signal) => {
        await Promise.all([resumed.release(cid), unfinished.release(cid)])
        await unseedJob(env, cid, signal)
      },
    })
    undo.push(() => upkeep.stop())
    budgets.onChange(() => upkeep.settleCache())
    node = new RunningNode({
      config,
      env,
      stack,
      limiter,
      budgets,
      counters,
      peerId: identity.text,
      unwind,
      resumed,
      unfinished,
      upkeep,
      log,
      identity: parts.identity,
    })
    upkeep.start()
    const watch = new SourceWatch({ records: parts.records, sources: parts.sources, host, log })
    undo.push(() => watch.stop())
    if (!options.oneShot && options.offline !== true) watch.start()
    if (stack !== null && !options.oneShot) resumed.start(await parts.records.listShares())
    if (!options.oneShot && options.offline !== true) unfinished.start(await parts.records.listShares())
    if (options.offline !== true) {
      servers.push(await serveControl({ api: node.api, socketPath: node.socketPath, log, signal: NOT_ABORTED, hit }))
      const http = options.oneShot ? null : await openHttp(config, node.api, log, hit)
      if (http !== null) servers.push(http)
      node.httpPort = http?.port ?? null
    } else await removeStaleSocket(node.socketPath) // of a node that was killed
    log.info('the node runs', { version: VERSION, pid: process.pid, network: config.network, addresses: node.addresses() })
    return node
  } catch (error) {
    await unwind()
    throw toJobError(error, NOT_ABORTED)
  }
}

/** Starting a node is not interrupted by itself: whoever started it stops it. */
const NOT_ABORTED = new AbortController().signal

interface StorageParts {
  identity: Uint8Array
  nodeSecret: Uint8Array
  blocks: JobEnvironment['blocks']
  records: JobEnvironment['records']
  pool: CryptoPool
  deleteLog: DeleteLog
  sources: Sources
}

async function openStorage(config: Config, log: Log, hit: Hit, undo: (() => Promise<void>)[]): Promise<StorageParts> {
  await assertHomeIsKnown(config.home)
  const paths = await prepareHome(config.home)
  const onFull = (): void => hit('recordRequests')
  const opened = await openOrRebuildRecords({ file: paths.recordsFile, log, onFull }).catch(async (error: unknown) => {
    if (!(error instanceof Error && 'code' in error && error.code === 'LOCKED')) throw error
    throw new JobError('HOME_LOCKED', await describeHolder(socketPathFor(config.home), paths.recordsFile), { cause: error })
  })
  undo.push(() => opened.records.close())
  const pinned = await PinFiles.open(diskFileSystem, config.home)
  const records = await withPinFiles(opened.records, pinned)
  await migrateHome(config.home)
  const identity = await readOrCreateFile(paths.identityFile, createIdentity)
  const nodeSecret = (await loadOrCreateSecret(paths, 'node-secret', NODE.secretBytes)).reveal()
  const pool = new CryptoPool()
  undo.push(() => pool.close())
  const blocks = await openBlockStore({
    dir: config.home,
    fs: diskFileSystem,
    // One block a tick: cheaper here than on its way to another thread and back.
    verify: async (bytes) => ({ digest: await nodePrimitives.sha256(bytes), bytes }),
    allocate: pool.buffers.take,
    onFull: () => hit('fileOperations'),
    log,
    signal: NOT_ABORTED,
  })
  undo.push(() => blocks.close())
  await restoreShares({ records, blocks, pins: pinned, log, isRebuilt: opened.setAside !== null }, NOT_ABORTED)
  const deleteLog = new DeleteLog({ dir: config.home, fs: diskFileSystem, log })
  const store = await SourceStore.open(diskFileSystem, config.home)
  const sources = new Sources({ store, blocks, pool, nodeSecret, log })
  undo.push(() => sources.stop())
  return { identity, nodeSecret, blocks, records, pool, sources, deleteLog }
}

async function openStack(config: Config, parts: StorageParts, log: Log, hit: Hit, socketsMax: number | null): Promise<Stack> {
  const { network, listen, bootstrap, ipfsDht, mdns, portMapping, groupPrivate } = config
  return await createStack({
    ...{ network, listen, bootstrap, ipfsDht, mdns, portMapping, groupPrivate },
    ...{ identity: parts.identity, datastore: parts.records.datastore(), log, socketsMax, hit },
  })
}

class RunningNode implements ShoalNode {
  readonly peerId: string
  readonly socketPath: string
  readonly api: ShoalApi
  readonly #config: Config
  readonly #env: JobEnvironment
  readonly #stack: Stack | null
  readonly #limiter: RateLimiter
  readonly #budgets: Budgets
  readonly #counters: LimitCounters
  readonly #unwind: () => Promise<void>
  readonly #resumed: ResumedSeeds
  readonly #unfinished: UnfinishedGets
  readonly #upkeep: Upkeep
  readonly #startedAt = Date.now()
  readonly #log: LeveledLog
  readonly #identity: Uint8Array
  readonly #figures = new Figures()
  readonly #lag = new LagMeter()
  readonly #ending = new AbortController()
  readonly #stopped = Promise.withResolvers<void>()
  readonly #idle = new Set<() => void>()
  #jobs = 0
  #stopping: Promise<void> | null = null
  /** Set once the server over HTTP listens. */
  httpPort: number | null = null

  constructor(parts: {
    config: Config
    env: JobEnvironment
    stack: Stack | null
    limiter: RateLimiter
    budgets: Budgets
    counters: LimitCounters
    peerId: string
    unwind: () => Promise<void>
    resumed: ResumedSeeds
    unfinished: UnfinishedGets
    log: LeveledLog
    upkeep: Upkeep
    identity: Uint8Array
  }) {
    this.#upkeep = parts.upkeep
    this.#config = parts.config
    this.#log = parts.log
    this.#identity = parts.identity
    this.#env = parts.env
    this.#stack = parts.stack
    this.#limiter = parts.limiter
    this.#budgets = parts.budgets
    this.#counters = parts.counters
    this.#unwind = parts.unwind
    this.#resumed = parts.resumed
    this.#unfinished = parts.unfinished
    this.peerId = parts.peerId
    this.socketPath = socketPathFor(parts.config.home)
    this.api = this.#makeApi()
  }

  /** Whether what can wait should. */
  get isBusy(): boolean {
    return this.#jobs > 0 || this.#lag.p99Ms > KEEPING.scrubLagMaxMs
  }

  addresses(): string[] {
    return this.#stack?.addresses() ?? []
  }

  whenStopped(): Promise<void> {
    return this.#stopped.promise
  }

  whenIdle(): Promise<void> {
    if (this.#jobs === 0) return Promise.resolve()
    return new Promise((resolve) => this.#idle.add(resolve))
  }

  reload(): Promise<void> {
    return this.#budgets.reload()
  }

  stop(): Promise<void> {
    this.#stopping ??= (async () => {
      this.#log.info('the node stops', { jobs: this.#jobs })
      this.#ending.abort(new JobError('STOPPED', 'the node was stopped'))
      await Promise.race([this.whenIdle(), new Promise((resolve) => setTimeout(resolve, WAITS.stopMs / 2).unref())])
      await this.#unwind()
      this.#lag.stop()
      this.#stopped.resolve()
    })()
    return this.#stopping
  }

  #makeApi(): ShoalApi {
    const env = this.#env
    return {
      share: (request, onEvent, signal) => this.#job('share', signal, (inner) => shareJob(env, request, onEvent, inner)),
      get: (request, onEvent, signal) => this.#job('get', signal, (inner) => this.#unfinished.get(request, onEvent, inner)),
      seed: (request, onEvent, signal) => this.#job('seed', signal, (inner) => this.#resumed.seed(request, onEvent, inner)),
      cat: (request, onEvent, signal) => this.#stream('cat', signal, (inner) => catJob(env, request, onEvent, inner)),
      list: (request, onEvent, signal) => this.#stream('list', signal, (inner) => listJob(env, request, onEvent, inner)),
      unseed: (request, signal) =>
        this.#job('unseed', signal, async (inner) => {
          await this.#release(request.cid)
          return await unseedJob(env, request.cid, inner)
        }),
      exportCar: (request, onEvent, signal) => this.#job('exportCar', signal, (inner) => exportCarJob(env, request, onEvent, inner)),
      importCar: (request, onEvent, signal) =>
        this.#job('importCar', signal, (inner) => importCarJob(env, request, (cid) => this.#release(cid), onEvent, inner)),
      gc: (request, onEvent, signal) => this.#job('gc', signal, (inner) => gcJob(env, request, onEvent, inner)),
      verify: (request, onEvent, signal) => this.#job('verify', signal, (inner) => verifyJob(env, request, onEvent, inner)),
      shares: async () =>
        await Promise.all((await env.records.listShares()).map((record) => shareSummary(env, this.#stack !== null, record))),
      limits: async (request) => {
        await this.#budgets.change(request)
        return limitsResult(this.#budgets, this.#limiter)
      },
      status: () => this.#status(),
      limitTable: () => this.#limitTable(),
      peers: () => Promise.resolve(peerSummaries(env.host, this.#stack)),
      identity: () => Promise.resolve({ peerId: this.peerId, addresses: this.addresses() }),
      logLevel: async ({ level }) => {
        if (level !== 'same') this.#log.level = level
        return { level: this.#log.level }
      },
      exportHome: async () => await bundleOf(this.#config.home, this.#identity, env.nodeSecret, env.records),
      metrics: async () =>
        await this.#figures.page(
          await this.#status(),
          (await env.records.listShares()).filter(({ cid }) => env.keeping.isPinned(cid)).map(({ state }) => state),
          await this.#limitTable(),
        ),
      stop: () => {
        setImmediate(() => void this.stop())
        return Promise.resolve()
      },
    }
  }

  /** Stops what goes on by itself with a share. */
  async #release(cid: string): Promise<void> {
    await Promise.all([this.#resumed.release(cid), this.#unfinished.release(cid)])
  }

  async #job<T>(verb: string, signal: AbortSignal, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const startedMs = this.#begin(verb)
    const inner = AbortSignal.any([signal, this.#ending.signal])
    let code = 'OK'
    try {
      return await run(inner)
    } catch (error) {
      const failure = toJobError(error, inner)
      code = failure.code
      throw failure
    } finally {
      this.#end(verb, code, startedMs)
    }
  }

  async *#stream<T>(verb: string, signal: AbortSignal, run: (signal: AbortSignal) => AsyncGenerator<T>): AsyncGenerator<T> {
    const startedMs = this.#begin(verb)
    const inner = AbortSignal.any([signal, this.#ending.signal])
    let code = 'OK'
    try {
      yield* run(inner)
    } catch (error) {
      const failure = toJobError(error, inner)
      code = failure.code
      throw failure
    } finally {
      this.#end(verb, code, startedMs)
    }
  }

  /** The monotonic time. */
  #begin(verb: string): number {
    this.#ending.signal.throwIfAborted()
    if (this.#jobs >= NODE.jobsMax) this.#counters.hit('jobs')
    if (this.#jobs >= NODE.jobsMax) throw new JobError('BUSY', `this node runs ${NODE.jobsMax} jobs already`, { exitCode: EXIT.badInput })
    this.#jobs++
    this.#log.debug('a job begins', { verb })
    return performance.now()
  }

  #end(verb: string, code: string, startedMs: number): void {
    this.#figures.noteEnd(code)
    this.#log.debug('a job ended', { verb, code, tookMs: Math.round(performance.now() - startedMs) })
    this.#jobs--
    if (this.#jobs > 0) return
    for (const wake of [...this.#idle]) wake()
    this.#idle.clear()
  }

  async #limitTable(): Promise<LimitRow[]> {
    const env = this.#env
    const disk = { pinnedBytes: await pinnedBytes(env), ...(await diskRoom(env.home, env.budgets.current.freeBytesKept)) }
    const parts = { env, stack: this.#stack, limiter: this.#limiter, budgets: this.#budgets, jobs: () => this.#jobs, disk }
    return new LimitRegistry(this.#counters, gaugesOf(parts)).rows()
  }

  async #status(): Promise<StatusResult> {
    const links = this.#env.host.holdings().flatMap((holding) => holding.live?.links ?? [])
    const totals = this.#env.host.totals()
    const { keeping, cache } = this.#env
    const kept = this.#env.host.holdings().filter(({ cid, record }) => record !== null && keeping.isPinned(cid.text))
    const unfinished = kept.filter(({ record }) => record?.state === 'partial')
    const running = unfinished.filter(({ cid, holders }) => holders > (this.#unfinished.has(cid.text) ? 1 : 0)).length
    return {
      peerId: this.peerId,
      version: VERSION,
      network: this.#config.network,
      addresses: this.addresses(),
      uptimeSeconds: Math.floor((Date.now() - this.#startedAt) / 1000),
      shares: kept.length,
      cached: cache.use(),
      unfinished: { running, waiting: unfinished.length - running, gets: await this.#unfinished.list() },
      faultyFiles: faultyFiles(this.#env),
      blocks: this.#env.blocks.count,
      connections: this.#stack?.connections().length ?? 0,
      swarmPeers: links.length,
      dht: this.#stack?.dht() ?? [],
      reach: this.#stack?.reach() ?? null,
      bytesIn: totals.bytesIn,
      bytesOut: totals.bytesOut,
      rates: limitsResult(this.#budgets, this.#limiter),
      rssBytes: process.memoryUsage.rss(),
      lagP99Ms: this.#lag.p99Ms,
      home: this.#config.home,
      pid: process.pid,
      jobs: this.#jobs,
      httpPort: this.httpPort,
      stopping: this.#stopping !== null,
      keeping: this.#upkeep.status(),
    }
  }
}

export { importHome } from './home-bundle.ts'
export type { Config, JobEvent, ShoalApi }
