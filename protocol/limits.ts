/**
 * Every number that a peer or a publisher can run into: value, unit in the name, reason beside it.
 *
 * One module, so that a reader can check that each queue, wait, map and message has an upper bound. Constants of the format itself
 * (block size, widths) stand in the first group and are fixed by protocol/README.md; the others may be tuned.
 */
export { DHT } from './limits-dht.ts'
export { CHECKING, LIVENESS, MAPPING, REACH, RELAY } from './limits-reach.ts'
export { SOURCES } from './limits-sources.ts'

const KIB = 1024
const MIB = 1024 * KIB

/** The share format, version 1: normative, see protocol/README.md. */
export const FORMAT = {
  blockBytes: MIB,
  pieceBytes: MIB - 16,
  tagBytes: 16,
  nodeWidth: 1024,
  keysPerPage: 32_767,
  shareBytesMin: 16_384,
  blocksMax: 2 ** 28,
  pagesMax: 8192,
  filesMax: 2 ** 24,
  nameBytesMax: 255,
  dirBytesMax: 4096,
  depthMax: 64,
  extentsMax: 65_536,
  nestingMax: 7,
  inlineKeysMax: 8192,
  inlineGroupsBytesMax: 262_144,
  extensionBytesMax: 4096,
  nodeBytesMax: 64 * KIB,
  linkCharactersMax: 8192,
  linkPeersMax: 4,
  linkViasMax: 2,
  /** X7: a share that unpacks to more than this many times its size asks first. */
  expansionMax: 16,
} as const

/** What a reader keeps in memory beside the root and one page. */
export const READER = {
  /** Memory for the paths of files and empty directories, remembered to notice paths that collide (some 100,000 of common length). */
  pathsWatchedBytesMax: 16 * MIB,
  /** Opened key pages (1 MiB each): one file's blocks seldom span more than two. */
  keyPagesKeptMax: 4,
} as const

/** One stream with one peer. */
export const WIRE = {
  /** A data frame carries at most this much of a block, so caps and cancels take effect within it. */
  dataBytesMax: 64 * KIB,
  /** DATA frames handed to the transport at once; a CANCEL or a cap takes effect between such handfuls. */
  dataFramesAtOnceMax: 4,
  /** What we send: with its heads such a frame is one Noise message (65,519 bytes) and not one and a bit. */
  dataBytesSent: 65_456,
  /** Longest frame: one data payload and its head. */
  frameBytesMax: 64 * KIB + 64,
  /** HAVE travels in pages of at most this many bytes of bitmap. */
  havePageBytesMax: 32 * KIB,
  haveRangesMax: 2048,
  /** Requests that a peer may queue with us; one more is a flood. */
  requestsQueuedMax: 64,
  /** Bytes of DATA that we let one peer send ahead of what we took in. */
  creditBytesPerPeer: 8 * MIB,
  /** The same over all peers (32 blocks). */
  creditBytesTotal: 32 * MIB,
  /** Unread bytes kept beyond granted credit: control frames in flight. */
  unreadSlackBytes: 128 * KIB,
  haveFramesPerSecondMax: 64,
  /** At once, after a pause: a node that was suspended, or busy, reads what its peers sent in a minute and a half. */
  haveFramesAtOnceMax: 512,
  pexPeersMax: 50,
  pexIntervalMs: 60_000,
  pexAtOnceMax: 3,
  addressesPerPeerMax: 8,
  addressBytesMax: 256,
  swarmStreamsPerConnectionMax: 16,
  /** A SHA-256 multihash of an RSA key takes 34 bytes, an inlined Ed25519 key 38. */
  peerIdBytesMax: 64,
  /** Frames of types from 128 on come from later versions: skipped, so they had better be small. */
  skippedBytesMax: 4 * KIB,
  /** Before a proved hello nobody may make us hold more. */
  helloBytesMax: 4 * KIB,
  /** Control frames written together. */
  smallFramesAtOnceMax: 16,
  /** Credit for a peer that sent nothing yet; doubles with each window used, up to creditBytesPerPeer. */
  creditBytesStart: 256 * KIB,
  /** What every peer gets that owes us something, even when creditBytesTotal is used up: one data frame. */
  creditBytesFloor: 64 * KIB,
  /** Frames other than DATA, by peer: a 10 Gbit/s peer needs some 3,000 a second. */
  controlFramesPerSecondMax: 4_096,
  /** Small frames waiting to be written to one peer: many times what a peer in good order can cause. */
  controlFramesQueuedMax: 1_024,
  /** Requests that we cancelled and that the peer has not ended yet. */
  cancelledMax: 256,
  /** Suggestions kept for a peer that does not know the shape yet. */
  suggestionsWaitingMax: 16,
  /** New blocks are told together, at most this often. */
  haveIntervalMs: 50,
  /** Parsed from one peer without letting others run. */
  parseBytesPerTick: 256 * KIB,
} as const

