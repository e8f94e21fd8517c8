/** Events of the last minute, in all and by key: whoever comes too often is told to come later. */
export class MinuteWindows {
  readonly #totalMax: number
  readonly #perKeyMax: number
  readonly #times: { key: string; atMs: number }[] = []

  constructor(totalMax: number, perKeyMax: number) {
    this.#totalMax = totalMax
    this.#perKeyMax = perKeyMax
  }

  /** Counts one more, or gives false when that would be one too many. */
  take(key: string, now: number): boolean {
    while (this.#times.length > 0 && this.#times[0]!.atMs <= now - 60_000) this.#times.shift()
    if (this.#times.length >= this.#totalMax || this.#times.filter((time) => time.key === key).length >= this.#perKeyMax) return false
    this.#times.push({ key, atMs: now })
    return true
  }
}
