import { describe, expect, it } from 'vitest'
import { SWARM } from '../../protocol/limits.ts'
import { IndexSets } from '../../protocol/swarm/index-sets.ts'
import { countBytes, Peers, pushRequest } from '../../protocol/swarm/peers.ts'
import { Swarm, type SwarmAction } from '../../protocol/swarm/swarm.ts'
import { randomFrom } from './clock.ts'
import { ITEM_BYTES, type PeerPlan, SWARM_LIMITS, World } from './world.ts'

const SEEDS = Number(process.env.SEEDS ?? 100)

/** One honest peer that stays and has everything, and a crowd of others. */
function crowd(seed: number): PeerPlan[] {
  const random = randomFrom(seed * 7919)
  const plans: PeerPlan[] = [
    { key: 'seeder', joinMs: random() * 1000, latencyMs: 5 + random() * 100, bytesPerMs: 1000 + random() * 20_000, share: 1 },
  ]
  const count = 2 + Math.floor(random() * 12)
  for (let i = 0; i < count; i++) {
    const joinMs = random() * 5_000
    plans.push({
      key: `p${i}`,
      joinMs,
      ...(random() < 0.3 ? { leaveMs: joinMs + 1000 + random() * 8_000 } : {}),
      latencyMs: 5 + random() * 400,
      bytesPerMs: 20 + random() ** 3 * 20_000,
      share: random() < 0.3 ? 1 : random(),
      lies: random() < 0.2 ? 0.5 : 0,
      stalls: random() < 0.2 ? 0.3 : 0,
      absents: random() < 0.2 ? 0.3 : 0,
    })
  }
  return plans
}

const honest = (key: string, more: Partial<PeerPlan> = {}): PeerPlan => ({
  key,
  joinMs: 0,
  latencyMs: 20,
  bytesPerMs: 10_000,
  share: 1,
  ...more,
})

describe('a swarm of liars, stallers and leavers around one honest seeder', () => {
  it(`finishes with every one of ${SEEDS} seeds, invariants checked after every event, at most two copies of an item asked`, () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const outcome = new World(seed, 60, crowd(seed)).run()
      expect(outcome.copiesMax, `seed ${seed}`).toBeLessThanOrEqual(SWARM.endgameCopiesMax)
      expect(outcome.dropped, `seed ${seed}`).not.toContain('seeder')
    }
  })

  it('the same seed gives the same history, another seed another', () => {
    const trace = (seed: number) => new World(seed, 60, crowd(3)).run().trace
    expect(trace(5)).toBe(trace(5))
    expect(trace(5)).not.toBe(trace(6))
  })
})

describe('what peers say while nobody can be asked for more', () => {
  /** A seeder and others that get what it has little by little, so slow that the requests of all are at their bound most of the time. */
  const growing = (seed: number): PeerPlan[] => {
    const random = randomFrom(seed * 104_729)
    const others = Array.from({ length: 16 }, (_, i) => ({
      key: `p${i}`,
      joinMs: random() * 3_000,
      ...(random() < 0.2 ? { leaveMs: 20_000 + random() * 20_000 } : {}),
      latencyMs: 5 + random() * 100,
      bytesPerMs: 40 + random() * 200,
      share: random() * 0.2,
      gainMs: 100 + random() * 400,
      absents: random() < 0.2 ? 0.1 : 0,
    }))
    return [honest('seeder', { bytesPerMs: 300 }), ...others]
  }

  it('is looked at before anybody is: the history is the same when it is looked at at once', () => {
    for (let seed = 1; seed <= 5; seed++) {
      const prompt = new Swarm(120, SWARM_LIMITS, randomFrom(seed ^ 0x5eed))
      new World(seed, 120, growing(seed), (event, now, actions) => {
        expect(prompt.handle(event, now), `seed ${seed}, ${event.type} at ${now}`).toEqual(actions)
        prompt.isTold('p0', 0) // it cannot say without looking
      }).run()
    }
  })
})