/** Caps on bytes a second that the user sets, and the measuring of what goes by. */
export const RATE = {
  /** Less than this moves no block within the time that peers wait for one. */
  bytesPerSecondMin: KIB,
  /** Sent or granted at once, at most one data frame: under a small cap eight peers still get something every second. */
  stepMs: 125,
  stepBytesMin: KIB,
  /** Saved up while nobody needs it (two steps at least): more than a late timer loses, little for a queue in the router. */
  burstMs: 250,
  /** Credit that all peers hold together under a cap: what comes in within this time, so that far peers are not kept waiting. */
  creditMs: 1_000,
  /** The present rate is an average over so many slots. */
  meterSlotMs: 1_000,
  meterSlots: 5,
} as const

/** How long we wait, for what. All on the monotonic clock. */
export const WAITS = {
  /** From opening a stream to a proved hello (libtorrent handshake_timeout is 10 s). */
  helloMs: 8_000,
  dialMs: 10_000,
  keepaliveMs: 30_000,
  /** No byte read for this long: the peer is gone (three keepalives). */
  silenceMs: 90_000,
  /** A request at the head of a peer's queue without a byte for this long is taken away (libtorrent piece_timeout 20 s). */
  blockMs: 20_000,
  /** Unsent bytes that do not drain for this long end the session. */
  drainMs: 60_000,
  /** One DHT look-up. */
  findMs: 30_000,
  provideMs: 60_000,
  stopMs: 5_000,
} as const

/** The swarm engine: whom we ask, how much. */
export const SWARM = {
  requestsPerPeerMin: 2,
  requestsPerPeerMax: 16,
  requestsTotalMax: 32,
  /** Asked of proven peers even at a slow pace: enough that with as many downloaders as uploaders hardly any of them is idle. */
  requestsTotalMin: 12,
  /** All requests together cover what comes in this time. */
  totalAheadMs: 6_000,
  endgameCopiesMax: 2,
  peersPerShareMax: 40,
  failsBeforeSnub: 3,
  snubMs: 600_000,
  /** A slow sole source is kept as long as it makes this. */
  rateMinBytesPerSecond: 2 * KIB,
  /** Requests to one peer cover what it sends in this time. */
  queueAheadMs: 1_000,
  /** Before its first byte a request may wait for its turn: in a crowd of 30 on a line of 5 Mbit/s that takes up to 50 s. */
  patienceMs: 60_000,
  /** A request that has not begun after this long stands in a queue: it may be tried elsewhere. Some round trips. */
  quietMs: 300,
  /** What is known of the pace of a peer that is not asked counts less with time. Simulated hours do best between 10 and 30 s. */
  forgetMs: 30_000,
  /** Silent for so long, what was asked may be copied elsewhere; and a peer that never delivered no longer holds others like it up. */
  coldMs: 3_000,
  /** Pause after a timeout, doubled with each fail. */
  coolMs: 5_000,
  /** How often the machine wants a tick while anything is asked. */
  tickMs: 1_000,
} as const

/** Uploading: whom we serve. */
export const UPLOAD = {
  /** Blocks on their way at once: two keep a line busy while the next is read; more only where that carries more. */
  slotsMin: 2,
  slotsMax: 8,
  /** A block holds its slot no longer than this while others wait: a slow reader must not block them. */
  slotMs: 30_000,
  probeMs: 5_000,
  /** One block in so many goes to whoever waits longest. */
  optimisticEvery: 8,
  /** What a byte counts that goes to a peer which cannot be dialled: it has fewer to ask, so it may get more of each. */
  unreachableWeight: 0.5,
  /** Blocks in memory on their way to peers, slow readers included. */
  leaseBytesMax: 32 * MIB,
  /** Whoever takes nothing of what it asked for holds no slot after so long, or after what a block takes on a slow line; */
  stuckMs: 1_000,
  /** after so many times that it is sent away, where others wait and half of the memory is taken, */
  stuckTimesMax: 5,
  /** and comes after all others for so long. */
  lastMs: 600_000,
  lastPeersMax: 1_000,
  /** A block that is here and cannot be read (too many open files) is tried again so often, in steps of so long, before its peer is told to
   *  come again: "not here" would be believed for the whole session. */
  readsMax: 5,
  readAgainMs: 1_000,
} as const

