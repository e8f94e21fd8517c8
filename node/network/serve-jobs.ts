/**
 * The blocks that go out to one peer, one after another: what of them the channel gets next, and when each is done.
 *
 * Not the order between peers: that is the rate limiter's, where a cap is set.
 */
import { WIRE } from '../../protocol/limits.ts'
import { dataHead } from '../../protocol/wire/messages.ts'
import type { Waiter } from '../../protocol/wire/rate-queue.ts'
import type { LinkLimiter } from './rate-limiter.ts'

/** One block, borrowed until `done` resolves: true when all of it was written. */
export interface ServeJob extends Waiter {
  readonly level: number
  readonly index: number
  readonly block: Uint8Array
  readonly done: Promise<boolean>
  readonly finish: (isServed: boolean) => void
  /** Its place among all blocks that this node sends. */
  readonly order: number
  offset: number
  isCancelled: boolean
}

/** What the session says about the next frame of a block, and is told. */
export interface ServeRules {
  /** Bytes that may go now. */
  sendableBytes(level: number, index: number, leftBytes: number): number
  sent(level: number, index: number, bytes: number, isLast: boolean): void
}

/** Less credit at a time is none: a peer in good order gives a frame's worth. */
const TAKEN_BYTES_MIN = 16 * 1024

export class ServeJobs {
  readonly #limiter: LinkLimiter | null
  readonly #rules: ServeRules
  readonly #jobs: ServeJob[] = []
  /** The job whose bytes the channel is taking right now. */
  #writing: ServeJob | null = null
  /** When the peer last took a good part of a block, or was offered one. */
  #takenMs = 0

  constructor(limiter: LinkLimiter | null, rules: ServeRules) {
    this.#limiter = limiter
    this.#rules = rules
  }

  /** Whether the channel is taking bytes of a block. */
  get isWriting(): boolean {
    return this.#writing !== null
  }

  add(level: number, index: number, block: Uint8Array, wake: () => void): ServeJob {
    const { promise: done, resolve: finish } = Promise.withResolvers<boolean>()
    const order = this.#limiter?.beginBlock() ?? 0
    const job: ServeJob = { level, index, block, done, finish, order, wake, offset: 0, isCancelled: false }
    if (this.#jobs.push(job) === 1) this.#takenMs = performance.now()
    return job
  }

  find(level: number, index: number): ServeJob | undefined {
    return this.#jobs.find((job) => job.level === level && job.index === index)
  }

  /** For how long the peer has taken nothing of the first job; 0 when it is we who wait, for the cap. */
  stalledMs(isChannelBusy: boolean): number {
    const job = this.#jobs[0]
    if (job === undefined) return 0
    const left = job.block.byteLength - job.offset
    if (!isChannelBusy && left > 0 && this.#rules.sendableBytes(job.level, job.index, left) > 0) return 0
    return performance.now() - this.#takenMs
  }

  /** As much of the first job as credit and the cap let go, up to WIRE.dataFramesAtOnceMax frames, each a head and its payload. */
  nextFrames(): Uint8Array[][] {
    const job = this.#jobs[0]
    if (job === undefined) return []
    const { level, index, block } = job
    const frames: Uint8Array[][] = []
    while (frames.length < WIRE.dataFramesAtOnceMax && job.offset < block.byteLength) {
      const offset = job.offset
      const sendable = this.#rules.sendableBytes(level, index, block.byteLength - offset)
      const bytes = Math.min(sendable, this.#limiter?.dataBytesMax ?? sendable)
      if (bytes === 0) break
      const head = dataHead(level, index, block.byteLength, offset)
      if (this.#limiter?.mayStartFrame(job, job.order, head.byteLength + bytes) === false) break
      job.offset += bytes
      const takenMin = Math.min(TAKEN_BYTES_MIN, this.#limiter?.dataBytesMax ?? TAKEN_BYTES_MIN)
      if (bytes >= takenMin || job.offset === block.byteLength) this.#takenMs = performance.now()
      this.#writing = job
      this.#rules.sent(level, index, bytes, job.offset === block.byteLength)
      frames.push([head, block.subarray(offset, offset + bytes)])
    }
    return frames
  }

  /** The channel may keep the writer busy for long: tokens that its block waits for may go to others meanwhile. */
  standAside(): void {
    const job = this.#jobs[0]
    if (job !== undefined) this.#limiter?.standAside(job)
  }

  /** The channel let go of the bytes that nextFrames() gave, written or not. */
  released(isWritten: boolean): void {
    const job = this.#writing
    this.#writing = null
    if (job === null) return
    if (job.isCancelled) job.finish(false)
    else if (isWritten && job.offset === job.block.byteLength) {
      this.#jobs.shift()
      job.finish(true)
    }
  }

  /** The block is still borrowed while the channel takes bytes of it: then `released` finishes the job. */
  cancel(job: ServeJob): void {
    const at = this.#jobs.indexOf(job)
    if (at < 0 || job.isCancelled) return
    this.#jobs.splice(at, 1)
    job.isCancelled = true
    this.#limiter?.standAside(job)
    if (this.#writing !== job) job.finish(false)
  }

  /** The session is over. */
  clear(): void {
    for (const job of this.#jobs.splice(0)) {
      this.#limiter?.standAside(job)
      job.finish(false)
    }
  }
}
