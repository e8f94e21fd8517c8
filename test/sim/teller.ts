/** Tells peers what a simulated node holds, as node/jobs/have-teller.ts does with timers of the machine. */
import { asRuns, type Bitfield } from '../../node/jobs/bitfield.ts'
import { WIRE } from '../../protocol/limits.ts'
import { Alarm, type Clock } from './clock.ts'
import type { Link } from './link.ts'
import type { NodePlan } from './plan.ts'
import type { Claim } from './surroundings.ts'

/** The node that tells. */
export interface Teller {
  readonly plan: NodePlan
  readonly claims: ReadonlyMap<string, Claim>
  readonly leaves: Bitfield
  readonly knowsShape: boolean
  readonly isComplete: boolean
  tellSole(): void
}

const FLUSH_MS = 200
const RANGES_PER_FLUSH_MAX = 6

/** What is new, until it is told. */
export class SimTeller {
  readonly #node: Teller
  readonly #clock: Clock
  readonly #alarm: Alarm
  #news: number[] = []

  constructor(node: Teller, clock: Clock) {
    this.#node = node
    this.#clock = clock
    this.#alarm = new Alarm(clock, () => this.#flush())
  }

  tellAll(claim: Claim): void {
    const { knowsShape, isComplete, leaves, plan } = this.#node
    if (!knowsShape || claim.toldAll) return
    if (isComplete || plan.manner === 'boaster') {
      claim.toldAll = true
      claim.link.sendHave({ kind: 'all' })
    } else if (claim.knowsShape && leaves.held > 0) this.#sendBitmap(claim.link)
    else claim.link.sendHave({ kind: 'shape' })
  }

  note(item: number): void {
    this.#news.push(item)
    if (this.#news.length === 1) this.#alarm.set(this.#clock.now + FLUSH_MS)
  }

  lost(): void {
    for (const claim of this.#node.claims.values()) claim.toldAll = false
  }

  lacks(claim: Claim): void {
    if (!claim.hasAll) return
    claim.hasAll = false
    this.tellAll(claim)
  }

  stop(): void {
    this.#news = []
    this.#alarm.set(undefined)
  }

  #flush(): void {
    const runs = asRuns(this.#news)
    this.#news = []
    const { isComplete, claims } = this.#node
    if (isComplete) this.#node.tellSole()
    for (const claim of claims.values()) {
      if (claim.hasAll || !claim.knowsShape || claim.toldAll) continue
      if (isComplete) this.tellAll(claim)
      else if (runs.length > RANGES_PER_FLUSH_MAX) this.#sendBitmap(claim.link)
      else for (const [first, count] of runs) claim.link.sendHave({ kind: 'range', first, count })
    }
  }

  #sendBitmap(link: Link): void {
    link.sendHave({ kind: 'bitmap', first: 0, bits: this.#node.leaves.page(0, WIRE.havePageBytesMax) })
  }
}