/** Strikes and bans (bounded maps; the user can lift them). */
export const SCORE = {
  strikesMax: 3,
  strikeWindowMs: 600_000,
  banMs: 3_600_000,
  banFatalMs: 86_400_000,
  ipStrikesMax: 9,
  ipFatalStrikes: 3,
  entriesMax: 10_000,
} as const

/** The peers of one share: whom to dial, when again, whom to tell of whom. */
export const CONTACTS = {
  /** Peers kept in mind for one share, connected ones included: six times as many as are ever connected. */
  contactsMax: 256,
  /** Of these, heard of from one peer alone: liars must be four to fill the list. */
  contactsPerTellerMax: 64,
  addressesMax: WIRE.addressesPerPeerMax,
  dialsAtOnceMax: 8,
  /** A dial that takes longer, its hello included, goes on and no longer counts among these: those that never answer hold nobody up. */
  dialSlowMs: 1_000,
  /** Dialled up to so many; those who dial us fill the rest. */
  neighboursWanted: 20,
  neighboursMax: SWARM.peersPerShareMax,
  /** Of these, so many seats are left to those whom we dial: whoever dials us cannot take them all. */
  neighboursDialled: 10,
  /** Who gave nothing within this time no longer counts among those that are wanted. */
  doubtMs: 15_000,
  /** Nothing came for so long: everybody left is tried while there are seats. */
  stallMs: 6_000,
  /** Where all are taken for so long after that, one that gave nothing goes, one each dropMs. */
  dropAfterMs: 9_000,
  dropMs: 2_000,
  /** The DHT is asked when fewer are connected or untried, until enough are connected. */
  contactsFew: 10,
  neighboursEnough: 20,
  /** A peer that gave us blocks and went, as for a restart, a dead line or a sleep: 1, 2, 4 … 8 s. With the longest dial that is still
   *  within 15 s of its return. */
  redialMinMs: 1_000,
  redialMaxMs: 8_000,
  /** Half an hour, an hour where each dial takes its time. */
  redialsMax: 226,
  /** One that the user named and that never answered: 1, 2, 4 … 60 s. */
  givenMaxMs: 60_000,
  /** This computer has another address: neighbours that lose us cannot know it, so they are dialled for so long, whoever wanted something. */
  movedMs: 30_000,
  strangerRetryMs: 30_000,
  strangerTriesMax: 3,
  /** How long a peer is left alone that does not know the share, or failed too often. */
  barMs: 300_000,
  /** Those who join together are told of together. */
  gatherMs: 250,
  exchangeIntervalMs: WIRE.pexIntervalMs,
  exchangePeersMax: WIRE.pexPeersMax,
  /** Useful peers of a share that are remembered across restarts. */
  rememberedMax: 16,
} as const

/** When a share is announced and looked for. */
export const ANNOUNCE = {
  /** Provider records live 48 h in the DHT; we renew in good time. */
  intervalMs: 22 * 3_600_000,
  /** After a restart only what was announced longer ago than this. */
  freshMs: 20 * 3_600_000,
  retryMinMs: 30_000,
  retryMaxMs: 1_800_000,
  /** A downloader announces itself only where fewer live seeders were found. */
  seedersEnough: 20,
  downloaderAfterMs: 3_600_000,
  findIntervalMinMs: 5_000,
  findIntervalMaxMs: 300_000,
  sharesAtOnceMax: 4,
  /** Shares of at most so many blocks may have a record for each block: 64 records cost some minutes. */
  blockRecordsMax: 64,
  /** So long before its time a share is announced with a neighbour, of so many: a sweep takes 21 h, their records some seconds. */
  aheadMs: 3_600_000,
  alsoMax: 128,
  /** The clocks are compared so often at least; the wall clock ahead by more than this since: the computer slept. */
  clocksMs: 300_000,
  sleptMsMin: 60_000,
} as const

