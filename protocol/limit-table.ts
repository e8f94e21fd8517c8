/**
 * The limits that peers and users can run into, each named once: its value, its unit, what it is for, and whether running into it is counted.
 *
 * Whoever enforces one says so to a Hit by its name. Plain data and a counter for each: no clock, no map that grows.
 * The values stand in limits.ts; what the user set instead is told by the node.
 */
import { BUDGETS } from './budget-limits.ts'
import { CHECKING, CONTROL, DHT, FORMAT, HTTP, NETWORK, NODE, RELAY, SCORE, SHARING, STORAGE, SWARM, UPLOAD, WIRE } from './limits.ts'

export interface LimitDeclaration {
  /** Null: none until the user sets one. */
  value: number | null
  unit: '' | 'bytes' | 'bytes/s' | 'a second' | 'a minute'
  meaning: string
  /** False: a number that is only ever stood by, as the size of what is read at once; running into it is no event. */
  isCounted: boolean
}

const counted = (value: number | null, unit: LimitDeclaration['unit'], meaning: string): LimitDeclaration => ({
  ...{ value, unit, meaning, isCounted: true },
})
const constant = (value: number, unit: LimitDeclaration['unit'], meaning: string): LimitDeclaration => ({
  ...{ value, unit, meaning, isCounted: false },
})

