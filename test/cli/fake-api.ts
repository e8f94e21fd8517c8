/** A ShoalApi that does nothing real: records what it was asked and answers what a test tells it to. */
import type { ShoalNode } from '../../cli/local-node.ts'
import {
  type JobEvent,
  JUST_SHOW,
  type LimitSettings,
  type LimitsRequest,
  type LimitsResult,
  type PeerShare,
  type ShoalApi,
} from '../../node/control/api.ts'

export const CID = `bafybei${'a'.repeat(52)}`
export const KEY = 'A'.repeat(47)
export const LINK = `shoal:${CID}#1${KEY}B`

export interface FakeApi extends ShoalApi {
  /** Every call, in order. */
  asked: { verb: string; request: unknown }[]
  /** Signals of the jobs, in order. */
  signals: AbortSignal[]
}

/** Answers with small fixed values; `override` replaces methods. */
export function fakeApi(override: Partial<ShoalApi> = {}): FakeApi {
  const asked: FakeApi['asked'] = []
  const signals: AbortSignal[] = []
  const noted = <T>(verb: string, request: unknown, signal: AbortSignal, run: () => T): T => {
    asked.push({ verb, request })
    signals.push(signal)
    return run()
  }
  const progress: JobEvent = { type: 'progress', phase: 'fetch', doneBytes: 512, totalBytes: 1024, peers: 2 }
  const base: ShoalApi = {
    async share(_request, onEvent) {
      onEvent({ type: 'warning', message: 'a link to nowhere was skipped' })
      const warnings = ['a link to nowhere was skipped']
      const sizes = { files: 2, sizeBytes: 3_000_000, wireBytes: 3_145_728 }
      const counts = { newBlocks: 3, reusedBlocks: 0, inPlace: false }
      return { link: LINK, seedLink: `shoal:${CID}`, cid: CID, ...sizes, scope: 'lineage', ...counts, replaced: [], warnings }
    },
    async get(request, onEvent) {
      onEvent(progress)
      const counts = { files: 1, sizeBytes: 5, fetchedBytes: 1024, fetchedBlocks: 1, reusedBlocks: 0 }
      return { cid: CID, written: [`${request.outputDir}/photos`], ...counts, damaged: [], keptBytes: 0, inPlace: false }
    },
    async *cat() {
      yield new TextEncoder().encode('hello ')
      yield new TextEncoder().encode('world')
    },
    async seed(_request, onEvent) {
      onEvent(progress)
      return { cid: CID, wireBytes: 2048, blockCount: 2, fetchedBytes: 2048, fetchedBlocks: 2 }
    },
    async unseed(request) {
      return { cid: request.cid, freedBytes: 2048, removed: true, heldBackBy: null }
    },
    async gc(request) {
      return { blocks: 3, bytes: 3_145_728, storedBlocks: 10, isDryRun: request.dryRun }
    },
    async verify(request) {
      const share = { cid: CID, label: null, state: 'complete' as const, damagedBlocks: 1, missingBlocks: 2, changedBlocks: 0 }
      const end = request.repair ? { repairedBlocks: 3, isSound: true } : { repairedBlocks: 0, isSound: false }
      return { shares: [{ ...share, ...end, failure: null }], checkedBlocks: 9, checkedBytes: 9_437_184, isSound: request.repair }
    },
    async shares() {
      const known = {
        files: 1,
        sizeBytes: 5,
        wireBytes: 16_384,
        haveBlocks: 1,
        blockCount: 1,
        announcedMs: null,
        keepUntilMs: null,
        cachedBytes: null,
        inPlace: false,
        faultyFiles: 0,
      }
      return [{ cid: CID, role: 'owner', label: 'evil\u001b[2Jname', ...known, state: 'complete', seeding: true, peers: 0 }]
    },
    async *list() {
      yield { path: 'photos', sizeBytes: 0, isDirectory: true, executable: false }
      yield { path: 'photos/\u202egpj.exe', sizeBytes: 1536, isDirectory: false, executable: true }
    },
    async limitTable() {
      return [
        { name: 'connections', value: 1000, unit: '', meaning: 'connections', used: 3, hits: 1 },
        { name: 'frameBytes', value: 65_600, unit: 'bytes', meaning: 'one frame', used: null, hits: 0 },
        { name: 'uploadRate', value: null, unit: 'bytes/s', meaning: 'sent for shares', used: 1024, hits: null },
      ]
    },
    async limits(request) {
      return fakeLimits(request)
    },
    async status() {
      const rates = fakeLimits({ ...JUST_SHOW, set: { uploadBytesPerSecond: 2_097_152 } })
      const traffic = { bytesIn: 1, bytesOut: 2, rssBytes: 1_000_000, lagP99Ms: 0 }
      const counts = { uptimeSeconds: 61, shares: 1, blocks: 2, connections: 3, swarmPeers: 1, jobs: 0 }
      const dht: { name: string; peers: number; mode: 'client' | 'server' }[] = [{ name: 'wan', peers: 5, mode: 'client' }]
      const where = { peerId: 'P1', version: '0.1.0', network: 'test', addresses: ['/a'], home: '/h', pid: 7 }
      return {
        ...where,
        dht,
        reach: { kind: 'open', addresses: [], relays: [], relaying: null },
        ...counts,
        cached: { shares: 0, bytes: 0 },
        unfinished: { running: 0, waiting: 1, gets: [] },
        faultyFiles: { count: 0, first: [] },
        ...traffic,
        rates,
        httpPort: null,
        stopping: false,
        keeping: { damagedShares: 0, scrub: null },
      }
    },
    async peers() {
      const rates = { inBytesPerSecond: 512, outBytesPerSecond: 0 }
      const shares: PeerShare[] = [
        { cid: CID, bytesIn: 1024, bytesOut: 0, ...rates, hasAll: true, haveBlocks: 2, verifiedBlocks: 1, source: 'exchange' },
      ]
      return [{ peerId: 'P2', address: '/ip4/127.0.0.1/tcp/1', direction: 'outbound', shares, connectedSeconds: 5 }]
    },
    async identity() {
      return { peerId: 'P1', addresses: ['/ip4/127.0.0.1/tcp/9/p2p/P1'] }
    },
    async stop() {},
    async logLevel({ level }) {
      return { level: level === 'same' ? 'info' : level }
    },
    async exportCar({ cid, file }) {
      return { cid, file, fileBytes: 2_097_288, blocks: 3 }
    },
    async importCar() {
      return { cid: CID, wireBytes: 2_097_152, blockCount: 2, newBlocks: 2, reusedBlocks: 1 }
    },
    async exportHome() {
      const none = { base64: '' }
      return {
        shoal: 'home',
        version: 1,
        homeVersion: 2,
        madeMs: 5,
        identity: none,
        nodeSecret: none,
        config: null,
        records: { version: 1, tables: {} },
      }
    },
    async metrics() {
      return '# HELP shoal_up 1 while it runs.\n# TYPE shoal_up gauge\nshoal_up 1\n'
    },
  }
  const api: ShoalApi = { ...base, ...override }
  return {
    asked,
    signals,
    share: (request, onEvent, signal) => noted('share', request, signal, () => api.share(request, onEvent, signal)),
    get: (request, onEvent, signal) => noted('get', request, signal, () => api.get(request, onEvent, signal)),
    cat: (request, onEvent, signal) => noted('cat', request, signal, () => api.cat(request, onEvent, signal)),
    seed: (request, onEvent, signal) => noted('seed', request, signal, () => api.seed(request, onEvent, signal)),
    unseed: (request, signal) => noted('unseed', request, signal, () => api.unseed(request, signal)),
    verify: (request, onEvent, signal) => noted('verify', request, signal, () => api.verify(request, onEvent, signal)),
    gc: (request, onEvent, signal) => noted('gc', request, signal, () => api.gc(request, onEvent, signal)),
    list: (request, onEvent, signal) => noted('list', request, signal, () => api.list(request, onEvent, signal)),
    shares: (signal) => noted('shares', {}, signal, () => api.shares(signal)),
    limitTable: (signal) => noted('limitTable', {}, signal, () => api.limitTable(signal)),
    limits: (request, signal) => noted('limits', request, signal, () => api.limits(request, signal)),
    status: (signal) => noted('status', {}, signal, () => api.status(signal)),
    peers: (signal) => noted('peers', {}, signal, () => api.peers(signal)),
    identity: (signal) => noted('identity', {}, signal, () => api.identity(signal)),
    stop: (signal) => noted('stop', {}, signal, () => api.stop(signal)),
    logLevel: (request, signal) => noted('logLevel', request, signal, () => api.logLevel(request, signal)),
    exportCar: (request, onEvent, signal) => noted('exportCar', request, signal, () => api.exportCar(request, onEvent, signal)),
    importCar: (request, onEvent, signal) => noted('importCar', request, signal, () => api.importCar(request, onEvent, signal)),
    exportHome: (signal) => noted('exportHome', {}, signal, () => api.exportHome(signal)),
    metrics: (signal) => noted('metrics', {}, signal, () => api.metrics(signal)),
  }
}

