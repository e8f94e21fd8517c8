/** What a relay passes on between two streams: all of it, in order, and no more in memory than it may. */
import type { Stream } from '@libp2p/interface'
import { describe, expect, it, vi } from 'vitest'
import { joinStreams } from '../../node/network/reach/circuit.ts'
import { Pace } from '../../node/network/reach/pace.ts'
import { RELAY } from '../../protocol/limits.ts'

const CHUNK_BYTES = 65_536

/** One end of a stream as the relay sees it: what comes is given by the test, what goes is kept, and a full one takes nothing more. */
class FakeStream extends EventTarget {
  status = 'open'
  remoteWriteStatus = 'writable'
  readBufferLength = 0
  writableNeedsDrain = false
  isPaused = false
  isClosed = false
  readonly sent: Uint8Array[] = []
  readonly #unread: Uint8Array[] = []

  give(data: Uint8Array): void {
    this.#unread.push(data)
    this.readBufferLength += data.byteLength
    this.#flow()
  }

  end(): void {
    this.remoteWriteStatus = 'closed'
    this.dispatchEvent(new Event('remoteCloseWrite'))
  }

  pause(): void {
    this.isPaused = true
  }

  resume(): void {
    this.isPaused = false
    this.#flow()
  }

  send(data: Uint8Array): boolean {
    this.sent.push(data)
    return !this.writableNeedsDrain
  }

  drain(): void {
    this.writableNeedsDrain = false
    this.dispatchEvent(new Event('drain'))
  }

  async close(): Promise<void> {
    this.isClosed = true
  }

  abort(): void {
    if (this.status !== 'open') return
    this.status = 'aborted'
    this.dispatchEvent(new Event('close'))
  }

  #flow(): void {
    while (!this.isPaused && this.#unread.length > 0) {
      const data = this.#unread.shift()!
      this.readBufferLength -= data.byteLength
      this.dispatchEvent(Object.assign(new Event('message'), { data }))
    }
  }

  get as(): Stream {
    return this as unknown as Stream // the part of one that is used
  }
}

const chunk = (n: number): Uint8Array => new Uint8Array(CHUNK_BYTES).fill(n)
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

function join(options: { bytesMax?: number } = {}): {
  a: FakeStream
  b: FakeStream
  done: Promise<void>
  end: AbortController
  counted: () => number
} {
  const [a, b, end] = [new FakeStream(), new FakeStream(), new AbortController()]
  let bytes = 0
  const count = (more: number): boolean => {
    bytes += more
    return bytes <= (options.bytesMax ?? Number.POSITIVE_INFINITY)
  }
  const pace = new Pace(1e12, () => performance.now())
  return { a, b, done: joinStreams(a.as, b.as, { pace, count, signal: end.signal }), end, counted: () => bytes }
}

describe('a circuit', () => {
  it('passes everything on in order, both ways, and ends when both have ended', async () => {
    const { a, b, done, counted } = join()
    for (let i = 0; i < 10; i++) a.give(chunk(i))
    b.give(chunk(99))
    await turn()
    a.end()
    b.end()
    await done
    expect(b.sent.map((data) => data[0])).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    expect(a.sent.map((data) => data[0])).toEqual([99])
    expect([a.isClosed, b.isClosed, counted()]).toEqual([true, true, 11 * CHUNK_BYTES])
  })

  it('pauses who sends while the other end takes nothing, and goes on where it was', async () => {
    const { a, b, done } = join()
    b.writableNeedsDrain = true
    const chunks = 40
    for (let i = 0; i < chunks; i++) {
      a.give(chunk(i))
      await turn()
    }
    expect(a.isPaused).toBe(true)
    expect(chunks * CHUNK_BYTES - a.readBufferLength).toBeLessThanOrEqual(RELAY.unsentBytesMax + 2 * CHUNK_BYTES)
    // It ends while much of it has not been read.
    a.end()
    b.end()
    b.drain()
    await done
    expect(b.sent.map((data) => data[0])).toEqual(Array.from({ length: chunks }, (_, i) => i))
  })

  it('ends both streams when one breaks, when it may pass on no more, and when its time is over', async () => {
    const broken = join()
    broken.a.abort()
    await broken.done
    const full = join({ bytesMax: CHUNK_BYTES })
    full.a.give(chunk(1))
    full.a.give(chunk(2))
    await full.done
    const late = join()
    late.end.abort()
    await late.done
    expect([broken, full, late].map(({ a, b }) => [a.status, b.status])).toEqual(new Array(3).fill(['aborted', 'aborted']))
    expect(full.b.sent).toHaveLength(1)
  })

  it('ends when nothing has come either way for a while, and not before', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      const { a, b, done } = join()
      vi.advanceTimersByTime(RELAY.circuitIdleMs - 1)
      b.give(chunk(1))
      await turn()
      vi.advanceTimersByTime(RELAY.circuitIdleMs - 1)
      expect(a.status).toBe('open')
      vi.advanceTimersByTime(1)
      await done
      expect([a.status, b.status]).toEqual(['aborted', 'aborted'])
    } finally {
      vi.useRealTimers()
    }
  })
})
