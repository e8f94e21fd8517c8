/**
 * One connection that we relay: joins two streams, both ways, and passes on no faster than the pace allows and the other end reads. What was
 * read and not passed on is bounded; beyond it the stream is paused, and the sender waits.
 */
import type { Stream, StreamMessageEvent } from '@libp2p/interface'
import type { Uint8ArrayList } from 'uint8arraylist'
import { RELAY } from '../../../protocol/limits.ts'
import { asError } from '../network-error.ts'
import type { Pace } from './pace.ts'

export interface CircuitLimits {
  pace: Pace
  /** Told of all that is passed on; false ends the circuit. */
  count(bytes: number): boolean
  signal: AbortSignal
}

/** Resolves when both directions have ended, one way or another. */
export async function joinStreams(a: Stream, b: Stream, limits: CircuitLimits): Promise<void> {
  const end = (reason: Error): void => {
    a.abort(reason)
    b.abort(reason)
  }
  const onAbort = (): void => end(new Error('the circuit has had its time'))
  limits.signal.addEventListener('abort', onAbort, { once: true })
  if (limits.signal.aborted) onAbort()
  const idle = setTimeout(() => end(new Error('nothing came over the circuit')), RELAY.circuitIdleMs).unref()
  const count = (bytes: number): boolean => {
    if (bytes > 0) idle.refresh()
    return limits.count(bytes)
  }
  try {
    await Promise.all([passOn(a, b, { ...limits, count }), passOn(b, a, { ...limits, count })])
    // One that is gone for good takes the other with it: what that still says would be heard by nobody.
    for (const stream of [a, b]) if (stream.remoteWriteStatus !== 'closed') stream.abort(new Error('the other end is gone'))
  } catch (thrown) {
    end(asError(thrown))
  } finally {
    clearTimeout(idle)
    limits.signal.removeEventListener('abort', onAbort)
  }
}

async function passOn(from: Stream, to: Stream, { pace, count }: CircuitLimits): Promise<void> {
  const inbox = new Inbox(from)
  to.addEventListener('close', inbox.stop, { once: true })
  for (let data = await inbox.next(); data !== null; data = await inbox.next()) {
    if (!count(data.byteLength)) throw new Error('the relay has passed on as much as it may')
    await pace.take(data.byteLength)
    if (!to.send(data)) await drained(to)
  }
  if (to.status === 'open') await to.close({ signal: AbortSignal.timeout(RELAY.messageMs) })
}

/** Waits for a stream to take more; throws when it never will. */
function drained(stream: Stream): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const ended = (): void => reject(new Error('the other end is gone'))
  stream.addEventListener('drain', () => resolve(), { once: true })
  stream.addEventListener('close', ended, { once: true })
  if (!stream.writableNeedsDrain) resolve()
  if (stream.status !== 'open') ended()
  return promise.finally(() => stream.removeEventListener('close', ended))
}

/** What came over a stream and was not taken yet. */
class Inbox {
  readonly #stream: Stream
  readonly #queue: (Uint8Array | Uint8ArrayList)[] = []
  #bytes = 0
  #isPaused = false
  #isStopped = false
  #end: 'open' | 'ended' | Error = 'open'
  #wake: () => void = () => {}

  constructor(stream: Stream) {
    this.#stream = stream
    stream.addEventListener('message', this.#take)
    stream.addEventListener('remoteCloseWrite', () => this.#finish('ended'), { once: true })
    stream.addEventListener('close', (event) => this.#finish(event.error ?? 'ended'), { once: true })
    // It may have ended before anybody listened.
    if (stream.remoteWriteStatus === 'closed' && stream.readBufferLength === 0) this.#finish('ended')
    if (stream.status !== 'open' && this.#end === 'open') this.#finish(new Error(`the stream is ${stream.status}`))
  }

  /** Null at the end. Throws what ended the stream early. */
  async next(): Promise<Uint8Array | Uint8ArrayList | null> {
    while (this.#queue.length === 0) {
      if (this.#isStopped) return null
      // A stream that was paused may hold more than it has given.
      if (this.#end === 'ended' && this.#stream.readBufferLength === 0) return null
      if (this.#end instanceof Error) throw this.#end
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    const data = this.#queue.shift()! // the loop ends only when there is one
    this.#bytes -= data.byteLength
    if (this.#isPaused && this.#bytes <= RELAY.unsentBytesMax / 2) {
      this.#isPaused = false
      this.#stream.resume()
    }
    return data
  }

  /** Nobody wants more of it. */
  readonly stop = (): void => {
    this.#queue.length = 0
    this.#isStopped = true
    this.#wake()
  }

  readonly #take = ({ data }: StreamMessageEvent): void => {
    this.#queue.push(data)
    this.#bytes += data.byteLength
    if (this.#bytes > RELAY.unsentBytesMax && !this.#isPaused) {
      this.#isPaused = true
      // Not within the event: what resumes the stream would open its window all the same.
      queueMicrotask(() => {
        if (this.#isPaused) this.#stream.pause()
      })
    }
    this.#wake()
  }

  #finish(end: 'ended' | Error): void {
    if (this.#end === 'open' || end instanceof Error) this.#end = end
    this.#wake()
  }
}
