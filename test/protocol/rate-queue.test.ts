import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { RATE, WIRE } from '../../protocol/limits.ts'
import { isCap, RateMeter, RateQueue, type Waiter } from '../../protocol/wire/rate-queue.ts'

const MIB = 2 ** 20
const RUNS = { numRuns: 200, seed: 1 }
const caps = fc.integer({ min: RATE.bytesPerSecondMin, max: 200 * MIB })

/** A writer of one block: it takes a frame whenever it is woken, until the block is out. */
class Block implements Waiter {
  readonly order: number
  leftBytes: number
  /** Cannot use tokens: its stream must drain. */
  isStuck = false
  readonly wake = (): void => {}

  constructor(order: number, leftBytes: number) {
    this.order = order
    this.leftBytes = leftBytes
  }

  /** Takes what it can get; the bytes. */
  run(queue: RateQueue, now: number): number {
    let taken = 0
    while (this.leftBytes > 0 && !this.isStuck) {
      const bytes = Math.min(this.leftBytes, queue.stepBytes)
      if (!queue.take(this, this.order, bytes, now)) break
      this.leftBytes -= bytes
      taken += bytes
    }
    queue.checkInvariants()
    return taken
  }
}

/** Wakes whose turn it is until nobody's is; the bytes that went. */
function wakeAll(queue: RateQueue, now: number): number {
  let bytes = 0
  for (let first = queue.ready(now); first !== null; first = queue.ready(now)) bytes += (first as Block).run(queue, now)
  return bytes
}