describe('a swarm under one kind of trouble', () => {
  const alone = new World(1, 200, [honest('seeder')]).run().finishedMs

  it('39 peers that say that they have everything and give nothing cost at most half as much time again', () => {
    const liars = Array.from({ length: 39 }, (_, i) => honest(`liar${i}`, { stalls: 1 }))
    expect(new World(2, 200, [...liars, honest('seeder', { joinMs: 10 })]).run().finishedMs).toBeLessThan(alone * 1.5)
  })

  it('a peer that sends corrupt blocks is dropped at its first one, and the block comes from elsewhere', () => {
    const outcome = new World(3, 50, [honest('liar', { lies: 1 }), honest('seeder', { joinMs: 10 })]).run()
    expect(outcome.dropped).toEqual(['liar'])
    expect(outcome.served.get('liar')).toBe(1)
  })

  it('a block held hostage a few bytes at a time is fetched from somebody else', () => {
    const hostage = honest('hostage', { bytesPerMs: 0.05 })
    expect(new World(4, 100, [hostage, honest('seeder', { joinMs: 10 })]).run().finishedMs).toBeLessThan(alone + 5_000)
  })

  it('a slow peer that is the only source is never given up', () => {
    const outcome = new World(5, 3, [honest('slow', { bytesPerMs: 8 })]).run() // more than two minutes a block
    expect(outcome.served.get('slow')).toBeGreaterThanOrEqual(3)
    expect(outcome.requests).toBe(outcome.served.get('slow'))
  })

  it('four peers of equal speed share the work evenly and finish about four times as fast as one', () => {
    const outcome = new World(
      6,
      200,
      ['a', 'b', 'c', 'd'].map((key) => honest(key)),
    ).run()
    expect(outcome.finishedMs).toBeLessThan(alone / 3)
    for (const count of outcome.served.values()) expect(Math.abs(count - 50)).toBeLessThan(15)
  })

  it('one fast and three slow peers finish no later than the fast one alone', () => {
    const slow = ['a', 'b', 'c'].map((key) => honest(key, { bytesPerMs: 100 }))
    expect(new World(7, 200, [...slow, honest('fast')]).run().finishedMs).toBeLessThan(alone * 1.1)
  })
})

