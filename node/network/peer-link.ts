/**
 * DRIVER of a session: one peer and one share over one channel of frames.
 *
 * Reads frames, feeds the machine (protocol/wire/session.ts), performs what it asks, assembles blocks, writes. It decides nothing about
 * which block to ask or whom to serve: that comes from the handlers' owner. Blocks are handed over unverified.
 * Two loops and one coarse timer for each session; reading goes on while a block is taken over, bounded by credit.
 */
import { assert, REMOTE_CODES, type RemoteCode, RemoteError } from '../../protocol/errors.ts'
import { type Hit, NO_HIT } from '../../protocol/limit-table.ts'
import { WAITS, WIRE } from '../../protocol/limits.ts'
import type { Primitives } from '../../protocol/primitives.ts'
import type { Credit } from '../../protocol/wire/credit.ts'
import { HaveOutbox } from '../../protocol/wire/have-outbox.ts'
import { decodeMessage, type ExchangedPeer, encodeMessage, GOODBYE_NORMAL, type Message } from '../../protocol/wire/messages.ts'
import { Session, type SessionAction, type SessionEvent } from '../../protocol/wire/session.ts'
import { FAREWELL_MS, type FrameChannel, writeGoodbye } from './frame-channel.ts'
import { answerHello, sayHello } from './peer-handshake.ts'
import type { LinkLimiter } from './rate-limiter.ts'
import type { Remote } from './remote.ts'
import { type ServeJob, ServeJobs } from './serve-jobs.ts'

/** What one side tells the other that it holds. `first` of a bitmap is a multiple of 8, its bits run from the highest down. */
export type Have =
  | { kind: 'all' }
  | { kind: 'shape' }
  | { kind: 'range'; first: number; count: number }
  | { kind: 'bitmap'; first: number; bits: Uint8Array }

/** Why a session ended, and what it counts for the peer. */
export interface CloseReason {
  code: RemoteCode | 'NORMAL' | 'LOST'
  strike: 'none' | 'protocol' | 'fatal'
  message: string
}

/** Called by a running link, one at a time. One that throws ends the session: RemoteError as the peer's fault, else run() rejects with it. */
export interface PeerLinkHandlers {
  onHave(link: PeerLink, have: Have): void
  /** DATA bytes of a block that we want came in. */
  onProgress(link: PeerLink, level: number, index: number, bytes: number): void
  /** A complete block, unverified, taken over by the handler. Its credit is paid back when the promise settles. */
  onBlock(link: PeerLink, level: number, index: number, bytes: Uint8Array): Promise<void>
  /** The peer seeds alone and would rather be asked for this leaf than for another. */
  onSuggest(link: PeerLink, index: number): void
  onAbsent(link: PeerLink, level: number, index: number): void
  /** To be answered by link.serve or link.absent. */
  onRequest(link: PeerLink, level: number, index: number): void
  onCancel(link: PeerLink, level: number, index: number): void
  onPeers(link: PeerLink, peers: ExchangedPeer[]): void
}

/** What both ways of opening a link need. */
export interface LinkInit {
  frames: FrameChannel
  remote: Remote
  /** Our peer-id multihash. */
  self: Uint8Array
  primitives: Primitives
  /** Shared by all links of the process. */
  budget: Credit
  /** Caps and counts what all links of the process send and receive. */
  limiter?: LinkLimiter
  /** Called when the peer runs into a limit. */
  hit?: Hit
  /** Ask the peer to tell nobody of us. */
  isDiscreet?: boolean
  /** Memory for a block that comes in: an array of exactly that size that covers all of its memory. */
  allocate?: (sizeBytes: number) => Uint8Array
}

const TICK_MS = 1_000

