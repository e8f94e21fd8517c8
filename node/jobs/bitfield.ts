/** Which of `count` positions are held: one bit each, most significant first, as HAVE carries them on the wire. */
export class Bitfield {
  readonly count: number
  readonly #bits: Uint8Array
  #set = 0

  constructor(count: number) {
    this.count = count
    this.#bits = new Uint8Array(Math.ceil(count / 8))
  }

  /** How many are held. */
  get held(): number {
    return this.#set
  }

  get isFull(): boolean {
    return this.#set === this.count
  }

  has(index: number): boolean {
    return ((this.#bits[index >> 3] ?? 0) & (0x80 >> (index & 7))) !== 0
  }

  add(index: number): boolean {
    if (this.has(index)) return false
    this.#bits[index >> 3]! |= 0x80 >> (index & 7)
    this.#set++
    return true
  }

  remove(index: number): boolean {
    if (!this.has(index)) return false
    this.#bits[index >> 3]! &= ~(0x80 >> (index & 7))
    this.#set--
    return true
  }

  /** Maximal runs of held positions, ascending. */
  runs(): Generator<[first: number, count: number]> {
    return runsOfBits(this.#bits, this.count)
  }

  /** The bits of a page that starts at `first`, a multiple of 8, at most `bytesMax` bytes long. A copy. */
  page(first: number, bytesMax: number): Uint8Array {
    return this.#bits.slice(first >> 3, (first >> 3) + bytesMax)
  }
}

/** Maximal runs of set bits among the first `count`, ascending. */
export function* runsOfBits(bits: Uint8Array, count: number): Generator<[first: number, count: number]> {
  const end = Math.min(bits.byteLength * 8, count)
  let first = -1
  for (let i = 0; i < end; i++) {
    if (((bits[i >> 3] ?? 0) & (0x80 >> (i & 7))) !== 0) {
      if (first < 0) first = i
    } else if (first >= 0) {
      yield [first, i - first]
      first = -1
    }
  }
  if (first >= 0) yield [first, end - first]
}

/** The same positions as maximal runs, ascending. */
export function asRuns(positions: number[]): [first: number, count: number][] {
  const runs: [number, number][] = []
  for (const position of [...positions].sort((a, b) => a - b)) {
    const last = runs.at(-1)
    if (last !== undefined && last[0] + last[1] === position) last[1]++
    else runs.push([position, 1])
  }
  return runs
}

/** Maximal runs of those numbers from `first` to `end` (excluded) for which `isIn` holds, ascending. */
export function* runsWhere(first: number, end: number, isIn: (index: number) => boolean): Generator<[first: number, count: number]> {
  let from = -1
  for (let i = first; i < end; i++) {
    if (isIn(i)) {
      if (from < 0) from = i
    } else if (from >= 0) {
      yield [from, i - from]
      from = -1
    }
  }
  if (from >= 0) yield [from, end - from]
}
