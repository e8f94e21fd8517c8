/** The bounds of look-ups, announcements and routing tables of our DHTs: a part of limits.ts, which passes them on. */
export const DHT = {
  /** Peers of one neighbourhood in one bucket of a routing table, and in the whole table. */
  tablePerGroupPerBucketMax: 2,
  tablePerGroupMax: 3,
  /** Peers whose neighbourhood is kept in mind: more than a table holds (64 buckets of twenty). */
  tablePeersMax: 2_048,
  /** A table of so few peers is that of a newcomer: it looks around so soon after the first of them, and no oftener than so. */
  entrancesMax: 8,
  fillAfterMs: 500,
  fillEveryMs: 60_000,
  /** Ways of one look-up that share no peer, each with so many questions at once: whoever answers falsely leads one of them astray. Each
   *  goes on until it has asked the twenty nearest that it knows: three ask some 60 peers, the library's ten ask 200. */
  lookUpPaths: 3,
  lookUpParallel: 4,
  /** Peers of one look-up that are kept in mind for the records that follow it. */
  lookUpPeersMax: 256,
  /** A record goes to so many peers nearest to its key (k of Kademlia), */
  recordsNear: 20,
  /** and to so many at each of the larger distances, that a look-up meets on its way: half of the DHT, a quarter, ... 1/256. */
  recordsPerDistance: 3,
  recordDistances: 8,
  recordsAtOnceMax: 10,
  /** Messages of one stream that are answered before others have their turn: a few milliseconds. */
  messagesPerTurn: 8,
} as const