/** In the order in which they are shown. */
export const LIMITS = {
  // Connections.
  connections: counted(NETWORK.connectionsMax, '', 'connections'),
  pendingInbound: counted(NETWORK.pendingInboundMax, '', 'connections that come in and are not upgraded yet'),
  pendingInboundPerHost: counted(NETWORK.pendingInboundPerHostMax, '', 'of these, from one host'),
  handshakes: counted(NETWORK.handshakesPerSecond, 'a second', 'handshakes with those that come in; others wait'),
  inboundPerHost: counted(NETWORK.inboundPerHostPerSecondMax, 'a second', 'connections that come in from one host'),
  inboundPerSubnet: counted(NETWORK.inboundPerSubnetMax, '', 'connections that came in from one neighbourhood'),
  streamsPerConnection: constant(NETWORK.inboundStreamsPerConnectionMax, '', 'streams that one connection may open'),
  windowBytes: counted(NETWORK.windowBytesMax, 'bytes', 'window of one stream, and one frame in it'),
  peersPerShare: counted(SWARM.peersPerShareMax, '', 'sessions for one share'),
  banned: constant(SCORE.entriesMax, '', 'peers that are remembered for what they did'),
  // What peers send.
  frameBytes: counted(WIRE.frameBytesMax, 'bytes', 'one frame'),
  skippedBytes: counted(WIRE.skippedBytesMax, 'bytes', 'a frame of a later version'),
  helloBytes: counted(WIRE.helloBytesMax, 'bytes', 'a hello'),
  controlFrames: counted(WIRE.controlFramesPerSecondMax, 'a second', 'small frames of one peer'),
  controlFramesQueued: counted(WIRE.controlFramesQueuedMax, '', 'answers that one peer leaves unread'),
  haveFrames: counted(
    WIRE.haveFramesPerSecondMax,
    'a second',
    'frames of one peer that tell what it has, after a pause eight times as many',
  ),
  haveRanges: counted(WIRE.haveRangesMax, '', 'ranges in one of these'),
  requestsQueued: counted(WIRE.requestsQueuedMax, '', 'requests of one peer that wait'),
  cancelled: counted(WIRE.cancelledMax, '', 'cancelled requests that one peer leaves open'),
  exchangeInterval: counted(2, 'a minute', 'messages of one peer about others, three of them at once'),
  exchangePeers: counted(WIRE.pexPeersMax, '', 'peers in one of these'),
  credit: counted(WIRE.creditBytesPerPeer, 'bytes', 'sent by one peer ahead of what we took in'),
  creditTotal: counted(WIRE.creditBytesTotal, 'bytes', 'promised to all peers together'),
  blocksAsked: constant(SWARM.requestsTotalMax, '', 'blocks asked for at once for one share'),
  // What goes out.
  leases: counted(UPLOAD.leaseBytesMax, 'bytes', 'blocks in memory on their way out'),
  uploadRate: counted(null, 'bytes/s', 'sent for shares'),
  downloadRate: counted(null, 'bytes/s', 'received for shares'),
  monthVolume: counted(null, 'bytes', 'sent and received this month'),
  monthUpload: counted(null, 'bytes', 'sent this month'),
  monthDownload: counted(null, 'bytes', 'received this month'),
  // The DHT and dials.
  dhtMessageBytes: counted(NETWORK.dhtReplyBytesMax, 'bytes', 'one message of the DHT'),
  dhtEntries: counted(NETWORK.dhtProvidersMax, '', 'entries in one, and addresses in one entry'),
  providersPerKey: counted(NETWORK.providersPerKeyMax, '', 'provider records of one key'),
  providersPerGroup: counted(NETWORK.providersPerKeyPerGroupMax, '', 'of these, from one neighbourhood'),
  providersPerPeer: counted(NETWORK.providersPerPeerMax, '', 'provider records of one peer'),
  providersPerMinute: counted(NETWORK.providersPerPeerPerMinuteMax, 'a minute', 'provider records that one peer offers'),
  providersTotal: counted(NETWORK.providersTotalMax, '', 'provider records'),
  tablePerGroup: counted(DHT.tablePerGroupMax, '', 'peers of one neighbourhood in a routing table'),
  dialsPerQuery: counted(NETWORK.dialsPerFindMax, '', 'dials of one look-up'),
  dialsPerHost: counted(NETWORK.dialsPerHostPerMinuteMax, 'a minute', 'dials to one host'),
  dialsPerSubnet: counted(NETWORK.dialsPerSubnetPerMinuteMax, 'a minute', 'dials to one neighbourhood'),
  dialsBackground: counted(NETWORK.dialsBackgroundPerMinuteMax, 'a minute', "dials for the DHT's own upkeep"),
  // Finding out who can reach whom, and relaying.
  checks: counted(CHECKING.perMinuteMax, 'a minute', 'peers that are dialled back to tell who can reach them'),
  relayedPeers: constant(RELAY.peersMax, '', 'peers that may be reached through this node'),
  circuits: counted(RELAY.circuitsMax, '', 'connections that are passed on'),
  relayedBytes: counted(RELAY.bytesPerDay, 'bytes', 'passed on for others in a day'),
  // This machine.
  jobs: counted(NODE.jobsMax, '', 'jobs'),
  controlConnections: counted(CONTROL.connectionsMax, '', 'connections to the local API'),
  httpConnections: counted(HTTP.connectionsMax, '', 'connections to the local API over HTTP, on each address'),
  wrongTokens: counted(HTTP.failuresPerSecondMax, 'a second', 'requests over HTTP without the right token'),
  bodyBytes: counted(CONTROL.bodyBytesMax, 'bytes', 'one request to the local API'),
  fileOperations: counted(STORAGE.fileOperationsWaitingMax, '', 'reads and writes of blocks that wait'),
  recordRequests: counted(STORAGE.recordRequestsWaitingMax, '', 'requests to the records that wait'),
  sealsAtOnce: constant(SHARING.sealsAtOnceMax, '', 'pieces that are sealed at once'),
  memory: constant(BUDGETS.memoryBytes, 'bytes', 'blocks on their way, credit and caches together'),
  pinned: counted(null, 'bytes', 'disk for what is shared and seeded'),
  cached: counted(BUDGETS.cachedBytes, 'bytes', 'disk for blocks that are kept as long as there is room'),
  freeSpace: counted(null, 'bytes', 'free space that is left on the disk of the home'),
  // What publishers may make.
  nodeBytes: constant(FORMAT.nodeBytesMax, 'bytes', 'one node of the tree of a share'),
  files: constant(FORMAT.filesMax, '', 'files of a share'),
  blocks: constant(FORMAT.blocksMax, '', 'blocks of a share'),
} as const satisfies Record<string, LimitDeclaration>

export type LimitName = keyof typeof LIMITS

/** Somebody ran into a limit. */
export type Hit = (name: LimitName) => void

export const LIMIT_NAMES = Object.keys(LIMITS) as LimitName[] // the keys of an object literal

/** For parts that nobody counts for, as in tests. */
export const NO_HIT: Hit = () => {}

/** How often each limit was run into. */
export class LimitCounters {
  readonly #counts = new Map<LimitName, number>()

  readonly hit: Hit = (name) => {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1)
  }

  of(name: LimitName): number {
    return this.#counts.get(name) ?? 0
  }
}
