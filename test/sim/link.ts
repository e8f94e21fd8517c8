/**
 * One session of a simulated node: the production Session and HaveOutbox, driven as node/network/peer-link.ts drives them, over a virtual
 * pipe. Blocks are a length and whether they are damaged.
 */
import { assert, REMOTE_CODES, RemoteError } from '../../protocol/errors.ts'
import { WAITS, WIRE } from '../../protocol/limits.ts'
import type { CreditBudget } from '../../protocol/wire/credit.ts'
import { HaveOutbox } from '../../protocol/wire/have-outbox.ts'
import { decodeMessage, encodeMessage, GOODBYE_NORMAL, type HaveForm, type Message } from '../../protocol/wire/messages.ts'
import { Session, type SessionAction, type SessionEvent } from '../../protocol/wire/session.ts'
import { Alarm, type Clock } from './clock.ts'
import type { Frame, Pipe } from './wire.ts'

/** Why a session ended, and what it counts. */
export interface End {
  code: string
  strike: 'none' | 'protocol' | 'fatal'
  message: string
}

/** Called by a link; what a live share and the uploads do for a real one. */
export interface LinkHandlers {
  onHave(link: Link, have: HaveForm): void
  onProgress(link: Link, level: number, index: number, bytes: number): void
  /** A whole block, unverified; `taken` gives its credit back. */
  onBlock(link: Link, level: number, index: number, isDamaged: boolean, taken: () => void): void
  onSuggest(link: Link, index: number): void
  onAbsent(link: Link, level: number, index: number): void
  onRequest(link: Link, level: number, index: number): void
  onCancel(link: Link, level: number, index: number): void
  /** Over. Comes as an event of its own, never from within another call. */
  onEnd(link: Link, end: End): void
}

/** How a block goes out: as it should, damaged, not at all, or byte by byte. */
export type ServeManner = 'good' | 'damaged' | 'never' | 'drip'

interface ServeJob {
  level: number
  index: number
  total: number
  offset: number
  manner: ServeManner
  isCancelled: boolean
  finish: (isServed: boolean) => void
}

/** Payloads are views of these: the first byte tells a damaged block. */
const GOOD = new Uint8Array(WIRE.dataBytesMax)
const DAMAGED = new Uint8Array(WIRE.dataBytesMax).fill(1)

const TICK_MS = 1_000
const DRIP_MS = 19_000

/** A key for a place in the tree. */
export const placeKey = (level: number, index: number): number => level * 2 ** 32 + index

/** A proved session. */
export class Link {
  readonly peer: string
  readonly direction: 'inbound' | 'outbound'
  /** Our requests that the wire owes us: place by key. */
  readonly asked = new Map<number, { level: number; index: number }>()
  readonly #clock: Clock
  readonly #session: Session
  readonly #handlers: LinkHandlers
  readonly #out: Pipe
  readonly #alarm: Alarm
  readonly #haveAlarm: Alarm
  readonly #control: Message[] = []
  /** Leaves to suggest once the peer knows the shape. */
  readonly #suggestions: number[] = []
  readonly #jobs: ServeJob[] = []
  #outbox: HaveOutbox | null = null
  #haveMs = Number.NEGATIVE_INFINITY
  #creditOwedBytes = 0
  #writing: ServeJob | null = null
  #writeSinceMs: number | null = null
  #isPumping = false
  #assembly: { isDamaged: boolean } | null = null
  #closing: End | null = null
  #dripMs = 0
  #takeovers = 0
  #isOver = false
  /** Counted apart from the machine: credit that came and went, DATA that went and came. */
  readonly #sums = { creditIn: 0, dataOut: 0, creditOut: 0, dataIn: 0 }

  constructor(init: {
    clock: Clock
    peer: string
    direction: 'inbound' | 'outbound'
    out: Pipe
    budget: CreditBudget
    handlers: LinkHandlers
    saidShape: boolean
    peerKnowsShape: boolean
  }) {
    const { clock, budget, saidShape, peerKnowsShape } = init
    this.peer = init.peer
    this.direction = init.direction
    this.#clock = clock
    this.#out = init.out
    this.#handlers = init.handlers
    this.#session = new Session({ now: clock.now, budget, saidShape, peerKnowsShape })
    this.#alarm = new Alarm(clock, () => this.#tick())
    this.#haveAlarm = new Alarm(clock, () => this.#pump())
    this.#setAlarm()
  }

