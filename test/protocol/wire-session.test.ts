import { describe, expect, it } from 'vitest'
import { RemoteError } from '../../protocol/errors.ts'
import { FORMAT, WAITS, WIRE } from '../../protocol/limits.ts'
import { CreditBudget } from '../../protocol/wire/credit.ts'
import type { HaveForm, Message } from '../../protocol/wire/messages.ts'
import { Session, type SessionAction, type SessionEvent } from '../../protocol/wire/session.ts'

const BLOCK = FORMAT.blockBytes
const FRAME = WIRE.dataBytesMax
/** What we send at once; less than may be received. */
const SENT = WIRE.dataBytesSent

/** A session of a share of 100 whole blocks, with its invariants checked after every event. */
class Bench {
  now = 0
  readonly budget: CreditBudget
  readonly session: Session
  creditBytes = 0

  constructor(options: { knowsShape?: boolean; budgetBytes?: number } = {}) {
    this.budget = new CreditBudget(options.budgetBytes ?? WIRE.creditBytesTotal)
    const saidShape = options.knowsShape ?? true
    this.session = new Session({ now: 0, budget: this.budget, saidShape, peerKnowsShape: false })
    if (saidShape) this.session.learnShape({ blockCount: 100, expectedBytes: (level) => (level === 0 ? BLOCK : null) })
  }

  feed(event: SessionEvent): SessionAction[] {
    const actions = this.session.handle(event, this.now)
    this.session.checkInvariants()
    for (const action of actions) if (action.type === 'send' && action.message.type === 'credit') this.creditBytes += action.message.bytes
    return actions
  }

  receive(message: Message): SessionAction[] {
    return this.feed({ type: 'received', message })
  }

  data(index: number, offset: number, length = FRAME, total = BLOCK): SessionAction[] {
    return this.receive({ type: 'data', level: 0, index, total, offset, bytes: new Uint8Array(length) })
  }

  /** Sends as much of a block as there is credit for; true when all of it went. */
  block(index: number, from = 0): number {
    let offset = from
    while (offset < BLOCK && this.creditBytes >= FRAME) {
      this.creditBytes -= FRAME
      this.data(index, offset)
      offset += FRAME
    }
    return offset
  }
}

const request = (index: number): SessionEvent => ({ type: 'request', level: 0, index })
const cancel = (index: number): SessionEvent => ({ type: 'cancel', level: 0, index })
const codeOf = (work: () => unknown): string => {
  try {
    work()
  } catch (error) {
    if (error instanceof RemoteError) return error.code
    throw error
  }
  return 'none'
}
const have = (form: HaveForm): Message => ({ type: 'have', have: form })

