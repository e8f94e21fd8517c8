/**
 * MACHINE: one peer and one share, from the proved hello to the end (drawing in README.md beside this file).
 *
 * It knows what either side may say when: requests and how each ends, credit both ways, who may be told positions, rates, keepalive,
 * silence. It holds no bytes of blocks, no clock and no timer; the driver (node/network/peer-link.ts) performs what it returns before it
 * tells the next thing. A peer that breaks a rule makes handle() throw RemoteError; any other error from here is a bug of ours.
 */
import { assert, RemoteError } from '../errors.ts'
import { FORMAT, WAITS, WIRE } from '../limits.ts'
import { type Credit, TokenBucket } from './credit.ts'
import { type ExchangedPeer, type HaveForm, type Message, ROOT_LEVEL } from './messages.ts'
import type { Waiter } from './rate-queue.ts'

/** What the share looks like, once the root node is known. */
export interface SessionShape {
  blockCount: number
  /** Exact length of a leaf, null where only a maximum is known (inner nodes). */
  expectedBytes: (level: number, index: number) => number | null
}

export type SessionEvent =
  | { type: 'received'; message: Message }
  | { type: 'request' | 'cancel' | 'absent'; level: number; index: number }
  /** `bytes` of DATA of a block were handed to the channel; `isLast` ends that request. */
  | { type: 'sent'; level: number; index: number; bytes: number; isLast: boolean }
  /** Anything at all was handed to the channel. */
  | { type: 'wrote' }
  /** The driver let go of a complete block of so many bytes. */
  | { type: 'released'; bytes: number }
  /** Under a download cap: it may be our turn for credit. */
  | { type: 'turn' }
  | { type: 'tick' }

export type SessionAction =
  | { type: 'send'; message: Message }
  /** More DATA may be sent, or a request came or went: look at the writer's work again. */
  | { type: 'writable' }
  /** This DATA frame belongs to a block that we want: copy it to `offset`. */
  | { type: 'chunk'; level: number; index: number; total: number; offset: number; isLast: boolean }
  /** The block being assembled ended early: forget its bytes. */
  | { type: 'forget'; level: number; index: number }
  | { type: 'have'; have: HaveForm }
  | { type: 'requested' | 'cancelled' | 'absent'; level: number; index: number }
  | { type: 'peers'; peers: ExchangedPeer[] }
  | { type: 'suggested'; index: number }
  /** The peer said goodbye with this code. */
  | { type: 'ended'; code: number }

/** One REQUEST of ours until the peer ended it, by the last byte or by ABSENT. */
interface Asked {
  isCancelled: boolean
  bytesMax: number
  receivedBytes: number
  total: number
}

const key = (level: number, index: number): number => level * 2 ** 32 + index

/** Deepest level of inner nodes below the root that any share has. */
const LEVEL_MAX = Math.ceil(Math.log(FORMAT.blocksMax) / Math.log(FORMAT.nodeWidth))
const PEER_CREDIT_MAX = 2 ** 32

/** The rules of one session. */
export class Session {
  readonly #budget: Credit
  /** Stands for this session in the line for credit, and where. */
  readonly #waiter: Waiter
  #order: number | null = null
  readonly #haveRate: TokenBucket
  readonly #controlRate: TokenBucket
  /** Ours, oldest first for each block; only the first of a list can receive bytes. */
  readonly #asked = new Map<number, Asked[]>()
  #cancelledCount = 0
  #wantedCount = 0
  /** Bytes that the peer may still owe us for what we asked. */
  #outstandingBytes = 0
  /** The block whose bytes are coming in. */
  #current: number | null = null
  #windowBytes: number = WIRE.creditBytesStart
  #windowUsedBytes = 0
  #grantedBytes = 0
  #heldBytes = 0
  #chargedBytes = 0
  #isCounted = false
  /** Theirs, waiting or being served. */
  readonly #queued = new Set<number>()
  #peerCredit = 0
  #shape: SessionShape | null = null
  #saidShape: boolean
  #peerKnowsShape: boolean
  #readMs: number
  #wroteMs: number
  readonly #pexRate: TokenBucket

