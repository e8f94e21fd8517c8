/** Serves for a simulated node: the production Upload, driven as node/jobs/uploads.ts drives it, in the manner of the node. */
import { assert } from '../../protocol/errors.ts'
import { UPLOAD, WIRE } from '../../protocol/limits.ts'
import { Upload, type UploadEvent } from '../../protocol/swarm/upload.ts'
import { checkServing, type Serving } from './checks.ts'
import { Alarm } from './clock.ts'
import type { ServeManner } from './link.ts'
import type { NodePlan } from './plan.ts'
import type { Claim, Surroundings } from './surroundings.ts'

/** The node that serves. */
export interface Server {
  readonly id: string
  readonly plan: NodePlan
  readonly claims: ReadonlyMap<string, Claim>
  readonly damaged: ReadonlySet<number>
  offers(level: number, index: number): boolean
  /** A stored block turned out damaged. */
  lost(index: number): void
}

const READ_MS = 10

/** One life of a node's uploads. */
export class SimUploads {
  readonly #server: Server
  readonly #around: Surroundings
  readonly #random: () => number
  readonly #machine: Upload
  readonly #alarm: Alarm
  /** By peer: what the machine started and has not heard the end of. */
  readonly #serving = new Map<string, Serving>()
  #isStopped = false

  constructor(server: Server, around: Surroundings, random: () => number) {
    this.#server = server
    this.#around = around
    this.#random = random
    this.#machine = new Upload({ ...UPLOAD, leaseBytesMax: around.shape.leaseBytesMax, requestsQueuedMax: WIRE.requestsQueuedMax })
    this.#alarm = new Alarm(around.clock, () => this.feed({ type: 'tick' }))
  }

  feed(event: UploadEvent): void {
    const { clock, shape } = this.#around
    const actions = this.#machine.handle(event, clock.now)
    this.#machine.checkInvariants()
    for (const action of actions) {
      if (action.type === 'serve') this.#serve(action.peer, action.level, action.index)
      else this.#suggest(action.peer, action.index)
    }
    checkServing(this.#server.id, this.#serving.values(), shape.leaseBytesMax, clock.now)
    const dueMs = this.#machine.nextTimeout()
    this.#alarm.set(dueMs === undefined ? undefined : Math.max(dueMs, clock.now + 1))
  }

  left(peer: string): void {
    this.#serving.delete(peer)
    this.feed({ type: 'peerLeft', peer })
  }

  stop(): void {
    this.#isStopped = true
    this.#alarm.set(undefined)
  }

  #suggest(peer: string, index: number): void {
    const claim = this.#server.claims.get(peer)
    assert(claim !== undefined && index < this.#around.shape.itemCount, `suggests block ${index} to ${peer}`)
    this.#around.note('suggested')
    claim.link.suggest(index)
  }

  #serve(peer: string, level: number, index: number): void {
    const { clock, shape } = this.#around
    const claim = this.#server.claims.get(peer)
    assert(claim !== undefined, `serves ${peer}, which is not there`)
    assert(!this.#serving.has(peer), `${this.#server.id} serves two blocks to ${peer}`)
    const total = shape.bytesOf(level, index)
    this.#serving.set(peer, { sinceMs: clock.now, bytes: total })
    const served = (bytes: number): void => {
      if (this.#isStopped || this.#server.claims.get(peer) !== claim) return
      this.#serving.delete(peer)
      this.feed({ type: 'served', peer, bytes })
    }
    clock.after(1 + this.#random() * READ_MS, () => {
      if (this.#isStopped) return
      if (level === 0 && this.#server.damaged.has(index)) this.#server.lost(index)
      if (this.#isGone(level, index)) {
        claim.link.absent(level, index)
        served(0)
      } else claim.link.serve(level, index, total, this.#manner(level), (isServed) => served(isServed ? total : 0))
    })
  }

  #isGone(level: number, index: number): boolean {
    const { manner, chance } = this.#server.plan
    return !this.#server.offers(level, index) || (manner === 'absent' && this.#random() < chance)
  }

  #manner(level: number): ServeManner {
    const { manner, chance } = this.#server.plan
    if (level !== 0 || this.#random() >= chance) return 'good'
    if (manner === 'liar') return 'damaged'
    if (manner === 'mute') return 'never'
    return manner === 'drip' ? 'drip' : 'good'
  }
}
