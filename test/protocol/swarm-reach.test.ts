import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { REACH } from '../../protocol/limits.ts'
import { type CheckOutcome, Reach, type ReachAction, type ReachEvent } from '../../protocol/swarm/reach.ts'

const OWN = '/ip4/5.9.0.2/tcp/4801'
const TOLD = '/ip4/91.7.0.2/tcp/4801'

/** A machine with its clock, and what it wants done. */
class Bench {
  readonly machine = new Reach(REACH, () => 0)
  now = 0

  feed(event: ReachEvent): ReachAction[] {
    const actions = this.machine.handle(event, this.now)
    this.machine.checkInvariants()
    return actions
  }

  /** Lets the time come that the machine waits for. */
  wait(): ReachAction[] {
    this.now = this.machine.nextTimeout() ?? this.now
    return this.feed({ type: 'tick' })
  }

  /** So many peers, each in a neighbourhood of its own, say the same of an address. */
  answers(address: string, outcome: CheckOutcome, ...peers: string[]): ReachAction[] {
    return peers.flatMap((peer) => [
      ...this.feed({ type: 'checker', peer, group: `group of ${peer}` }),
      ...this.feed({ type: 'answered', peer, address, outcome }),
    ])
  }
}

function benchWith(address: string, isOwn: boolean): Bench {
  const bench = new Bench()
  bench.feed({ type: 'addresses', addresses: [{ address, isOwn }] })
  return bench
}

