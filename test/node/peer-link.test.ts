import { createHash, createHmac, randomBytes } from 'node:crypto'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { type CloseReason, type Have, PeerLink, type PeerLinkHandlers } from '../../node/network/peer-link.ts'
import type { Remote } from '../../node/network/remote.ts'
import { FORMAT, WAITS, WIRE } from '../../protocol/limits.ts'
import type { Primitives } from '../../protocol/primitives.ts'
import { CreditBudget } from '../../protocol/wire/credit.ts'
import { helloProof, staysOfTwo } from '../../protocol/wire/hello.ts'
import { dataHead, decodeMessage, encodeMessage, type Message } from '../../protocol/wire/messages.ts'
import { channelPair, type MemoryChannel } from './channel-pair.ts'

const primitives = {
  hmac: (key: Uint8Array, bytes: Uint8Array) => Uint8Array.from(createHmac('sha256', key).update(bytes).digest()),
} as Primitives // the hello needs nothing else

const rootMultihash = Uint8Array.of(0x12, 0x20, ...createHash('sha256').update('root').digest())
const rendezvous = Uint8Array.from(createHash('sha256').update('rendezvous').digest())
const [alice, bob] = [Uint8Array.from({ length: 38 }, () => 1), Uint8Array.from({ length: 38 }, () => 2)]
const remote = (peerIdBytes: Uint8Array, direction: Remote['direction']): Remote => ({
  peerId: `peer${peerIdBytes[0]}`,
  peerIdBytes,
  address: '/ip4/127.0.0.1/tcp/1',
  isRelayed: false,
  direction,
})
const never = new AbortController().signal
const share = { rootMultihash, knowsShape: true }

/** Everything that happened on one side, and hooks for what a test does differently. */
function recorder(hooks: Partial<PeerLinkHandlers> = {}) {
  const blocks: { index: number; bytes: Uint8Array }[] = []
  const haves: Have[] = []
  const requests: number[] = []
  const absents: number[] = []
  const suggested: number[] = []
  const handlers: PeerLinkHandlers = {
    onHave: (_, have) => void haves.push(have),
    onProgress: () => {},
    onBlock: async (_, __, index, bytes) => void blocks.push({ index, bytes }),
    onSuggest: (_, index) => void suggested.push(index),
    onAbsent: (_, __, index) => void absents.push(index),
    onRequest: (_, __, index) => void requests.push(index),
    onCancel: () => {},
    onPeers: () => {},
    ...hooks,
  }
  return { handlers, blocks, haves, requests, absents, suggested }
}

/** Two proved links over one channel; `near` is the one that dialled. */
async function linked(options: { nearKnowsShape?: boolean; blockCount?: number } = {}) {
  const [nearEnd, farEnd] = channelPair()
  const budget = new CreditBudget(WIRE.creditBytesTotal)
  const [near, accepted] = await Promise.all([
    PeerLink.connect({
      frames: nearEnd,
      remote: remote(bob, 'outbound'),
      self: alice,
      primitives,
      budget,
      rootMultihash,
      rendezvous,
      knowsShape: options.nearKnowsShape ?? true,
      signal: never,
    }),
    PeerLink.accept({
      frames: farEnd,
      remote: remote(alice, 'inbound'),
      self: bob,
      primitives,
      budget,
      lookup: () => share,
      signal: never,
    }),
  ])
  const far = accepted!.link
  const expected = (level: number) => (level === 0 ? null : null)
  far.learnShape(options.blockCount ?? 1000, expected)
  if (options.nearKnowsShape ?? true) near.learnShape(options.blockCount ?? 1000, expected)
  return { near, far, nearEnd, farEnd, budget }
}