/** Connections, the DHT and dials. */
export const NETWORK = {
  connectionsMax: 1_000,
  /** Not upgraded yet, those left out that are just being closed for newer ones; so many more of these. */
  pendingInboundMax: 512,
  pendingClosingMax: 128,
  /** Handshakes with those that come in, a second, and at once after a pause: some milliseconds each. */
  handshakesPerSecond: 100,
  handshakesAtOnceMax: 100,
  pendingInboundPerHostMax: 8,
  inboundUpgradeMs: 4_000,
  inboundPerHostPerSecondMax: 50,
  /** Open at once, from one /24 or /56: one computer cannot take the places of everybody. */
  inboundPerSubnetMax: 32,
  inboundStreamsPerConnectionMax: 32,
  inboundStreamsPerProtocolMax: 4,
  /** Of one stream, at most readBufferBytesMax. Less than three times what a line holds, and the socket runs dry now and then: BBR then
   *  never ends its start and loses packets for ever (50 Mbit/s over 100 ms: 40 Mbit/s at 2 MiB, 48 at 4). */
  windowBytesMax: 4 * MIB,
  readBufferBytesMax: 4 * MIB,
  /** Taken from all sockets in one turn of the event loop; beyond it each gives one read a turn. */
  readBytesPerTurn: 256 * KIB,
  dhtCloserMax: 40,
  dhtProvidersMax: 64,
  dhtAddressesPerPeerMax: 16,
  dhtReplyBytesMax: 64 * KIB,
  providerAddressesMax: 8,
  providersPerKeyMax: 64,
  providersPerKeyPerGroupMax: 2,
  providersPerPeerPerMinuteMax: 2_000,
  providersPerPeerMax: 2_000,
  providersTotalMax: 100_000,
  dialsPerFindMax: 64,
  dialsPerProvideMax: 200,
  dialsPerResponderMax: 20,
  dialsPerHostPerMinuteMax: 3,
  dialsPerSubnetPerMinuteMax: 8,
  /** Dials of the DHT's own upkeep (table refresh, self look-up), over all queries of a minute. */
  dialsBackgroundPerMinuteMax: 200,
  /** Hosts and subnets whose dials of the last minute are remembered. */
  dialWindowsMax: 4_096,
  trustedPeersMax: 4_096,
  /** Addresses of one entry of a DHT message that are looked at; more than this many in one entry and the message is refused. */
  dhtAddressesPerEntryMax: 64,
  /** Address bytes kept of one entry, so that a reply of 64 providers and 20 closer peers fits into dhtReplyBytesMax. */
  providerAddressBytesMax: 512,
  dhtMessagesPerStreamMax: 4_096,
  /** Wait for the first peer of an empty routing table before a query goes on without that DHT. */
  dhtFirstPeerMs: 5_000,
  /** Peers that one find yields at most, over all DHTs. */
  findPeersMax: 192,
  /** Addresses that a peer says it listens on which are looked at. */
  listenAddressesMax: 32,
  /** Changes of our own addresses within this time count as one. */
  ownAddressesMs: 60_000,
  /** The first one that is of use from afar is told sooner: others may come with it. */
  firstAddressMs: 500,
  /** Peers met before and dialled at start. */
  rememberedPeersMax: 256,
  rememberedDialsAtOnceMax: 8,
  /** Peers that mDNS tells of. */
  neighboursMax: 256,
  neighbourDialsAtOnceMax: 4,
  neighbourRetryMs: 30_000,
  /** Between two looks for peers with two connections because both dialled at once; that is, opened within so long of each other: less than
   *  a dead connection is noticed in (LIVENESS.answerMs). */
  twinsLookMs: 15_000,
  twinsApartMs: 2_000,
  providerValidityMs: 48 * 3_600_000,
  outboundPart: 0.25, // of the connections is for those that this node dials itself: nobody can take them all
} as const

/** The local API. */
export const CONTROL = {
  /** More than jobsMax, so that status and stop still get through to a busy node. */
  connectionsMax: 96,
  bodyBytesMax: MIB,
  headerBytesMax: 16 * KIB,
  headerMs: 10_000,
  requestMs: 30_000,
  jobsMax: 64,
  /** One line of an answer, or a whole answer that is not streamed. */
  answerBytesMax: 64 * MIB,
  /** Unread bytes of an answer beyond which progress is left out. */
  unreadBytesMax: 64 * KIB,
  /** Between two reports of progress in one phase of a job. */
  progressEveryMs: 50,
  warningsPerJobMax: 1_000,
} as const

/** The same over HTTP on a loopback port, which every user of the machine can reach. */
export const HTTP = {
  /** On each of 127.0.0.1 and ::1. */
  connectionsMax: 64,
  tokenBytes: 32,
  /** Wrong tokens beyond this are told to wait. */
  failuresPerSecondMax: 5,
  /** Folders whose paths may be named. */
  rootsMax: 64,
} as const

/** What `export` writes and `import` reads. */
export const BUNDLE = {
  /** Some 100,000 shares. */
  bytesMax: 48 * MIB,
  /** The same with what encryption adds. */
  fileBytesMax: 49 * MIB,
} as const