describe('who can reach this node', () => {
  it('is asked of a peer as soon as there is one, one at a time', () => {
    const bench = benchWith(OWN, true)
    expect(bench.feed({ type: 'checker', peer: 'p', group: 'g' })).toEqual([{ type: 'check', peer: 'p', address: OWN }])
    expect(bench.feed({ type: 'checker', peer: 'q', group: 'h' })).toEqual([])
  })

  it('an address of this machine is open once one neighbourhood has reached it, another address after two', () => {
    expect(benchWith(OWN, true).answers(OWN, 'reached', 'p')).toContainEqual({ type: 'open', address: OWN, isOwn: true })
    const bench = benchWith(TOLD, false)
    expect(bench.answers(TOLD, 'reached', 'p')).not.toContainEqual(expect.objectContaining({ type: 'open' }))
    expect(bench.answers(TOLD, 'reached', 'q')).toContainEqual({ type: 'open', address: TOLD, isOwn: false })
    expect(bench.machine.isOpen).toBe(true)
  })

  it('two peers of one neighbourhood count once', () => {
    const bench = benchWith(TOLD, false)
    for (const peer of ['p', 'q']) bench.feed({ type: 'checker', peer, group: 'the same' })
    for (const peer of ['p', 'q']) bench.feed({ type: 'answered', peer, address: TOLD, outcome: 'reached' })
    expect(bench.machine.isOpen).toBe(false)
  })

  it('an answer that nobody asked for, or that comes too late, says nothing', () => {
    const bench = benchWith(OWN, true)
    bench.feed({ type: 'checker', peer: 'p', group: 'g' })
    bench.feed({ type: 'answered', peer: 'q', address: OWN, outcome: 'reached' })
    bench.now = REACH.checkMs
    bench.feed({ type: 'tick' })
    bench.feed({ type: 'answered', peer: 'p', address: OWN, outcome: 'reached' })
    expect(bench.machine.addresses).toEqual([{ address: OWN, verdict: 'unknown', reachedBy: 0, failedBy: 0 }])
  })

  it('is closed when two neighbourhoods failed, and looked at again later', () => {
    const bench = benchWith(TOLD, false)
    bench.answers(TOLD, 'failed', 'p', 'q')
    expect(bench.machine.addresses[0]?.verdict).toBe('closed')
    const actions: ReachAction[] = []
    while (!actions.some(({ type }) => type === 'check')) actions.push(...bench.wait())
    expect(bench.now).toBeGreaterThanOrEqual(REACH.closedAgainMs)
    bench.feed({ type: 'answered', peer: 'p', address: TOLD, outcome: 'reached' })
    expect(bench.feed({ type: 'answered', peer: 'q', address: TOLD, outcome: 'reached' })).toContainEqual(
      expect.objectContaining({ type: 'open' }),
    )
  })

  it('is asked again at once when something has changed, and what was under way says nothing', () => {
    const bench = benchWith(TOLD, false)
    bench.answers(TOLD, 'failed', 'p', 'q')
    expect(bench.feed({ type: 'changed', address: TOLD })).toContainEqual({ type: 'check', peer: 'p', address: TOLD })
    expect(bench.feed({ type: 'changed', address: TOLD })).toContainEqual({ type: 'check', peer: 'p', address: TOLD })
    expect(bench.answers(TOLD, 'reached', 'p', 'q')).toContainEqual({ type: 'open', address: TOLD, isOwn: false })
  })

  it('what was open is closed when it is not reached any more, and when it is no address of ours any more', () => {
    for (const isGone of [false, true]) {
      const bench = benchWith(OWN, true)
      bench.answers(OWN, 'reached', 'p')
      if (isGone) {
        expect(bench.feed({ type: 'addresses', addresses: [] })).toContainEqual({ type: 'closed', address: OWN })
        continue
      }
      bench.now = REACH.openAgainMs + REACH.graceMs
      bench.feed({ type: 'tick' })
      expect(bench.answers(OWN, 'failed', 'p', 'q')).toContainEqual({ type: 'closed', address: OWN })
    }
  })

  it('what was open is so no longer when a whole round has brought no answer that counts', () => {
    const bench = benchWith(OWN, true)
    bench.answers(OWN, 'reached', 'p')
    bench.feed({ type: 'checkerGone', peer: 'p' })
    expect(bench.wait()).toEqual([])
    expect(bench.machine.isOpen).toBe(true)
    expect(bench.wait()).toContainEqual({ type: 'closed', address: OWN })
    expect(bench.now).toBe(REACH.openAgainMs + REACH.closedAgainMs)
    expect(bench.machine.addresses[0]?.verdict).toBe('unknown')
  })

  it('is asked of whoever is drawn, not of the one that came first', () => {
    const machine = new Reach(REACH, () => 0.99)
    for (const peer of ['p', 'q', 'r']) machine.handle({ type: 'checker', peer, group: peer }, 0)
    expect(machine.handle({ type: 'addresses', addresses: [{ address: OWN, isOwn: true }] }, 0)).toEqual([
      { type: 'check', peer: 'r', address: OWN },
    ])
  })

  it('relays are wanted when nothing is open a while after the first peer outside, and no more once something is', () => {
    const bench = benchWith(TOLD, false)
    bench.feed({ type: 'checker', peer: 'p', group: 'g' })
    expect(bench.wait()).toContainEqual({ type: 'wantRelays', count: REACH.relaysWanted })
    expect(bench.now).toBe(REACH.graceMs)
    bench.feed({ type: 'answered', peer: 'p', address: TOLD, outcome: 'reached' })
    expect(bench.answers(TOLD, 'reached', 'q')).toContainEqual({ type: 'wantRelays', count: 0 })
  })

  it('relays are not wanted where nobody outside is known, and at once when all is known to be closed', () => {
    const alone = benchWith(TOLD, false)
    alone.now = 10 * REACH.graceMs
    expect(alone.feed({ type: 'tick' })).toEqual([])
    expect(benchWith(TOLD, false).answers(TOLD, 'failed', 'p', 'q')).toContainEqual({ type: 'wantRelays', count: REACH.relaysWanted })
  })

  it('never asks for more than it may, whatever happens', () => {
    const peer = fc.integer({ min: 0, max: 90 }).map((n) => `p${n}`)
    const address = fc.integer({ min: 0, max: 12 }).map((n) => `a${n}`)
    const event: fc.Arbitrary<ReachEvent> = fc.oneof(
      fc.record({ type: fc.constant('checker' as const), peer, group: fc.integer({ min: 0, max: 9 }).map(String) }),
      fc.record({ type: fc.constant('checkerGone' as const), peer }),
      fc.record({ type: fc.constant('changed' as const), address }),
      fc.record({
        type: fc.constant('answered' as const),
        ...{ peer, address, outcome: fc.constantFrom<CheckOutcome>('reached', 'failed', 'refused') },
      }),
      fc.record({
        type: fc.constant('addresses' as const),
        addresses: fc.array(fc.record({ address, isOwn: fc.boolean() }), { maxLength: 12 }),
      }),
      fc.constant({ type: 'tick' as const }),
    )
    fc.assert(
      fc.property(fc.array(fc.tuple(event, fc.integer({ min: 0, max: 30_000 })), { maxLength: 200 }), (steps) => {
        const bench = new Bench()
        const open = new Set<string>()
        for (const [next, laterMs] of steps) {
          bench.now += laterMs
          for (const action of bench.feed(next)) {
            if (action.type === 'open') open.add(action.address)
            if (action.type === 'closed') expect(open.delete(action.address)).toBe(true)
          }
          const due = bench.machine.nextTimeout()
          // Whoever waits for it is not woken for nothing, again and again.
          if (due !== undefined && due <= bench.now) bench.feed({ type: 'tick' })
          expect(bench.machine.nextTimeout() ?? Number.POSITIVE_INFINITY).toBeGreaterThan(bench.now)
          expect(bench.machine.isOpen).toBe(open.size > 0)
        }
      }),
      { seed: 1, numRuns: 300 },
    )
  })
})
