/** Frames over TCP, Noise and Yamux on loopback: sizes, order, limits, and every way in which a stream can end. */
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import type { Libp2p, Stream } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { type FrameLimits, FrameStream } from '../../node/network/frame-stream.ts'
import { portOf, RecordingProxy } from '../kit/proxy.ts'

const KIB = 1024
const MIB = 1024 * KIB
const LIMITS: FrameLimits = { frameBytesMax: MIB + 64, bufferBytesMax: () => 17 * MIB }
const patience = (): AbortSignal => AbortSignal.timeout(10_000)

let dialer: Libp2p
let listener: Libp2p
let count = 0

const createNode = (): Promise<Libp2p> =>
  createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux({ maxInboundStreams: 64, streamOptions: { maxStreamWindowSize: 2 * MIB, maxReadBufferLength: 4 * MIB } })],
  })

beforeAll(async () => {
  dialer = await createNode()
  listener = await createNode()
})

afterAll(async () => {
  await Promise.all([dialer.stop(), listener.stop()])
})

const openRaw = async (serve: (stream: Stream) => void | Promise<void>): Promise<Stream> => {
  const protocol = `/test/${count++}`
  await listener.handle(protocol, (stream) => serve(stream))
  return dialer.dialProtocol(listener.getMultiaddrs(), protocol)
}

const open = async (serve: (frames: FrameStream) => Promise<void>, limits = LIMITS): Promise<FrameStream> =>
  new FrameStream(await openRaw((stream) => serve(new FrameStream(stream, LIMITS))), limits)

const codeOf = async (work: Promise<unknown>): Promise<unknown> => {
  try {
    await work
  } catch (error) {
    expect(error).toBeInstanceOf(Error)
    return (error as { code?: unknown }).code ?? (error as Error).name
  }
  return 'no error'
}

const echo = async (frames: FrameStream): Promise<void> => {
  for (;;) {
    const frame = await frames.read(patience())
    if (frame === null) break
    await frames.write(frame, patience())
  }
  await frames.close(patience())
}

describe('frames', () => {
  test('come back whole and in order at sizes around every boundary, and the end is clean', async () => {
    const frames = await open(echo)
    for (const sizeBytes of [0, 1, 4, 65_531, 65_535, 65_536, 65_600, MIB]) {
      const sent = Uint8Array.from({ length: sizeBytes }, (_, i) => (i * 31 + sizeBytes) & 255)
      await frames.write(sent, patience())
      expect(Buffer.compare((await frames.read(patience()))!, sent)).toBe(0)
    }
    await frames.close(patience())
    expect(await frames.read(patience())).toBeNull()
  })

  test('given in parts arrive as one frame', async () => {
    const frames = await open(echo)
    await frames.write([Uint8Array.of(1, 2), new Uint8Array(0), Uint8Array.of(3)], patience())
    expect(await frames.read(patience())).toEqual(Uint8Array.of(1, 2, 3))
    frames.abort(new Error('done'))
  })

  test('written without waiting in between are queued behind the transport, not mixed', async () => {
    const frames = await open(echo)
    const sent = Array.from({ length: 20 }, (_, i) => new Uint8Array(100_000).fill(i))
    const writes = Promise.all(sent.map((frame) => frames.write(frame, patience())))
    for (const frame of sent) expect(Buffer.compare((await frames.read(patience()))!, frame)).toBe(0)
    await writes
    frames.abort(new Error('done'))
  })

  test('survive a reader that works between them while sixteen of 1 MiB are in flight', async () => {
    const frames = await open(async (served) => {
      while ((await served.read(patience())) !== null) await served.write(new Uint8Array(MIB), patience())
    })
    for (let asked = 0; asked < 16; asked++) await frames.write(new Uint8Array(4), patience())
    for (let got = 0; got < 32; got++) {
      expect((await frames.read(patience()))?.byteLength).toBe(MIB)
      await new Promise((resolve) => setTimeout(resolve, 5))
      if (got < 16) await frames.write(new Uint8Array(4), patience())
    }
    frames.abort(new Error('done'))
  })

  test('wait for the transport: a writer never has more than the window and one frame unsent', async () => {
    let most = 0
    const stream = await openRaw(async (raw) => {
      const served = new FrameStream(raw, LIMITS)
      while ((await served.read(patience())) !== null);
      await served.close(patience())
    })
    const frames = new FrameStream(stream, LIMITS)
    for (let i = 0; i < 64; i++) {
      await frames.write(new Uint8Array(MIB), patience())
      most = Math.max(most, stream.writeBufferLength)
    }
    expect(most).toBeLessThanOrEqual(2 * MIB)
    await frames.close(patience())
    expect(await frames.read(patience())).toBeNull()
  })
})