/** A proved link and, at the other end, bare frames for a peer that does as it likes. */
async function linkedToFrames() {
  const [end, raw] = channelPair()
  const budget = new CreditBudget(WIRE.creditBytesTotal)
  const opening = PeerLink.accept({
    frames: end,
    remote: remote(alice, 'inbound'),
    self: bob,
    primitives,
    budget,
    lookup: () => share,
    signal: never,
  })
  await raw.write(
    encodeMessage({
      type: 'hello',
      rendezvous,
      proof: await helloProof(primitives, rootMultihash, 'request', alice, bob),
      knowsShape: true,
    }),
    never,
  )
  const { link } = (await opening)!
  link.learnShape(1000, () => null)
  expect(decodeMessage((await raw.read(never))!).type).toBe('welcome')
  return { link, raw, end, budget }
}

async function readUntil(raw: MemoryChannel, type: Message['type']): Promise<Message> {
  for (;;) {
    const message = decodeMessage((await raw.read(never))!)
    if (message.type === type) return message
  }
}

afterEach(() => void vi.useRealTimers())

describe('hello', () => {
  const accept = (frames: MemoryChannel, lookup: () => typeof share | null = () => share) =>
    PeerLink.accept({ frames, remote: remote(alice, 'inbound'), self: bob, primitives, budget: new CreditBudget(0), lookup, signal: never })
  const hello = (proof: Uint8Array) => encodeMessage({ type: 'hello', rendezvous, proof, knowsShape: false })

  it('a peer with a wrong proof gets the very answer of an unknown share, and no session', async () => {
    const good = await helloProof(primitives, rootMultihash, 'request', alice, bob)
    const replayed = await helloProof(primitives, rootMultihash, 'request', bob, alice)
    const answers: Uint8Array[] = []
    for (const [proof, lookup] of [
      [replayed, () => share],
      [good.map((byte, i) => (i === 31 ? byte ^ 1 : byte)), () => share],
      [good, () => null],
    ] as const) {
      const [near, far] = channelPair()
      await far.write(hello(proof), never)
      const accepting = accept(near, lookup)
      answers.push((await far.read(never))!)
      await far.close(never)
      expect(await accepting).toBeNull()
      expect(near.isEnded).toBe(true)
    }
    for (const answer of answers) expect(answer).toEqual(encodeMessage({ type: 'goodbye', code: 64 }))
  })

  it('an unknown share is computed as much as a known one', async () => {
    const hmac = vi.fn(primitives.hmac)
    const counts: number[] = []
    for (const lookup of [() => share, () => null]) {
      const [near, far] = channelPair()
      await far.write(hello(new Uint8Array(32)), never)
      hmac.mockClear()
      const accepting = PeerLink.accept({
        frames: near,
        remote: remote(alice, 'inbound'),
        self: bob,
        primitives: { ...primitives, hmac },
        budget: new CreditBudget(0),
        lookup,
        signal: never,
      })
      await far.read(never)
      await far.close(never)
      await accepting
      counts.push(hmac.mock.calls.length)
    }
    expect(counts).toEqual([1, 1])
  })

  it('whoever dials learns UNKNOWN_SHARE, or REFUSED when the other side cannot prove that it has the share', async () => {
    const dial = (frames: MemoryChannel) =>
      PeerLink.connect({
        frames,
        remote: remote(bob, 'outbound'),
        self: alice,
        primitives,
        budget: new CreditBudget(0),
        rootMultihash,
        rendezvous,
        knowsShape: false,
        signal: never,
      })
    for (const [answer, code] of [
      [{ type: 'goodbye', code: 64 }, 'UNKNOWN_SHARE'],
      [{ type: 'goodbye', code: 11 }, 'REFUSED'],
      [{ type: 'welcome', proof: await helloProof(primitives, rootMultihash, 'request', alice, bob), knowsShape: true }, 'REFUSED'],
      [{ type: 'keepalive' }, 'REFUSED'],
    ] as [Message, string][]) {
      const [near, far] = channelPair()
      const dialling = dial(near)
      await far.read(never)
      await far.write(encodeMessage(answer), never)
      await far.close(never)
      await expect(dialling).rejects.toMatchObject({ name: 'NetworkError', code })
      expect(near.isEnded).toBe(true)
    }
  })

  it('a silent peer is given up after 8 s, a long or malformed hello at once', async () => {
    vi.useFakeTimers()
    const [near, far] = channelPair()
    const silent = expect(accept(near)).rejects.toMatchObject({ code: 'TIMEOUT' })
    await vi.advanceTimersByTimeAsync(WAITS.helloMs)
    await far.close(never)
    await silent
    vi.useRealTimers()
    for (const [frame, code] of [
      [new Uint8Array(WIRE.helloBytesMax + 1), 'BAD_HELLO'],
      [encodeMessage({ type: 'keepalive' }), 'BAD_HELLO'],
      [Uint8Array.of(1, 2, 3), 'TRUNCATED'],
    ] as const) {
      const [end, raw] = channelPair()
      await raw.write(frame, never)
      await raw.close(never)
      await expect(accept(end)).rejects.toMatchObject({ name: 'RemoteError', code })
    }
  })

  it('of two streams both sides keep the same one', () => {
    for (const [self, other] of [
      [alice, bob],
      [bob, alice],
    ] as const) {
      expect(staysOfTwo(self, other, 'outbound')).toBe(staysOfTwo(other, self, 'inbound'))
      expect(staysOfTwo(self, other, 'outbound')).not.toBe(staysOfTwo(self, other, 'inbound'))
    }
  })
})