describe('session: what we asked', () => {
  it('grants credit only for what was asked, and no more than the window of a peer that sent nothing yet', () => {
    const bench = new Bench()
    bench.feed({ type: 'tick' })
    expect(bench.creditBytes).toBe(0)
    const small = new Bench()
    small.feed({ type: 'request', level: 1, index: 0 })
    expect(small.creditBytes).toBe(FORMAT.nodeBytesMax)
    for (let i = 0; i < 16; i++) bench.feed(request(i))
    expect(bench.creditBytes).toBe(WIRE.creditBytesStart)
    expect(bench.session.exposureBytes).toBe(WIRE.creditBytesStart)
  })

  it('widens the window up to the limit as blocks come in, and pays back when they are let go', () => {
    const bench = new Bench()
    for (let i = 0; i < 40; i++) bench.feed(request(i))
    let peak = 0
    for (let i = 0; i < 40; i++) {
      expect(bench.block(i)).toBe(BLOCK)
      bench.feed({ type: 'released', bytes: BLOCK })
      peak = Math.max(peak, bench.session.exposureBytes)
    }
    expect(peak).toBe(WIRE.creditBytesPerPeer)
    expect(bench.budget.used).toBe(0)
    expect(bench.creditBytes).toBe(0) // not one byte more than was asked
  })

  it('stops granting while the driver holds blocks, and goes on when it lets them go', () => {
    const bench = new Bench()
    for (let i = 0; i < 30; i++) bench.feed(request(i))
    let [index, offset, held] = [0, 0, 0]
    while (bench.creditBytes >= FRAME) {
      offset = bench.block(index, offset)
      if (offset === BLOCK) [index, offset, held] = [index + 1, 0, held + BLOCK]
    }
    expect(held).toBeGreaterThanOrEqual(BLOCK)
    expect(held).toBeLessThanOrEqual(WIRE.creditBytesPerPeer + BLOCK)
    bench.feed({ type: 'released', bytes: held })
    expect(bench.creditBytes).toBeGreaterThan(0)
  })

  it('a process without budget left still gives each peer one frame, and everything comes back at the end', () => {
    const bench = new Bench({ budgetBytes: 0 })
    bench.feed(request(1))
    expect(bench.creditBytes).toBe(WIRE.creditBytesFloor)
    expect(bench.block(1)).toBe(BLOCK) // frame by frame
    bench.session.close()
    expect(bench.budget.used).toBe(0)
  })

  it('refuses a block that was not asked for, bytes out of order, two blocks at a time, and a wrong length', () => {
    expect(codeOf(() => new Bench().data(3, 0))).toBe('UNSOLICITED')
    const asked = (...steps: ((bench: Bench) => unknown)[]): string => {
      const bench = new Bench()
      bench.feed(request(3))
      bench.feed(request(4))
      return codeOf(() => steps.map((step) => step(bench)))
    }
    expect(asked((b) => b.data(3, FRAME))).toBe('BAD_FRAME')
    expect(
      asked(
        (b) => b.data(3, 0),
        (b) => b.data(3, 0),
      ),
    ).toBe('BAD_FRAME')
    expect(
      asked(
        (b) => b.data(3, 0),
        (b) => b.data(4, 0),
      ),
    ).toBe('UNSOLICITED')
    expect(asked((b) => b.data(3, 0, FRAME, BLOCK - 1))).toBe('BAD_BLOCK')
    expect(
      asked(
        (b) => b.data(3, 0),
        (b) => b.data(3, FRAME, FRAME, BLOCK - 1),
      ),
    ).toBe('BAD_FRAME')
    expect(asked((b) => b.receive({ type: 'absent', level: 0, index: 5 }))).toBe('UNSOLICITED')
  })

  it('cuts off a peer that sends beyond its credit', () => {
    const bench = new Bench()
    for (let i = 0; i < 30; i++) bench.feed(request(i))
    let sentBytes = 0
    const flood = (): void => {
      for (; sentBytes < 30 * BLOCK; sentBytes += FRAME) bench.data(Math.floor(sentBytes / BLOCK), sentBytes % BLOCK)
    }
    expect(codeOf(flood)).toBe('CREDIT_EXCEEDED') // nothing was let go
    expect(sentBytes).toBe(bench.creditBytes)
  })

  it('without the shape a leaf may be no longer than a block, a node no longer than a node', () => {
    const bench = new Bench({ knowsShape: false })
    bench.feed({ type: 'request', level: 255, index: 0 })
    const root = (total: number): Message => ({ type: 'data', level: 255, index: 0, total, offset: 0, bytes: new Uint8Array(10) })
    expect(codeOf(() => bench.receive(root(FORMAT.nodeBytesMax + 1)))).toBe('BAD_BLOCK')
    expect(bench.receive(root(10))).toContainEqual({ type: 'chunk', level: 255, index: 0, total: 10, offset: 0, isLast: true })
  })

  it('late DATA of a cancelled block is dropped and its credit comes back', () => {
    const bench = new Bench()
    bench.feed(request(7))
    bench.data(7, 0)
    expect(bench.feed(cancel(7))).toContainEqual({ type: 'forget', level: 0, index: 7 })
    const late = bench.data(7, FRAME)
    expect(late.filter(({ type }) => type === 'chunk')).toEqual([])
    bench.receive({ type: 'absent', level: 0, index: 7 })
    expect(bench.budget.used).toBe(0)
    expect(codeOf(() => bench.data(7, 2 * FRAME))).toBe('UNSOLICITED') // the request has ended now
  })

  it('a block cancelled and asked again is delivered once, by the second answer', () => {
    const bench = new Bench()
    bench.feed(request(7))
    bench.feed(cancel(7))
    bench.feed(request(7))
    expect(bench.data(7, 0).filter(({ type }) => type === 'chunk')).toEqual([])
    expect(bench.receive({ type: 'absent', level: 0, index: 7 })).not.toContainEqual({ type: 'absent', level: 0, index: 7 })
    expect(bench.data(7, 0)).toContainEqual({ type: 'chunk', level: 0, index: 7, total: BLOCK, offset: 0, isLast: false })
    expect(bench.receive({ type: 'absent', level: 0, index: 7 })).toContainEqual({ type: 'absent', level: 0, index: 7 })
  })

  it('ends with a peer that never ends cancelled requests', () => {
    const bench = new Bench()
    const churn = (): void => {
      for (let i = 0; i <= WIRE.cancelledMax; i++) {
        bench.feed(request(i % 100))
        bench.feed(cancel(i % 100))
      }
    }
    expect(codeOf(churn)).toBe('TIMEOUT')
  })
})

