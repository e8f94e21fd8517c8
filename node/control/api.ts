/**
 * The local API of a node: what every verb takes and gives back, and the one error class that crosses the control socket.
 *
 * Types and small tables only. The node implements ShoalApi (node/jobs), server.ts offers it on a socket, client.ts offers it again on
 * the other side, so that the command line cannot tell a daemon from a node in its own process.
 */
import { EXIT, FORMAT_CODES } from '../../protocol/errors.ts'
import type { LogLevel } from '../log.ts'
import type { CarExportRequest, CarExportResult, CarImportRequest, CarImportResult } from './api-car.ts'
import type { FaultyFile, ReplacedShare, UnfinishedGet } from './api-shares.ts'
import type { HomeBundle } from './bundle.ts'
import type { ReachResult } from './reach-result.ts'

/** The version of Shoal; equal to the one in package.json (test/tidy.test.ts). */
export const VERSION = '0.1.0'

/** Stands for the addresses of the node itself among the hints of a link. */
export const OWN_HINT = 'own'

/** Publish files and folders. */
export interface ShareRequest {
  /** Absolute. */
  paths: string[]
  scope: 'lineage' | 'node' | 'fresh' | 'public'
  /** Names the lineage instead of the paths. */
  name: string | null
  /** Keep no sealed copy: blocks are sealed from the files whenever somebody asks. Left out: false. */
  inPlace?: boolean
  /** Let go of what was shared from the same paths, or under the same name, before. Left out: false. */
  replaces?: boolean
  /** Addresses to write into the link, OWN_HINT for those of this node; at most four end up there. Left out: none. */
  hints?: string[]
}

export interface ShareResult {
  link: string
  seedLink: string
  cid: string
  files: number
  /** Sum of the file sizes. */
  sizeBytes: number
  /** What travels and is stored: all blocks of the share, padding included. */
  wireBytes: number
  scope: string
  newBlocks: number
  reusedBlocks: number
  /** No sealed copy of the data is kept. */
  inPlace: boolean
  /** Earlier shares that it took the place of. */
  replaced: ReplacedShare[]
  warnings: string[]
}

/** Fetch a share, or the part of it under `path`, into a folder. */
export interface GetRequest {
  link: string
  /** Absolute. */
  outputDir: string
  path: string | null
  /** Replace files that stand in the way. */
  force: boolean
  /** The user said yes to what X7 asks about. */
  consent: boolean
  /** Keep looking when nobody is online. */
  wait: boolean
  /** Addresses to try beside those that are found. */
  peers: string[]
  /** Keep the share after a one-shot get. */
  keep: boolean
  /** Keep a sealed copy beside the files, and serve that. Left out: false. */
  keepSealed?: boolean
}

export interface GetResult {
  cid: string
  /** Absolute paths of what was written at the top. */
  written: string[]
  files: number
  sizeBytes: number
  fetchedBytes: number
  fetchedBlocks: number
  reusedBlocks: number
  damaged: { path: string; cause: string }[]
  /** Bytes of sealed blocks that stay on this disk for seeding. */
  keptBytes: number
  /** What is served of it is served from the files that were written. */
  inPlace: boolean
}

/** Some bytes of a file: `start` is the first (below 0: counted from the end), `end` the last, null for the end of the file. */
export interface ByteRange {
  start: number
  end: number | null
}

/** Stream one file, or a range of it. */
export interface CatRequest {
  link: string
  path: string | null
  /** Null for all. */
  range: ByteRange | null
  consent: boolean
  wait: boolean
  peers: string[]
}

/** Fetch all blocks of a share, without reading it, and serve them. */
export interface SeedRequest {
  link: string
  wait: boolean
  peers: string[]
  /** Keep it for so long from now; null: until unseeded. Left out: as it is. */
  keepForMs?: number | null
}

export interface SeedResult {
  cid: string
  wireBytes: number
  blockCount: number
  fetchedBytes: number
  fetchedBlocks: number
}

export interface UnseedRequest {
  cid: string
}

export interface UnseedResult {
  cid: string
  freedBytes: number
  /** False: this node did not keep it. */
  removed: boolean
  /** A share whose tree cannot be read and which may need these blocks: they are freed once it is mended or let go of too. */
  heldBackBy: string | null
}

/** Delete the blocks that no share and no job needs. */
export interface GcRequest {
  /** Only count them. */
  dryRun: boolean
  /** Also where the records were lost once. */
  consent: boolean
}

