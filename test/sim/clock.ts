/** The virtual clock of a simulated network: what is due next runs next, ties in the order they were planned. */

interface Due {
  atMs: number
  order: number
  run: () => void
}

/** Time stands still between two events. */
export class Clock {
  now = 0
  steps = 0
  #order = 0
  /** A binary heap by time, then order. */
  readonly #heap: Due[] = []

  /** Runs `run` at that time, not before anything that is due earlier. */
  at(atMs: number, run: () => void): void {
    const heap = this.#heap
    const due = { atMs: Math.max(atMs, this.now), order: this.#order++, run }
    let place = heap.length
    heap.push(due)
    while (place > 0) {
      const above = (place - 1) >> 1
      if (!isBefore(due, heap[above]!)) break
      heap[place] = heap[above]!
      place = above
    }
    heap[place] = due
  }

  after(delayMs: number, run: () => void): void {
    this.at(this.now + delayMs, run)
  }

  /** Runs the next event; false when there is none. */
  step(): boolean {
    const heap = this.#heap
    const next = heap[0]
    if (next === undefined) return false
    const last = heap.pop()!
    if (heap.length > 0) this.#sink(last)
    this.now = next.atMs
    this.steps++
    next.run()
    return true
  }

  #sink(due: Due): void {
    const heap = this.#heap
    let place = 0
    for (;;) {
      let below = 2 * place + 1
      if (below >= heap.length) break
      if (below + 1 < heap.length && isBefore(heap[below + 1]!, heap[below]!)) below++
      if (!isBefore(heap[below]!, due)) break
      heap[place] = heap[below]!
      place = below
    }
    heap[place] = due
  }
}

const isBefore = (a: Due, b: Due): boolean => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)

/** One timer that is set anew all the time: it goes off once, at the last time it was set to. */
export class Alarm {
  readonly #clock: Clock
  readonly #run: () => void
  #dueMs: number | null = null
  #plannedMs = Number.POSITIVE_INFINITY

  constructor(clock: Clock, run: () => void) {
    this.#clock = clock
    this.#run = run
  }

  /** Undefined: not at all. */
  set(atMs: number | undefined): void {
    this.#dueMs = atMs === undefined ? null : Math.max(atMs, this.#clock.now)
    if (this.#dueMs !== null && this.#dueMs < this.#plannedMs) this.#plan(this.#dueMs)
  }

  #plan(atMs: number): void {
    this.#plannedMs = atMs
    this.#clock.at(atMs, () => this.#goOff(atMs))
  }

  #goOff(plannedMs: number): void {
    if (plannedMs !== this.#plannedMs) return // planned anew for an earlier time meanwhile
    this.#plannedMs = Number.POSITIVE_INFINITY
    if (this.#dueMs === null) return
    if (this.#dueMs > this.#clock.now) {
      this.#plan(this.#dueMs)
      return
    }
    this.#dueMs = null
    this.#run()
  }
}

/** Seeded random numbers in [0, 1). */
export function randomFrom(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