describe('a session between two links', () => {
  it('moves blocks both ways at once, whole and in order, and ends in good order without leaving anything behind', async () => {
    const { near, far, nearEnd, farEnd, budget } = await linked()
    const content = Array.from({ length: 24 }, (_, i) => Uint8Array.from(randomBytes(i === 23 ? 1234 : FORMAT.blockBytes)))
    const serving: Promise<boolean>[] = []
    const side = (done: () => void) => {
      const seen = recorder({
        onRequest: (link, level, index) => void serving.push(link.serve(level, index, content[index]!, never)),
        onBlock: async (_, __, index, bytes) => {
          await Promise.resolve()
          seen.blocks.push({ index, bytes })
          if (seen.blocks.length === content.length) done()
        },
      })
      return seen
    }
    const [nearDone, farDone] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    const [a, b] = [side(nearDone.resolve), side(farDone.resolve)]
    const runs = [near.run(a.handlers, never), far.run(b.handlers, never)]
    for (let i = 0; i < content.length; i++) {
      near.request(0, i)
      far.request(0, i)
    }
    await Promise.all([nearDone.promise, farDone.promise])
    expect(await Promise.all(serving)).toEqual(serving.map(() => true))
    for (const { blocks } of [a, b]) {
      expect(blocks.map(({ index }) => index)).toEqual(content.map((_, i) => i))
      for (const { index, bytes } of blocks) expect(Buffer.compare(bytes, content[index]!)).toBe(0)
    }
    await near.goodbye(0)
    const reasons = await Promise.all(runs)
    expect(reasons.map(({ code }) => code)).toEqual(['NORMAL', 'NORMAL'])
    expect([nearEnd.isEnded, farEnd.isEnded, budget.used]).toEqual([true, true, 0])
  })

  it('reads on while blocks are taken over, but never holds more than the window and a block', async () => {
    const { near, far } = await linked()
    const block = new Uint8Array(FORMAT.blockBytes)
    const gate = Promise.withResolvers<void>()
    let [held, heldMax, taken] = [0, 0, 0]
    const done = Promise.withResolvers<void>()
    const stalled = Promise.withResolvers<void>()
    const receiver = recorder({
      onBlock: async (_, __, ___, bytes) => {
        held += bytes.byteLength
        heldMax = Math.max(heldMax, held)
        if (++taken === 8) stalled.resolve()
        if (taken > 4) await gate.promise
        held -= bytes.byteLength
        if (taken === 30 && held === 0) done.resolve()
      },
    })
    const sender = recorder({ onRequest: (link, level, index) => void link.serve(level, index, block, never) })
    const runs = [near.run(receiver.handlers, never), far.run(sender.handlers, never)]
    for (let i = 0; i < 30; i++) near.request(0, i)
    await stalled.promise
    gate.resolve()
    await done.promise
    expect(heldMax).toBeGreaterThan(FORMAT.blockBytes)
    expect(heldMax).toBeLessThanOrEqual(WIRE.creditBytesPerPeer + FORMAT.blockBytes)
    await far.goodbye(0)
    await Promise.all(runs)
  })

  it('a cancel in the middle of a block stops it, and the same block can be asked again at once', async () => {
    const { near, far } = await linked()
    const block = Uint8Array.from(randomBytes(FORMAT.blockBytes))
    const served: boolean[] = []
    const done = Promise.withResolvers<void>()
    let cancelled = false
    const receiver = recorder({
      onProgress: (link, level, index) => {
        if (cancelled) return
        cancelled = true
        link.cancel(level, index)
        link.request(level, index)
      },
      onBlock: async (_, __, ___, bytes) => {
        expect(Buffer.compare(bytes, block)).toBe(0)
        done.resolve()
      },
    })
    const sender = recorder({
      onRequest: (link, level, index) => void link.serve(level, index, block, never).then((ok) => served.push(ok)),
    })
    const runs = [near.run(receiver.handlers, never), far.run(sender.handlers, never)]
    near.request(0, 9)
    await done.promise
    await near.goodbye(0)
    expect((await Promise.all(runs)).map(({ code }) => code)).toEqual(['NORMAL', 'NORMAL'])
    expect(served).toEqual([false, true])
    expect(receiver.absents).toEqual([])
  })

  it('positions and suggestions wait until the peer knows the shape, and positions come merged', async () => {
    const { near, far } = await linked({ nearKnowsShape: false })
    const told = Promise.withResolvers<void>()
    const receiver = recorder({
      onHave: (_, have) => {
        receiver.haves.push(have)
        told.resolve()
      },
    })
    const runs = [near.run(receiver.handlers, never), far.run(recorder().handlers, never)]
    for (let i = 10; i < 20; i++) far.sendHave({ kind: 'range', first: i, count: 1 })
    for (const index of [5, 7]) far.suggest(index)
    near.learnShape(1000, () => null)
    await told.promise
    expect(receiver.haves).toEqual([{ kind: 'range', first: 10, count: 10 }])
    await expect.poll(() => receiver.suggested).toEqual([5, 7])
    await near.goodbye(0)
    await Promise.all(runs)
  })

  it('a handler that throws ends the session and is what run rejects with', async () => {
    const { near, far, budget } = await linked()
    const broken = recorder({ onBlock: () => Promise.reject(new Error('disk on fire')) })
    const sender = recorder({ onRequest: (link, level, index) => void link.serve(level, index, new Uint8Array(100), never) })
    const running = expect(near.run(broken.handlers, never)).rejects.toThrow('disk on fire')
    const other = far.run(sender.handlers, never)
    near.request(0, 1)
    await running
    expect((await other).code).toBe('NORMAL')
    expect(budget.used).toBe(0)
  })

  it('aborting ends it in good order, with unanswered serves resolved', async () => {
    const { near, far } = await linked()
    const stop = new AbortController()
    const serving = Promise.withResolvers<Promise<boolean>>()
    const sender = recorder({ onRequest: (link, level, index) => serving.resolve(link.serve(level, index, new Uint8Array(100), never)) })
    const runs = [near.run(recorder({ onBlock: () => new Promise(() => {}) }).handlers, never), far.run(sender.handlers, stop.signal)]
    void runs[0]
    near.request(3, 0)
    const served = await serving.promise
    stop.abort()
    expect((await runs[1])?.code).toBe('NORMAL')
    expect(typeof (await served)).toBe('boolean')
  })
})