describe('a peer that breaks the rules', () => {
  test('is cut off when it sends more than it was allowed, at the limit in force at that moment', async () => {
    let limit = 2 * MIB
    const limits = { frameBytesMax: MIB, bufferBytesMax: () => limit }
    const frames = await open(async (served) => {
      for (let i = 0; i < 64; i++) await served.write(new Uint8Array(MIB), patience())
    }, limits)
    frames.setBufferLimit(() => limit)
    limit = 300 * KIB
    await expect.poll(() => codeOf(frames.read(patience()))).toBe('CREDIT_EXCEEDED')
    expect(frames.unreadBytes).toBe(0)
  })

  test('is refused at the length of a frame over the limit, before the frame is there', async () => {
    const stream = await openRaw((raw) => void raw.send(Uint8Array.of(0xff, 0xff, 0xff, 0xff)))
    expect(await codeOf(new FrameStream(stream).read(patience()))).toBe('FRAME_TOO_LARGE')
    expect(stream.status).toBe('aborted')
  })

  test('is told apart from a clean end when it stops inside a frame or a header', async () => {
    for (const bytes of [Uint8Array.of(0, 0, 0, 9, 1, 2), Uint8Array.of(0, 0)]) {
      const stream = await openRaw(async (raw) => {
        raw.send(bytes)
        await raw.close()
      })
      expect(await codeOf(new FrameStream(stream).read(patience()))).toBe('TRUNCATED')
    }
  })

  test('is nobody’s fault when the connection breaks off inside a frame, as when a process is killed', async () => {
    const port = portOf(listener.getMultiaddrs()[0]!.toString())
    for (const bytes of [Uint8Array.of(0, 0, 0, 9, 1, 2), Uint8Array.of(0, 0)]) {
      const proxy = await RecordingProxy.to(port)
      const protocol = `/test/${count++}`
      await listener.handle(protocol, (raw) => void raw.send(bytes))
      const apart = await createNode()
      onTestFinished(async () => {
        proxy.close()
        await apart.stop()
      })
      const stream = await apart.dialProtocol(multiaddr(`/ip4/127.0.0.1/tcp/${proxy.port}`), protocol)
      const frames = new FrameStream(stream)
      const reading = codeOf(frames.read(patience()))
      await expect.poll(() => frames.unreadBytes).toBe(bytes.length)
      proxy.close()
      expect(await reading).toBe('CLOSED')
    }
  })

  test('may split a frame at any byte', async () => {
    const bytes = Uint8Array.of(0, 0, 0, 3, 7, 8, 9, 0, 0, 0, 0, 0, 0, 0, 1, 5)
    const stream = await openRaw(async (raw) => {
      for (const byte of bytes) {
        raw.send(Uint8Array.of(byte))
        await new Promise((resolve) => setImmediate(resolve))
      }
      await raw.close()
    })
    const frames = new FrameStream(stream)
    expect(await frames.read(patience())).toEqual(Uint8Array.of(7, 8, 9))
    expect(await frames.read(patience())).toEqual(new Uint8Array(0))
    expect(await frames.read(patience())).toEqual(Uint8Array.of(5))
    expect(await frames.read(patience())).toBeNull()
  })
})

describe('a stream that is cut short', () => {
  test('ends a read by the reason of the signal, and is reset', async () => {
    const stream = await openRaw(() => {})
    const stop = new AbortController()
    const reading = new FrameStream(stream).read(stop.signal)
    stop.abort(new DOMException('enough', 'TimeoutError'))
    expect(await codeOf(reading)).toBe(DOMException.TIMEOUT_ERR)
    expect(stream.status).toBe('aborted')
  })

  test('ends a write to a peer that does not read by the reason of the signal', async () => {
    const stream = await openRaw((raw) => raw.pause())
    const frames = new FrameStream(stream, LIMITS)
    const fill = async (): Promise<void> => {
      for (;;) await frames.write(new Uint8Array(MIB), AbortSignal.timeout(300))
    }
    expect(await codeOf(fill())).toBe(DOMException.TIMEOUT_ERR)
    expect(stream.status).toBe('aborted')
  })

  test('ends a write by CLOSED when the peer resets', async () => {
    const stream = await openRaw((raw) => {
      raw.pause()
      setTimeout(() => raw.abort(new Error('no')), 100)
    })
    const frames = new FrameStream(stream, LIMITS)
    const fill = async (): Promise<void> => {
      for (;;) await frames.write(new Uint8Array(MIB), patience())
    }
    expect(await codeOf(fill())).toBe('CLOSED')
    expect(await codeOf(frames.write(new Uint8Array(1), patience()))).toBe('CLOSED')
    expect(await codeOf(frames.read(patience()))).toBe('CLOSED')
  })

  test('that was dead before it was wrapped says so at once', async () => {
    const stream = await openRaw(() => {})
    stream.abort(new Error('gone'))
    const frames = new FrameStream(stream)
    expect(await codeOf(frames.read(patience()))).toBe('CLOSED')
    expect(await codeOf(frames.write(new Uint8Array(1), patience()))).toBe('CLOSED')
    await frames.close(patience())
  })
})
