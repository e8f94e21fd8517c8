/**
 * What a sole seeder knows of its leaves: which have left it, and which of the others it has suggested to whom.
 *
 * A crowd cannot tell a block that never left the seeder from one that a stranger holds. So the seeder tells each peer of a few that it
 * would rather be asked for, different ones each: then hardly any block leaves it twice before all have left it once.
 */

/** Leaves suggested to one peer and not asked for yet. */
const AHEAD = 4
/** What was suggested and did not leave within this time is suggested to others too. */
const ROUND_MS = 10_000

interface Suggestion {
  index: number
  isAsked: boolean
}

export class FirstCopies {
  readonly leafCount: number
  readonly #sent: Uint8Array
  #sentCount = 0
  /** Suggested to somebody in this round. */
  readonly #told: Uint8Array
  #cursor = 0
  #roundMs = Number.NEGATIVE_INFINITY
  /** By peer: what it was told and did not get, oldest first. */
  readonly #open = new Map<string, Suggestion[]>()

  constructor(leafCount: number) {
    this.leafCount = leafCount
    this.#sent = new Uint8Array(Math.ceil(leafCount / 8))
    this.#told = new Uint8Array(this.#sent.length)
  }

  /** Inner nodes are few and do not count. */
  hasLeft(level: number, index: number): boolean {
    return level === 0 && isSet(this.#sent, index)
  }

  leaves(level: number, index: number): void {
    if (level !== 0 || isSet(this.#sent, index)) return
    set(this.#sent, index)
    this.#sentCount++
  }

  /** It did not arrive after all. */
  failed(level: number, index: number): void {
    if (!this.hasLeft(level, index)) return
    this.#sent[index >>> 3]! &= ~(1 << (index & 7))
    this.#sentCount--
    this.#told[index >>> 3]! &= ~(1 << (index & 7))
    this.#cursor = Math.min(this.#cursor, index)
  }

  /** Who asks for something else has no use for the oldest of what was suggested to it: it has that already, or wants it no more. */
  asked(peer: string, level: number, index: number): void {
    const open = this.#open.get(peer)
    if (open === undefined || level !== 0) return
    const suggested = open.find((suggestion) => suggestion.index === index)
    if (suggested !== undefined) suggested.isAsked = true
    else removeWhere(open, ({ isAsked }) => !isAsked)
  }

  /** It is not to be sent to this peer after all. */
  cancelled(peer: string, level: number, index: number): void {
    const open = this.#open.get(peer)
    if (open !== undefined && level === 0) removeWhere(open, (suggestion) => suggestion.index === index)
  }

  /** Leaves to suggest to a peer now, beside those that it was told of before. */
  suggestTo(peer: string, now: number): number[] {
    if (this.#sentCount === this.leafCount) return []
    const open = (this.#open.get(peer) ?? []).filter(({ index }) => !isSet(this.#sent, index))
    this.#open.set(peer, open)
    const fresh: number[] = []
    while (open.length < AHEAD) {
      const index = this.#next(now)
      if (index < 0) break
      if (open.some((suggestion) => suggestion.index === index)) continue
      open.push({ index, isAsked: false })
      fresh.push(index)
    }
    return fresh
  }

  forget(peer: string): void {
    for (const { index } of this.#open.get(peer) ?? []) {
      this.#told[index >>> 3]! &= ~(1 << (index & 7))
      this.#cursor = Math.min(this.#cursor, index)
    }
    this.#open.delete(peer)
  }

  #next(now: number): number {
    for (;;) {
      while (this.#cursor < this.leafCount) {
        const index = this.#cursor++
        if (isSet(this.#sent, index) || isSet(this.#told, index)) continue
        set(this.#told, index)
        return index
      }
      if (now - this.#roundMs < ROUND_MS) return -1
      this.#roundMs = now
      this.#told.fill(0)
      this.#cursor = 0
    }
  }
}

const isSet = (bits: Uint8Array, index: number): boolean => ((bits[index >>> 3] ?? 0) & (1 << (index & 7))) !== 0

function set(bits: Uint8Array, index: number): void {
  bits[index >>> 3]! |= 1 << (index & 7)
}

function removeWhere(list: Suggestion[], isWanted: (suggestion: Suggestion) => boolean): void {
  const at = list.findIndex(isWanted)
  if (at >= 0) list.splice(at, 1)
}
