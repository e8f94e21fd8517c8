/**
 * Tells peers what we hold: everything at first, then news, collected for a moment so that a fast download does not flood its peers.
 *
 * Details go only to peers that know the shape of the share, and never to one that has it all.
 */
import { WIRE } from '../../protocol/limits.ts'
import type { Have, PeerLink } from '../network/peer-link.ts'
import { asRuns, type Bitfield } from './bitfield.ts'

/** What is known between us and one connected peer. */
export interface Claim {
  link: PeerLink
  /** It has every block. */
  hasAll: boolean
  knowsShape: boolean
  /** We told it that we have every block. */
  toldAll: boolean
  /** How many blocks it said that it has. */
  told: number
  /** It was taken to have every node of the tree, and has not said of one since that it does not. */
  hasNodes: boolean
}

export interface Holdings {
  readonly leaves: Bitfield
  knowsShape(): boolean
  readonly isComplete: boolean
  /** Whether the peer of this claim has told that it has a leaf. */
  isTold(claim: Claim, index: number): boolean
}

const FLUSH_MS = 200
/** More runs of news than this travel as a bitmap. */
const RANGES_PER_FLUSH_MAX = 6

export class HaveTeller {
  readonly #claims: ReadonlyMap<string, Claim>
  readonly #holdings: Holdings
  #news: number[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(claims: ReadonlyMap<string, Claim>, holdings: Holdings) {
    this.#claims = claims
    this.#holdings = holdings
  }

  /** All that we hold, as far as this peer can take it now. */
  tellAll(claim: Claim): void {
    const { isComplete, leaves } = this.#holdings
    if (!this.#holdings.knowsShape() || claim.toldAll) return
    if (isComplete) {
      claim.toldAll = true
      claim.link.sendHave({ kind: 'all' })
    } else if (claim.knowsShape && leaves.held > 0) {
      this.#sendBitmap(claim.link)
    } else {
      claim.link.sendHave({ kind: 'shape' })
    }
  }

  /** All that we hold, to everybody: the shape has just become known. */
  tellEverybody(): void {
    for (const claim of this.#claims.values()) this.tellAll(claim)
  }

  /** One more leaf is held; peers hear of it within FLUSH_MS. */
  note(index: number): void {
    this.#news.push(index)
    this.#timer ??= setTimeout(() => this.#flush(), FLUSH_MS).unref()
  }

  /** A block is gone: whoever was told that we have all is told of it when it is back. */
  lost(): void {
    for (const claim of this.#claims.values()) claim.toldAll = false
  }

  /** It said that it has all, and lacks something after all: it may want what we have. */
  lacks(claim: Claim | undefined): void {
    if (claim === undefined || !claim.hasAll) return
    claim.hasAll = false
    this.tellAll(claim)
  }

  close(): void {
    clearTimeout(this.#timer)
  }

  #flush(): void {
    this.#timer = undefined
    const runs = asRuns(this.#news)
    this.#news = []
    for (const claim of this.#claims.values()) {
      if (claim.hasAll || !claim.knowsShape || claim.toldAll) continue
      if (this.#holdings.isComplete) this.tellAll(claim)
      else if (runs.length > RANGES_PER_FLUSH_MAX) this.#sendBitmap(claim.link)
      else this.#sendRuns(claim, runs)
    }
  }

  /** News of what the peer has itself can wait: it is of use once the peer is asked what we have. */
  #sendRuns(claim: Claim, runs: [first: number, count: number][]): void {
    for (const [first, count] of runs) {
      let isNews = false
      for (let index = first; index < first + count && !isNews; index++) isNews = !this.#holdings.isTold(claim, index)
      claim.link.sendHave({ kind: 'range', first, count }, isNews)
    }
  }

  #sendBitmap(link: PeerLink): void {
    const { leaves } = this.#holdings
    for (let first = 0; first < leaves.count; first += WIRE.havePageBytesMax * 8) {
      link.sendHave({ kind: 'bitmap', first, bits: leaves.page(first, WIRE.havePageBytesMax) })
    }
  }
}

/** Takes note of what a peer says that it has. A link tells every block once. */
export function countClaimed(claim: Claim, have: Have): void {
  if (have.kind === 'range') claim.told += have.count
  else if (have.kind === 'bitmap') claim.told += countBits(have.bits)
}

/** How many it has, for people to look at; null is all. A peer that repeats itself is counted too high, but never above all. */
export function claimedBlocks(claim: Claim | undefined, blockCount: number): number | null {
  return claim?.hasAll === true ? null : Math.min(claim?.told ?? 0, blockCount)
}

function countBits(bits: Uint8Array): number {
  let count = 0
  for (let byte of bits) for (; byte !== 0; byte &= byte - 1) count++
  return count
}
