/** What the local API says of single shares and files beside their summaries; a part of api.ts. Types only. */

/** A share that was let go of. */
export interface ReplacedShare {
  cid: string
  freedBytes: number
}

/** A file that is not what was shared, or got, any more. */
export interface FaultyFile {
  cid: string
  path: string
  fault: 'changed' | 'missing' | 'not-a-file' | 'unreadable'
  /** Shared from here: sharing it again makes a new link. Else it can be got again. */
  isOwn: boolean
}

/** A get that was cut off: the same command goes on with it. */
export interface UnfinishedGet {
  cid: string
  /** The part of the share that it fetches: '' for all. */
  path: string
  outputDir: string
  /** What is here of the share, and served. */
  haveBlocks: number
  blockCount: number | null
}
