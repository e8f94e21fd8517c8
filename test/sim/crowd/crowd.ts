/**
 * A crowd in a box: thousands of nodes, each with the production machines, on simulated lines. One seed, one history. This is the driver of all of them: what the machines ask for it performs, and it feeds them what a node would hear, never what only the
 * simulator knows. The numbers stand in model.ts; who knows whom is the business of the forms (flash.ts, hour.ts).
 */
import type { SwarmAction, SwarmEvent } from '../../../protocol/swarm/swarm.ts'
import type { UploadAction, UploadEvent } from '../../../protocol/swarm/upload.ts'
import * as lines from './lines.ts'
import { FIRST_BYTES, Lines } from './lines.ts'
import { newSwarm, newUpload } from './machines.ts'
import {
  BLOCK_BYTES,
  blockMs,
  type Half,
  hasBit,
  type Member,
  OVER,
  removeFrom,
  setBit,
  TRAVELLING,
  type Transfer,
  Transfers,
  WISHED,
} from './members.ts'
import { Meter, type Row } from './meter.ts'
import { type Form, HASH_MS, HOME_DOWN, HOME_UP, latencyOf, NATED_SHARE, ORIGIN_UP } from './model.ts'
import { Random } from './random.ts'
import { Tally } from './tally.ts'
import { Wheel } from './wheel.ts'

const [NEVER, SHARE] = [Number.POSITIVE_INFINITY, 'share']

type Rows<Kind extends string> = Record<Kind, Row>

export class Crowd {
  readonly wheel = new Wheel()
  readonly meter = new Meter()
  readonly random: Random
  readonly blockCount: number
  readonly tally: Tally
  /** By id; undefined when gone. */
  readonly members: (Member | undefined)[] = []
  readonly #seed: number
  readonly #form: Form
  readonly #halves: (Half | undefined)[] = []
  readonly #transfers = new Transfers()
  readonly #lines: Lines
  readonly #swarmRows: Rows<SwarmEvent['type']>
  readonly #uploadRows: Rows<UploadEvent['type']>
  // Events that come by the million are written over: no machine keeps one.
  readonly #has = { type: 'peerHas' as const, peer: '', first: 0, count: 1 }
  readonly #progress = { type: 'progress' as const, peer: '', item: 0, bytes: 0 }
  readonly #tick = { type: 'tick' as const }