export interface GcResult {
  /** What was deleted, or would be. */
  blocks: number
  bytes: number
  /** In the store before. */
  storedBlocks: number
  isDryRun: boolean
}

/** Check every block of the kept shares. */
export interface VerifyRequest {
  /** Empty: all. */
  cids: string[]
  /** Fetch what is damaged or missing. */
  repair: boolean
  wait: boolean
  peers: string[]
}

export interface VerifiedShare {
  cid: string
  label: string | null
  state: 'partial' | 'complete'
  damagedBlocks: number
  /** Not here; of a share that is still being fetched that is no damage. */
  missingBlocks: number
  /** Of a share that is kept in place: blocks whose files are not what they were. `share` them again. */
  changedBlocks: number
  repairedBlocks: number
  /** All that was ever here is here and is what it should be. */
  isSound: boolean
  /** Why it could not be repaired. */
  failure: string | null
}

export interface VerifyResult {
  shares: VerifiedShare[]
  checkedBlocks: number
  checkedBytes: number
  isSound: boolean
}

/** How the store does. */
export interface KeepingStatus {
  /** Shares that miss blocks which were here. */
  damagedShares: number
  /** Null where none runs. */
  scrub: ScrubStatus | null
}

/** The slow check of everything that is stored. Times are those of the wall clock. */
export interface ScrubStatus {
  startedMs: number
  doneFraction: number
  checkedBlocks: number
  damagedBlocks: number
  last: { endedMs: number; checkedBlocks: number; damagedBlocks: number } | null
}

/** One line of `ls`: what this node keeps. Never a key. */
export interface ShareSummary {
  cid: string
  role: 'owner' | 'reader' | 'blind'
  label: string | null
  files: number | null
  sizeBytes: number | null
  wireBytes: number | null
  state: 'partial' | 'complete'
  /** Its data lies in the user's files alone. */
  inPlace: boolean
  /** Of these, how many are not as they were: what they hold is not served. */
  faultyFiles: number
  seeding: boolean
  peers: number
  haveBlocks: number
  blockCount: number | null
  announcedMs: number | null
  /** When it will be let go of, by the wall clock; null: when it is unseeded. */
  keepUntilMs: number | null
  /** Not kept: it was read here, and so many bytes of it stay while there is room. Null: kept. */
  cachedBytes: number | null
}

/** List the files of a share without fetching them. */
export interface ListRequest {
  link: string
  path: string | null
  wait: boolean
  peers: string[]
}

export interface ListedEntry {
  path: string
  sizeBytes: number
  isDirectory: boolean
  executable: boolean
}

/** What there is to set on a running node; README.md says what each means. */
export interface LimitSettings {
  uploadBytesPerSecond: number | null
  downloadBytesPerSecond: number | null
  lanExempt: boolean
  monthlyBytes: number | null
  monthlyUploadBytes: number | null
  monthlyDownloadBytes: number | null
  monthStartDay: number
  connectionsMax: number
  memoryBytes: number
  pinnedBytes: number | null
  cachedBytes: number | null
  relayBytesPerDay: number
  freeBytesKept: number | null
}

/** Shows the limits; changes those in `set` first, until the node stops. */
export interface LimitsRequest {
  set: Partial<LimitSettings>
  /** Forget what was set before, and read the config file again. */
  reset: boolean
  /** Write the change into the config file, so that it holds from now on. */
  save: boolean
}

/** Shows, and changes nothing. */
export const JUST_SHOW: LimitsRequest = { set: {}, reset: false, save: false }

/** One direction of what goes over the wire for shares. */
export interface Rate {
  capBytesPerSecond: number | null
  /** Over the last seconds. */
  bytesPerSecond: number
  /** Since the node started. */
  bytes: number
}

export interface LimitsResult {
  up: Rate
  down: Rate
  /** When that was, in milliseconds on the node's own clock, which only runs forward. */
  atMs: number
  settings: LimitSettings
  /** Names of settings that hold until the node stops. */
  untilStop: string[]
  /** Where the caps come from, and when the schedule says otherwise next, in milliseconds since 1970. */
  capsFrom: { up: CapSource; down: CapSource; nextChangeMs: number | null }
  month: MonthVolume
}

/** 'set': on the running node. */
export type CapSource = 'config' | 'schedule' | 'set'

