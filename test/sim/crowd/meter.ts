/**
 * Calls the machines and says what they cost: every call is counted, every 61st is timed.
 *
 * Reading the clock costs about as much as a cheap event, so timing each call would mostly measure the clock; the cost of two readings is
 * taken off what is timed. 61 is prime, so that the sample does not fall in step with a repeating order of events. Only the inside of
 * handle() counts: neither the driver nor nextTimeout(), which has a row of its own. A call that seems to take over a millisecond was
 * interrupted, by the collector or by another process on a busy computer, and is left out: no machine takes so long.
 */

const STRIDE = 61
const INTERRUPTED_MS = 1

/** Anything with the shape of a machine. */
export interface Machine<Event, Action> {
  handle(event: Event, now: number): readonly Action[]
  nextTimeout(): number | undefined
}

interface Row {
  count: number
  timed: number
  timedMs: number
}

/** What the calls of one kind cost. */
export interface Cost {
  name: string
  count: number
  microseconds: number
}

export class Meter {
  readonly #rows = new Map<string, Row>()
  readonly #timeouts: Row = { count: 0, timed: 0, timedMs: 0 }
  readonly #clockMs = clockCost()
  #untilTimed = STRIDE

  /** The row of one kind of call, kept by the caller so that counting needs no look-up. */
  row(name: string): Row {
    const row = this.#rows.get(name) ?? { count: 0, timed: 0, timedMs: 0 }
    this.#rows.set(name, row)
    return row
  }

  handle<Event, Action>(row: Row, machine: Machine<Event, Action>, event: Event, now: number): readonly Action[] {
    row.count++
    if (--this.#untilTimed > 0) return machine.handle(event, now)
    this.#untilTimed = STRIDE
    const startMs = performance.now()
    const actions = machine.handle(event, now)
    this.#note(row, performance.now() - startMs)
    return actions
  }

  nextTimeout<Event, Action>(machine: Machine<Event, Action>): number | undefined {
    const row = this.#timeouts
    if (++row.count % STRIDE !== 0) return machine.nextTimeout()
    const startMs = performance.now()
    const at = machine.nextTimeout()
    this.#note(row, performance.now() - startMs)
    return at
  }

  #note(row: Row, spanMs: number): void {
    if (spanMs > INTERRUPTED_MS) return
    row.timedMs += Math.max(0, spanMs - this.#clockMs)
    row.timed++
  }

  /** Calls of handle() alone, by kind. */
  costs(): Cost[] {
    return [...this.#rows].map(([name, row]) => costOf(name, row))
  }

  timeouts(): Cost {
    return costOf('nextTimeout', this.#timeouts)
  }
}

const costOf = (name: string, { count, timed, timedMs }: Row): Cost => ({
  name,
  count,
  microseconds: timed === 0 ? 0 : (timedMs * 1000) / timed,
})

/** What an empty measurement shows: the median of many. */
function clockCost(): number {
  const spans: number[] = []
  for (let i = 0; i < 2001; i++) {
    const startMs = performance.now()
    spans.push(performance.now() - startMs)
  }
  return spans.sort((a, b) => a - b)[1000] ?? 0
}

export type { Row }
