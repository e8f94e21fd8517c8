/**
 * Frames on one libp2p stream: u32 big-endian length, then that many bytes. The only file that touches a stream after negotiation.
 *
 * Nothing is paused here, on purpose: the session bounds by credit what the other side may send, and the buffer limit is where that
 * promise is enforced. A peer that sends more unread bytes than the limit is cut off, so memory for one stream never exceeds the limit
 * and one transport chunk.
 *
 * Facts of the library behind this code (test/node/library-facts.test.ts): onDrain() waits only once, so the drain event is used; a bare
 * `for await` has no back-pressure; a wait that a reset cuts short may reject with an Event; newStream() may give a dead stream.
 */
import type { Stream } from '@libp2p/interface'
import { Uint8ArrayList } from 'uint8arraylist'
import { RemoteError } from '../../protocol/errors.ts'
import { WIRE } from '../../protocol/limits.ts'
import { asError, NetworkError } from './network-error.ts'
import { thinWindowUpdates } from './window-updates.ts'

export interface FrameLimits {
  /** Longest frame accepted or sent, header not counted. */
  frameBytesMax: number
  /** Most unread bytes held at this moment: what the peer was allowed to send (credit) and not less than one frame with its header. */
  bufferBytesMax: () => number
}

/** Before a session has granted credit: one frame and some control frames. */
export const OPENING_LIMITS: FrameLimits = {
  frameBytesMax: WIRE.frameBytesMax,
  bufferBytesMax: () => WIRE.frameBytesMax + WIRE.unreadSlackBytes,
}

const HEADER_BYTES = 4

/** One stream as whole frames in both directions. One reader at a time; writers may overlap, their frames never mix. */
export class FrameStream {
  readonly #stream: Stream
  readonly #frameBytesMax: number
  #bufferBytesMax: () => number
  readonly #chunks = new ChunkQueue()
  #failure: Error | undefined
  /** When bytes came for the last time, on the monotonic clock; at first when the stream was taken. */
  arrivedMs = performance.now()
  #ended = false
  /** The peer itself ended its direction. A connection that breaks off, as when its process dies, ends a stream without it. */
  #isFinished = false
  #wake: (() => void) | undefined