describe('a link and a peer that breaks the rules', () => {
  const cases: [string, (raw: MemoryChannel, link: PeerLink) => Promise<void>, CloseReason['code'], CloseReason['strike']][] = [
    ['garbage', (raw) => raw.write(Uint8Array.of(99), never), 'UNKNOWN_TYPE', 'protocol'],
    ['a block nobody asked for', (raw) => raw.write([dataHead(0, 1, 4, 0), new Uint8Array(4)], never), 'UNSOLICITED', 'protocol'],
    [
      'a block that is too long',
      async (raw, link) => {
        link.request(0, 1)
        await raw.write([dataHead(0, 1, FORMAT.blockBytes + 1, 0), new Uint8Array(4)], never)
      },
      'BAD_BLOCK',
      'fatal',
    ],
    ['leaving without a word', (raw) => raw.close(never), 'LOST', 'none'],
    ['cutting the line', async (raw) => raw.abort(new Error('reset')), 'LOST', 'none'],
    [
      'a second hello',
      (raw) => raw.write(encodeMessage({ type: 'hello', rendezvous, proof: rendezvous, knowsShape: true }), never),
      'DUPLICATE_HELLO',
      'protocol',
    ],
  ]
  it.each(cases)('%s', async (_, act, code, strike) => {
    const { link, raw, end, budget } = await linkedToFrames()
    const running = link.run(recorder().handlers, never)
    await act(raw, link)
    if (strike !== 'none') {
      expect(await readUntil(raw, 'goodbye')).toMatchObject({ type: 'goodbye' })
      await raw.close(never)
    }
    expect(await running).toMatchObject({ code, strike })
    expect([end.isEnded, budget.used]).toEqual([true, 0])
  })

  it('a peer that is silent for 90 s is gone, and was sent keepalives until then', async () => {
    vi.useFakeTimers() // before the session begins: its clock must not jump back
    const { link, raw } = await linkedToFrames()
    const running = link.run(recorder().handlers, never)
    const keepalive = readUntil(raw, 'keepalive')
    await vi.advanceTimersByTimeAsync(WAITS.silenceMs + 6_000)
    expect(await running).toMatchObject({ code: 'TIMEOUT', strike: 'none' })
    expect(vi.getTimerCount()).toBe(0)
    expect(await keepalive).toEqual({ type: 'keepalive' })
  })

  it('a peer that asks and never reads is given up after 60 s, and no timer stays', async () => {
    vi.useFakeTimers() // before the session begins: its clock must not jump back
    const { link, raw, end } = await linkedToFrames()
    end.stall()
    const served: boolean[] = []
    const sender = recorder({
      onRequest: (asked, level, index) =>
        void asked.serve(level, index, new Uint8Array(FORMAT.blockBytes), never).then((ok) => served.push(ok)),
    })
    const running = link.run(sender.handlers, never)
    await raw.write(encodeMessage({ type: 'credit', bytes: 10 * FORMAT.blockBytes }), never)
    await raw.write(encodeMessage({ type: 'request', level: 0, index: 1 }), never)
    await vi.advanceTimersByTimeAsync(WAITS.drainMs + 3_000)
    expect(await running).toMatchObject({ code: 'TIMEOUT' })
    expect(served).toEqual([false])
    expect(vi.getTimerCount()).toBe(0)
  })

  it('a peer that asks and cancels without reading the answers is a flood, not a memory leak', async () => {
    const { link, raw, end } = await linkedToFrames()
    end.stall()
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const running = link.run(recorder().handlers, never)
    for (let i = 0; i < WIRE.controlFramesQueuedMax + 10 && !link.isClosing; i++) {
      await raw.write(encodeMessage({ type: 'request', level: 0, index: 1 }), never)
      await raw.write(encodeMessage({ type: 'cancel', level: 0, index: 1 }), never)
    }
    await vi.advanceTimersByTimeAsync(3_000)
    expect(await running).toMatchObject({ code: 'FLOOD' })
  })
})
