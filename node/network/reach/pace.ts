/** A pace in bytes a second for all that a relay passes on: whoever wants to send more waits, each in its turn. */
import { RELAY } from '../../../protocol/limits.ts'

export class Pace {
  #bytesPerSecond: number
  #saved: number = RELAY.burstBytes
  #sinceMs: number
  readonly #now: () => number
  readonly #waiting: { bytes: number; go: () => void }[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(bytesPerSecond: number, now: () => number) {
    this.#bytesPerSecond = bytesPerSecond
    this.#now = now
    this.#sinceMs = now()
  }

  set bytesPerSecond(rate: number) {
    this.#fill()
    this.#bytesPerSecond = rate
  }

  /** Resolves when so many bytes may go. The number of those who wait is that of the directions of all circuits. */
  take(bytes: number): Promise<void> | null {
    this.#fill()
    if (this.#waiting.length === 0 && this.#saved > 0) {
      this.#saved -= bytes
      return null
    }
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#waiting.push({ bytes, go: resolve })
    this.#timer ??= setInterval(() => this.#step(), RELAY.stepMs).unref()
    return promise
  }

  /** Nobody waits any more. */
  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
    for (const { go } of this.#waiting.splice(0)) go()
  }

  #fill(): void {
    const now = this.#now()
    this.#saved = Math.min(RELAY.burstBytes, this.#saved + ((now - this.#sinceMs) / 1000) * this.#bytesPerSecond)
    this.#sinceMs = now
  }

  #step(): void {
    this.#fill()
    while (this.#saved > 0) {
      const next = this.#waiting.shift()
      if (next === undefined) break
      this.#saved -= next.bytes
      next.go()
    }
    if (this.#waiting.length === 0) {
      clearInterval(this.#timer)
      this.#timer = undefined
    }
  }
}