  /** Takes the stream: nobody else may read, write or close it. */
  constructor(stream: Stream, limits: FrameLimits = OPENING_LIMITS) {
    this.#stream = stream
    thinWindowUpdates(stream)
    this.#frameBytesMax = limits.frameBytesMax
    this.#bufferBytesMax = limits.bufferBytesMax
    const end = (): void => {
      this.#ended = true
      this.#wake?.()
    }
    stream.addEventListener('message', (event) => this.#onBytes(event.data))
    stream.addEventListener('end', end)
    stream.addEventListener('remoteCloseWrite', () => {
      this.#isFinished = true
    })
    stream.addEventListener('close', (event) => {
      if (event.error !== undefined) this.#failure ??= event.error
      end()
    })
    // The stream may have ended or been reset before we listened; then no event comes. Bytes read ahead while the protocol was
    // negotiated may still be unread: they arrive in the microtask that the 'message' listener above queued, so end after it.
    this.#isFinished = stream.status === 'open' && stream.remoteWriteStatus === 'closed'
    if (stream.readableEnded || stream.status !== 'open') {
      queueMicrotask(() => {
        if (stream.status === 'reset' || stream.status === 'aborted') this.#failure ??= new Error(`stream is ${stream.status}`)
        end()
      })
    }
  }

  /** Unread bytes held now. */
  get unreadBytes(): number {
    return this.#chunks.byteLength
  }

  /** Installs the session's own bound on unread bytes, asked again at each arrival. */
  setBufferLimit(bufferBytesMax: () => number): void {
    this.#bufferBytesMax = bufferBytesMax
  }

  /** Next frame, or null when the peer finished cleanly between frames. Aborting the signal resets the stream.
   *  A frame of LARGE_BYTES or more holds until the next read; a smaller one is given away.
   *  Throws RemoteError FRAME_TOO_LARGE, CREDIT_EXCEEDED, or TRUNCATED where the peer itself ended it within a frame, NetworkError CLOSED,
   *  or the signal's reason. */
  async read(signal: AbortSignal): Promise<Uint8Array | null> {
    signal.throwIfAborted()
    if (!(await this.#fill(HEADER_BYTES, signal))) return null
    const lengthBytes = this.#chunks.peekU32()
    if (lengthBytes > this.#frameBytesMax) {
      throw this.abort(
        new RemoteError('FRAME_TOO_LARGE', `frame of ${lengthBytes} bytes, limit ${this.#frameBytesMax}`, { limit: 'frameBytes' }),
      )
    }
    await this.#fill(HEADER_BYTES + lengthBytes, signal)
    this.#chunks.skip(HEADER_BYTES)
    return this.#chunks.take(lengthBytes)
  }

  /** Sends one frame, given whole or as parts. Resolves once the transport has room for more. The bytes must not change afterwards.
   *  Aborting the signal resets the stream. Throws NetworkError CLOSED or the signal's reason. */
  write(frame: Uint8Array | Uint8Array[], signal: AbortSignal): Promise<void> {
    return this.writeMany([frame], signal)
  }

  /** Sends several frames as one message of the transport: fewer, larger packets. Otherwise like `write`. */
  async writeMany(frames: readonly (Uint8Array | Uint8Array[])[], signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const list = new Uint8ArrayList()
    for (const frame of frames) {
      const [first = new Uint8Array(0), ...rest] = Array.isArray(frame) ? frame : [frame]
      const lengthBytes = rest.reduce((sum, part) => sum + part.byteLength, first.byteLength)
      if (lengthBytes > this.#frameBytesMax) throw new RangeError(`frame of ${lengthBytes} bytes, limit ${this.#frameBytesMax}`)
      // The length joins a small first part: every part is a call of the cipher.
      const isSmall = first.byteLength <= SMALL_PART_BYTES
      const header = new Uint8Array(HEADER_BYTES + (isSmall ? first.byteLength : 0))
      new DataView(header.buffer).setUint32(0, lengthBytes)
      if (isSmall) header.set(first, HEADER_BYTES)
      list.append(header, ...(isSmall ? rest : [first, ...rest]))
    }
    this.#throwIfFailed()
    try {
      this.#stream.send(list)
    } catch (thrown) {
      throw this.#closed(thrown)
    }
    while (this.#stream.writableNeedsDrain) await this.#drained(signal)
  }

  /** Finishes our direction; the peer may still be sending. Never throws: a stream that cannot close in time is reset. */
  async close(signal: AbortSignal): Promise<void> {
    try {
      await this.#stream.close({ signal })
    } catch (thrown) {
      this.abort(asError(thrown))
    }
  }

  /** Resets both directions. Gives `reason` back so that it can be thrown. */
  abort<E extends Error>(reason: E): E {
    this.#failure ??= reason
    this.#stream.abort(reason)
    this.#wake?.()
    return reason
  }

  #onBytes(bytes: Uint8Array | Uint8ArrayList): void {
    if (this.#failure !== undefined) return
    this.arrivedMs = performance.now()
    this.#chunks.append(bytes)
    const unread = this.#chunks.byteLength
    const limit = this.#bufferBytesMax()
    if (unread > limit) {
      this.#chunks.clear()
      this.abort(new RemoteError('CREDIT_EXCEEDED', `${unread} unread bytes, limit ${limit}`))
      return
    }
    this.#wake?.()
  }

  /** True once `count` bytes are unread, false when the stream ended cleanly before the first of them. */
  async #fill(count: number, signal: AbortSignal): Promise<boolean> {
    while (this.#chunks.byteLength < count) {
      // A fault of the peer outranks what it sent before; a reset by the transport comes after the bytes that arrived.
      this.#throwIfFailed()
      if (this.#ended) {
        if (this.#chunks.byteLength === 0) return false
        const what = `stream ended with ${this.#chunks.byteLength} of ${count} bytes`
        throw this.abort(this.#isFinished ? new RemoteError('TRUNCATED', what) : new NetworkError('CLOSED', what))
      }
      await this.#arrival(signal)
    }
    if (this.#failure instanceof RemoteError) throw this.#failure
    return true
  }

  #arrival(signal: AbortSignal): Promise<void> {
    return this.#wait(signal, (wake) => {
      this.#wake = wake
      return () => {
        this.#wake = undefined
      }
    })
  }

  #drained(signal: AbortSignal): Promise<void> {
    this.#throwIfFailed()
    if (this.#stream.status !== 'open') throw this.#closed(new Error(`stream is ${this.#stream.status}`))
    return this.#wait(signal, (wake, fail) => {
      const close = (): void => fail(this.#closed(new Error('stream closed while writing')))
      this.#stream.addEventListener('drain', wake)
      this.#stream.addEventListener('close', close)
      return () => {
        this.#stream.removeEventListener('drain', wake)
        this.#stream.removeEventListener('close', close)
      }
    })
  }

  #wait(signal: AbortSignal, listen: (wake: () => void, fail: (reason: Error) => void) => () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        signal.removeEventListener('abort', onAbort)
        stop()
      }
      const onAbort = (): void => {
        settle()
        reject(signal.reason)
        this.abort(asError(signal.reason))
      }
      const stop = listen(
        () => {
          settle()
          resolve()
        },
        (reason) => {
          settle()
          reject(reason)
        },
      )
      if (signal.aborted) return onAbort()
      signal.addEventListener('abort', onAbort)
    })
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#closed(this.#failure)
  }

  #closed(thrown: unknown): Error {
    const cause = asError(this.#failure ?? thrown)
    return cause instanceof RemoteError || cause instanceof NetworkError
      ? cause
      : new NetworkError('CLOSED', `stream closed: ${cause.message}`, { cause })
  }
}