describe('a cap on bytes a second', () => {
  it('lets no more through in any stretch of time than the cap and one burst', () => {
    const steps = fc.array(fc.record({ waitMs: fc.integer({ min: 0, max: 700 }), blockBytes: fc.integer({ min: 1, max: MIB }) }), {
      minLength: 2,
      maxLength: 40,
    })
    fc.assert(
      fc.property(caps, steps, (cap, plan) => {
        const queue = new RateQueue(cap, 0)
        const sent: { now: number; bytes: number }[] = []
        let now = 0
        for (const { waitMs, blockBytes } of plan) {
          now += waitMs
          const block = new Block(queue.nextOrder(), blockBytes)
          sent.push({ now, bytes: wakeAll(queue, now) + block.run(queue, now) })
        }
        for (let from = 0; from < sent.length; from++) {
          let sum = 0
          for (const { now: at, bytes } of sent.slice(from)) {
            sum += bytes
            expect(sum).toBeLessThanOrEqual((cap * (at - sent[from]!.now)) / 1000 + queue.burstBytes + 1e-6)
          }
        }
      }),
      RUNS,
    )
  })

  it('wastes nothing while anybody waits: woken on time, the cap is used up to a burst', () => {
    fc.assert(
      fc.property(caps, fc.integer({ min: 1, max: 8 }), (cap, count) => {
        const queue = new RateQueue(cap, 0)
        const blocks = Array.from({ length: count }, () => new Block(queue.nextOrder(), Number.MAX_SAFE_INTEGER))
        let sum = blocks.reduce((total, block) => total + block.run(queue, 0), 0)
        let now = 0
        for (let i = 0; i < 400; i++) {
          now = queue.nextTimeout()! + 1e-6
          sum += wakeAll(queue, now)
        }
        expect(sum).toBeGreaterThan((cap * now) / 1000 - queue.stepBytes - 1)
        expect(sum).toBeLessThanOrEqual((cap * now) / 1000 + queue.burstBytes)
      }),
      RUNS,
    )
  })

  it('sends blocks one after another, in the order in which they were begun', () => {
    const queue = new RateQueue(MIB, 0)
    const blocks = Array.from({ length: 8 }, () => new Block(queue.nextOrder(), MIB))
    for (const block of blocks.toReversed()) block.run(queue, 0) // they come to the line in the wrong order
    const ended: number[] = []
    for (let now = 0; now < 9_000; now += 10) {
      wakeAll(queue, now)
      for (const block of blocks) if (block.leftBytes === 0 && !ended.includes(block.order)) ended.push(block.order)
      const begun = blocks.filter(({ leftBytes }) => leftBytes > 0 && leftBytes < MIB)
      expect(begun.length).toBeLessThanOrEqual(1)
    }
    expect(ended).toEqual(blocks.map(({ order }) => order))
  })

  it('lets no later block take what an earlier one waits for, even if it asks first', () => {
    const queue = new RateQueue(MIB, 0)
    const [early, late] = [new Block(queue.nextOrder(), MIB), new Block(queue.nextOrder(), MIB)]
    early.run(queue, 0)
    expect(late.run(queue, 200)).toBe(0)
    expect(early.run(queue, 200)).toBeGreaterThan(100_000)
  })

  it('gives what an early block cannot use to the next, and the early one its place back', () => {
    const queue = new RateQueue(MIB, 0)
    const [early, late] = [new Block(queue.nextOrder(), MIB), new Block(queue.nextOrder(), MIB)]
    early.run(queue, 0)
    late.run(queue, 0)
    early.isStuck = true
    queue.leave(early)
    wakeAll(queue, 500)
    expect([early.leftBytes, late.leftBytes < MIB]).toEqual([MIB, true])
    const before = late.leftBytes
    early.isStuck = false
    early.run(queue, 500)
    for (let now = 500; now < 900; now += 10) wakeAll(queue, now)
    expect(late.leftBytes).toBe(before)
    expect(early.leftBytes).toBeLessThan(MIB)
  })

  it('small frames go at once and are missing afterwards', () => {
    const queue = new RateQueue(MIB, 0)
    queue.spend(MIB, 0)
    const block = new Block(queue.nextOrder(), WIRE.dataBytesSent)
    expect(block.run(queue, 1_000)).toBe(0)
    expect(block.run(queue, 1_063)).toBe(WIRE.dataBytesSent)
  })

  it('without a cap nobody waits, and one that is lifted or lowered meanwhile leaves nobody behind', () => {
    const queue = new RateQueue(null, 0)
    const block = new Block(queue.nextOrder(), 100 * MIB)
    expect(block.run(queue, 0)).toBe(100 * MIB)
    block.leftBytes = 10 * MIB
    queue.setCap(10 * MIB, 0)
    expect(block.run(queue, 0)).toBe(0) // nothing was saved up before
    queue.setCap(2 * RATE.bytesPerSecondMin, 10)
    expect(queue.nextTimeout()).toBeLessThan(5_000)
    expect(wakeAll(queue, 5_000)).toBeGreaterThan(0)
    queue.setCap(null, 5_000)
    expect(queue.clear()).toEqual([block])
    block.run(queue, 5_000)
    expect(block.leftBytes).toBe(0)
  })

  it('is a whole number from the least that is useful up, or none', () => {
    expect([1024, 2 ** 40, null].map(isCap)).toEqual([true, true, true])
    expect([1023, 0, -1, 2048.5, Number.NaN, Number.POSITIVE_INFINITY, '2048', undefined].some(isCap)).toBe(false)
  })
})

describe('the meter', () => {
  it('averages over the last seconds, and over less when it has not run so long', () => {
    const meter = new RateMeter(10_000)
    for (let now = 10_000; now < 13_000; now += 100) meter.count(100, now)
    expect(meter.bytesPerSecond(13_000)).toBe(1000)
    for (let now = 13_000; now < 30_000; now += 100) meter.count(200, now)
    expect(meter.bytesPerSecond(29_999)).toBeGreaterThan(1990)
    expect(meter.bytesPerSecond(29_999)).toBeLessThan(2010)
    expect(meter.bytesPerSecond(36_000)).toBe(0)
    expect(meter.totalBytes).toBe(3000 + 34_000)
  })
})
