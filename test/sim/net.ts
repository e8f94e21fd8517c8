/**
 * Several whole nodes in one virtual network: one seed, one history. It ends when everybody who must has everything, and throws where an
 * invariant breaks, or when that takes longer than it may.
 */
import { createHash } from 'node:crypto'
import { assert } from '../../protocol/errors.ts'
import { WAITS } from '../../protocol/limits.ts'
import { decodeMessage, encodeMessage } from '../../protocol/wire/messages.ts'
import { Clock, randomFrom } from './clock.ts'
import { SimNode } from './node.ts'
import { type Fault, type Plan, planFrom } from './plan.ts'
import type { Happening, Surroundings } from './surroundings.ts'
import { Connection, type Quality } from './wire.ts'

/** Whatever goes wrong, everybody is done by then: a snub of ten minutes and long cuts included. */
const END_MS = 45 * 60_000
const STEPS_MAX = 400_000
const SPREAD_LOOK_MS = 1_000
const ZEROS = new Uint8Array(32)

export interface NetOutcome {
  finishedMs: number
  steps: number
  happened: Map<Happening, number>
}

/** The world of one plan. */
export class Net implements Surroundings {
  readonly clock = new Clock()
  readonly plan: Plan
  readonly nodes = new Map<string, SimNode>()
  readonly #random: () => number
  readonly #traceTo: ((line: string) => void) | null
  readonly #connections = new Set<Connection>()
  readonly #cuts = new Set<Set<string>>()
  readonly #happened = new Map<Happening, number>()
  readonly #quality = new Map<string, Quality>()

