/** `shoal status --limits`: every declared limit with its present value, how much of it is used, and how often it was run into. */
import { LIMIT_NAMES, LIMITS, type LimitCounters, type LimitName } from '../../protocol/limit-table.ts'
import type { LimitRow } from '../control/api.ts'

/** What is read when somebody asks: how much of a limit is used, and its value where the user may have set another. */
export interface Gauge {
  used?: () => number
  value?: () => number | null
  /** Hits that are counted where they happen, and not by name. */
  hits?: () => number
}

export class LimitRegistry {
  readonly #counters: LimitCounters
  readonly #gauges: Partial<Record<LimitName, Gauge>>

  /** The gauges are composed where the parts are. */
  constructor(counters: LimitCounters, gauges: Partial<Record<LimitName, Gauge>>) {
    this.#counters = counters
    this.#gauges = gauges
  }

  /** In the order of the table. */
  rows(): LimitRow[] {
    return LIMIT_NAMES.map((name) => {
      const { value, unit, meaning, isCounted } = LIMITS[name]
      const gauge: Gauge = this.#gauges[name] ?? {}
      return {
        name,
        value: gauge.value === undefined ? value : gauge.value(),
        unit,
        meaning,
        used: gauge.used?.() ?? null,
        hits: isCounted ? this.#counters.of(name) + (gauge.hits?.() ?? 0) : null,
      }
    })
  }
}