/** A proved session with one peer about one share. Use: connect or accept, learnShape if it is known, run. */
export class PeerLink {
  readonly remote: Remote
  /** It asked us to tell nobody of it. */
  readonly peerIsDiscreet: boolean
  /** `verifiedBlocks` is counted by whoever verifies them. */
  readonly stats: { bytesIn: number; bytesOut: number; openedMs: number; verifiedBlocks: number }
  readonly #frames: FrameChannel
  readonly #allocate: (sizeBytes: number) => Uint8Array
  readonly #session: Session
  #handlers: PeerLinkHandlers | null = null
  #outbox: HaveOutbox | null = null
  /** Leaves to suggest once the peer knows the shape. */
  #suggestions: number[] = []
  #haveMs = Number.NEGATIVE_INFINITY
  #haveTimer: NodeJS.Timeout | null = null
  readonly #control: Message[] = []
  #creditOwedBytes = 0
  readonly #limiter: LinkLimiter | null
  readonly #creditTurn = { wake: () => this.#feed({ type: 'turn' }) }
  readonly #hit: Hit
  readonly #jobs: ServeJobs
  #writeSinceMs: number | null = null
  #wake: () => void = () => {}
  #assembly: { level: number; index: number; bytes: Uint8Array } | null = null
  readonly #takeovers = new Set<Promise<void>>()
  readonly #stop = new AbortController()
  #closing: CloseReason | null = null
  #farewell: RemoteCode | number | null = null
  readonly #lastWords: Message[] = []
  #farewellTimer: NodeJS.Timeout | null = null
  #bug: { error: unknown } | null = null
  readonly #ended = Promise.withResolvers<void>()

  private constructor(init: LinkInit, said: { saidShape: boolean; peerKnowsShape: boolean; peerIsDiscreet: boolean }) {
    const now = performance.now()
    const { saidShape, peerKnowsShape } = said
    this.peerIsDiscreet = said.peerIsDiscreet
    this.remote = init.remote
    this.stats = { bytesIn: 0, bytesOut: 0, openedMs: now, verifiedBlocks: 0 }
    this.#frames = init.frames
    this.#allocate = init.allocate ?? ((sizeBytes) => new Uint8Array(sizeBytes))
    this.#limiter = init.limiter ?? null
    this.#hit = init.hit ?? NO_HIT
    const session = new Session({ now, budget: init.budget, saidShape, peerKnowsShape, waiter: this.#creditTurn })
    this.#session = session
    this.#jobs = new ServeJobs(this.#limiter, {
      sendableBytes: (level, index, leftBytes) => session.sendableBytes(level, index, leftBytes),
      sent: (level, index, bytes, isLast) => this.#feed({ type: 'sent', level, index, bytes, isLast }),
    })
    init.frames.setBufferLimit?.(() => session.exposureBytes + WIRE.unreadSlackBytes)
  }

  /** Outbound: says HELLO and waits for WELCOME. Throws NetworkError UNKNOWN_SHARE, REFUSED, TIMEOUT or CLOSED; the channel is ended then. */
  static async connect(
    init: LinkInit & { rootMultihash: Uint8Array; rendezvous: Uint8Array; knowsShape: boolean; signal: AbortSignal },
  ): Promise<PeerLink> {
    const said = await sayHello(init, init.signal)
    return new PeerLink(init, { saidShape: init.knowsShape, ...said })
  }

  /** Inbound: reads HELLO and answers. Null when it was refused; RemoteError when the peer broke the protocol. The channel is ended then. */
  static async accept<T extends { rootMultihash: Uint8Array; knowsShape: boolean }>(
    init: LinkInit & { lookup: (rendezvous: Uint8Array) => T | null; signal: AbortSignal },
  ): Promise<{ link: PeerLink; share: T } | null> {
    const answered = await answerHello(init, init.signal)
    if (answered === null) return null
    return { link: new PeerLink(init, answered), share: answered.share } // taken before the answer went out: what the peer was told
  }

  /** Whether the peer holds the root node, so that it can be asked for it and told positions. */
  get peerKnowsShape(): boolean {
    return this.#session.peerKnowsShape
  }

  /** For how long the peer has let lie what it asked for: it gives no credit, or reads nothing. 0 while it is not its turn. */
  get stalledMs(): number {
    return this.#jobs.stalledMs(this.#writeSinceMs !== null)
  }

  /** Whether the peer owes anything that it was asked for. */
  get isAsked(): boolean {
    return this.#session.isAsked
  }

  /** Whether the session is over, or about to be. */
  get isClosing(): boolean {
    return this.#closing !== null
  }