/** Frames from here on are read into memory that the stream keeps: data frames, whose bytes move on to their block at once. */
const LARGE_BYTES = 48 * 1024
const SMALL_PART_BYTES = 256

/** Bytes in the order of arrival, taken out with a single copy. */
class ChunkQueue {
  #chunks: Uint8Array[] = []
  #head = 0
  #offset = 0
  #scratch = new Uint8Array(0)
  byteLength = 0

  append(bytes: Uint8Array | Uint8ArrayList): void {
    if (bytes instanceof Uint8Array) this.#chunks.push(bytes)
    else for (const chunk of bytes) this.#chunks.push(chunk)
    this.byteLength += bytes.byteLength
  }

  /** The next four bytes as a number, left in place; they must be there. */
  peekU32(): number {
    let value = 0
    let index = this.#head
    let offset = this.#offset
    for (let i = 0; i < HEADER_BYTES; i++) {
      while (offset >= this.#chunks[index]!.byteLength) {
        index++
        offset = 0
      }
      value = value * 256 + this.#chunks[index]![offset++]!
    }
    return value
  }

  #scratchOf(count: number): Uint8Array {
    if (this.#scratch.byteLength < count) this.#scratch = new Uint8Array(count)
    return this.#scratch.subarray(0, count)
  }

  skip(count: number): void {
    this.#advance(count, () => {})
  }

  /** The next `count` bytes: a fresh copy, or for a large frame memory that is used again by the next large one. */
  take(count: number): Uint8Array {
    const out = count < LARGE_BYTES ? new Uint8Array(count) : this.#scratchOf(count)
    let at = 0
    this.#advance(count, (part) => {
      out.set(part, at)
      at += part.byteLength
    })
    return out
  }

  clear(): void {
    this.#chunks = []
    this.#head = 0
    this.#offset = 0
    this.byteLength = 0
  }

  #advance(count: number, visit: (part: Uint8Array) => void): void {
    let left = count
    this.byteLength -= count
    while (left > 0) {
      const chunk = this.#chunks[this.#head]!
      const part = Math.min(left, chunk.byteLength - this.#offset)
      visit(chunk.subarray(this.#offset, this.#offset + part))
      left -= part
      this.#offset += part
      if (this.#offset === chunk.byteLength) {
        this.#head++
        this.#offset = 0
      }
    }
    if (this.#head === this.#chunks.length) {
      this.#chunks.length = 0
      this.#head = 0
    } else if (this.#head > 64) {
      this.#chunks = this.#chunks.slice(this.#head)
      this.#head = 0
    }
  }
}