describe('session: what they ask and say', () => {
  const ask = (index: number, level = 0): Message => ({ type: 'request', level, index })

  it('takes 64 requests, and one more is a flood, as is the same one twice', () => {
    const bench = new Bench()
    for (let i = 0; i < WIRE.requestsQueuedMax; i++) expect(bench.receive(ask(i))).toContainEqual({ type: 'requested', level: 0, index: i })
    expect(codeOf(() => bench.receive(ask(99)))).toBe('FLOOD')
    const other = new Bench()
    other.receive(ask(1))
    expect(codeOf(() => other.receive(ask(1)))).toBe('FLOOD')
  })

  it.each([
    [100, 0],
    [1, 1],
    [0, 4],
    [1, 255],
  ])('a request for block %i of level %i is out of range', (index, level) => {
    expect(codeOf(() => new Bench().receive(ask(index, level)))).toBe('OUT_OF_RANGE')
  })

  it('a suggestion is passed on, is out of range beyond the last leaf, and unsolicited before we said that we know the shape', () => {
    const bench = new Bench()
    expect(bench.receive({ type: 'suggest', index: 99 })).toContainEqual({ type: 'suggested', index: 99 })
    expect(codeOf(() => bench.receive({ type: 'suggest', index: 100 }))).toBe('OUT_OF_RANGE')
    const blank = new Session({ now: 0, budget: new CreditBudget(1), saidShape: false, peerKnowsShape: true })
    expect(codeOf(() => blank.handle({ type: 'received', message: { type: 'suggest', index: 0 } }, 1))).toBe('UNSOLICITED')
  })

  it('sends DATA as far as credit goes, in frames that fit one Noise message, and nothing after a cancel, which ends by ABSENT', () => {
    const bench = new Bench()
    bench.receive(ask(5))
    expect(bench.session.sendableBytes(0, 5, BLOCK)).toBe(0)
    bench.receive({ type: 'credit', bytes: SENT + 10 })
    expect(bench.session.sendableBytes(0, 5, BLOCK)).toBe(SENT)
    bench.feed({ type: 'sent', level: 0, index: 5, bytes: SENT, isLast: false })
    expect(bench.session.sendableBytes(0, 5, BLOCK - SENT)).toBe(10)
    const actions = bench.receive({ type: 'cancel', level: 0, index: 5 })
    expect(actions).toEqual([
      { type: 'cancelled', level: 0, index: 5 },
      { type: 'send', message: { type: 'absent', level: 0, index: 5 } },
    ])
    expect(bench.session.sendableBytes(0, 5, BLOCK - SENT)).toBe(0)
    expect(bench.feed({ type: 'absent', level: 0, index: 5 })).toEqual([]) // one end is enough
    expect(bench.receive({ type: 'cancel', level: 0, index: 5 })).toEqual([]) // too late is no fault
  })

  it.each<[string, HaveForm, string]>([
    [
      'a range beyond the end',
      {
        kind: 'ranges',
        ranges: [
          [1, 2],
          [99, 2],
        ],
      },
      'OUT_OF_RANGE',
    ],
    ['the whole range', { kind: 'ranges', ranges: [[0, 100]] }, 'none'],
    ['a page one byte too long', { kind: 'bitmap', first: 0, bits: new Uint8Array(14) }, 'OUT_OF_RANGE'],
    ['a page with a spare bit set', { kind: 'bitmap', first: 0, bits: new Uint8Array(13).fill(255) }, 'OUT_OF_RANGE'],
    ['the last page as it should be', { kind: 'bitmap', first: 96, bits: Uint8Array.of(0xf0) }, 'none'],
    ['a page that starts within a byte', { kind: 'bitmap', first: 4, bits: Uint8Array.of(0xf0) }, 'OUT_OF_RANGE'],
  ])('HAVE: %s', (_, form, code) => {
    expect(codeOf(() => new Bench().receive(have(form)))).toBe(code)
  })

  it('positions are unsolicited for who never said that it knows the shape, and any HAVE tells that its sender does', () => {
    const bench = new Bench({ knowsShape: false })
    expect(codeOf(() => bench.receive(have({ kind: 'ranges', ranges: [[0, 1]] })))).toBe('UNSOLICITED')
    expect(bench.session.peerKnowsShape).toBe(false)
    bench.receive(have({ kind: 'all' }))
    expect(bench.session.peerKnowsShape).toBe(true)
    const learned = bench.session.learnShape({ blockCount: 100, expectedBytes: () => null })
    expect(learned).toEqual([{ type: 'send', message: have({ kind: 'shape' }) }])
    expect(codeOf(() => bench.receive(have({ kind: 'ranges', ranges: [[0, 1]] })))).toBe('none')
  })

  it('more HAVE than 64 a second and 512 at once, peer exchange more than twice a minute and three times at once, a second hello, or a storm of small frames end it', () => {
    const flood = (message: Message, count: number, stepMs = 0): string => {
      const bench = new Bench()
      return codeOf(() => {
        for (let i = 0; i < count; i++, bench.now += stepMs) bench.session.handle({ type: 'received', message }, bench.now)
      })
    }
    expect(flood(have({ kind: 'all' }), WIRE.haveFramesAtOnceMax)).toBe('none')
    expect(flood(have({ kind: 'all' }), WIRE.haveFramesAtOnceMax + 1)).toBe('FLOOD')
    expect(flood(have({ kind: 'all' }), WIRE.haveFramesAtOnceMax + 200, 10)).toBe('none')
    expect(flood(have({ kind: 'all' }), 3 * WIRE.haveFramesAtOnceMax, 10)).toBe('FLOOD')
    expect(flood(have({ kind: 'all' }), 1000, 16)).toBe('none')
    expect(flood({ type: 'pex', peers: [] }, WIRE.pexAtOnceMax, 0)).toBe('none')
    expect(flood({ type: 'pex', peers: [] }, WIRE.pexAtOnceMax + 1, 1000)).toBe('FLOOD')
    expect(flood({ type: 'pex', peers: [] }, 20, WIRE.pexIntervalMs / 3)).toBe('FLOOD')
    expect(flood({ type: 'pex', peers: [] }, 9, WIRE.pexIntervalMs)).toBe('none')
    expect(flood({ type: 'keepalive' }, WIRE.controlFramesPerSecondMax + 1)).toBe('FLOOD')
    expect(flood({ type: 'hello', rendezvous: new Uint8Array(32), proof: new Uint8Array(32), knowsShape: true }, 1)).toBe('DUPLICATE_HELLO')
    expect(flood({ type: 'credit', bytes: 0xffff_ffff }, 2)).toBe('OUT_OF_RANGE')
    expect(flood({ type: 'skipped' }, 100)).toBe('none')
  })

  it('says KEEPALIVE after 30 s without a word of ours, and gives a silent peer up after 90 s', () => {
    const bench = new Bench()
    expect(bench.session.nextTimeout()).toBe(WAITS.keepaliveMs)
    bench.now = WAITS.keepaliveMs - 1
    expect(bench.feed({ type: 'tick' })).toEqual([])
    bench.now = WAITS.keepaliveMs
    expect(bench.feed({ type: 'tick' })).toEqual([{ type: 'send', message: { type: 'keepalive' } }])
    bench.now = WAITS.silenceMs - 1
    bench.receive({ type: 'keepalive' })
    bench.now = WAITS.silenceMs + WAITS.silenceMs - 2
    bench.feed({ type: 'tick' })
    bench.now += 1
    expect(codeOf(() => bench.feed({ type: 'tick' }))).toBe('TIMEOUT')
  })
})
