import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CONTACTS } from '../../protocol/limits.ts'
import {
  type ContactSource,
  Contacts,
  type ContactsAction,
  type ContactsEvent,
  type ContactsLimits,
} from '../../protocol/swarm/contacts.ts'

/** Draws that are the same on every run. */
function draws(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

function book(limits: Partial<ContactsLimits> = {}, random: () => number = () => 0.999) {
  const contacts = new Contacts({ ...CONTACTS, ...limits }, random)
  const feed = (event: ContactsEvent, now: number): readonly ContactsAction[] => {
    const actions = contacts.handle(event, now)
    contacts.checkInvariants()
    return actions
  }
  return { contacts, feed, dials: (event: ContactsEvent, now: number): string[] => dialsIn(feed(event, now)) }
}

const dialsIn = (actions: readonly ContactsAction[]): string[] => actions.flatMap((action) => (action.type === 'dial' ? [action.peer] : []))
const told = (actions: readonly ContactsAction[]): string[] =>
  actions.flatMap((action) => (action.type === 'exchange' ? [`${action.peer}: ${action.peers.map(({ peer }) => peer).sort()}`] : [])).sort()

const at = (peer: string): string[] => [`/ip4/10.0.0.1/tcp/${peer}`]
const found = (peer: string, source: ContactSource, teller?: string): ContactsEvent => ({
  type: 'found',
  peer,
  addresses: at(peer),
  source,
  ...(teller === undefined ? {} : { teller }),
})
const joined = (peer: string, addresses = at(peer), direction: 'inbound' | 'outbound' = 'outbound'): ContactsEvent => ({
  type: 'joined',
  peer,
  addresses,
  direction,
})
const left = (peer: string, wasUseful: boolean): ContactsEvent => ({ type: 'left', peer, wasUseful })
const failed = (peer: string, isFinal = false): ContactsEvent => ({ type: 'dialFailed', peer, isFinal })
const wanting: ContactsEvent = { type: 'wanting', isWanting: true }
const tick: ContactsEvent = { type: 'tick' }

/** At which seconds a peer is dialled when every dial fails. */
function triesOf(source: ContactSource, untilMs: number, wasUseful = false): number[] {
  const { contacts, feed } = book({}, () => 0.9999999)
  feed(found('p', source), 0)
  if (wasUseful) {
    feed(joined('p'), 0)
    feed(left('p', true), 0)
  }
  const tries: number[] = []
  let actions = feed(wanting, 0)
  let now = 0
  for (;;) {
    if (dialsIn(actions).length > 0) {
      tries.push(Math.round(now / 1_000))
      actions = feed(failed('p'), now)
      continue
    }
    const next = contacts.nextTimeout()
    if (next === undefined || next > untilMs) return tries
    now = Math.max(now, next)
    actions = feed(tick, now)
  }
}

describe('contacts: whom to dial', () => {
  it('dials nobody before something is wanted, and then those given by the user first, hints, useful ones, others', () => {
    const { feed, dials } = book({ dialsAtOnceMax: 1 })
    for (const [peer, source] of [
      ['e', 'exchange'],
      ['k', 'known'],
      ['h', 'hint'],
      ['g', 'given'],
    ] as const)
      expect(dials(found(peer, source), 0)).toEqual([])
    feed(joined('u'), 0)
    feed(left('u', true), 0)
    const order = dials(wanting, 2_000)
    for (let i = 0; i < 4; i++) order.push(...dials(failed(order.at(-1)!, true), 2_000))
    expect([order.slice(0, 2), order.slice(2, 4).sort(), order.slice(4)]).toEqual([['g', 'h'], ['k', 'u'], ['e']])
  })

  it('has eight dials under way and stops at twenty neighbours of its own choosing', () => {
    const { contacts, dials } = book()
    for (let i = 0; i < 60; i++) dials(found(`p${i}`, 'dht'), 0)
    const under = new Set(dials(wanting, 0))
    expect(under.size).toBe(8)
    let neighbours = 0
    for (const peer of under) {
      neighbours++
      for (const next of dials(joined(peer), 0)) under.add(next)
    }
    expect(neighbours).toBe(CONTACTS.neighboursWanted)
    expect(contacts.nextTimeout()).toBe(CONTACTS.gatherMs)
  })

  it('a crowd that never answers holds up the one that does for seconds: slow dials go on, and others begin', () => {
    const { contacts, feed, dials } = book({}, draws(5))
    for (let i = 0; i < 64; i++) feed(found(`p${i}`, 'dht'), 0)
    const dialled = new Map<string, number>(dials(wanting, 0).map((peer) => [peer, 0]))
    let now = 0
    const helloMs = 8_000
    while (dialled.size < 64) {
      now = Math.max(now, Math.min(contacts.nextTimeout() ?? Number.POSITIVE_INFINITY, now + 250))
      for (const [peer, sinceMs] of dialled)
        if (now >= sinceMs + helloMs && now < sinceMs + helloMs + 250) for (const next of dials(failed(peer), now)) dialled.set(next, now)
      for (const next of dials(tick, now)) dialled.set(next, now)
      expect(contacts.dialling).toBeLessThanOrEqual(CONTACTS.neighboursMax)
    }
    expect(now).toBeLessThanOrEqual(12_000)
    expect(Math.max(...[0, 1_000].map((ms) => [...dialled.values()].filter((sinceMs) => sinceMs === ms).length))).toBe(
      CONTACTS.dialsAtOnceMax,
    )
  })

  it('redials a useful peer after 1, 2, 4, 8, 8 … s, for half an hour, so that it is there soon after the peer is', () => {
    const tries = triesOf('dht', 3_600_000, true)
    expect(tries.slice(0, 9)).toEqual([1, 3, 7, 15, 23, 31, 39, 47, 55])
    expect(tries.at(-1)).toBeGreaterThan(1_700)
    expect(tries.length).toBe(CONTACTS.redialsMax - 1)
  })

  it('tries a stranger three times and forgets it, the user’s own for ever, a hint less and less often', () => {
    expect(triesOf('dht', 3_600_000)).toEqual([0, 30, 90])
    expect(triesOf('exchange', 3_600_000)).toEqual([0, 30, 90])
    expect(triesOf('given', 300_000)).toEqual([0, 1, 3, 7, 15, 31, 63, 123, 183, 243])
    expect(triesOf('hint', 1_200_000)).toEqual([0, 30, 90, 210, 450, 750, 1_050])
  })

  it('dials whom it loses after a move, though nothing is wanted, and for half a minute only', () => {
    const { contacts, feed, dials } = book({}, () => 0.9999999)
    for (const peer of ['a', 'b', 'c']) feed(joined(peer, at(peer), 'inbound'), 0)
    feed(left('c', false), 0)
    expect(dials({ type: 'moved' }, 10_000)).toEqual([])
    expect(contacts.isMissing(10_000)).toBe(false)
    feed(left('a', false), 10_000)
    expect(contacts.isMissing(10_000)).toBe(true)
    const tries: number[] = []
    for (let now = 10_000; now < 100_000; now += 100) {
      for (const peer of dials(tick, now)) {
        expect(peer).toBe('a')
        tries.push(Math.round(now / 1_000))
        feed(failed('a'), now)
      }
    }
    expect(tries).toEqual([11, 13, 17, 25, 33])
    expect(contacts.isMissing(CONTACTS.movedMs + 10_000)).toBe(false)
    expect(contacts.nextTimeout()).toBeUndefined()
    feed(left('b', false), 100_000)
    expect(dials(tick, 200_000)).toEqual([])
  })

  it('misses nobody who came back, unless it goes again at once, as one that takes the old session for the better one', () => {
    const { contacts, feed, dials } = book({}, () => 0.9999999)
    feed(joined('a', at('a'), 'inbound'), 0)
    feed({ type: 'moved' }, 0)
    feed(left('a', false), 100)
    expect(dials(tick, 1_100)).toEqual(['a'])
    feed(joined('a'), 1_200)
    expect([contacts.isMissing(1_300), dials(tick, 10_000)]).toEqual([false, []])
    feed(left('a', false), 10_000)
    expect(contacts.isMissing(10_000)).toBe(true)
    expect(dials(tick, 12_000)).toEqual(['a'])
  })

  it('leaves a peer alone for five minutes that does not know the share, unless the user names it again', () => {
    const { dials } = book()
    dials(wanting, 0)
    expect(dials(found('p', 'dht'), 0)).toEqual(['p'])
    dials(failed('p', true), 0)
    expect(dials(found('p', 'exchange', 'q'), 299_000)).toEqual([])
    expect(dials(found('p', 'dht'), 300_000)).toEqual(['p'])
    dials(failed('p', true), 300_000)
    expect(dials(found('p', 'given'), 301_000)).toEqual(['p'])
  })

  it('tries a peer soon that turns up at another address, the one that worked first and the new one next', () => {
    const { contacts, feed } = book()
    feed(wanting, 0)
    feed(found('p', 'dht'), 0)
    feed(joined('p', ['/ip4/10.0.0.1/tcp/1']), 0)
    feed(left('p', true), 0)
    let now = 0
    for (let i = 0; i < 6; i++) {
      now = contacts.nextTimeout()!
      expect(dialsIn(feed(tick, now))).toEqual(['p'])
      feed(failed('p'), now)
    }
    feed({ type: 'found', peer: 'p', addresses: ['/ip4/10.0.0.1/tcp/2'], source: 'exchange', teller: 'q' }, now + 2_000)
    expect(contacts.nextTimeout()).toBe(now + 3_000)
    expect(feed(tick, now + 3_000)).toEqual([
      { type: 'dial', peer: 'p', addresses: ['/ip4/10.0.0.1/tcp/1', '/ip4/10.0.0.1/tcp/2', ...at('p')] },
    ])
  })

  it('does not dial who came by itself, and takes a dial that is overtaken so for done', () => {
    const { dials, contacts } = book()
    expect(dials(joined('a', [], 'inbound'), 0)).toEqual([])
    expect(dials(wanting, 0)).toEqual([])
    expect(dials(found('b', 'dht'), 0)).toEqual(['b'])
    dials(joined('b', [], 'inbound'), 0)
    dials(failed('b'), 0)
    expect([contacts.dialling, contacts.nextTimeout()]).toEqual([0, CONTACTS.gatherMs])
    dials(left('a', false), 0)
    expect(contacts.sourceOf('a')).toBe(null) // nothing is known that could be dialled
    expect(contacts.sourceOf('b')).toBe('dht')
  })
})

describe('contacts: what is kept in mind', () => {
  it('one teller fills a quarter, and the worst source makes room for better ones', () => {
    const { contacts, feed } = book()
    for (let i = 0; i < 300; i++) feed(found(`e${i}`, 'exchange', 'liar'), 0)
    expect([contacts.sourceOf('e63'), contacts.sourceOf('e64')]).toEqual(['exchange', null])
    for (let i = 0; i < 300; i++) feed(found(`d${i}`, 'dht'), 0)
    expect([contacts.sourceOf('e0'), contacts.sourceOf('d255'), contacts.sourceOf('d256')]).toEqual([null, 'dht', null])
    feed(found('g', 'given'), 0)
    expect(contacts.sourceOf('g')).toBe('given')
    feed(joined('in', [], 'inbound'), 0)
    expect(contacts.sourceOf('in')).toBe('itself')
  })

  it('keeps eight addresses of each, the one that worked among them', () => {
    const { feed } = book()
    const many = (from: number): string[] => Array.from({ length: 20 }, (_, i) => `/ip4/10.0.0.1/tcp/${from + i}`)
    feed({ type: 'found', peer: 'p', addresses: many(0), source: 'exchange', teller: 'q' }, 0)
    feed(joined('p', ['/ip4/10.0.0.1/tcp/9999']), 0)
    feed(left('p', true), 0)
    for (let i = 1; i < 9; i++) feed({ type: 'found', peer: 'p', addresses: many(i * 100), source: 'exchange', teller: 'q' }, 0)
    const [dial] = feed(wanting, 60_000).filter(({ type }) => type === 'dial')
    expect(dial).toMatchObject({ addresses: ['/ip4/10.0.0.1/tcp/9999', ...many(800).slice(0, 7)] })
  })
})

describe('contacts: when the DHT is asked', () => {
  it('while fewer than ten are there or untried, until twenty are connected or nothing is wanted', () => {
    const { feed } = book()
    const asks = (event: ContactsEvent, now = 0): string[] =>
      feed(event, now).flatMap(({ type }) => (type === 'wantPeers' || type === 'enoughPeers' ? [type] : []))
    for (let i = 0; i < 10; i++) expect(asks(found(`p${i}`, 'hint'))).toEqual([])
    expect(asks(wanting)).toEqual([])
    expect(asks(failed('p0'))).toEqual(['wantPeers']) // one that failed is no hope
    for (let i = 0; i < 19; i++) expect(asks(joined(`q${i}`, [], 'inbound'))).toEqual([])
    expect(asks(joined('q19', [], 'inbound'))).toEqual(['enoughPeers'])
    for (let i = 0; i < 10; i++) expect(asks(left(`q${i}`, false))).toEqual([])
    for (let i = 1; i < 10; i++) asks(failed(`p${i}`))
    expect(asks(left('q10', false))).toEqual(['wantPeers'])
    expect(asks({ type: 'wanting', isWanting: false })).toEqual(['enoughPeers'])
    expect(asks(left('q11', false))).toEqual([])
  })
})

describe('contacts: when everybody is gone', () => {
  it('the DHT is asked again at once', () => {
    const { feed } = book()
    feed(wanting, 0)
    for (const peer of ['a', 'b']) feed(joined(peer), 0)
    expect(feed(left('a', true), 1_000)).toEqual([])
    expect(feed(left('b', true), 1_000)).toEqual([{ type: 'wantPeers' }])
    expect(dialsIn(feed(tick, 2_000)).sort()).toEqual(['a', 'b'])
  })
})

describe('contacts: who is told of whom', () => {
  it('those who join are told of each other after a moment, once, and of later ones when the minute is over', () => {
    const { contacts, feed } = book()
    feed(joined('a'), 0)
    expect(told(feed(tick, 250))).toEqual([]) // nobody to tell of: nothing is sent
    feed(joined('b'), 1_000)
    feed(joined('c', [], 'inbound'), 1_100)
    expect(contacts.nextTimeout()).toBe(1_250)
    expect(told(feed(tick, 1_250))).toEqual(['a: b', 'b: a'])
    expect(told(feed(tick, 1_350))).toEqual(['c: a,b'])
    feed(joined('c', at('c'), 'inbound'), 2_000) // only now it is known where it listens
    expect(told(feed(tick, 61_249))).toEqual([])
    expect(told(feed(tick, 61_250))).toEqual(['a: c', 'b: c'])
    expect(contacts.nextTimeout()).toBe(undefined)
    expect(told(feed(tick, 600_000))).toEqual([])
  })

  it('whoever left is told of no more, and hears everything again when it comes back', () => {
    const { feed } = book()
    for (const peer of ['a', 'b']) feed(joined(peer), 0)
    expect(told(feed(tick, 250))).toEqual(['a: b', 'b: a'])
    feed(left('a', true), 300)
    feed(joined('c'), 300)
    expect(told(feed(tick, 550))).toEqual(['c: b'])
    feed(joined('a'), 600)
    expect(told(feed(tick, 850))).toEqual(['a: b,c'])
  })

  it('whoever is refused for lack of room is told of fifty at most', () => {
    const { contacts, feed } = book({ neighboursMax: 60 })
    for (let i = 0; i < 60; i++) feed(joined(`p${i}`), 0)
    expect(contacts.hasRoom).toBe(false)
    const [action] = feed({ type: 'refused', peer: 'late' }, 0)
    expect(action).toMatchObject({ type: 'exchange', peer: 'late' })
    expect(action?.type === 'exchange' ? new Set(action.peers.map(({ peer }) => peer)).size : 0).toBe(50)
    expect(contacts.sourceOf('late')).toBe(null)
  })
})

const SOURCES: ContactSource[] = ['given', 'hint', 'dht', 'exchange', 'known']
const SMALL = { contactsMax: 24, contactsPerTellerMax: 6, dialsAtOnceMax: 3, neighboursWanted: 6, neighboursMax: 8 }

describe('contacts: whatever happens', () => {
  it('no cap is exceeded, no exchange repeats itself or comes too soon, and timers lead on', () => {
    const step = fc.tuple(fc.integer({ min: 0, max: 11 }), fc.integer({ min: 0, max: 39 }), fc.integer({ min: 0, max: 40_000 }))
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), fc.integer(), (steps, seed) => {
        const random = draws(seed)
        const { contacts, feed } = book(SMALL, random)
        const dialling = new Set<string>()
        const neighbours = new Map<string, { said: Set<string>; lastMs: number }>()
        let now = 0
        const run = (event: ContactsEvent): void => {
          for (const action of feed(event, now)) {
            if (action.type === 'dial') {
              expect(dialling.has(action.peer) || neighbours.has(action.peer)).toBe(false)
              dialling.add(action.peer)
            } else if (action.type === 'exchange' && action.peer !== 'late') {
              const to = neighbours.get(action.peer)!
              expect(action.peers.length).toBeGreaterThan(0)
              expect(now - to.lastMs).toBeGreaterThanOrEqual(CONTACTS.exchangeIntervalMs)
              to.lastMs = now
              for (const { peer } of action.peers) {
                expect(peer !== action.peer && neighbours.has(peer) && !to.said.has(peer)).toBe(true)
                to.said.add(peer)
              }
            }
          }
          expect(dialling.size).toBeLessThanOrEqual(SMALL.neighboursMax)
          // Everything that was due has been done: no timer stands still.
          expect(contacts.nextTimeout() ?? Number.POSITIVE_INFINITY).toBeGreaterThan(now)
        }
        const join = (peer: string, direction: 'inbound' | 'outbound'): void => {
          if (!neighbours.has(peer)) neighbours.set(peer, { said: new Set(), lastMs: Number.NEGATIVE_INFINITY })
          dialling.delete(direction === 'outbound' ? peer : '')
          run(joined(peer, random() < 0.7 ? at(peer) : [], direction))
        }
        for (const [kind, number, waitMs] of steps) {
          now += waitMs
          const peer = `p${number}`
          const [dialled] = dialling
          if (kind < 4) run(found(peer, SOURCES[number % 5]!, `p${(number * 7) % 3}`))
          else if (kind === 4) run({ type: 'wanting', isWanting: number > 8 })
          else if (kind < 7 && dialled !== undefined) join(dialled, 'outbound')
          else if (kind === 7 && dialled !== undefined) {
            dialling.delete(dialled)
            run(failed(dialled, number < 10))
          } else if (kind === 8 && neighbours.size < SMALL.neighboursMax) join(peer, 'inbound')
          else if (kind === 9 && neighbours.delete(peer)) {
            // Back again, perhaps at another address, it is news.
            for (const { said } of neighbours.values()) said.delete(peer)
            run(left(peer, number % 2 === 0))
          } else if (kind === 10) run({ type: 'refused', peer: 'late' })
          else run(tick)
        }
      }),
      { seed: 23, numRuns: 300 },
    )
  })

  it('every candidate is tried within a minute, though most dials fail after ten seconds', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const random = draws(seed)
      const { contacts, feed } = book({}, random)
      const tried = new Set<string>()
      const ends: { peer: string; endMs: number }[] = []
      let now = 0
      const perform = (actions: readonly ContactsAction[]): void => {
        for (const peer of dialsIn(actions)) {
          tried.add(peer)
          ends.push({ peer, endMs: now + (random() < 0.6 ? 10_000 : 300) })
        }
      }
      const peers = Array.from({ length: 40 }, (_, i) => `p${i}`)
      for (const [i, peer] of peers.entries()) perform(feed(found(peer, SOURCES[i % 5]!, `t${i % 3}`), 0))
      perform(feed(wanting, 0))
      while (now < 60_000) {
        ends.sort((a, b) => a.endMs - b.endMs)
        const endMs = ends[0]?.endMs ?? Number.POSITIVE_INFINITY
        const timeout = contacts.nextTimeout() ?? Number.POSITIVE_INFINITY
        now = Math.min(endMs, timeout)
        if (endMs <= timeout) perform(feed(failed(ends.shift()!.peer), now))
        else perform(feed(tick, now))
      }
      expect(peers.filter((peer) => !tried.has(peer))).toEqual([])
    }
  })
})

