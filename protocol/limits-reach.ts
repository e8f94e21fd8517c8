/** Limits of finding out who can reach a node, and of relaying for others. See limits.ts. */

const KIB = 1024
const MIB = 1024 * KIB
const GIB = 1024 * MIB

/** Who can reach us. */
export const REACH = {
  /** Peers kept in mind that could dial an address of ours. */
  checkersMax: 64,
  /** Addresses of ours that are looked at. */
  addressesMax: 8,
  /** Neighbourhoods that must have reached an address that only others told us of, before it is announced. */
  confirmationsMin: 2,
  /** Neighbourhoods that must have failed, before an address counts as closed. */
  denialsMin: 2,
  /** Answers of one round, when they contradict each other. */
  answersMax: 6,
  /** One check, the data that some checkers ask for included. */
  checkMs: 20_000,
  /** Looked at again after so long: a router restarts, a provider changes its mind. */
  openAgainMs: 1_800_000,
  closedAgainMs: 900_000,
  /** Nobody has reached us so long after the first one who could: a relay is asked, whatever is found out later. */
  graceMs: 3_000,
  relaysWanted: 2,
  /** Hosts under which others see us, that are looked at. */
  observedMax: 4,
  /** Neighbourhoods that must see us there before. */
  observersMin: 2,
  /** New ones in a minute: what two neighbourhoods agree on can have a third party dialled only so often. */
  observedPerMinuteMax: 2,
  /** Peers whose word for it is kept, and of one neighbourhood. */
  claimsMax: 256,
  claimsPerGroupMax: 8,
  /** Our own addresses are looked at so often. */
  lookMs: 15_000,
  /** A peer that we reached through a relay may dial us back within this time. */
  upgradeMs: 2_000,
} as const

/** Connections that lead nowhere any more, though nobody said so: a router forgot them, a line is dead, the other computer sleeps. */
export const LIVENESS = {
  /** Something is wanted from a peer, and not a byte came for so long: it is asked whether it is there. */
  silentMs: 4_000,
  /** The same for a peer that owes nothing at present, and may tell of something new. */
  idleSilentMs: 15_000,
  /** From the question to the first byte of anything. TCP itself is at its fourth try by then. */
  answerMs: 4_000,
  questionsAtOnceMax: 16,
  /** The addresses of this computer are looked at so often. */
  hostsLookMs: 2_000,
} as const

/** Dialling others back, so that they know who can reach them. */
export const CHECKING = {
  perMinuteMax: 30,
  perHostPerMinuteMax: 4,
  /** Checks of our own that others are asked for: a round of every address, and those of new hosts leave room for the rest. */
  asksPerMinuteMax: 60,
  asksPerHostPerMinuteMax: 16,
  /** Data that we pay with: ten checks at the highest price. Where others see us as we say, they ask for none. */
  sentBytesPerMinuteMax: 1_000_000,
  addressesLookedAtMax: 16,
  messageBytesMax: 8 * KIB,
  /** Whoever wants an address dialled that is not the one it comes from sends so much first: no cheap way to make us dial strangers. */
  dataBytesMin: 30_000,
  dataBytesMax: 100_000,
  dataChunkBytes: 4 * KIB,
  dialMs: 6_000,
} as const

/** Relaying for others, and being relayed. */
export const RELAY = {
  /** What is passed on in a day, both ways together; a setting changes it. */
  bytesPerDay: 4 * GIB,
  /** Of these, for one peer. */
  bytesPerPeerPerDayMax: GIB,
  /** And for one machine, whatever number of peers it says it is. */
  bytesPerHostPerDayMax: GIB,
  /** Peers and machines whose bytes of the day are known; those with the fewest are forgotten first. */
  dayNamesMax: 4096,
  /** All that is passed on together, while nothing else moves. */
  bytesPerSecond: 2 * MIB,
  /** With an upload cap, and beside own transfers, it is this part of them: more than four fifths of the line stay theirs. */
  ownShare: 6,
  ownBytesPerSecondMin: 64 * KIB,
  bytesPerSecondMin: 32 * KIB,
  lookMs: 1_000,
  /** Enough for one step of the pace below. */
  burstBytes: 256 * KIB,
  stepMs: 50,
  peersMax: 64,
  peersPerHostMax: 8,
  reservationMs: 3_600_000,
  circuitsMax: 32,
  circuitsPerPeerMax: 8,
  circuitsPerHostMax: 8,
  circuitMs: 7_200_000,
  /** A circuit ends after so long without a byte either way, like any other connection. */
  circuitIdleMs: 120_000,
  circuitBytesMax: GIB,
  /** Bytes of one direction that are read and not passed on yet. */
  unsentBytesMax: 256 * KIB,
  messageBytesMax: 4 * KIB,
  messageMs: 10_000,
  /** What the library reads of a relay, or of who is relayed: bytes of a message, and addresses in it. */
  readBytesMax: 8 * KIB,
  addressesReadMax: 16,
  /** A relay that has said no more than this long whether it has a place for us is left alone. */
  reserveMs: 10_000,
  /** Whether a peer speaks our protocols is known after identify. */
  identifyMs: 5_000,
  /** Relays are pinged so often: routers forget connections that are idle, and so does the transport after two minutes. */
  pingMs: 40_000,
  pingTimeoutMs: 10_000,
  /** Announced under the key of relays again after so long. */
  announceMs: 22 * 3_600_000,
  announceRetryMs: 60_000,
  /** Found under that key and tried in one round, and the pause after a round. */
  candidatesMax: 16,
  retryMinMs: 5_000,
  retryMaxMs: 300_000,
  /** Addresses of one relay that are announced. */
  addressesMax: 2,
} as const

/** Asking a router to pass a port on. */
export const MAPPING = {
  /** Own addresses that are tried, each a network of its own. */
  hostsMax: 4,
  gatewaysMax: 4,
  /** Routers answer within the two seconds that they are given. */
  searchMs: 3_000,
  requestMs: 5_000,
  /** A NAT-PMP datagram is sent again after so long. */
  datagramMs: 500,
  answerBytesMax: 64 * KIB,
  /** Services in the description of a router that are looked at. */
  servicesMax: 32,
  /** Some routers take no lease without an end, others none of more than an hour. */
  leaseSeconds: 3_600,
  /** Ports outside that are tried, when other computers of the home have the first ones. */
  portTriesMax: 3,
  portStep: 1,
  /** Mappings that are taken back at the end; older ones end by themselves. */
  undosMax: 8,
  retryMs: 1_200_000,
} as const