  constructor(plan: Plan, traceTo: ((line: string) => void) | null) {
    this.plan = plan
    this.#traceTo = traceTo
    this.#random = randomFrom(plan.seed ^ 0x5eed)
    for (const node of plan.nodes) this.nodes.set(node.id, new SimNode(node, this, Math.floor(this.#random() * 2 ** 31)))
    for (const node of this.nodes.values()) this.clock.at(node.plan.joinMs, () => this.#start(node))
    for (const fault of plan.faults) this.clock.at(fault.atMs, () => this.#cause(fault))
  }

  get shape(): Plan['shape'] {
    return this.plan.shape
  }

  trace(line: () => string): void {
    this.#traceTo?.(`${this.clock.now.toFixed(3).padStart(12)} ${line()}`)
  }

  note(what: Happening): void {
    this.#happened.set(what, (this.#happened.get(what) ?? 0) + 1)
  }

  isHonest(id: string): boolean {
    return this.nodes.get(id)?.isHonest === true
  }

  groupOf(id: string): string {
    return this.nodes.get(id)?.plan.group ?? ''
  }

  /** Runs to the end and beyond it, until nothing is left of it. */
  run(): NetOutcome {
    const faultsEndMs = Math.max(0, ...this.plan.faults.map((fault) => (fault.kind === 'cut' ? fault.untilMs : fault.atMs)))
    const isOver = (): boolean => this.clock.now > faultsEndMs && this.#unfinished().length === 0
    while (!isOver()) {
      for (let i = 0; i < 16; i++) assert(this.clock.step(), 'nothing is left to happen')
      if (this.clock.now > END_MS || this.clock.steps > STEPS_MAX)
        throw new Error(`no end after ${this.clock.steps} steps: ${this.#state()}`)
    }
    const finishedMs = this.clock.now
    for (const node of this.nodes.values()) if (node.isUp) node.stop()
    while (this.clock.now < finishedMs + 1_000 && this.clock.step());
    for (const node of this.nodes.values()) assert(node.budget.used === 0, `${node.id} still promises ${node.budget.used} bytes`)
    this.trace(() => `over after ${this.clock.steps} steps`)
    return { finishedMs, steps: this.clock.steps, happened: this.#happened }
  }

  #unfinished(): SimNode[] {
    return [...this.nodes.values()].filter(({ plan, isDone }) => plan.mustFinish && !isDone)
  }

  /** Who waits for what, and where it was asked. */
  #state(): string {
    const positions = [...Array(this.shape.itemCount).keys()]
    const tell = (node: SimNode): string => {
      const missing = positions.filter((position) => !node.leaves.has(position))
      const asked = [...node.claims].map(([peer, { link }]) => `${peer}:${[...link.asked.values()].map(({ index }) => index).join('+')}`)
      return `${node.id}${node.isUp ? '' : ' (down)'} lacks ${missing.join()}, asked ${asked.join(' ')}`
    }
    return this.#unfinished().map(tell).join('; ')
  }

  // Connections.

  dial(dialler: string, to: string): void {
    const { clock } = this
    const [from, target] = [this.nodes.get(dialler), this.nodes.get(to)]
    assert(from !== undefined && target !== undefined, `${dialler} dials ${to}`)
    const { life } = from
    let isSettled = false
    const settle = (): boolean => {
      const isFirst = !isSettled
      isSettled = true
      return isFirst && from.isUp && from.life === life
    }
    const quality = this.#qualityOf(from.id, to)
    const connection = new Connection(clock, [from.id, to], quality, [from.uplink, target.uplink], this.#random)
    this.#connections.add(connection)
    if (this.#isCut(from.id, to)) connection.cut()
    const saidShape = from.knowsShape
    connection.there.receive = (frame) => this.#answer(connection, target, frame instanceof Uint8Array ? frame : null)
    connection.back.receive = (frame) => {
      if (!settle()) {
        connection.reset()
        return
      }
      const welcome = frame instanceof Uint8Array ? decodeMessage(frame) : null
      if (welcome?.type !== 'welcome') {
        from.dialFailed(to)
        return
      }
      const link = from.opened(connection, 'outbound', saidShape, welcome.knowsShape)
      connection.back.receive = (next) => link.receive(next)
    }
    connection.there.write([encodeMessage({ type: 'hello', rendezvous: ZEROS, proof: ZEROS, knowsShape: saidShape })], () => {})
    clock.after(WAITS.dialMs, () => {
      if (!settle()) return
      connection.reset()
      from.dialFailed(to)
    })
  }

  disconnect(a: string, b: string): void {
    for (const connection of this.#connections) if (connection.ends.includes(a) && connection.ends.includes(b)) connection.reset()
  }

  #answer(connection: Connection, target: SimNode, frame: Uint8Array | null): void {
    const hello = frame === null ? null : decodeMessage(frame)
    const [dialler] = connection.ends
    if (hello?.type !== 'hello' || !target.isUp || target.isBanned(dialler)) {
      connection.reset()
      return
    }
    const saidShape = target.knowsShape
    connection.back.write([encodeMessage({ type: 'welcome', proof: ZEROS, knowsShape: saidShape })], () => {})
    const link = target.opened(connection, 'inbound', saidShape, hello.knowsShape)
    connection.there.receive = (next) => link.receive(next)
  }

  #qualityOf(a: string, b: string): Quality {
    const pair = a < b ? `${a} ${b}` : `${b} ${a}`
    const known = this.#quality.get(pair)
    if (known !== undefined) return known
    const random = randomFrom(this.plan.seed * 31 + hash(pair))
    const quality = { latencyMs: 2 + random() * 200, bytesPerMs: 30 + random() ** 3 * 10_000, lossRate: this.plan.lossRate }
    this.#quality.set(pair, quality)
    return quality
  }

  // What goes wrong.

  #isCut(a: string, b: string): boolean {
    for (const side of this.#cuts) if (side.has(a) !== side.has(b)) return true
    return false
  }

  #recut(): void {
    for (const connection of this.#connections) {
      if (connection.isDead) this.#connections.delete(connection)
      else if (this.#isCut(...connection.ends)) connection.cut()
      else connection.heal()
    }
  }

  #cause(fault: Fault): void {
    this.trace(() => `fault ${JSON.stringify(fault)}`)
    if (fault.kind === 'cut') {
      const side = new Set(fault.side)
      this.#cuts.add(side)
      this.#recut()
      this.clock.at(fault.untilMs, () => {
        this.#cuts.delete(side)
        this.#recut()
      })
      return
    }
    if (fault.kind === 'reset') {
      this.disconnect(...fault.pair)
      return
    }
    const node = this.nodes.get(fault.node)
    assert(node !== undefined, `there is no ${fault.node}`)
    switch (fault.kind) {
      case 'stop':
        if (node.isUp) node.stop()
        return
      case 'start':
        this.#start(node)
        return
      case 'pause':
      case 'resume':
        if (node.isHonest) node.pause(fault.kind === 'pause')
        return
      case 'diskFull':
      case 'diskFree':
        node.isDiskFull = fault.kind === 'diskFull'
        return
      case 'read':
        node.read(fault.position, fault.priority)
        return
      case 'damage':
        if (node.isHonest && node.holds(fault.position) && this.#isSafe(fault.position, node)) node.damaged.add(fault.position)
        return
      case 'freeze':
        this.#cuts.add(new Set([node.id]))
        this.#recut()
        return
      case 'leaveWhenSpread':
        this.#leaveWhenSpread(node)
    }
  }

  #start(node: SimNode): void {
    if (!node.isUp) node.start()
  }

  /** Whether somebody else who stays holds it. */
  #isSafe(position: number, not: SimNode): boolean {
    for (const node of this.nodes.values()) {
      if (node !== not && node.isHonest && node.isUp && node.plan.stays && node.holds(position)) return true
    }
    return false
  }

  #leaveWhenSpread(node: SimNode): void {
    if (!node.isUp) return
    for (let position = 0; position < this.shape.itemCount; position++) {
      if (this.#isSafe(position, node)) continue
      this.clock.after(SPREAD_LOOK_MS, () => this.#leaveWhenSpread(node))
      return
    }
    this.trace(() => `${node.id} has given everything to others`)
    node.stop()
  }
}

function hash(text: string): number {
  let sum = 7
  for (let i = 0; i < text.length; i++) sum = (Math.imul(sum, 31) + text.charCodeAt(i)) | 0
  return sum
}

/** Runs one seed; `traceTo` gets its trace line by line. */
export function runSeed(seed: number, traceTo: ((line: string) => void) | null = null): NetOutcome {
  return new Net(planFrom(seed), traceTo).run()
}

/** The trace as one short text. */
export function digestOfSeed(seed: number): string {
  const trace = createHash('sha256')
  runSeed(seed, (line) => trace.update(`${line}\n`))
  return trace.digest('hex')
}