/** What counts in the present month. */
export interface MonthVolume {
  upBytes: number
  downBytes: number
  /** Milliseconds since 1970. */
  endsMs: number
  /** The volume is used up: no payload goes this way until then. */
  isUpHeld: boolean
  isDownHeld: boolean
}

/** One line of `status --limits`. */
export interface LimitRow {
  name: string
  /** Null: no limit is set. */
  value: number | null
  unit: '' | 'bytes' | 'bytes/s' | 'a second' | 'a minute'
  meaning: string
  /** How much of it is used now; null where that has no meaning, or is not known. */
  used: number | null
  /** How often it was run into since the node started; null where that is no event. */
  hits: number | null
}

export interface StatusResult {
  peerId: string
  version: string
  network: string | null
  addresses: string[]
  uptimeSeconds: number
  /** Kept ones. */
  shares: number
  /** What was read here and stays while there is room. */
  cached: { shares: number; bytes: number }
  /** Kept shares that are begun and not complete, by what becomes of them: a job works on them, or they wait for the same `get` again; and of
   *  these the first few gets, with what is served of them meanwhile. */
  unfinished: { running: number; waiting: number; gets: UnfinishedGet[] }
  /** Files of shares in place that are not as they were: how many, and the first few with what became of them. */
  faultyFiles: { count: number; first: FaultyFile[] }
  blocks: number
  connections: number
  /** Sessions with peers of a share. */
  swarmPeers: number
  dht: { name: string; peers: number; mode: 'client' | 'server' }[]
  /** Null without a network. */
  reach: ReachResult | null
  bytesIn: number
  bytesOut: number
  rates: LimitsResult
  rssBytes: number
  /** How late the event loop was in the last minutes, 99th percentile. */
  lagP99Ms: number
  home: string
  pid: number
  jobs: number
  /** Port of the local API over HTTP, on 127.0.0.1 and ::1; null: none. */
  httpPort: number | null
  /** The node takes no more jobs and is about to end. */
  stopping: boolean
  keeping: KeepingStatus
}

export interface PeerSummary {
  peerId: string
  address: string
  direction: string
  shares: PeerShare[]
  connectedSeconds: number
}

/** What one peer gives and takes of one share. */
export interface PeerShare {
  cid: string
  bytesIn: number
  bytesOut: number
  /** Over the last seconds. */
  inBytesPerSecond: number
  outBytesPerSecond: number
  hasAll: boolean
  /** Blocks of the share that it says it has. */
  haveBlocks: number
  /** Blocks that came from it and were what they should be. */
  verifiedBlocks: number
  /** Where we heard of it; 'itself': it dialled us. */
  source: 'given' | 'hint' | 'dht' | 'exchange' | 'known' | 'itself'
}

export interface IdentityResult {
  peerId: string
  addresses: string[]
}

/** 'same' only asks. */
export interface LogLevelRequest {
  level: LogLevel | 'same'
}

export interface LogLevelResult {
  level: LogLevel
}

export type JobPhase = 'scan' | 'seal' | 'sync' | 'find' | 'fetch' | 'write' | 'announce' | 'mark' | 'sweep' | 'check'

/** What a job tells while it runs. Progress may be thinned out on the way, warnings may not. */
export type JobEvent =
  | { type: 'progress'; phase: JobPhase; doneBytes: number; totalBytes: number | null; peers?: number }
  | { type: 'warning'; message: string }

export type OnEvent = (event: JobEvent) => void