  constructor(seed: number, blockCount: number, form: Form) {
    this.#seed = seed
    this.blockCount = blockCount
    this.#form = form
    this.random = new Random(seed)
    this.tally = new Tally(blockCount)
    this.#lines = new Lines(this.wheel, this.#transfers, this.tally)
    const rowsOf = <Kind extends string>(machine: string, kinds: readonly Kind[]): Rows<Kind> =>
      Object.fromEntries(kinds.map((kind) => [kind, this.meter.row(`${machine} ${kind}`)])) as Rows<Kind> // one for each kind
    this.#swarmRows = rowsOf('swarm', [
      'peerJoined',
      'peerHas',
      'peerLeft',
      'suggested',
      'want',
      'have',
      'lost',
      'unwantAll',
      'progress',
      'received',
      'verified',
      'rejected',
      'tick',
    ])
    this.#uploadRows = rowsOf('upload', ['peerJoined', 'peerLeft', 'stuck', 'requested', 'cancelled', 'served', 'sole', 'tick'])
  }

  /** Adds a node: the origin has everything and a line of its own, the others begin with nothing and want all. */
  add(isOrigin: boolean): Member {
    const id = this.members.length
    const words = Math.ceil(this.blockCount / 32)
    const member: Member = {
      id,
      key: id.toString(36),
      isNated: !isOrigin && this.random.next() < NATED_SHARE,
      upBlockMs: blockMs(isOrigin ? ORIGIN_UP : HOME_UP),
      downBlockMs: blockMs(HOME_DOWN),
      skewMs: this.random.below(1_000),
      swarm: null,
      upload: newUpload(),
      halves: [],
      halfOf: new Map(),
      have: new Uint32Array(words),
      haveCount: 0,
      fullNeighbours: 0,
      isSole: false,
      sending: null,
      line: [],
      upFreeMs: -1,
      downFreeMs: 0,
      swarmTickMs: NEVER,
      uploadTickMs: NEVER,
      joinedMs: this.wheel.now,
      finishedMs: isOrigin ? this.wheel.now : NEVER,
      isGone: false,
    }
    this.members.push(member)
    if (isOrigin) {
      for (let block = 0; block < this.blockCount; block++) setBit(member.have, block)
      member.haveCount = this.blockCount
      this.#updateSole(member)
      return member
    }
    member.swarm = newSwarm(this.blockCount, new Random(this.#seed ^ Math.imul(id, 0x9e3779b1)).next)
    this.#feedSwarm(member, { type: 'want', first: 0, count: this.blockCount, priority: 2 })
    return member
  }

  /** Two nodes are connected and have said hello. What they have they learn now (`isInstant`), or after the latency. */
  connect(a: Member, b: Member, isInstant: boolean): void {
    const latencyMs = latencyOf(a, b)
    const half = this.#newHalf(a, b, latencyMs)
    const other = this.#newHalf(b, a, latencyMs)
    half.reverse = other
    other.reverse = half
    for (const side of [half, other]) {
      const { owner, peer } = side
      this.#feedSwarm(owner, { type: 'peerJoined', peer: peer.key })
      this.#feedUpload(owner, { type: 'peerJoined', peer: peer.key, group: peer.key, share: SHARE, isReachable: !peer.isNated })
    }
    for (const side of [half, other]) {
      if (side.peer.haveCount === 0) continue
      side.greeting = side.peer.have.slice()
      if (isInstant) this.#greet(side)
      else this.wheel.add(this.wheel.now + latencyMs, lines.GREETING, side.id, 0)
    }
  }

  /** The node is gone; its neighbours notice after the latency. */
  remove(member: Member): void {
    member.isGone = true
    if (member.sending !== null) this.#lines.stop(member, member.sending)
    for (const transfer of member.line) {
      transfer.stage = OVER
      this.#transfers.drop(transfer)
    }
    member.line.length = 0
    for (const half of member.halves) {
      this.#forget(half)
      this.wheel.add(this.wheel.now + half.latencyMs, lines.LEFT, half.reverse.id, 0)
    }
    member.halves.length = 0
    member.halfOf.clear()
    this.members[member.id] = undefined
  }

  /** Runs until `isOver`, or nothing is planned any more, or the world is so old. */
  run(isOver: () => boolean, untilMs: number): void {
    while (!isOver() && this.wheel.now <= untilMs && this.wheel.next()) this.#due(this.wheel.kind, this.wheel.a, this.wheel.b)
  }

  #due(kind: number, a: number, b: number): void {
    switch (kind) {
      case lines.HAVE:
        this.#hear(a, b)
        return
      case lines.SUGGEST: {
        const half = this.#halves[a]
        if (half !== undefined) this.#feedSwarm(half.owner, { type: 'suggested', peer: half.peer.key, item: b })
        return
      }
      case lines.SWARM_TICK:
        this.#tickSwarm(a)
        return
      case lines.UPLOAD_TICK:
        this.#tickUpload(a)
        return
      case lines.GREETING: {
        const half = this.#halves[a]
        if (half !== undefined) this.#greet(half)
        return
      }
      case lines.LEFT:
        this.#part(a)
        return
    }
    if (kind >= lines.OTHER) {
      this.#form.due(kind, a, b)
      return
    }
    const transfer = this.#transfers.at(a)
    this.#carry(kind, transfer)
    this.#transfers.drop(transfer)
  }

  /** What happens to one request and its block. */
  #carry(kind: number, transfer: Transfer): void {
    switch (kind) {
      case lines.REQUEST:
        this.#wish(transfer)
        return
      case lines.CANCEL:
        this.#unwish(transfer)
        return
      case lines.SENT: {
        const { half } = transfer
        if (this.#lines.sent(half.peer, transfer)) this.#feedUpload(half.peer, { type: 'served', peer: half.owner.key, bytes: BLOCK_BYTES })
        return
      }
      case lines.ARRIVING: {
        const knownMs = this.#lines.arriving(transfer)
        if (knownMs > this.wheel.now) this.#lines.plan(knownMs, lines.PROGRESS, transfer)
        else if (knownMs >= 0) this.#hearBytes(transfer, FIRST_BYTES)
        return
      }
      case lines.PROGRESS:
        this.#hearBytes(transfer, FIRST_BYTES)
        return
      case lines.ARRIVED:
        this.#receive(transfer)
        return
      case lines.VERIFIED:
        this.#verify(transfer)
    }
  }

  #wish(transfer: Transfer): void {
    const uploader = transfer.half.reverse
    if (this.#halves[uploader.id] === undefined) return
    if (!hasBit(uploader.owner.have, transfer.block)) throw new Error(`asked for block ${transfer.block}, which is not there`)
    transfer.stage = WISHED
    transfer.uses++
    uploader.wished.push(transfer)
    this.#feedUpload(uploader.owner, { type: 'requested', peer: uploader.peer.key, level: 0, index: transfer.block, bytes: BLOCK_BYTES })
  }

  #unwish(transfer: Transfer): void {
    const uploader = transfer.half.reverse
    const { stage, block } = transfer
    if (this.#halves[uploader.id] === undefined || stage === OVER || stage === TRAVELLING) return
    const { owner, peer } = uploader
    if (stage === WISHED) {
      removeFrom(uploader.wished, transfer)
      transfer.stage = OVER
      this.#transfers.drop(transfer)
      this.#feedUpload(owner, { type: 'cancelled', peer: peer.key, level: 0, index: block })
      return
    }
    const bytes = this.#lines.stop(owner, transfer)
    this.#feedUpload(owner, { type: 'cancelled', peer: peer.key, level: 0, index: block })
    this.#feedUpload(owner, { type: 'served', peer: peer.key, bytes })
  }

  #hearBytes(transfer: Transfer, bytes: number): void {
    const { half } = transfer
    if (transfer.isAbandoned || this.#halves[half.id] === undefined || transfer.stoppedMs < NEVER) return
    const event = this.#progress
    event.peer = half.peer.key
    event.item = transfer.block
    event.bytes = bytes
    this.#feedSwarm(half.owner, event)
  }

  #receive(transfer: Transfer): void {
    const { half, block } = transfer
    const { owner, peer } = half
    if (owner.isGone || transfer.stoppedMs < NEVER) return
    this.tally.receivedBytes += BLOCK_BYTES
    if (transfer.isAbandoned || this.#halves[half.id] === undefined) {
      this.tally.duplicate()
      return
    }
    this.#hearBytes(transfer, BLOCK_BYTES - FIRST_BYTES)
    removeFrom(half.asked, transfer)
    this.#lines.plan(this.wheel.now + HASH_MS, lines.VERIFIED, transfer)
    this.#transfers.drop(transfer)
    this.#feedSwarm(owner, { type: 'received', peer: peer.key, item: block })
  }

  #verify({ half, block }: Transfer): void {
    const { owner, peer } = half
    if (owner.isGone) return
    if (hasBit(owner.have, block)) {
      this.tally.duplicate()
      this.#feedSwarm(owner, { type: 'verified', peer: peer.key, item: block })
      return
    }
    const { now } = this.wheel
    setBit(owner.have, block)
    owner.haveCount++
    half.verifiedCount++
    this.#form.gained(owner, half)
    this.tally.verified(block, now)
    for (const neighbour of owner.halves) {
      if (!hasBit(neighbour.told, block)) this.wheel.add(now + neighbour.latencyMs, lines.HAVE, neighbour.reverse.id, block)
    }
    this.#feedSwarm(owner, { type: 'verified', peer: peer.key, item: block })
    if (owner.haveCount < this.blockCount) return
    owner.finishedMs = now
    this.tally.finished++
    this.tally.lastFinishedMs = now
    this.#updateSole(owner)
    this.#form.finished(owner)
  }

  #hear(id: number, block: number): void {
    const half = this.#halves[id]
    if (half === undefined || hasBit(half.told, block)) return
    setBit(half.told, block)
    if (++half.toldCount === this.blockCount) this.#changeFull(half.owner, 1)
    if (half.owner.haveCount === this.blockCount) return // whoever has everything does not care
    const event = this.#has
    event.peer = half.peer.key
    event.first = block
    event.count = 1
    this.#feedSwarm(half.owner, event)
  }

  /** A peer said all that it has. */
  #greet(half: Half): void {
    const { greeting, owner, peer } = half
    half.greeting = null
    if (greeting === null) return
    const runs: [first: number, count: number][] = []
    for (let block = 0, from = -1; block <= this.blockCount; block++) {
      const isSet = block < this.blockCount && hasBit(greeting, block)
      if (isSet && !hasBit(half.told, block)) {
        setBit(half.told, block)
        half.toldCount++
      }
      if (isSet && from < 0) from = block
      if (isSet || from < 0) continue
      runs.push([from, block - from])
      from = -1
    }
    if (half.toldCount === this.blockCount) this.#changeFull(owner, 1)
    if (owner.haveCount === this.blockCount) return
    for (const [first, count] of runs) this.#feedSwarm(owner, { type: 'peerHas', peer: peer.key, first, count })
  }

  /** A node notices that its peer is gone. */
  #part(id: number): void {
    const half = this.#halves[id]
    if (half === undefined) return
    const { owner, peer } = half
    this.#forget(half)
    removeFrom(owner.halves, half)
    owner.halfOf.delete(peer.key)
    const isToPeer = (transfer: Transfer | null): transfer is Transfer => transfer !== null && transfer.half === half.reverse
    const stopped = [...owner.line, owner.sending].filter(isToPeer).map((transfer) => this.#lines.stop(owner, transfer))
    this.#feedSwarm(owner, { type: 'peerLeft', peer: peer.key })
    this.#feedUpload(owner, { type: 'peerLeft', peer: peer.key })
    for (const bytes of stopped) this.#feedUpload(owner, { type: 'served', peer: peer.key, bytes })
    if (half.toldCount === this.blockCount) this.#changeFull(owner, -1)
    this.#form.left(owner, half)
  }

  #forget(half: Half): void {
    this.#halves[half.id] = undefined
    for (const transfer of half.asked) {
      transfer.isAbandoned = true
      this.#transfers.drop(transfer)
    }
    for (const transfer of half.wished) {
      transfer.stage = OVER
      this.#transfers.drop(transfer)
    }
    half.asked.length = 0
    half.wished.length = 0
  }

  #newHalf(owner: Member, peer: Member, latencyMs: number): Half {
    const told = new Uint32Array(owner.have.length)
    const half = {
      id: this.#halves.length,
      owner,
      peer,
      latencyMs,
      told,
      toldCount: 0,
      asked: [],
      wished: [],
      verifiedCount: 0,
      greeting: null,
    }
    const made: Half = Object.assign(half, { reverse: half as unknown as Half }) // set by connect() at once
    this.#halves.push(made)
    owner.halves.push(made)
    owner.halfOf.set(peer.key, made)
    return made
  }

  #changeFull(member: Member, change: 1 | -1): void {
    member.fullNeighbours += change
    this.#updateSole(member)
  }

  /** A node that has everything says whether it knows another that does. */
  #updateSole(member: Member): void {
    if (member.haveCount < this.blockCount) return
    const isSole = member.fullNeighbours === 0
    if (isSole === member.isSole) return
    member.isSole = isSole
    this.#feedUpload(member, { type: 'sole', share: SHARE, leafCount: isSole ? this.blockCount : 0 })
  }

  // Feeding the machines.

  #feedSwarm(member: Member, event: SwarmEvent): void {
    const { swarm } = member
    if (swarm === null) return
    const actions = this.meter.handle(this.#swarmRows[event.type], swarm, event, this.wheel.now + member.skewMs)
    for (const action of actions) this.#performSwarm(member, action)
    const atMs = this.meter.nextTimeout(swarm)
    if (atMs !== undefined) this.#armSwarm(member, atMs)
  }

  #armSwarm(member: Member, atMs: number): void {
    const dueMs = Math.max(this.wheel.now + 1, Math.ceil(atMs - member.skewMs))
    if (dueMs >= member.swarmTickMs) return
    member.swarmTickMs = dueMs
    this.wheel.add(dueMs, lines.SWARM_TICK, member.id, 0)
  }

  #tickSwarm(id: number): void {
    const member = this.members[id]
    if (member === undefined || member.swarm === null || member.swarmTickMs !== this.wheel.now) return
    member.swarmTickMs = NEVER
    const atMs = this.meter.nextTimeout(member.swarm)
    if (atMs === undefined) return
    if (atMs > this.wheel.now + member.skewMs) this.#armSwarm(member, atMs)
    else this.#feedSwarm(member, this.#tick)
  }

  #performSwarm(member: Member, action: SwarmAction): void {
    if (action.type === 'done') return
    const half = member.halfOf.get(action.peer)
    if (half === undefined) throw new Error(`${action.type} for ${action.peer}, which is not there`)
    if (action.type === 'dropPeer') throw new Error(`${action.peer} is dropped, and nobody lies`)
    const { now } = this.wheel
    const isRequest = action.type === 'request'
    this.tally.trace(now, member.id, isRequest ? 1 : 2, action.item)
    if (isRequest) {
      this.tally.requests++
      const transfer = this.#transfers.take(half, action.item)
      half.asked.push(transfer)
      this.#lines.plan(now + half.latencyMs, lines.REQUEST, transfer)
      return
    }
    this.tally.cancels++
    const transfer = half.asked.find(({ block }) => block === action.item)
    if (transfer === undefined) return // all of it is here already
    transfer.isAbandoned = true
    removeFrom(half.asked, transfer)
    this.#lines.plan(now + half.latencyMs, lines.CANCEL, transfer)
    this.#transfers.drop(transfer)
  }

  #feedUpload(member: Member, event: UploadEvent): void {
    if (member.isGone) return
    const { upload } = member
    const actions = this.meter.handle(this.#uploadRows[event.type], upload, event, this.wheel.now + member.skewMs)
    for (const action of actions) this.#performUpload(member, action)
    const atMs = this.meter.nextTimeout(upload)
    if (atMs !== undefined) this.#armUpload(member, atMs)
  }

  #armUpload(member: Member, atMs: number): void {
    const dueMs = Math.max(this.wheel.now + 1, Math.ceil(atMs - member.skewMs))
    if (dueMs >= member.uploadTickMs) return
    member.uploadTickMs = dueMs
    this.wheel.add(dueMs, lines.UPLOAD_TICK, member.id, 0)
  }

  #tickUpload(id: number): void {
    const member = this.members[id]
    if (member === undefined || member.uploadTickMs !== this.wheel.now) return
    member.uploadTickMs = NEVER
    const atMs = this.meter.nextTimeout(member.upload)
    if (atMs === undefined) return
    if (atMs > this.wheel.now + member.skewMs) this.#armUpload(member, atMs)
    else this.#feedUpload(member, this.#tick)
  }

  #performUpload(member: Member, { type, peer, index }: UploadAction): void {
    const half = member.halfOf.get(peer)
    if (half !== undefined && type === 'suggest') {
      this.wheel.add(this.wheel.now + half.latencyMs, lines.SUGGEST, half.reverse.id, index)
      return
    }
    const transfer = half?.wished.find(({ block }) => block === index)
    if (half === undefined || transfer === undefined) throw new Error(`serves ${peer} block ${index}, which it did not ask for`)
    this.tally.trace(this.wheel.now, member.id, 3, index)
    removeFrom(half.wished, transfer)
    this.#lines.enqueue(member, transfer)
  }
}