  /** Serves the session until it ends, closes the channel and says why it ended. Rejects only when a handler failed. Aborting the signal
   *  ends the session in good order. Where the hello said that we know the shape, learnShape comes before this. */
  async run(handlers: PeerLinkHandlers, signal: AbortSignal): Promise<CloseReason> {
    assert(this.#handlers === null, 'a link runs once')
    this.#handlers = handlers
    const onAbort = (): void => this.#end({ code: 'NORMAL', strike: 'none', message: 'stopped' }, GOODBYE_NORMAL)
    const timer = setInterval(() => this.#tick(), TICK_MS)
    try {
      signal.addEventListener('abort', onAbort, { once: true })
      if (signal.aborted) onAbort()
      await Promise.all([this.#readLoop(), this.#writeLoop()])
    } finally {
      signal.removeEventListener('abort', onAbort)
      clearInterval(timer)
      clearTimeout(this.#haveTimer ?? undefined)
      clearTimeout(this.#farewellTimer ?? undefined)
      this.#frames.abort(new Error('session over')) // a stream that both sides finished takes no notice
      this.#jobs.clear()
      await Promise.allSettled(this.#takeovers)
      this.#session.close()
      this.#limiter?.creditChanged()
      this.#ended.resolve()
    }
    if (this.#bug !== null) throw this.#bug.error
    assert(this.#closing !== null, 'a session ended without a reason')
    return this.#closing
  }

  /** Asks for a block. It ends by onBlock or onAbsent, unless cancelled. At most WIRE.requestsQueuedMax at a time. */
  request(level: number, index: number): void {
    this.#feed({ type: 'request', level, index })
  }

  cancel(level: number, index: number): void {
    this.#feed({ type: 'cancel', level, index })
  }

  /** Answers a request: not here. */
  absent(level: number, index: number): void {
    this.#feed({ type: 'absent', level, index })
  }

  /** Tells the peer what we hold. Positions wait until it knows the shape, merge while they wait, and need learnShape first.
   *  What is not urgent waits until something else goes out. */
  sendHave(have: Have, isUrgent = true): void {
    if (this.#closing !== null) return
    if (have.kind === 'all' || have.kind === 'shape') {
      if (have.kind === 'all') this.#outbox?.clear()
      this.#perform([{ type: 'send', message: { type: 'have', have } }])
      return
    }
    assert(this.#outbox !== null, 'positions before the shape')
    if (have.kind === 'range') this.#outbox.addRange(have.first, have.count)
    else this.#outbox.addBitmap(have.first, have.bits)
    if (isUrgent) this.#wake()
  }

  /** The root node is known: from here on ranges and lengths are checked. Tells the peer, if it was not told before. */
  learnShape(blockCount: number, expectedBytes: (level: number, index: number) => number | null): void {
    if (this.#closing !== null) return
    this.#outbox ??= new HaveOutbox(blockCount)
    this.#perform(this.#session.learnShape({ blockCount, expectedBytes }))
  }

  /** Answers a request with its block, borrowed until the promise resolves: true when all of it was written, false when the peer cancelled,
   *  the signal fired or the session ended. Blocks go out one after another, as far as the peer's credit reaches. */
  async serve(level: number, index: number, block: Uint8Array, signal: AbortSignal): Promise<boolean> {
    assert(block.byteLength > 0, 'an empty block')
    if (this.#closing !== null || signal.aborted || !this.#session.isQueued(level, index)) return false
    const job = this.#jobs.add(level, index, block, () => this.#wake())
    const onAbort = (): void => {
      this.#feed({ type: 'absent', level, index })
      this.#cancelJob(job)
    }
    this.#wake()
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      return await job.done
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** Tells the peer that it had better ask for this leaf than for another; waits until it knows the shape. */
  suggest(index: number): void {
    if (this.#closing !== null) return
    if (this.#session.peerKnowsShape) this.#perform([{ type: 'send', message: { type: 'suggest', index } }])
    else if (this.#suggestions.length < WIRE.suggestionsWaitingMax) this.#suggestions.push(index)
  }

  /** Tells the peer of others in this swarm; at most once in WIRE.pexIntervalMs. */
  sendPeers(peers: ExchangedPeer[]): void {
    if (this.#closing === null) this.#perform([{ type: 'send', message: { type: 'pex', peers } }])
  }

  /** Ends the session with this code as the last word, after telling the peer of `others`. Resolves when run() is through. */
  async goodbye(code: number, others: ExchangedPeer[] = []): Promise<void> {
    if (this.#closing === null && others.length > 0) this.#lastWords.push({ type: 'pex', peers: others })
    this.#end({ code: 'NORMAL', strike: 'none', message: `we said goodbye with code ${code}` }, code)
    if (this.#handlers !== null) await this.#ended.promise
  }

  async #readLoop(): Promise<void> {
    let parsedBytes = 0
    for (;;) {
      let frame: Uint8Array | null
      try {
        frame = await this.#frames.read(this.#stop.signal)
      } catch (error) {
        this.#lose(error)
        return
      }
      if (frame === null) {
        this.#end({ code: 'LOST', strike: 'none', message: 'the peer closed the stream' }, null)
        return
      }
      this.stats.bytesIn += frame.byteLength
      if (this.#closing === null) this.#receive(frame)
      if (this.#closing !== null && this.#closing.code !== 'NORMAL') return
      parsedBytes += Math.max(frame.byteLength, 1024) // a small frame costs about as much as reading so many bytes
      if (parsedBytes < WIRE.parseBytesPerTick) continue
      parsedBytes = 0
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  #receive(frame: Uint8Array): void {
    let message: Message
    try {
      message = decodeMessage(frame)
    } catch (error) {
      this.#fail(error)
      return
    }
    this.#limiter?.countReceived(frame.byteLength, message.type === 'data' ? message.bytes.byteLength : 0)
    this.#feed({ type: 'received', message }, message)
  }

  async #writeLoop(): Promise<void> {
    try {
      while (this.#closing === null) {
        const frames = this.#nextFrames(performance.now())
        if (frames.length === 0) {
          const { promise, resolve } = Promise.withResolvers<void>()
          this.#wake = resolve
          await promise
          continue
        }
        await this.#write(frames)
      }
      if (this.#farewell === null) return
      for (const message of this.#lastWords) await this.#frames.write([encodeMessage(message)], this.#stop.signal)
      await writeGoodbye(this.#frames, this.#farewell)
      // The read loop goes on until the peer has closed its side too, so that the last word is not lost; not for long.
      await this.#frames.close(AbortSignal.timeout(FAREWELL_MS))
    } catch (error) {
      this.#lose(error)
    }
  }

  async #write(frames: Uint8Array[][]): Promise<void> {
    const isData = this.#jobs.isWriting
    this.#jobs.standAside()
    this.#writeSinceMs = performance.now()
    let isWritten = false
    try {
      if (this.#frames.writeMany !== undefined) await this.#frames.writeMany(frames, this.#stop.signal)
      else for (const frame of frames) await this.#frames.write(frame, this.#stop.signal)
      isWritten = true
    } finally {
      this.#writeSinceMs = null
      this.#jobs.released(isWritten)
    }
    for (const frame of frames) {
      const bytes = frame.reduce((sum, part) => sum + part.byteLength, 0)
      this.stats.bytesOut += bytes
      if (isData) continue
      this.#limiter?.countSent(bytes)
      this.#feed({ type: 'wrote' })
    }
  }

  /** Small frames first, so that a CREDIT or CANCEL waits for a few DATA frames at most. */
  #nextFrames(now: number): Uint8Array[][] {
    const small = this.#control.splice(0, WIRE.smallFramesAtOnceMax).map((message) => [encodeMessage(message)])
    if (this.#creditOwedBytes > 0) small.unshift([encodeMessage({ type: 'credit', bytes: this.#creditOwedBytes })])
    this.#creditOwedBytes = 0
    const have = this.#nextHave(now)
    if (have !== null) small.push([have])
    return small.length > 0 ? small : this.#jobs.nextFrames()
  }

  #nextHave(now: number): Uint8Array | null {
    if (this.#outbox === null || this.#outbox.isEmpty || !this.#session.peerKnowsShape) return null
    const waitMs = this.#haveMs + WIRE.haveIntervalMs - now
    if (waitMs > 0) {
      this.#haveTimer ??= setTimeout(() => {
        this.#haveTimer = null
        this.#wake()
      }, waitMs)
      return null
    }
    this.#haveMs = now
    const have = this.#outbox.next()
    return have === null ? null : encodeMessage({ type: 'have', have })
  }

  /** The one way into the machine: nothing that goes wrong inside leaves through a caller. */
  #feed(event: SessionEvent, message?: Message): void {
    if (this.#closing !== null) return
    try {
      this.#perform(this.#session.handle(event, performance.now()), message)
    } catch (error) {
      this.#fail(error)
    }
    this.#limiter?.creditChanged()
  }

  #perform(actions: SessionAction[], message?: Message): void {
    for (const action of actions) {
      if (action.type === 'send') this.#send(action.message)
      else if (action.type === 'writable') this.#wake()
      else this.#tell(action, message)
    }
  }

  #send(message: Message): void {
    if (message.type === 'credit') this.#creditOwedBytes += message.bytes
    else this.#control.push(message)
    this.#wake()
    if (this.#control.length <= WIRE.controlFramesQueuedMax) return
    this.#fail(new RemoteError('FLOOD', `${this.#control.length} answers that the peer does not read`, { limit: 'controlFramesQueued' }))
  }

  #tell(action: Exclude<SessionAction, { type: 'send' | 'writable' }>, message: Message | undefined): void {
    const handlers = this.#handlers
    assert(handlers !== null, 'news before run')
    switch (action.type) {
      case 'chunk':
        assert(message?.type === 'data', 'a chunk without its frame')
        this.#takeChunk(handlers, action, message.bytes)
        return
      case 'forget':
        this.#assembly = null
        return
      case 'have':
        for (const index of this.#suggestions.splice(0)) this.suggest(index)
        if (action.have.kind !== 'ranges') handlers.onHave(this, action.have)
        else for (const [first, count] of action.have.ranges) handlers.onHave(this, { kind: 'range', first, count })
        return
      case 'requested':
        handlers.onRequest(this, action.level, action.index)
        return
      case 'cancelled': {
        const job = this.#jobs.find(action.level, action.index)
        if (job !== undefined) this.#cancelJob(job)
        handlers.onCancel(this, action.level, action.index)
        return
      }
      case 'absent':
        handlers.onAbsent(this, action.level, action.index)
        return
      case 'suggested':
        handlers.onSuggest(this, action.index)
        return
      case 'peers':
        handlers.onPeers(this, action.peers)
        return
      case 'ended':
        this.#end({ code: 'NORMAL', strike: 'none', message: `the peer said goodbye with code ${action.code}` }, null)
    }
  }

  /** The only copy on the way in: from the frame into the block. Its length was checked before this allocates. */
  #takeChunk(handlers: PeerLinkHandlers, chunk: Extract<SessionAction, { type: 'chunk' }>, bytes: Uint8Array): void {
    const { level, index } = chunk
    if (chunk.offset === 0) this.#assembly = { level, index, bytes: this.#allocate(chunk.total) }
    const block = this.#assembly?.bytes
    assert(block !== undefined, 'a chunk without its beginning')
    block.set(bytes, chunk.offset)
    handlers.onProgress(this, level, index, bytes.byteLength)
    if (!chunk.isLast) return
    this.#assembly = null
    const takeover = handlers
      .onBlock(this, level, index, block)
      .then(
        () => this.#feed({ type: 'released', bytes: chunk.total }),
        (error: unknown) => this.#fail(error),
      )
      .finally(() => this.#takeovers.delete(takeover))
    this.#takeovers.add(takeover)
  }

  #cancelJob(job: ServeJob): void {
    this.#jobs.cancel(job)
    this.#wake()
  }

  #tick(): void {
    this.#feed({ type: 'tick' })
    if (this.#writeSinceMs === null || performance.now() - this.#writeSinceMs < WAITS.drainMs) return
    this.#end({ code: 'TIMEOUT', strike: 'none', message: `nothing could be written for ${WAITS.drainMs} ms` }, null)
  }

  /** The channel failed: with the peer's fault when the channel says so, else it is just lost. */
  #lose(error: unknown): void {
    if (error instanceof RemoteError) this.#fail(error)
    else this.#end({ code: 'LOST', strike: 'none', message: error instanceof Error ? error.message : String(error) }, null)
  }

  #fail(error: unknown): void {
    if (error instanceof RemoteError) {
      if (error.limit !== null && this.#closing === null) this.#hit(error.limit)
      this.#end({ code: error.code, strike: REMOTE_CODES[error.code].strike, message: error.message }, error.code)
      return
    }
    this.#bug ??= { error }
    this.#end({ code: 'NORMAL', strike: 'none', message: 'stopped by an error of ours' }, GOODBYE_NORMAL)
  }

  /** The first reason counts. With a last word both loops wind down by themselves, within FAREWELL_MS; without one they stop now. */
  #end(reason: CloseReason, farewell: RemoteCode | number | null): void {
    if (this.#closing !== null) {
      if (farewell === null) this.#stop.abort(new Error('session over'))
      return
    }
    this.#closing = reason
    this.#farewell = farewell
    this.#limiter?.credit.leave(this.#creditTurn) // nothing is asked or sent any more: others need not wait for this link
    this.#limiter?.creditChanged()
    this.#jobs.standAside()
    if (farewell === null) this.#stop.abort(new Error('session over'))
    const untilMs = (this.#writeSinceMs ?? performance.now()) + FAREWELL_MS // whoever takes nothing hears no last word
    const leftMs = Math.max(1, untilMs - performance.now())
    if (farewell !== null) this.#farewellTimer = setTimeout(() => this.#stop.abort(new Error('session over')), leftMs)
    this.#wake()
  }
}
