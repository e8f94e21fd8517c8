/** Seeded random numbers of the crowd: one seed, one history. */

/** A small generator (mulberry32): `next` in [0, 1). */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed | 0
  }

  readonly next = (): number => {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }

  /** A whole number in [0, end). */
  below(end: number): number {
    return Math.floor(this.next() * end)
  }

  between(low: number, high: number): number {
    return low + this.next() * (high - low)
  }

  /** Puts the first `count` places of a list in random order, drawn from all of it. */
  shuffle<T>(list: T[], count = list.length): void {
    for (let i = 0; i < Math.min(count, list.length - 1); i++) {
      const at = i + this.below(list.length - i)
      const kept = list[i]!
      list[i] = list[at]!
      list[at] = kept
    }
  }
}