  get peerKnowsShape(): boolean {
    return this.#session.peerKnowsShape
  }

  get isClosing(): boolean {
    return this.#closing !== null
  }

  get exposureBytes(): number {
    return this.#session.exposureBytes
  }

  request(level: number, index: number): void {
    if (this.#closing !== null) return
    this.asked.set(placeKey(level, index), { level, index })
    this.#feed({ type: 'request', level, index })
  }

  cancel(level: number, index: number): void {
    this.asked.delete(placeKey(level, index))
    this.#feed({ type: 'cancel', level, index })
  }

  absent(level: number, index: number): void {
    this.#feed({ type: 'absent', level, index })
  }

  sendHave(
    have: { kind: 'all' } | { kind: 'shape' } | { kind: 'range'; first: number; count: number } | (HaveForm & { kind: 'bitmap' }),
  ): void {
    if (this.#closing !== null) return
    if (have.kind === 'all' || have.kind === 'shape') {
      if (have.kind === 'all') this.#outbox?.clear()
      this.#perform([{ type: 'send', message: { type: 'have', have } }])
      return
    }
    assert(this.#outbox !== null, 'positions before the shape')
    if (have.kind === 'range') this.#outbox.addRange(have.first, have.count)
    else this.#outbox.addBitmap(have.first, have.bits)
    this.#pump()
  }

  suggest(index: number): void {
    if (this.#closing !== null) return
    if (this.#session.peerKnowsShape) this.#perform([{ type: 'send', message: { type: 'suggest', index } }])
    else if (this.#suggestions.length < WIRE.suggestionsWaitingMax) this.#suggestions.push(index)
  }

  learnShape(blockCount: number, expectedBytes: (level: number, index: number) => number | null): void {
    if (this.#closing !== null) return
    this.#outbox ??= new HaveOutbox(blockCount)
    this.#perform(this.#session.learnShape({ blockCount, expectedBytes }))
  }

  /** Answers a request; `finish` hears whether all of it went out, in an event of its own. */
  serve(level: number, index: number, total: number, manner: ServeManner, finish: (isServed: boolean) => void): void {
    const later = (isServed: boolean): void => this.#clock.after(0, () => finish(isServed))
    if (this.#closing !== null || !this.#session.isQueued(level, index)) {
      later(false)
      return
    }
    this.#jobs.push({ level, index, total, offset: 0, manner, isCancelled: false, finish: later })
    this.#pump()
  }

  /** Says goodbye and ends. */
  goodbye(): void {
    this.#end({ code: 'NORMAL', strike: 'none', message: 'we said goodbye' }, true)
  }

  /** Says what nobody may say in a session. */
  breakRules(): void {
    if (this.#closing !== null) return
    this.#control.push({ type: 'welcome', proof: new Uint8Array(32), knowsShape: true })
    this.#pump()
  }

  /** What the pipe brings. */
  receive(frame: Frame | null): void {
    if (this.#closing !== null) return
    if (frame === null) {
      this.#end({ code: 'LOST', strike: 'none', message: 'the peer closed the stream' }, false)
      return
    }
    let message: Message
    try {
      message = frame instanceof Uint8Array ? decodeMessage(frame) : frame
    } catch (error) {
      this.#fail(error)
      return
    }
    if (message.type === 'credit') this.#sums.creditIn += message.bytes
    if (message.type === 'data') this.#sums.dataIn += message.bytes.byteLength
    this.#feed({ type: 'received', message }, message)
  }

  /** The process died: nothing is said, nothing more is done. */
  vanish(): void {
    this.#closing ??= { code: 'LOST', strike: 'none', message: 'gone' }
    this.#finish()
  }

  /** The driver has let go of the link: jobs end, and credit goes back once the last block has been taken over. */
  #finish(): void {
    for (const job of this.#jobs.splice(0)) job.finish(false)
    this.asked.clear()
    this.#isOver = true
    this.#alarm.set(undefined)
    if (this.#takeovers === 0) this.#session.close()
  }

  #feed(event: SessionEvent, message?: Message): void {
    if (this.#closing !== null) return
    try {
      const actions = this.#session.handle(event, this.#clock.now)
      this.#session.checkInvariants()
      this.#perform(actions, message)
    } catch (error) {
      this.#fail(error)
    }
    this.#setAlarm()
  }

  #perform(actions: SessionAction[], message?: Message): void {
    for (const action of actions) {
      if (action.type === 'send') this.#send(action.message)
      else if (action.type !== 'writable') this.#tell(action, message)
    }
    this.#pump()
  }

  #send(message: Message): void {
    if (message.type === 'credit') {
      this.#sums.creditOut += message.bytes
      const ahead = this.#sums.creditOut - this.#sums.dataIn
      assert(ahead <= WIRE.creditBytesPerPeer, `${ahead} bytes of credit for ${this.peer}`)
      this.#creditOwedBytes += message.bytes
    } else this.#control.push(message)
    if (this.#control.length > WIRE.controlFramesQueuedMax) this.#fail(new RemoteError('FLOOD', 'answers that the peer does not read'))
  }

  #tell(action: Exclude<SessionAction, { type: 'send' | 'writable' }>, message: Message | undefined): void {
    const handlers = this.#handlers
    switch (action.type) {
      case 'chunk':
        assert(message?.type === 'data', 'a chunk without its frame')
        this.#takeChunk(action, message.bytes)
        return
      case 'forget':
        this.#assembly = null
        return
      case 'have':
        for (const index of this.#suggestions.splice(0)) this.suggest(index)
        handlers.onHave(this, action.have)
        return
      case 'requested':
        handlers.onRequest(this, action.level, action.index)
        return
      case 'cancelled': {
        const job = this.#jobs.find(({ level, index }) => level === action.level && index === action.index)
        if (job !== undefined) this.#cancelJob(job)
        handlers.onCancel(this, action.level, action.index)
        return
      }
      case 'absent':
        this.asked.delete(placeKey(action.level, action.index))
        handlers.onAbsent(this, action.level, action.index)
        return
      case 'suggested':
        handlers.onSuggest(this, action.index)
        return
      case 'peers':
        return
      case 'ended':
        this.#end({ code: 'NORMAL', strike: 'none', message: `the peer said goodbye with code ${action.code}` }, false)
    }
  }

  #takeChunk(chunk: Extract<SessionAction, { type: 'chunk' }>, bytes: Uint8Array): void {
    const { level, index, total } = chunk
    if (chunk.offset === 0) this.#assembly = { isDamaged: false }
    const block = this.#assembly
    assert(block !== null, 'a chunk without its beginning')
    assert(this.asked.has(placeKey(level, index)), `bytes of block ${index} that nobody asked for`)
    if (bytes[0] !== 0) block.isDamaged = true
    this.#handlers.onProgress(this, level, index, bytes.byteLength)
    if (!chunk.isLast) return
    this.#assembly = null
    this.asked.delete(placeKey(level, index))
    this.#takeovers++
    this.#handlers.onBlock(this, level, index, block.isDamaged, () => {
      this.#takeovers--
      this.#feed({ type: 'released', bytes: total })
      if (this.#isOver && this.#takeovers === 0) this.#session.close()
    })
  }

  #cancelJob(job: ServeJob): void {
    const at = this.#jobs.indexOf(job)
    if (at < 0 || job.isCancelled) return
    this.#jobs.splice(at, 1)
    job.isCancelled = true
    if (this.#writing !== job) job.finish(false)
  }

  /** The write loop: the next frames, unless the pipe has not taken the last ones yet. */
  #pump(): void {
    if (this.#writeSinceMs !== null || this.#isPumping || this.#closing !== null) return
    this.#isPumping = true // taking DATA feeds the machine, which comes back here
    const frames = this.#nextFrames()
    this.#isPumping = false
    if (frames.length === 0) return
    const job = this.#writing
    this.#writeSinceMs = this.#clock.now
    this.#out.write(frames, () => {
      this.#writeSinceMs = null
      this.#writing = null
      if (job?.isCancelled === true) job.finish(false)
      if (job !== null && !job.isCancelled && job.offset === job.total) {
        this.#jobs.shift()
        job.finish(true)
      }
      if (job === null) this.#feed({ type: 'wrote' })
      this.#pump()
    })
    this.#setAlarm()
  }

  #nextFrames(): Frame[] {
    if (this.#creditOwedBytes > 0) {
      const bytes = this.#creditOwedBytes
      this.#creditOwedBytes = 0
      return [encodeMessage({ type: 'credit', bytes })]
    }
    const message = this.#control.shift()
    if (message !== undefined) return [encodeMessage(message)]
    const have = this.#nextHave()
    return have === null ? this.#nextData() : [encodeMessage({ type: 'have', have })]
  }

  #nextHave(): HaveForm | null {
    if (this.#outbox === null || this.#outbox.isEmpty || !this.#session.peerKnowsShape) return null
    const dueMs = this.#haveMs + WIRE.haveIntervalMs
    if (dueMs > this.#clock.now) {
      this.#haveAlarm.set(dueMs)
      return null
    }
    this.#haveMs = this.#clock.now
    return this.#outbox.next()
  }

  #nextData(): Frame[] {
    const job = this.#jobs[0]
    if (job === undefined || job.manner === 'never') return []
    const { level, index, total } = job
    const isDrip = job.manner === 'drip'
    if (isDrip && this.#dripMs > this.#clock.now) {
      this.#haveAlarm.set(this.#dripMs)
      return []
    }
    this.#dripMs = this.#clock.now + DRIP_MS
    const frames: Frame[] = []
    while (frames.length < WIRE.dataFramesAtOnceMax && job.offset < total) {
      const offset = job.offset
      const sendable = this.#session.sendableBytes(level, index, total - offset)
      const bytes = isDrip ? Math.min(sendable, 1 - frames.length) : sendable
      if (bytes <= 0) break
      job.offset += bytes
      this.#writing = job
      this.#sums.dataOut += bytes
      assert(this.#sums.dataOut <= this.#sums.creditIn, `${this.#sums.dataOut} bytes sent on credit of ${this.#sums.creditIn}`)
      this.#feed({ type: 'sent', level, index, bytes, isLast: job.offset === total })
      frames.push({ type: 'data', level, index, total, offset, bytes: (job.manner === 'damaged' ? DAMAGED : GOOD).subarray(0, bytes) })
    }
    return frames
  }

  #tick(): void {
    this.#feed({ type: 'tick' })
    if (this.#writeSinceMs !== null && this.#clock.now - this.#writeSinceMs >= WAITS.drainMs) {
      this.#end({ code: 'TIMEOUT', strike: 'none', message: 'nothing could be written' }, false)
    }
  }

  /** Timers of a real link look once a second. */
  #setAlarm(): void {
    if (this.#closing !== null) return
    const drainMs = this.#writeSinceMs === null ? Number.POSITIVE_INFINITY : this.#writeSinceMs + WAITS.drainMs
    const dueMs = Math.min(this.#session.nextTimeout(), drainMs)
    this.#alarm.set(Math.max(Math.ceil(dueMs / TICK_MS) * TICK_MS, this.#clock.now + 1))
  }

  #fail(error: unknown): void {
    if (!(error instanceof RemoteError)) throw error
    this.#end({ code: error.code, strike: REMOTE_CODES[error.code].strike, message: error.message }, true)
  }

  #end(end: End, saysGoodbye: boolean): void {
    if (this.#closing !== null) return
    this.#closing = end
    this.#alarm.set(undefined)
    if (saysGoodbye) this.#out.write([encodeMessage({ type: 'goodbye', code: GOODBYE_NORMAL })], () => {}, true)
    this.#clock.after(0, () => {
      if (!this.#isOver) this.#finish()
      this.#handlers.onEnd(this, end)
    })
  }
}