/** CAR files: `export --car` and `import --car`. */
export const CAR = {
  /** That of a share has 58 bytes; of a longer one no more is looked at. */
  headerBytesMax: 4 * KIB,
  /** Read ahead of the writer, or written behind the reader. */
  blocksAtOnceMax: 4,
} as const

export { LOGS, METRICS } from './limits-operating.ts'

/** Worker threads for hashing, sealing and opening. */
export const WORKERS = {
  threadsMax: 4,
  /** Blocks' worth of memory kept for the next block, and as many pieces' worth. */
  spareBuffersMax: 12,
  /** Blocks that pass through a thread before its dead buffers are collected. */
  collectEveryBytes: 16 * MIB,
  tasksMax: 256,
} as const

/** Making a share. */
export const SHARING = {
  /** Pieces being sealed, and as many being written. */
  sealsAtOnceMax: 4,
  labelCharactersMax: 200,
} as const

/** When a download gives up on finding a seeder. */
export const FIND = {
  watchMs: 500,
  emptyFindsMax: 2,
  aloneMinMs: 5_000,
  aloneMaxMs: 60_000,
  /** Peers are there, but no byte of what is wanted came for so long: they cannot help. */
  quietMaxMs: 300_000,
} as const

/** Reading stored blocks back for a download that goes on. */
export const FETCH = {
  readsAtOnceMax: 4,
} as const

/** Reading one file in order while it is fetched. */
export const READING = {
  /** Blocks wanted ahead of the reader: at first, and at most (64 MiB: a second at 500 Mbit/s), doubled while it has to wait. */
  windowBlocksMin: 4,
  windowBlocksMax: 64,
  /** Opened pieces that wait in memory for a slow reader. */
  openedMax: 4,
  /** A tree of so few inner nodes (800 KiB) is fetched at once; of a larger one only the nodes above the blocks that are read. */
  treeNodesAtOnceMax: 16,
} as const

/** The node as a whole. */
export const NODE = {
  /** Shares of which part folders are served at a time, and those that `status` lists. */
  unfinishedGetsMax: 1_024,
  unfinishedListedMax: 8,
  secretBytes: 32,
  jobsMax: 64,
  /** Shares at a time that go on by themselves after a restart; the others follow. */
  resumedSeedsMax: 64,
  /** After the disk has stopped one. */
  resumedRetryMs: 60_000,
  /** A get that was told to wait, on a full disk: tries again after 2, 4, 8 … 60 s. */
  fullDiskRetryMs: 2_000,
  /** Blocks that nobody needs are looked for so long after the start, and so long after the last time. */
  gcFirstMs: 600_000,
  gcAgainMs: 86_400_000,
} as const

export { KEEPING } from './limits-keeping.ts'

/** Files and records of this node. */
export const STORAGE = {
  /** Block reads and writes under way at once; the thread pool of Node has four threads. */
  fileOperationsMax: 8,
  /** Peers drive block reads, so the queue before them ends somewhere; uploads and the swarm stay far below. */
  fileOperationsWaitingMax: 4_096,
  quarantinedBlocksMax: 64,
  /** Files being removed at once: deletion leaves the other operations their turns. */
  deletionsAtOnceMax: 4,
  /** Blocks whose deletion is written down and done at a time: 32 MiB of names. */
  deletionsMax: 2 ** 20,
  /** Deletions that wait for the one under way: each of them reads the trees of all shares. */
  sweepsWaitingMax: 1_024,
  /** What goes on beside the serving works for so long, then lets others have their turn. */
  sliceMs: 5,
  /** Requests to the records worker under way, and waiting before it. */
  recordRequestsMax: 64,
  recordRequestsWaitingMax: 8_192,
  /** Notes of libp2p on peers that are kept in memory: some hundred bytes each, as many as are ever connected. */
  hintsMax: 1_024,
  hintsWrittenMs: 5_000,
  /** Kept for the records when the disk is full: some ten thousand changes. Looked after no oftener than so. */
  reserveBytes: 4 * MIB,
  reserveTriedMs: 1_000,
  /** Rows or operations in one message to the records worker. */
  recordBatchMax: 256,
  secretFileBytesMax: 64 * KIB,
  /** Warnings of one walk that are kept word for word; the others are counted. */
  walkWarningsMax: 100,
  walkFoldersAtOnce: 8,
  walkFilesAtOnce: 16,
  /** Files held open by one extraction. */
  extractOpenFilesMax: 64,
  extractWritesMax: 8,
  /** Stretches of files in one extraction: some 500 MiB of tables at the limit. */
  extractUsesMax: 2 ** 24,
  /** Free space that extraction leaves alone. */
  freeBytesKept: 64 * MIB,
} as const