/** A node in this process around a fake API; `stops` counts its stops. */
export function fakeNode(api: ShoalApi): ShoalNode & { stops: number } {
  const stopped = Promise.withResolvers<void>()
  return {
    api,
    peerId: 'P1',
    socketPath: '/nowhere/control.sock',
    stops: 0,
    reload: async () => {},
    addresses: () => ['/ip4/127.0.0.1/tcp/9/p2p/P1'],
    async stop() {
      this.stops++
      stopped.resolve()
    },
    async whenIdle() {},
    whenStopped: () => stopped.promise,
  }
}

/** Limits of a node where nothing but `request` was set. */
export function fakeLimits({ set }: LimitsRequest): LimitsResult {
  const settings: LimitSettings = {
    ...{ uploadBytesPerSecond: null, downloadBytesPerSecond: null, lanExempt: true },
    ...{ monthlyBytes: null, monthlyUploadBytes: null, monthlyDownloadBytes: null, monthStartDay: 1 },
    ...{
      connectionsMax: 1000,
      memoryBytes: 2 ** 26,
      pinnedBytes: null,
      cachedBytes: 2 ** 32,
      relayBytesPerDay: 2 ** 32,
      freeBytesKept: null,
    },
    ...set,
  }
  return {
    up: { capBytesPerSecond: settings.uploadBytesPerSecond, bytesPerSecond: 1024, bytes: 2 },
    down: { capBytesPerSecond: settings.downloadBytesPerSecond, bytesPerSecond: 0, bytes: 1 },
    atMs: 5,
    settings,
    untilStop: Object.keys(set),
    capsFrom: { up: 'config', down: 'config', nextChangeMs: null },
    month: { upBytes: 0, downBytes: 0, endsMs: new Date(2026, 11, 1).getTime(), isUpHeld: false, isDownHeld: false },
  }
}
