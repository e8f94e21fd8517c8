/**
 * A virtual connection: two directions, each in order, with latency, a rate, losses (which TCP turns into delay), cuts that heal, and resets.
 *
 * Small frames travel as their bytes; DATA as a message, since a block is the same zeros all over. A writer is told when its frames went
 * out, as by a stream with little room.
 */
import type { Message } from '../../protocol/wire/messages.ts'
import type { Clock } from './clock.ts'

export type Frame = Uint8Array | Extract<Message, { type: 'data' }>

/** What goes wrong with frames, and how fast they go when nothing does. */
export interface Quality {
  latencyMs: number
  bytesPerMs: number
  /** Probability that a handful of frames has to be sent again. */
  lossRate: number
}

/** The uplink that all connections of a node share. */
export interface Uplink {
  bytesPerMs: number
  freeMs: number
}

/** Bytes of one DATA frame beside its payload. */
const HEAD_BYTES = 18
/** Unread bytes that a cut connection still takes from its writer. */
const SOCKET_BYTES = 256 * 1024
const RESEND_MS = 200

interface Handful {
  frames: Frame[]
  bytes: number
  arrivesMs: number
  /** The last one: the writer closed its side. */
  isEnd: boolean
}

/** One direction. */
export class Pipe {
  readonly #clock: Clock
  readonly #quality: Quality
  readonly #uplink: Uplink
  readonly #random: () => number
  readonly #queue: Handful[] = []
  #isPlanned = false
  #freeMs = 0
  #arrivedMs = 0
  #isCut = false
  #waitingWriter: (() => void) | null = null
  isDead = false
  /** Takes what arrives; null is the end. */
  receive: (frame: Frame | null) => void = () => {}

  constructor(clock: Clock, quality: Quality, uplink: Uplink, random: () => number) {
    this.#clock = clock
    this.#quality = quality
    this.#uplink = uplink
    this.#random = random
  }

  /** Hands frames over; `written` follows when they are on their way. One write at a time. */
  write(frames: Frame[], written: () => void, isEnd = false): void {
    if (this.isDead) return
    const bytes = frames.reduce(
      (sum, frame) => sum + (frame instanceof Uint8Array ? frame.byteLength : frame.bytes.byteLength + HEAD_BYTES),
      0,
    )
    const startMs = Math.max(this.#clock.now, this.#freeMs, this.#uplink.freeMs)
    this.#uplink.freeMs = startMs + bytes / this.#uplink.bytesPerMs
    this.#freeMs = startMs + bytes / Math.min(this.#quality.bytesPerMs, this.#uplink.bytesPerMs)
    const resent = this.#random() < this.#quality.lossRate ? RESEND_MS * 2 ** Math.floor(this.#random() * 4) : 0
    const arrivesMs = Math.max(this.#arrivedMs, this.#freeMs + this.#quality.latencyMs + resent)
    this.#arrivedMs = arrivesMs
    this.#queue.push({ frames, bytes, arrivesMs, isEnd })
    this.#plan()
    this.#clock.at(this.#freeMs, () => {
      if (this.isDead) return
      if (this.#isCut && this.#queue.reduce((sum, handful) => sum + handful.bytes, 0) > SOCKET_BYTES) this.#waitingWriter = written
      else written()
    })
  }

  /** Nothing gets through until it heals. */
  cut(): void {
    this.#isCut = true
  }

  heal(): void {
    if (!this.#isCut) return
    this.#isCut = false
    let arrivesMs = this.#clock.now + this.#quality.latencyMs
    for (const handful of this.#queue) {
      arrivesMs = Math.max(arrivesMs, handful.arrivesMs)
      handful.arrivesMs = arrivesMs
    }
    this.#arrivedMs = Math.max(this.#arrivedMs, arrivesMs)
    const written = this.#waitingWriter
    this.#waitingWriter = null
    if (written !== null) this.#clock.at(this.#clock.now, written)
    this.#plan()
  }

  /** Forgets what is on its way; nothing is told to anybody. */
  kill(): void {
    this.isDead = true
    this.#queue.length = 0
  }

  #plan(): void {
    const head = this.#queue[0]
    if (head === undefined || this.#isPlanned || this.#isCut) return
    this.#isPlanned = true
    this.#clock.at(head.arrivesMs, () => {
      this.#isPlanned = false
      if (this.isDead || this.#isCut) return
      const first = this.#queue[0]
      if (first !== undefined && first.arrivesMs <= this.#clock.now) {
        this.#queue.shift()
        for (const frame of first.frames) {
          if (this.isDead) return
          this.receive(frame)
        }
        if (first.isEnd && !this.isDead) this.receive(null)
      }
      this.#plan()
    })
  }
}

/** Both directions between two nodes; `there` is written by the one that dialled. */
export class Connection {
  readonly there: Pipe
  readonly back: Pipe
  readonly #clock: Clock
  readonly #latencyMs: number
  readonly ends: readonly [dialler: string, listener: string]

  constructor(clock: Clock, ends: readonly [string, string], quality: Quality, uplinks: readonly [Uplink, Uplink], random: () => number) {
    this.#clock = clock
    this.#latencyMs = quality.latencyMs
    this.ends = ends
    this.there = new Pipe(clock, quality, uplinks[0], random)
    this.back = new Pipe(clock, quality, uplinks[1], random)
  }

  get isDead(): boolean {
    return this.there.isDead && this.back.isDead
  }

  cut(): void {
    this.there.cut()
    this.back.cut()
  }

  heal(): void {
    this.there.heal()
    this.back.heal()
  }

  /** Broken: what is on its way is lost, and both sides hear of it, each in its time. */
  reset(): void {
    if (this.isDead) return
    const told = [this.there.receive, this.back.receive]
    this.there.kill()
    this.back.kill()
    const [listener, dialler] = told
    this.#clock.after(0, () => dialler?.(null))
    this.#clock.after(this.#latencyMs, () => listener?.(null))
  }
}