  /** `waiter` is woken when it may be this session's turn for credit: feed `turn` then. */
  constructor(init: { now: number; budget: Credit; saidShape: boolean; peerKnowsShape: boolean; waiter?: Waiter }) {
    this.#budget = init.budget
    this.#waiter = init.waiter ?? { wake: () => {} }
    this.#saidShape = init.saidShape
    this.#peerKnowsShape = init.peerKnowsShape
    this.#readMs = init.now
    this.#wroteMs = init.now
    this.#haveRate = new TokenBucket(WIRE.haveFramesPerSecondMax, init.now, WIRE.haveFramesAtOnceMax)
    // Twice as often as is due: two that were sent on time may arrive closer together.
    this.#pexRate = new TokenBucket(2_000 / WIRE.pexIntervalMs, init.now, WIRE.pexAtOnceMax)
    this.#controlRate = new TokenBucket(WIRE.controlFramesPerSecondMax, init.now)
  }

  /** Whether positions may be told to the peer. */
  get peerKnowsShape(): boolean {
    return this.#peerKnowsShape
  }

  get shape(): SessionShape | null {
    return this.#shape
  }

  /** Whether the peer owes anything that it was asked for. */
  get isAsked(): boolean {
    return this.#outstandingBytes > 0
  }

  /** DATA bytes that may arrive from now on: the bound on what a driver must buffer, beside small frames. */
  get exposureBytes(): number {
    return Math.min(this.#grantedBytes, this.#outstandingBytes)
  }

  /** Bytes of the next DATA frame for a request: 0 when it was cancelled or credit is used up. */
  sendableBytes(level: number, index: number, leftBytes: number): number {
    return this.#queued.has(key(level, index)) ? Math.min(leftBytes, this.#peerCredit, WIRE.dataBytesSent) : 0
  }

  isQueued(level: number, index: number): boolean {
    return this.#queued.has(key(level, index))
  }

  /** The root node is known now; from here on ranges are checked. Returns the news for the peer, if it was not said before. */
  learnShape(shape: SessionShape): SessionAction[] {
    this.#shape = shape
    if (this.#saidShape) return []
    this.#saidShape = true
    return [{ type: 'send', message: { type: 'have', have: { kind: 'shape' } } }]
  }

  /** Feed one event; perform every returned action before the next. Throws RemoteError for the peer's faults only. */
  handle(event: SessionEvent, now: number): SessionAction[] {
    const actions: SessionAction[] = []
    switch (event.type) {
      case 'received':
        this.#readMs = now
        this.#receive(event.message, now, actions)
        break
      case 'request':
        this.#request(event.level, event.index, actions)
        break
      case 'cancel':
        this.#cancel(event.level, event.index, actions)
        break
      case 'absent':
        // Silent when the peer cancelled in the meantime: its request has ended already.
        if (this.#queued.delete(key(event.level, event.index))) actions.push({ type: 'send', message: { ...event } })
        break
      case 'sent':
        this.#peerCredit -= event.bytes
        if (event.isLast) this.#queued.delete(key(event.level, event.index))
        this.#wroteMs = now
        break
      case 'wrote':
        this.#wroteMs = now
        break
      case 'released':
        this.#heldBytes -= event.bytes
        break
      case 'tick':
        this.#tick(now, actions)
        break
      case 'turn':
    }
    this.#grant(now, actions)
    return actions
  }

  /** When `tick` has something to do: a keepalive, or giving up. */
  nextTimeout(): number {
    return Math.min(this.#wroteMs + WAITS.keepaliveMs, this.#readMs + WAITS.silenceMs)
  }

  /** Gives everything promised back to the budget. Call once, when the session is over and no block of it is in memory. */
  close(): void {
    this.#budget.change(-this.#chargedBytes)
    this.#chargedBytes = 0
    this.#leaveLine()
    if (this.#isCounted) this.#budget.countAsked(-1)
    this.#isCounted = false
  }

  /** Cross-checks every derived number. */
  checkInvariants(): void {
    const all = [...this.#asked.values()].flat()
    const left = all.reduce((sum, asked) => sum + (asked.total || asked.bytesMax) - asked.receivedBytes, 0)
    assert(left === this.#outstandingBytes, `outstanding ${this.#outstandingBytes}, counted ${left}`)
    assert(all.filter((asked) => asked.isCancelled).length === this.#cancelledCount, 'cancelled count')
    assert(all.length - this.#cancelledCount === this.#wantedCount, 'wanted count')
    assert(this.#wantedCount <= WIRE.requestsQueuedMax, 'requests asked')
    assert(this.#queued.size <= WIRE.requestsQueuedMax, 'requests queued')
    assert(this.#grantedBytes >= 0 && this.#heldBytes >= 0 && this.#peerCredit >= 0, 'credit below zero')
    assert(this.#chargedBytes === this.exposureBytes + this.#heldBytes, 'charge')
    assert(this.#grantedBytes <= Math.max(this.#windowBytes, WIRE.creditBytesFloor), 'granted beyond the window')
    for (const list of this.#asked.values()) {
      assert(list.length > 0 && list.slice(0, -1).every((asked) => asked.isCancelled), 'two wanted requests for one block')
    }
  }

  #receive(message: Message, now: number, actions: SessionAction[]): void {
    if (message.type === 'data') {
      this.#receiveData(message, actions)
      return
    }
    if (!this.#controlRate.take(now))
      throw new RemoteError('FLOOD', `more than ${WIRE.controlFramesPerSecondMax} small frames a second`, { limit: 'controlFrames' })
    switch (message.type) {
      case 'hello':
      case 'welcome':
        throw new RemoteError('DUPLICATE_HELLO', `${message.type} in a session`)
      case 'have':
        this.#receiveHave(message.have, now, actions)
        return
      case 'request':
        this.#receiveRequest(message.level, message.index, actions)
        return
      case 'cancel':
        // Too late when the block is sent already: then the request has ended by its last byte.
        if (!this.#queued.delete(key(message.level, message.index))) return
        actions.push({ type: 'cancelled', level: message.level, index: message.index })
        actions.push({ type: 'send', message: { type: 'absent', level: message.level, index: message.index } })
        return
      case 'absent':
        this.#receiveAbsent(message.level, message.index, actions)
        return
      case 'credit':
        this.#peerCredit += message.bytes
        if (this.#peerCredit > PEER_CREDIT_MAX) throw new RemoteError('OUT_OF_RANGE', `credit of ${this.#peerCredit} bytes`)
        actions.push({ type: 'writable' })
        return
      case 'pex':
        if (!this.#pexRate.take(now)) throw new RemoteError('FLOOD', 'peer exchange too often', { limit: 'exchangeInterval' })
        actions.push({ type: 'peers', peers: message.peers })
        return
      case 'suggest':
        this.#receiveSuggest(message.index, actions)
        return
      case 'goodbye':
        actions.push({ type: 'ended', code: message.code })
        return
      case 'keepalive':
      case 'skipped':
    }
  }

  #receiveHave(have: HaveForm, now: number, actions: SessionAction[]): void {
    if (!this.#haveRate.take(now))
      throw new RemoteError('FLOOD', `more than ${WIRE.haveFramesPerSecondMax} have frames a second`, { limit: 'haveFrames' })
    if (have.kind === 'bitmap' || have.kind === 'ranges') {
      if (!this.#saidShape || this.#shape === null)
        throw new RemoteError('UNSOLICITED', 'positions, though we never said that we know the shape')
      checkHave(have, this.#shape.blockCount)
    }
    this.#peerKnowsShape = true
    actions.push({ type: 'have', have }, { type: 'writable' })
  }

  #receiveSuggest(index: number, actions: SessionAction[]): void {
    if (!this.#saidShape || this.#shape === null)
      throw new RemoteError('UNSOLICITED', 'a suggestion, though we never said that we know the shape')
    if (!isInTree(0, index, this.#shape)) throw new RemoteError('OUT_OF_RANGE', `suggests block ${index}`)
    actions.push({ type: 'suggested', index })
  }

  #receiveRequest(level: number, index: number, actions: SessionAction[]): void {
    if (!isInTree(level, index, this.#shape)) throw new RemoteError('OUT_OF_RANGE', `request for block ${index} of level ${level}`)
    if (this.#queued.has(key(level, index))) throw new RemoteError('FLOOD', `second request for block ${index} of level ${level}`)
    if (this.#queued.size >= WIRE.requestsQueuedMax)
      throw new RemoteError('FLOOD', `more than ${WIRE.requestsQueuedMax} requests`, { limit: 'requestsQueued' })
    this.#queued.add(key(level, index))
    actions.push({ type: 'requested', level, index })
  }

  #receiveData(data: Extract<Message, { type: 'data' }>, actions: SessionAction[]): void {
    const { level, index, total, offset } = data
    const length = data.bytes.byteLength
    const id = key(level, index)
    const asked = this.#asked.get(id)?.[0]
    if (asked === undefined) throw new RemoteError('UNSOLICITED', `block ${index} of level ${level} was not asked for`)
    if (this.#current !== null && this.#current !== id) throw new RemoteError('UNSOLICITED', 'two blocks at a time')
    if (offset !== asked.receivedBytes) throw new RemoteError('BAD_FRAME', `data at ${offset}, expected ${asked.receivedBytes}`)
    if (offset === 0) this.#startBlock(level, index, total, asked)
    else if (total !== asked.total) throw new RemoteError('BAD_FRAME', `block of ${asked.total} bytes became one of ${total}`)
    this.#useCredit(length)
    asked.receivedBytes += length
    this.#outstandingBytes -= length
    const isLast = asked.receivedBytes === total
    this.#current = isLast ? null : id
    if (!asked.isCancelled) {
      if (isLast) this.#heldBytes += total // the driver gives it back with `released`
      actions.push({ type: 'chunk', level, index, total, offset, isLast })
    }
    if (isLast) this.#endAsked(id)
  }

  #startBlock(level: number, index: number, total: number, asked: Asked): void {
    const expected = this.#shape?.expectedBytes(level, index) ?? null
    if (expected === null ? total > asked.bytesMax : total !== expected) {
      throw new RemoteError('BAD_BLOCK', `block ${index} of level ${level} with ${total} bytes, limit ${expected ?? asked.bytesMax}`)
    }
    asked.total = total
    this.#outstandingBytes -= asked.bytesMax - total
  }

  #useCredit(length: number): void {
    this.#grantedBytes -= length
    if (this.#grantedBytes < 0) throw new RemoteError('CREDIT_EXCEEDED', `${-this.#grantedBytes} bytes beyond credit`, { limit: 'credit' })
    this.#windowUsedBytes += length
    if (this.#windowUsedBytes < this.#windowBytes) return
    this.#windowUsedBytes = 0
    this.#windowBytes = Math.min(this.#windowBytes * 2, WIRE.creditBytesPerPeer)
  }

  #receiveAbsent(level: number, index: number, actions: SessionAction[]): void {
    const id = key(level, index)
    const asked = this.#asked.get(id)?.[0]
    if (asked === undefined) throw new RemoteError('UNSOLICITED', `absent block ${index} of level ${level} was not asked for`)
    if (this.#current === id) this.#current = null
    if (!asked.isCancelled) {
      if (asked.receivedBytes > 0) actions.push({ type: 'forget', level, index })
      actions.push({ type: 'absent', level, index })
    }
    this.#endAsked(id)
  }

  #request(level: number, index: number, actions: SessionAction[]): void {
    assert(isInTree(level, index, this.#shape), `request for block ${index} of level ${level}`)
    assert(this.#wantedCount < WIRE.requestsQueuedMax, 'too many requests')
    const id = key(level, index)
    const list = this.#asked.get(id) ?? []
    assert(
      list.every((asked) => asked.isCancelled),
      `block ${index} of level ${level} is asked already`,
    )
    const bytesMax = this.#shape?.expectedBytes(level, index) ?? (level === 0 ? FORMAT.blockBytes : FORMAT.nodeBytesMax)
    list.push({ isCancelled: false, bytesMax, receivedBytes: 0, total: 0 })
    this.#asked.set(id, list)
    this.#wantedCount++
    this.#outstandingBytes += bytesMax
    actions.push({ type: 'send', message: { type: 'request', level, index } })
  }

  // The request stays until the peer ended it: DATA that was on its way, then ABSENT unless the block was complete.
  #cancel(level: number, index: number, actions: SessionAction[]): void {
    const asked = this.#asked.get(key(level, index))?.at(-1)
    if (asked === undefined || asked.isCancelled) return
    asked.isCancelled = true
    this.#wantedCount--
    this.#cancelledCount++
    if (asked.receivedBytes > 0) actions.push({ type: 'forget', level, index })
    actions.push({ type: 'send', message: { type: 'cancel', level, index } })
    if (this.#cancelledCount > WIRE.cancelledMax)
      throw new RemoteError('TIMEOUT', `${this.#cancelledCount} cancelled requests left open`, { limit: 'cancelled' })
  }

  #endAsked(id: number): void {
    const list = this.#asked.get(id)
    const asked = list?.shift()
    assert(list !== undefined && asked !== undefined, 'no such request')
    if (list.length === 0) this.#asked.delete(id)
    this.#outstandingBytes -= (asked.total || asked.bytesMax) - asked.receivedBytes
    if (asked.isCancelled) this.#cancelledCount--
    else this.#wantedCount--
  }

  // Credit follows what was asked: a peer that owes us nothing can send nothing. Granted in large steps, to save frames.
  #grant(now: number, actions: SessionAction[]): void {
    const { isAsked } = this
    if (isAsked !== this.#isCounted) this.#budget.countAsked(isAsked ? 1 : -1)
    this.#isCounted = isAsked
    const grant = this.#paced(this.#due(), now)
    if (grant > 0) {
      this.#grantedBytes += grant
      actions.push({ type: 'send', message: { type: 'credit', bytes: grant } })
    }
    const charge = this.exposureBytes + this.#heldBytes
    this.#budget.change(charge - this.#chargedBytes)
    this.#chargedBytes = charge
  }

  /** Credit that should be granted now, as far as memory goes. */
  #due(): number {
    const missing = this.#outstandingBytes - this.#grantedBytes
    const room = Math.min(this.#windowBytes - this.#grantedBytes - this.#heldBytes, this.#budget.shareBytes - this.#grantedBytes)
    if (missing <= 0 || room <= 0) return 0
    const isIdle = this.#grantedBytes === 0 && this.#heldBytes === 0
    const due = Math.min(missing, room, Math.max(this.#budget.free, isIdle ? WIRE.creditBytesFloor : 0))
    const stepBytes = Math.min(this.#windowBytes / 4, this.#budget.pace?.stepBytes ?? Number.POSITIVE_INFINITY)
    return due === missing || due >= stepBytes || isIdle ? due : 0
  }

  /** As much of `due` as the download cap lets go; what is missing waits in line for its turn. */
  #paced(due: number, now: number): number {
    const pace = this.#budget.pace
    if (pace === null || due <= 0) {
      this.#leaveLine()
      return due
    }
    let granted = 0
    while (granted < due) {
      this.#order ??= pace.nextOrder()
      const bytes = pace.takeUpTo(this.#waiter, this.#order, due - granted, now)
      if (bytes === 0) break
      this.#order = null // next time behind those who wait
      granted += bytes
    }
    return granted
  }

  #leaveLine(): void {
    if (this.#order === null) return
    this.#order = null
    this.#budget.pace?.leave(this.#waiter)
  }

  #tick(now: number, actions: SessionAction[]): void {
    if (now - this.#readMs >= WAITS.silenceMs) throw new RemoteError('TIMEOUT', `no byte for ${now - this.#readMs} ms`)
    if (now - this.#wroteMs >= WAITS.keepaliveMs) {
      this.#wroteMs = now
      actions.push({ type: 'send', message: { type: 'keepalive' } })
    }
  }
}

/** Whether a block can exist in the share; without its shape, whether it can exist in any. */
function isInTree(level: number, index: number, shape: SessionShape | null): boolean {
  if (level === ROOT_LEVEL) return index === 0
  return level <= LEVEL_MAX && index < Math.ceil((shape?.blockCount ?? FORMAT.blocksMax) / FORMAT.nodeWidth ** level)
}

function checkHave(have: Extract<HaveForm, { kind: 'bitmap' | 'ranges' }>, blockCount: number): void {
  if (have.kind === 'ranges') {
    const [first, count] = have.ranges.at(-1) ?? [0, 0] // ascending, so the last one reaches furthest
    if (first + count > blockCount) throw new RemoteError('OUT_OF_RANGE', `have up to ${first + count} of ${blockCount} blocks`)
    return
  }
  const spare = have.first + have.bits.byteLength * 8 - blockCount
  if (spare >= 8 || have.first % 8 !== 0) {
    throw new RemoteError('OUT_OF_RANGE', `have page at ${have.first} of ${have.bits.byteLength} bytes, ${blockCount} blocks`)
  }
  if (spare > 0 && (have.bits.at(-1)! & ((1 << spare) - 1)) !== 0) throw new RemoteError('OUT_OF_RANGE', 'have page with spare bits set')
}
