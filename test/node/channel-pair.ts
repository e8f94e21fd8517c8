/** Two ends of a channel of frames in memory: a write waits until the other end has read most of what came before. */
import type { FrameChannel } from '../../node/network/frame-channel.ts'

const UNREAD_FRAMES_MAX = 4

export class MemoryChannel implements FrameChannel {
  other!: MemoryChannel
  readonly #inbox: Uint8Array[] = []
  #isFinished = false
  #isStalled = false
  #failure: Error | null = null
  #waiting: (() => void)[] = []

  /** Both directions finished, or reset. */
  get isEnded(): boolean {
    return this.#failure !== null || (this.#isFinished && this.other.#isFinished)
  }

  /** From here on nothing that this end writes gets through. */
  stall(): void {
    this.#isStalled = true
  }

  async read(signal: AbortSignal): Promise<Uint8Array | null> {
    for (;;) {
      if (this.#failure !== null) throw this.#failure
      const frame = this.#inbox.shift()
      if (frame !== undefined) {
        this.other.#notify()
        return frame
      }
      if (this.other.#isFinished) return null
      await this.#change(signal)
    }
  }

  async write(frame: Uint8Array | Uint8Array[], signal: AbortSignal): Promise<void> {
    if (this.#failure !== null) throw this.#failure
    if (this.#isFinished) throw new Error('write after close')
    this.other.#inbox.push(Uint8Array.from(Buffer.concat(Array.isArray(frame) ? frame : [frame])))
    this.other.#notify()
    while (this.#isStalled || this.other.#inbox.length > UNREAD_FRAMES_MAX) {
      if (this.#failure !== null) throw this.#failure
      await this.#change(signal)
    }
  }

  async close(_signal: AbortSignal): Promise<void> {
    this.#isFinished = true
    this.#notify()
    this.other.#notify()
  }

  abort(reason: Error): void {
    if (this.isEnded) return
    for (const end of [this, this.other]) {
      end.#failure ??= reason
      end.#notify()
    }
  }

  #notify(): void {
    for (const wake of this.#waiting.splice(0)) wake()
  }

  async #change(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const onAbort = (): void => {
      this.abort(signal.reason)
      resolve()
    }
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    this.#waiting.push(resolve)
    await promise
    signal.removeEventListener('abort', onAbort)
    if (signal.aborted) throw signal.reason
  }
}

export function channelPair(): [MemoryChannel, MemoryChannel] {
  const [a, b] = [new MemoryChannel(), new MemoryChannel()]
  a.other = b
  b.other = a
  return [a, b]
}
