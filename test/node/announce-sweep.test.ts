/** Ten thousand shares are announced again within 22 hours as a sweep in key order: the announce machine and its driver's plan, simulated. */
import { describe, expect, it } from 'vitest'
import { type KadId, ProvidePlan } from '../../node/network/provide-plan.ts'
import { ANNOUNCE, NETWORK } from '../../protocol/limits.ts'
import { Announce, type AnnounceAction, type AnnounceEvent } from '../../protocol/swarm/announce.ts'
import { idOf, Kademlia, type Server } from './kademlia.ts'

const HOUR = 3_600_000
const WALL = 1_800_000_000_000
const SHARES = 10_000
/** One look-up and what follows it. */
const PROVIDE_MS = 4_000

interface Sweep {
  dials: number
  lookUps: number
  /** Of each share, at what times it was announced. */
  announcedMs: Map<string, number[]>
  /** Places of the look-ups and when they were, in their order. */
  places: { at: number; ms: number }[]
  /** Servers that were told of a share last. */
  toldOf: Map<string, Server[]>
  peersMax: number
}

const placeOf = (at: KadId): number => Buffer.from(at).readUIntBE(0, 6) / 2 ** 48

/** Runs the machine until `endMs`, as its driver does. `announcedAgoMs`: of share `i`, null for never. */
function sweep(network: Kademlia, shares: number, endMs: number, announcedAgoMs: (i: number) => number | null): Sweep {
  const machine = new Announce(ANNOUNCE, () => 0.5, 'share', 0.3)
  const self = idOf('the node that announces')
  const keys = new Map(Array.from({ length: shares }, (_, i) => [`share ${i}`, idOf(`key ${i}`)] as [string, KadId]))
  const result: Sweep = { dials: 0, lookUps: 0, announcedMs: new Map(), places: [], toldOf: new Map(), peersMax: 0 }
  const running: { doneMs: number; event: AnnounceEvent }[] = []
  let now = 0
  const provide = ({ cid, also }: Extract<AnnounceAction, { type: 'provide' }>): void => {
    const key = keys.get(cid)!
    const asked = network.lookUp(self, key, NETWORK.dialsPerProvideMax)
    // Nobody is connected from before: each one that is asked is one dial, and records go over the connections that are then open.
    result.dials += asked.length
    result.lookUps++
    result.places.push({ at: placeOf(key), ms: now })
    const plan = new ProvidePlan<Server>(key)
    for (const server of asked) plan.meet(server, server.at)
    const along = also.filter((name) => plan.covers(keys.get(name)!))
    for (const name of [cid, ...along]) {
      result.announcedMs.set(name, [...(result.announcedMs.get(name) ?? []), now])
      result.toldOf.set(name, plan.peersFor(keys.get(name)!))
    }
    running.push({ doneMs: now + PROVIDE_MS, event: { type: 'provideDone', cid, ok: true, also: along } })
  }
  const feed = (event: AnnounceEvent): void => {
    for (const action of machine.handle(event, now)) if (action.type === 'provide') provide(action)
    if (event.type === 'provideDone' && result.lookUps % 100 === 0) machine.checkInvariants()
  }
  for (const [i, [cid, key]] of [...keys].entries()) {
    const ago = announcedAgoMs(i)
    feed({ type: 'shareAdded', cid, announcedMs: ago === null ? null : WALL - ago, role: 'seeder', wallNow: WALL, place: placeOf(key) })
  }
  while (now < endMs) {
    const next = running[0]
    now = Math.min(endMs, Math.max(now, Math.min(next?.doneMs ?? Number.POSITIVE_INFINITY, machine.nextTimeout() ?? Number.POSITIVE_INFINITY)))
    if (next !== undefined && next.doneMs <= now) feed(running.shift()!.event)
    else feed({ type: 'tick' })
  }
  return result
}

/** Look-ups that begin before where the last one did: once a round in a sweep. */
const returns = (places: number[]): number => places.filter((place, i) => i > 0 && place < places[i - 1]!).length

describe('the sweep', () => {
  it('announces 10,000 shares again within 22 h, in key order, with two dials a second at most on average', () => {
    const network = new Kademlia(10_000)
    const days = 2
    // They were announced at any time of the last day, by a node that is just starting.
    const { dials, lookUps, announcedMs, places, toldOf } = sweep(network, SHARES, days * 22 * HOUR, (i) => ((i * 7919) % 1200) * 60_000)
    console.log(`${lookUps} look-ups, ${dials} dials, ${((dials * 1000) / (days * 22 * HOUR)).toFixed(2)} a second, ${(dials / lookUps).toFixed(0)} each`)
    expect(announcedMs.size).toBe(SHARES)
    for (const [cid, times] of announcedMs) {
      const i = Number(cid.split(' ')[1])
      const all = [-((i * 7919) % 1200) * 60_000, ...times]
      for (const [j, time] of all.slice(1).entries()) expect(time - all[j]!).toBeLessThanOrEqual(22 * HOUR + 10 * PROVIDE_MS)
      expect(times.at(-1)!).toBeGreaterThan((days - 1) * 22 * HOUR - 10 * PROVIDE_MS)
    }
    expect((dials * 1000) / (days * 22 * HOUR)).toBeLessThanOrEqual(2)
    expect(lookUps).toBeLessThan(SHARES / 2)
    // On the second day everything has its time.
    const later = places.filter(({ ms }) => ms > 22 * HOUR).map(({ at }) => at)
    expect(later.length).toBeGreaterThan(100)
    expect(returns(later)).toBeLessThanOrEqual(2)
    // Whoever looks for one of them asks at least half of the servers that are nearest to it.
    for (const i of [0, 1, 2, 3, 5_000, 9_999]) {
      const nearest = new Set(network.nearest(idOf(`key ${i}`)))
      expect(toldOf.get(`share ${i}`)!.filter((server) => nearest.has(server)).length).toBeGreaterThanOrEqual(NETWORK.recordsNear / 2)
    }
  })
})