describe('the swarm machine by hand', () => {
  const joined = (itemCount: number, peers: string[], random = () => 0): { swarm: Swarm; actions: SwarmAction[] } => {
    const swarm = new Swarm(itemCount, SWARM_LIMITS, random)
    const actions: SwarmAction[] = []
    for (const peer of peers) {
      actions.push(...swarm.handle({ type: 'peerJoined', peer }, 0))
      actions.push(...swarm.handle({ type: 'peerHas', peer, first: 0, count: itemCount }, 0))
    }
    return { swarm, actions }
  }
  const requested = (actions: readonly SwarmAction[]): string[] =>
    actions.flatMap((a) => (a.type === 'request' ? [`${a.peer}/${a.item}`] : []))

  it('starts at a place of its own, reads in order from there, and takes priority 0 first', () => {
    const { swarm } = joined(100, ['a'], () => 0.5)
    swarm.handle({ type: 'want', first: 0, count: 100, priority: 2 }, 0)
    expect(swarm.inFlight()).toEqual(['a/50'])
    swarm.handle({ type: 'want', first: 98, count: 2, priority: 0 }, 0)
    const next = requested(swarm.handle({ type: 'verified', peer: 'a', item: 50 }, 10))
    expect(next.slice(0, 3)).toEqual(['a/98', 'a/99', 'a/51'].slice(0, next.length))
  })

  it('a run that meets what is not open any more goes on at a place drawn anew', () => {
    const drawn = [0.5, 0.2]
    const { swarm } = joined(100, ['a'], () => drawn.shift() ?? 0)
    swarm.handle({ type: 'have', first: 52, count: 1 }, 0)
    swarm.handle({ type: 'want', first: 0, count: 100, priority: 2 }, 0)
    const asked = swarm.inFlight()
    swarm.handle({ type: 'received', peer: 'a', item: 50 }, 10)
    asked.push(...requested(swarm.handle({ type: 'verified', peer: 'a', item: 50 }, 10)))
    for (const item of [51, 20]) {
      swarm.handle({ type: 'received', peer: 'a', item }, 20)
      asked.push(...requested(swarm.handle({ type: 'verified', peer: 'a', item }, 20)))
    }
    expect(asked.slice(0, 4)).toEqual(['a/50', 'a/51', 'a/20', 'a/21'])
  })

  it('what a peer suggested before it was wanted is asked of it first', () => {
    const { swarm } = joined(100, ['a'], () => 0.5)
    for (const item of [7, 3]) swarm.handle({ type: 'suggested', peer: 'a', item }, 0)
    expect(swarm.inFlight()).toEqual([])
    swarm.handle({ type: 'want', first: 0, count: 100, priority: 2 }, 0)
    expect(swarm.inFlight()).toEqual(['a/7'])
    swarm.handle({ type: 'received', peer: 'a', item: 7 }, 10)
    expect(requested(swarm.handle({ type: 'verified', peer: 'a', item: 7 }, 10))[0]).toBe('a/3')
  })

  it('what a peer sends is the head of its queue, in whatever order it answers', () => {
    const peer = new Peers(new IndexSets(10)).add('a', 4)
    for (const item of [5, 7]) pushRequest(peer, { item, peers: [peer], checking: 0, askedMs: 0 }, 0)
    expect(countBytes(peer, 7, 100, 1_000)).toBe(true)
    expect(peer.queue.map(({ item }) => item)).toEqual([7, 5])
    expect(peer).toMatchObject({ headBytes: 100, headFirstMs: 1_000 })
    expect(countBytes(peer, 7, 100, 1_100)).toBe(false)
    expect(countBytes(peer, 9, 100, 1_200)).toBe(false) // cancelled, and on its way already
    expect(peer).toMatchObject({ headBytes: 200, lastByteMs: 1_200 })
  })

  it('takes the rarest of what proven peers have, and does not listen to those that never delivered', () => {
    const { swarm } = joined(10, [])
    for (const [peer, first, count] of [
      ['a', 0, 5],
      ['b', 0, 9],
      ['seeder', 0, 10],
    ] as const) {
      swarm.handle({ type: 'peerJoined', peer }, 0)
      swarm.handle({ type: 'peerHas', peer, first, count }, 0)
    }
    swarm.handle({ type: 'verified', peer: 'a', item: 0 }, 0) // proven, so 1 to 4 are less rare now
    swarm.handle({ type: 'want', first: 0, count: 10, priority: 2 }, 0)
    swarm.checkInvariants()
    expect(swarm.inFlight().filter((request) => !request.startsWith('a'))).toEqual(['b/6', 'seeder/5'])
  })

  it('does not ask again for what a peer refused, until it says that it has it', () => {
    const { swarm } = joined(1, ['a'])
    swarm.handle({ type: 'want', first: 0, count: 1, priority: 0 }, 0)
    expect(requested(swarm.handle({ type: 'rejected', peer: 'a', item: 0, reason: 'absent' }, 1))).toEqual([])
    expect(requested(swarm.handle({ type: 'tick' }, 50_000))).toEqual([])
    expect(requested(swarm.handle({ type: 'peerHas', peer: 'a', first: 0, count: 1 }, 50_001))).toEqual(['a/0'])
  })

  it('asks again without blame when our own disk failed, and takes what is verified after its peer left', () => {
    const { swarm } = joined(2, ['a'])
    swarm.handle({ type: 'want', first: 0, count: 2, priority: 0 }, 0)
    swarm.handle({ type: 'received', peer: 'a', item: 0 }, 1)
    expect(requested(swarm.handle({ type: 'rejected', peer: 'a', item: 0, reason: 'store' }, 2))).toEqual(['a/0'])
    swarm.handle({ type: 'verified', peer: 'a', item: 1 }, 3)
    swarm.handle({ type: 'received', peer: 'a', item: 0 }, 4)
    swarm.handle({ type: 'peerLeft', peer: 'a' }, 5)
    swarm.checkInvariants()
    expect(swarm.handle({ type: 'verified', peer: 'a', item: 0 }, 6)).toEqual([{ type: 'done' }])
    swarm.checkInvariants()
  })

  it('a verdict on what an earlier session of a peer brought leaves nothing asked behind, and takes nothing back unheard', () => {
    const { swarm } = joined(2, ['a'])
    swarm.handle({ type: 'want', first: 0, count: 2, priority: 0 }, 0)
    swarm.handle({ type: 'received', peer: 'a', item: 0 }, 1)
    swarm.handle({ type: 'peerLeft', peer: 'a' }, 2)
    swarm.handle({ type: 'peerJoined', peer: 'a' }, 3)
    expect(requested(swarm.handle({ type: 'peerHas', peer: 'a', first: 0, count: 2 }, 3))).toEqual(['a/0'])
    expect(swarm.handle({ type: 'rejected', peer: 'a', item: 0, reason: 'store' }, 4)).toEqual([]) // the session would refuse a second request
    expect(swarm.inFlight()).toEqual(['a/0'])
    expect(swarm.handle({ type: 'verified', peer: 'a', item: 0 }, 5)).toContainEqual({ type: 'cancel', peer: 'a', item: 0 })
    expect(swarm.inFlight()).toEqual(['a/1'])
    swarm.checkInvariants()
  })

  it('copies what comes too slowly, takes it away when nothing came for 20 s, and keeps waiting where there is nobody else', () => {
    const { swarm } = joined(1, ['a'])
    swarm.handle({ type: 'want', first: 0, count: 1, priority: 0 }, 0)
    expect(swarm.handle({ type: 'tick' }, 70_000)).toEqual([])
    swarm.handle({ type: 'peerJoined', peer: 'b' }, 70_001)
    swarm.handle({ type: 'progress', peer: 'a', item: 0, bytes: 50_000 }, 70_001)
    swarm.handle({ type: 'peerHas', peer: 'b', first: 0, count: 1 }, 70_002)
    expect(swarm.inFlight()).toEqual(['a/0'])
    swarm.handle({ type: 'tick' }, 71_500)
    expect(swarm.inFlight()).toEqual(['a/0', 'b/0']) // a second copy, for who is that slow
    expect(swarm.handle({ type: 'tick' }, 90_000)).toEqual([])
    const late = swarm.handle({ type: 'tick' }, 90_100)
    expect(late).toContainEqual({ type: 'cancel', peer: 'a', item: 0 })
    swarm.checkInvariants()
  })

  it('lets a request wait a minute for its first byte, for its peer may be serving others', () => {
    const { swarm } = joined(2, ['a', 'b'])
    swarm.handle({ type: 'want', first: 0, count: 2, priority: 2 }, 0)
    for (let now = 1_000; now < 60_000; now += 1_000)
      for (const action of swarm.handle({ type: 'tick' }, now)) expect(action.type).not.toBe('cancel')
    expect(swarm.handle({ type: 'tick' }, 60_000).map(({ type }) => type)).toContain('cancel')
    swarm.checkInvariants()
  })

  it('reading in order takes the lowest item first, and copies it as soon as it hangs, though later ones are open', () => {
    const { swarm } = joined(100, [], () => 0.5)
    for (const [peer, now] of [
      ['slow', 0],
      ['fast', 1],
    ] as const) {
      swarm.handle({ type: 'peerJoined', peer }, now)
      swarm.handle({ type: 'peerHas', peer, first: 0, count: 100 }, now)
    }
    swarm.handle({ type: 'want', first: 10, count: 50, priority: 1 }, 2)
    expect(swarm.inFlight()).toEqual(['fast/11', 'slow/10'])
    swarm.handle({ type: 'progress', peer: 'fast', item: 11, bytes: ITEM_BYTES }, 100)
    swarm.handle({ type: 'received', peer: 'fast', item: 11 }, 100)
    const next = requested(swarm.handle({ type: 'verified', peer: 'fast', item: 11 }, 101))
    expect(next[0]).toBe('fast/12')
    swarm.handle({ type: 'progress', peer: 'fast', item: 12, bytes: ITEM_BYTES }, 3_100)
    swarm.handle({ type: 'received', peer: 'fast', item: 12 }, 3_100)
    swarm.handle({ type: 'verified', peer: 'fast', item: 12 }, 3_101)
    expect(swarm.inFlight()).toContain('fast/10')
    swarm.checkInvariants()
  })

  it('asks at most two peers for the same item, however many stand idle', () => {
    const { swarm } = joined(1, ['a', 'b', 'c', 'd'])
    swarm.handle({ type: 'want', first: 0, count: 1, priority: 0 }, 0)
    for (let now = 1_000; now <= 15_000; now += 1_000) swarm.handle({ type: 'tick' }, now)
    expect(swarm.inFlight().length).toBe(SWARM.endgameCopiesMax)
    swarm.checkInvariants()
  })

  it('of several peers asks the quickest first, and one that rested again after a while', () => {
    const { swarm } = joined(100, ['slow', 'quick'], () => 0)
    swarm.handle({ type: 'want', first: 0, count: 4, priority: 2 }, 0)
    const deliver = (peer: string, item: number, now: number): void => {
      swarm.handle({ type: 'progress', peer, item, bytes: ITEM_BYTES }, now)
      swarm.handle({ type: 'received', peer, item }, now)
      swarm.handle({ type: 'verified', peer, item }, now)
    }
    const askedOf = (item: number): string | undefined => swarm.inFlight().find((request) => request.endsWith(`/${item}`))
    deliver(
      'quick',
      Number(
        swarm
          .inFlight()
          .find((r) => r.startsWith('quick'))
          ?.split('/')[1],
      ),
      100,
    )
    for (const request of swarm.inFlight().filter((r) => r.startsWith('quick'))) deliver('quick', Number(request.split('/')[1]), 200)
    for (const request of swarm.inFlight().filter((r) => r.startsWith('slow'))) deliver('slow', Number(request.split('/')[1]), 2_000)
    for (const request of swarm.inFlight()) deliver(request.split('/')[0]!, Number(request.split('/')[1]), 2_100)
    swarm.handle({ type: 'want', first: 10, count: 1, priority: 2 }, 3_000)
    expect(askedOf(10)).toBe('quick/10')
    swarm.checkInvariants()
  })

  it('says done once, and again after more was wanted', () => {
    const { swarm } = joined(3, ['a'])
    expect(swarm.handle({ type: 'want', first: 0, count: 1, priority: 0 }, 0)).toEqual([{ type: 'request', peer: 'a', item: 0 }])
    swarm.handle({ type: 'received', peer: 'a', item: 0 }, 1)
    expect(swarm.handle({ type: 'verified', peer: 'a', item: 0 }, 1)).toEqual([{ type: 'done' }])
    expect(swarm.handle({ type: 'tick' }, 2)).toEqual([])
    expect(swarm.handle({ type: 'want', first: 0, count: 1, priority: 3 }, 3)).toEqual([{ type: 'done' }])
    swarm.handle({ type: 'want', first: 1, count: 2, priority: 0 }, 4)
    expect(swarm.handle({ type: 'have', first: 0, count: 3 }, 5).map(({ type }) => type)).toContain('done')
  })

  it('asks for at most 32 items of peers that deliver, 16 of one, and beside that one each of those that do not', () => {
    const { swarm } = joined(
      1000,
      Array.from({ length: 40 }, (_, i) => `p${i}`),
    )
    swarm.handle({ type: 'want', first: 0, count: 1000, priority: 1 }, 0)
    let now = 0
    for (let round = 0; round < 400 && swarm.inFlight().length > 0; round++) {
      const [peer, item] = swarm.inFlight()[0]!.split('/') as [string, string]
      now += 5
      swarm.handle({ type: 'progress', peer, item: Number(item), bytes: ITEM_BYTES }, now)
      swarm.handle({ type: 'received', peer, item: Number(item) }, now)
      swarm.handle({ type: 'verified', peer, item: Number(item) }, now)
      swarm.checkInvariants()
    }
    swarm.checkInvariants()
  })
})

describe('before anybody has delivered', () => {
  it('two that say nothing do not hold up the first block', () => {
    const swarm = new Swarm(1, SWARM_LIMITS, () => 0)
    const asked: string[] = []
    const feed = (event: Parameters<Swarm['handle']>[0], now: number): void => {
      for (const action of swarm.handle(event, now)) if (action.type === 'request') asked.push(action.peer)
      swarm.checkInvariants()
    }
    for (const peer of ['mute-0', 'mute-1', 'mute-2', 'mute-3', 'honest']) {
      feed({ type: 'peerJoined', peer }, 0)
      feed({ type: 'peerHas', peer, first: 0, count: 1 }, 0)
    }
    feed({ type: 'want', first: 0, count: 1, priority: 0 }, 0)
    for (let now = 1_000; now <= 4_000; now += 1_000) feed({ type: 'tick' }, now)
    expect(asked).toContain('honest')
  })
})
