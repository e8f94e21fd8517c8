/** Events of the last minute, or amounts of something, in all and by key: whoever comes too often is told to come later. */
export class MinuteWindows {
  readonly #totalMax: number
  readonly #perKeyMax: number
  readonly #times: { key: string; atMs: number; amount: number }[] = []

  constructor(totalMax: number, perKeyMax: number) {
    this.#totalMax = totalMax
    this.#perKeyMax = perKeyMax
  }

  /** Counts so much more, or gives false when that would be too much. */
  take(key: string, now: number, amount = 1): boolean {
    while (this.#times.length > 0 && this.#times[0]!.atMs <= now - 60_000) this.#times.shift()
    const ofKey = this.#times.filter((time) => time.key === key)
    if (sumOf(this.#times) + amount > this.#totalMax || sumOf(ofKey) + amount > this.#perKeyMax) return false
    this.#times.push({ key, atMs: now, amount })
    return true
  }
}

const sumOf = (times: readonly { amount: number }[]): number => times.reduce((sum, { amount }) => sum + amount, 0)
