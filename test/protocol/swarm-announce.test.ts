import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ANNOUNCE } from '../../protocol/limits.ts'
import { Announce, type AnnounceAction, type AnnounceEvent, type AnnounceRole } from '../../protocol/swarm/announce.ts'

const HOUR = 3_600_000
const WALL = 1_800_000_000_000

function office(random = () => 0.5) {
  const announce = new Announce(ANNOUNCE, random)
  return (event: AnnounceEvent, now: number): string[] => {
    const actions: AnnounceAction[] = announce.handle(event, now)
    announce.checkInvariants()
    return actions.map(({ type, cid }) => `${type} ${cid}`)
  }
}
const added = (cid: string, role: AnnounceRole, agoMs: number | null = null): AnnounceEvent => ({
  type: 'shareAdded',
  cid,
  announcedMs: agoMs === null ? null : WALL - agoMs,
  role,
  wallNow: WALL,
})
const tick: AnnounceEvent = { type: 'tick' }

describe('announce', () => {
  it('a new share is announced at once, and again before a day is over', () => {
    const feed = office()
    expect(feed(added('a', 'seeder'), 0)).toEqual(['provide a'])
    expect(feed({ type: 'provideDone', cid: 'a', ok: true }, 1_000)).toEqual([])
    expect(feed(tick, 20 * HOUR)).toEqual([])
    expect(feed(tick, 22 * HOUR + 1_000)).toEqual(['provide a'])
  })

  it('after a restart only what was announced over 20 h ago, the rest when its time comes', () => {
    const feed = office()
    expect(feed(added('old', 'seeder', 21 * HOUR), 5)).toEqual(['provide old'])
    expect(feed(added('fresh', 'seeder', 19 * HOUR), 5)).toEqual([])
    expect(feed(added('clock set back', 'seeder', -5 * HOUR), 5)).toEqual(['provide clock set back'])
    expect(feed(tick, 3 * HOUR + 4)).toEqual([])
    expect(feed(tick, 3 * HOUR + 5)).toEqual(['provide fresh'])
  })

  it('a failed announcement is tried again after 15 to 30 s, then at growing intervals up to half an hour', () => {
    const feed = office(() => 1)
    feed(added('a', 'seeder'), 0)
    let now = 0
    const waits: number[] = []
    for (let i = 0; i < 9; i++) {
      feed({ type: 'provideDone', cid: 'a', ok: false }, now)
      const failedMs = now
      while (feed(tick, now).length === 0) now += 1_000
      waits.push((now - failedMs) / 1_000)
    }
    expect(waits).toEqual([30, 60, 120, 240, 480, 960, 1800, 1800, 1800])
  })

  it('a downloader announces itself where fewer than 20 live seeders were found, or after an hour', () => {
    for (const [live, expected] of [
      [19, ['provide a']],
      [20, []],
    ] as const) {
      const feed = office()
      expect(feed(added('a', 'downloader'), 0)).toEqual([])
      expect(feed({ type: 'wantPeers', cid: 'a' }, 0)).toEqual(['find a'])
      feed({ type: 'enoughPeers', cid: 'a' }, 100)
      expect(feed({ type: 'findDone', cid: 'a', live }, 200)).toEqual(expected)
      if (live === 20) expect(feed(tick, HOUR)).toEqual(['provide a'])
    }
  })

  it('a downloader that becomes a seeder announces itself at once', () => {
    const feed = office()
    feed(added('a', 'downloader'), 0)
    expect(feed(added('a', 'seeder'), 60_000)).toEqual(['provide a'])
  })

  it('looks for peers as long as they are wanted, less and less often, and never more often for wanting on and off', () => {
    const feed = office(() => 1)
    feed(added('a', 'downloader', 1), 0)
    expect(feed({ type: 'wantPeers', cid: 'a' }, 0)).toEqual(['find a'])
    const starts: number[] = []
    for (let now = 0; now < 1_000_000; now += 1_000) {
      if (now > 0 && feed(tick, now).length > 0) starts.push(now / 1_000)
      if (now === 0 || starts.at(-1) === now / 1_000) feed({ type: 'findDone', cid: 'a', live: 0 }, now)
    }
    expect(starts).toEqual([5, 15, 35, 75, 155, 315, 615, 915])
    let finds = 0
    for (let now = 2_000_000; now < 2_010_000; now += 100) {
      finds += feed({ type: 'enoughPeers', cid: 'a' }, now).length
      const started = feed({ type: 'wantPeers', cid: 'a' }, now).length
      finds += started
      if (started > 0) feed({ type: 'findDone', cid: 'a', live: 0 }, now)
    }
    expect(finds).toBeLessThanOrEqual(3)
  })

  it('looks again soon when peers are wanted anew, but not sooner than five seconds after the last time', () => {
    const feed = office(() => 1)
    feed(added('a', 'downloader', 1), 0)
    feed({ type: 'wantPeers', cid: 'a' }, 0)
    for (const now of [0, 5_000, 15_000, 35_000]) {
      if (now > 0) expect(feed(tick, now)).toEqual(['find a'])
      feed({ type: 'findDone', cid: 'a', live: 0 }, now)
    }
    expect(feed({ type: 'wantPeers', cid: 'a' }, 36_000)).toEqual([])
    expect(feed(tick, 40_000)).toEqual(['find a'])
    feed({ type: 'findDone', cid: 'a', live: 0 }, 40_000)
    expect(feed(tick, 45_000)).toEqual(['find a'])
  })

  it('announces each block of a small share where that is wanted, and only the share of a large one', () => {
    const announce = new Announce(ANNOUNCE, () => 0.5, 'blocks')
    const add = (cid: string, blockCount: number | null): AnnounceAction[] =>
      announce.handle({ type: 'shareAdded', cid, announcedMs: null, role: 'seeder', wallNow: WALL, blockCount }, 0)
    expect(add('small', 64)).toEqual([{ type: 'provide', cid: 'small', keys: 'blocks', also: [] }])
    expect(add('large', 65)).toEqual([{ type: 'provide', cid: 'large', keys: 'share', also: [] }])
    expect(add('unknown', null)).toEqual([{ type: 'provide', cid: 'unknown', keys: 'share', also: [] }])
  })

  it('changed addresses are announced for every share that was, once more even when a provide was under way', () => {
    const feed = office()
    feed(added('a', 'seeder', 1), 0)
    feed(added('b', 'seeder'), 0)
    expect(feed({ type: 'addressesChanged' }, 10)).toEqual(['provide a'])
    expect(feed({ type: 'provideDone', cid: 'b', ok: true }, 20)).toEqual(['provide b'])
  })

  it('a removed share is taken back, also when its announcement was still under way', () => {
    const feed = office()
    feed(added('a', 'seeder'), 0)
    expect(feed({ type: 'shareRemoved', cid: 'a' }, 1)).toEqual(['stopProviding a'])
    expect(feed({ type: 'provideDone', cid: 'a', ok: true }, 2)).toEqual(['stopProviding a'])
    feed(added('never announced', 'downloader'), 3)
    expect(feed({ type: 'shareRemoved', cid: 'never announced' }, 4)).toEqual([])
  })

  it('goes along with a neighbour: what is due, or was announced and is due within an hour, in key order', () => {
    const announce = new Announce(ANNOUNCE, () => 0.5)
    const add = (cid: string, place: number, agoMs: number | null): AnnounceAction[] =>
      announce.handle({ ...added(cid, 'seeder', agoMs), place } as AnnounceEvent, 0)
    // Four run before anybody else may begin.
    for (const [i, cid] of ['a', 'b', 'c', 'd'].entries()) expect(add(cid, 0.1 * i, null)).toMatchObject([{ cid, also: [] }])
    for (const [cid, place] of [
      ['q', 0.8],
      ['p', 0.7],
      ['r', 0.9],
    ] as const)
      expect(add(cid, place, 21 * HOUR)).toEqual([])
    expect(add('fresh', 0.75, 1 * HOUR)).toEqual([])
    const [first] = announce.handle({ type: 'provideDone', cid: 'a', ok: true }, 1_000)
    expect(first).toEqual({ type: 'provide', cid: 'p', keys: 'share', also: ['q', 'r'] })
    announce.checkInvariants()
    // Only one of them is near enough; the other keeps its turn.
    const next = announce.handle({ type: 'provideDone', cid: 'p', ok: true, also: ['q'] }, 2_000)
    expect(next).toEqual([{ type: 'provide', cid: 'r', keys: 'share', also: [] }])
    announce.checkInvariants()
  })

  it('a neighbour that was removed meanwhile is taken back, one that was not reached waits as long as the first', () => {
    const announce = new Announce(ANNOUNCE, () => 1)
    const events: AnnounceEvent[] = ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map(
      (cid, i) => ({ ...added(cid, 'seeder', i < 4 ? null : 21 * HOUR), place: 0.1 * i }) as AnnounceEvent,
    )
    for (const event of events) announce.handle(event, 0)
    expect(announce.handle({ type: 'provideDone', cid: 'a', ok: true }, 0)).toMatchObject([{ cid: 'e', also: ['f', 'g'] }])
    expect(announce.handle({ type: 'shareRemoved', cid: 'f' }, 0)).toEqual([{ type: 'stopProviding', cid: 'f' }])
    expect(announce.handle({ type: 'provideDone', cid: 'e', ok: true, also: ['f'] }, 0)).toEqual([
      { type: 'stopProviding', cid: 'f' },
      { type: 'provide', cid: 'g', keys: 'share', also: [] },
    ])
    expect(announce.handle({ type: 'provideDone', cid: 'g', ok: false }, 0)).toEqual([])
    announce.checkInvariants()
  })

  it('has a time of its own for each key, so that no interval is over 22 h, also after a restart', () => {
    for (const place of [0, 0.1, 0.5, 0.99]) {
      const announce = new Announce(ANNOUNCE, () => 0.5, 'share', 0.7)
      const turns: number[] = []
      announce.handle({ ...added('a', 'seeder', 3 * HOUR), place } as AnnounceEvent, 0)
      for (let now = announce.nextTimeout()!; turns.length < 4; now = announce.nextTimeout()!) {
        expect(announce.handle(tick, now)).toHaveLength(1)
        turns.push(now)
        announce.handle({ type: 'provideDone', cid: 'a', ok: true }, now)
      }
      const gaps = turns.map((turn, i) => turn - (turns[i - 1] ?? -3 * HOUR))
      for (const gap of gaps) expect(gap).toBeLessThanOrEqual(22 * HOUR)
      expect(gaps.slice(2)).toEqual([21 * HOUR, 21 * HOUR])
    }
  })

  it('what came due while the computer slept is announced when it wakes, the rest so much sooner', () => {
    const feed = office()
    for (const [cid, agoHours] of [
      ['late', 14],
      ['early', 2],
    ] as const)
      expect(feed(added(cid, 'seeder', agoHours * HOUR), 0)).toEqual([])
    expect(feed(tick, HOUR)).toEqual([])
    expect(feed({ type: 'slept', ms: 8 * HOUR }, HOUR)).toEqual(['provide late'])
    expect(feed({ type: 'provideDone', cid: 'late', ok: true }, HOUR)).toEqual([])
    expect(feed(tick, 12 * HOUR - 1)).toEqual([])
    expect(feed(tick, 12 * HOUR)).toEqual(['provide early'])
  })

  it('keeps to the time of each key after a sleep', () => {
    const announce = new Announce(ANNOUNCE, () => 0.5)
    const add = (cid: string, agoMs: number, now: number, wallNow: number): unknown =>
      announce.handle({ type: 'shareAdded', cid, announcedMs: wallNow - agoMs, role: 'seeder', wallNow, place: 0.4 }, now)
    add('before', 2 * HOUR, 0, WALL)
    const dueMs = announce.nextTimeout()!
    announce.handle({ type: 'slept', ms: HOUR }, 0)
    expect(announce.nextTimeout()).toBe(dueMs - HOUR)
    announce.handle({ type: 'shareRemoved', cid: 'before' }, 0)
    add('after', 2 * HOUR, 0, WALL + HOUR)
    expect(Math.abs(announce.nextTimeout()! - (dueMs - HOUR)) % (21 * HOUR)).toBe(0)
  })

  it('what was never announced does not wait for a sweep of what was', () => {
    const announce = new Announce(ANNOUNCE, () => 0.5)
    const add = (cid: string, place: number, agoMs: number | null): AnnounceAction[] =>
      announce.handle({ ...added(cid, 'seeder', agoMs), place } as AnnounceEvent, 0)
    for (let i = 0; i < 1_000; i++) add(`old ${i}`, i / 1_000, 21 * HOUR)
    add('new', 0.999, null)
    const [next] = announce.handle({ type: 'provideDone', cid: 'old 0', ok: true }, 1)
    expect(next).toMatchObject({ type: 'provide', cid: 'new' })
  })

  it('runs four at a time, whatever happens, and every seeder gets its turn', () => {
    const step = fc.tuple(fc.integer({ min: 0, max: 19 }), fc.integer({ min: 0, max: 9 }))
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const feed = office()
        const running: string[] = []
        const provided = new Set<string>()
        let now = 0
        const perform = (actions: string[]): void => {
          for (const action of actions) {
            const [type, cid] = action.split(' ') as [string, string]
            if (type === 'stopProviding') continue
            running.push(action)
            if (type === 'provide') provided.add(cid)
          }
          expect(running.filter((action) => action.startsWith('provide')).length).toBeLessThanOrEqual(ANNOUNCE.sharesAtOnceMax)
        }
        const finish = (ok: boolean): void => {
          const [type, cid] = running.shift()!.split(' ') as [string, string]
          perform(feed(type === 'provide' ? { type: 'provideDone', cid, ok } : { type: 'findDone', cid, live: 3 }, now))
        }
        const there = new Set<string>()
        for (const [number, kind] of steps) {
          now += 500
          const cid = `s${number}`
          if (kind < 4) {
            there.add(cid)
            perform(feed(added(cid, 'seeder'), now))
          } else if (kind === 4) {
            there.delete(cid)
            perform(feed({ type: 'shareRemoved', cid }, now))
          } else if (kind < 7) perform(feed({ type: 'wantPeers', cid }, now))
          else if (running.length > 0) finish(kind === 7)
        }
        for (let i = 0; i < 500 && running.length > 0; i++) finish(true)
        for (const cid of there) expect(provided).toContain(cid)
      }),
      { seed: 11, numRuns: 100 },
    )
  })
})