describe('neighbours that give nothing', () => {
  const { doubtMs, dropMs, dropAfterMs, neighboursWanted, neighboursMax } = CONTACTS
  const many = (count: number, name: string): string[] => Array.from({ length: count }, (_, i) => `${name}${i}`)

  /** As many neighbours as are dialled, none of which gave anything, and `others` yet to be tried. */
  function seated(count: number, others: number) {
    const { contacts, feed } = book()
    feed(wanting, 0)
    for (const peer of many(count, 'idle')) feed(joined(peer, at(peer), 'inbound'), 0)
    for (const peer of many(others, 'new')) feed(found(peer, 'dht'), 0)
    return { contacts, feed }
  }

  it('no longer count after a while, so that others are dialled', () => {
    const { contacts, feed } = seated(neighboursWanted, 3)
    expect(dialsIn(feed(tick, doubtMs - 1))).toEqual([])
    expect(contacts.nextTimeout()).toBeLessThanOrEqual(doubtMs)
    expect(dialsIn(feed(tick, doubtMs)).sort()).toEqual(['new0', 'new1', 'new2'])
  })

  it('count for as long as they like once they have given a block', () => {
    const { feed } = seated(neighboursWanted, 3)
    for (const peer of many(neighboursWanted, 'idle')) feed({ type: 'useful', peer }, 10)
    expect(dialsIn(feed(tick, 10 * doubtMs))).toEqual([])
  })

  it('never lead to more than the most that there may be', () => {
    const { feed } = seated(neighboursMax - 1, 9)
    expect(dialsIn(feed(tick, doubtMs))).toHaveLength(1)
  })

  it('make room one by one when nothing comes, those that gave something stay', () => {
    const { contacts, feed } = seated(neighboursMax, 2)
    for (const peer of many(neighboursMax - 2, 'idle')) feed({ type: 'useful', peer }, 10)
    const dropped: [peer: string, afterMs: number][] = []
    let now = doubtMs
    for (; now <= doubtMs + dropAfterMs + 3 * dropMs; now += 1_000) {
      for (const action of feed({ type: 'stalled' }, now)) if (action.type === 'drop') dropped.push([action.peer, now - doubtMs])
    }
    expect(dropped).toEqual([
      [`idle${neighboursMax - 2}`, dropAfterMs],
      [`idle${neighboursMax - 1}`, dropAfterMs + dropMs],
    ])
    const next = feed(left(`idle${neighboursMax - 2}`, false), now)
    expect(dialsIn(next)).toHaveLength(1)
    expect(contacts.hasRoom).toBe(true)
  })

  it('do not count when nothing comes: everybody is tried', () => {
    const { feed } = seated(neighboursWanted, 3)
    for (const peer of many(neighboursWanted, 'idle')) feed({ type: 'useful', peer }, 10)
    expect(dialsIn(feed({ type: 'stalled' }, 20)).sort()).toEqual(['new0', 'new1', 'new2'])
  })

  it('keep their seats where nobody is left to try', () => {
    const { feed } = seated(neighboursMax, 0)
    expect(feed({ type: 'stalled' }, 10 * doubtMs).filter(({ type }) => type === 'drop')).toEqual([])
  })
})