/** What a node does for its user. Every method throws JobError (or the abort reason of its signal) and nothing else on purpose. */
export interface ShoalApi {
  share(request: ShareRequest, onEvent: OnEvent, signal: AbortSignal): Promise<ShareResult>
  get(request: GetRequest, onEvent: OnEvent, signal: AbortSignal): Promise<GetResult>
  cat(request: CatRequest, onEvent: OnEvent, signal: AbortSignal): AsyncIterable<Uint8Array>
  seed(request: SeedRequest, onEvent: OnEvent, signal: AbortSignal): Promise<SeedResult>
  unseed(request: UnseedRequest, signal: AbortSignal): Promise<UnseedResult>
  gc(request: GcRequest, onEvent: OnEvent, signal: AbortSignal): Promise<GcResult>
  verify(request: VerifyRequest, onEvent: OnEvent, signal: AbortSignal): Promise<VerifyResult>
  shares(signal: AbortSignal): Promise<ShareSummary[]>
  list(request: ListRequest, onEvent: OnEvent, signal: AbortSignal): AsyncIterable<ListedEntry>
  /** Shows the limits that the user sets, and changes them. */
  limits(request: LimitsRequest, signal: AbortSignal): Promise<LimitsResult>
  status(signal: AbortSignal): Promise<StatusResult>
  /** Every limit that peers and users can run into. */
  limitTable(signal: AbortSignal): Promise<LimitRow[]>
  peers(signal: AbortSignal): Promise<PeerSummary[]>
  identity(signal: AbortSignal): Promise<IdentityResult>
  /** Asks the node to stop. Resolves as soon as it has begun to, not when it is down: the answer must still get out. */
  stop(signal: AbortSignal): Promise<void>
  /** Shows what is logged, and sets it until the node stops. */
  logLevel(request: LogLevelRequest, signal: AbortSignal): Promise<LogLevelResult>
  /** Everything that makes this home what it is, but its blocks. Holds keys. */
  exportHome(signal: AbortSignal): Promise<HomeBundle>
  exportCar(request: CarExportRequest, onEvent: OnEvent, signal: AbortSignal): Promise<CarExportResult>
  importCar(request: CarImportRequest, onEvent: OnEvent, signal: AbortSignal): Promise<CarImportResult>
  /** The node's figures as Prometheus reads them. */
  metrics(signal: AbortSignal): Promise<string>
}

/** Codes of failures beside those of the format (FORMAT_CODES), and the exit code that each leads to. */
export const JOB_CODES = {
  USAGE: EXIT.usage,
  HOME_LOCKED: EXIT.homeLocked,
  NO_SEEDER: EXIT.noSeeder,
  NO_SPACE: EXIT.noSpace,
  /** It would take more disk than the user lets shares take. */
  OVER_BUDGET: EXIT.noSpace,
  EXISTS: EXIT.pathExists,
  NO_DAEMON: EXIT.noDaemon,
  /** What the user named cannot be used: absent, not readable, not sharable, over a limit. */
  BAD_INPUT: EXIT.badInput,
  NOT_FOUND: EXIT.badInput,
  DENIED: EXIT.badInput,
  /** The home folder or the socket's folder is open to other users. */
  INSECURE: EXIT.badInput,
  /** A source file changed while it was read. */
  CHANGED: EXIT.badInput,
  BAD_CONFIG: EXIT.badInput,
  /** The volume of the month is used up. */
  VOLUME_USED: EXIT.badInput,
  BAD_ADDRESS: EXIT.badInput,
  /** A range of bytes that the file does not have. */
  BAD_RANGE: EXIT.badInput,
  PORT_TAKEN: EXIT.badInput,
  /** The home was written by a later version of Shoal. */
  NEWER: EXIT.badInput,
  /** Some files of a share are damaged; the others were written. */
  DAMAGED: EXIT.damagedShare,
  /** The node has as many jobs as it takes. */
  BUSY: EXIT.noDaemon,
  /** The node that runs is of another version of Shoal than the command line. */
  OTHER_VERSION: EXIT.noDaemon,
  /** The node was stopped while the job ran. */
  STOPPED: EXIT.noDaemon,
  INTERRUPTED: EXIT.interrupted,
  BUG: EXIT.bug,
} as const

export type JobCode = keyof typeof JOB_CODES

/** A failure for the user: a stable code, what the command line exits with, and a sentence without links, keys or secrets. */
export class JobError extends Error {
  override name = 'JobError'
  readonly code: string
  readonly exitCode: number
  /** `exitCode` follows from the code where it is one of JOB_CODES or FORMAT_CODES, and is EXIT.bug for an unknown one. */
  constructor(code: string, message: string, options: ErrorOptions & { exitCode?: number } = {}) {
    super(message, options)
    this.code = code
    this.exitCode = options.exitCode ?? exitCodeOf(code)
  }
}

/** The text without whatever follows the sign and the type digit of a share link: for messages that may quote input. */
export const withoutKeys = (text: string): string => text.replace(/([#.])1[A-Za-z0-9_-]{16,}\S*/g, '$1[secret]')

function exitCodeOf(code: string): number {
  const formats: Record<string, { exit: number }> = FORMAT_CODES
  const jobs: Record<string, number> = JOB_CODES
  if (Object.hasOwn(formats, code)) return formats[code]?.exit ?? EXIT.bug
  return Object.hasOwn(jobs, code) ? (jobs[code] ?? EXIT.bug) : EXIT.bug
}
