/** Who is in the crowd and what the drivers keep: plain records, no decisions. */
import { FORMAT } from '../../../protocol/limits.ts'
import type { Swarm } from '../../../protocol/swarm/swarm.ts'
import type { Upload } from '../../../protocol/swarm/upload.ts'

export const BLOCK_BYTES = FORMAT.blockBytes

/** Milliseconds that one block takes on a line. */
export const blockMs = (megabitsPerSecond: number): number => (BLOCK_BYTES * 8) / (megabitsPerSecond * 1000)

/** One side of a connection: what `owner` knows of `peer`. */
export interface Half {
  readonly id: number
  readonly owner: Member
  readonly peer: Member
  /** The other side. */
  reverse: Half
  readonly latencyMs: number
  /** What the peer told us that it has, as bits. */
  readonly told: Uint32Array
  toldCount: number
  /** Asked of the peer and not delivered. */
  readonly asked: Transfer[]
  /** Asked by the peer and not sent. */
  readonly wished: Transfer[]
  /** Good blocks that came from it. */
  verifiedCount: number
  /** What the peer has said about itself when the connection began, on its way here. */
  greeting: Uint32Array | null
}

/** Where a block is, seen from its sender. */
export const TRAVELLING = 0
export const WISHED = 1
export const QUEUED = 2
export const SENDING = 3
export const OVER = 4

/** One request and the block that answers it. */
export interface Transfer {
  readonly id: number
  /** The side of the one who asked. */
  half: Half
  block: number
  stage: number
  /** The one who asked does not want it any more; what still comes is thrown away. */
  isAbandoned: boolean
  /** Sending began, broke off (or infinity). */
  startMs: number
  stoppedMs: number
  /** It takes its place on the downlink. */
  isArriving: boolean
  /** Events and lists that still speak of it. */
  uses: number
}

/** One node. */
export interface Member {
  readonly id: number
  /** Its name in the machines of the others. */
  readonly key: string
  readonly isNated: boolean
  readonly upBlockMs: number
  readonly downBlockMs: number
  /** Its clock is ahead of the world's by so much: nodes do not tick together. */
  readonly skewMs: number
  /** Null: it had everything from the start and fetches nothing. */
  swarm: Swarm | null
  readonly upload: Upload
  readonly halves: Half[]
  readonly halfOf: Map<string, Half>
  readonly have: Uint32Array
  haveCount: number
  /** Neighbours that have everything, as far as they told. */
  fullNeighbours: number
  isSole: boolean
  /** The uplink: what is being sent, and what waits behind it. */
  sending: Transfer | null
  readonly line: Transfer[]
  upFreeMs: number
  downFreeMs: number
  swarmTickMs: number
  uploadTickMs: number
  readonly joinedMs: number
  finishedMs: number
  isGone: boolean
}

export const hasBit = (words: Uint32Array, index: number): boolean => (words[index >>> 5]! & (1 << (index & 31))) !== 0
export const setBit = (words: Uint32Array, index: number): void => {
  words[index >>> 5]! |= 1 << (index & 31)
}

/** Takes one entry out of a list where order matters. */
export function removeFrom<T>(list: T[], entry: T): boolean {
  const at = list.indexOf(entry)
  if (at < 0) return false
  list.splice(at, 1)
  return true
}

/** Stands in a spare transfer, which nobody reads. */
const NOBODY = null as unknown as Half

/** Transfers, used again once nothing speaks of them. */
export class Transfers {
  readonly #all: Transfer[] = []
  readonly #spare: Transfer[] = []

  at(id: number): Transfer {
    return this.#all[id]!
  }

  /** A new request; the caller's list counts as its first use. */
  take(half: Half, block: number): Transfer {
    const transfer = this.#spare.pop() ?? this.#make(half)
    transfer.half = half
    transfer.block = block
    transfer.stage = TRAVELLING
    transfer.isAbandoned = false
    transfer.isArriving = false
    transfer.startMs = 0
    transfer.stoppedMs = Number.POSITIVE_INFINITY
    transfer.uses = 1
    return transfer
  }

  drop(transfer: Transfer): void {
    if (--transfer.uses > 0) return
    transfer.half = NOBODY // or it would keep a node that left in memory
    this.#spare.push(transfer)
  }

  #make(half: Half): Transfer {
    const id = this.#all.length
    const transfer = { id, half, block: 0, stage: 0, isAbandoned: false, startMs: 0.5, stoppedMs: 0.5, isArriving: false, uses: 0 }
    this.#all.push(transfer)
    return transfer
  }
}
