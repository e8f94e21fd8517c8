/**
 * Ten thousand shares in a simulated DHT: the announce machine and the plan of its driver, for two days of no time at all. It counts dials:
 * each peer that a look-up asks is one, as if no connection stayed open until the next.
 */
import { expect } from 'vitest'
import { type KadId, ProvidePlan } from '../../node/network/provide-plan.ts'
import { ANNOUNCE, DHT, NETWORK } from '../../protocol/limits.ts'
import { Announce, type AnnounceAction, type AnnounceEvent } from '../../protocol/swarm/announce.ts'
import { idOf, Kademlia, type Server } from './kademlia.ts'

const HOUR = 3_600_000
const WALL = 1_800_000_000_000
const SHARES = 10_000
const DAYS = 2
/** One look-up and what follows it. */
const PROVIDE_MS = 4_000

export interface Sweep {
  dials: number
  lookUps: number
  /** Of each share, at what times it was announced. */
  announcedMs: Map<string, number[]>
  /** Places of the look-ups and when they were, in their order. */
  places: { at: number; ms: number }[]
  /** Servers that were told of a share last. */
  toldOf: Map<string, Server[]>
}

const placeOf = (at: KadId): number => Buffer.from(at).readUIntBE(0, 6) / 2 ** 48

/** Runs the machine until `endMs`, as its driver does. `announcedAgoMs`: of share `i`, null for never. */
function sweep(network: Kademlia, shares: number, endMs: number, announcedAgoMs: (i: number) => number | null): Sweep {
  const machine = new Announce(ANNOUNCE, () => 0.5, 'share', 0.3)
  const self = idOf('the node that announces')
  const keys = new Map(Array.from({ length: shares }, (_, i) => [`share ${i}`, idOf(`key ${i}`)] as [string, KadId]))
  const result: Sweep = { dials: 0, lookUps: 0, announcedMs: new Map(), places: [], toldOf: new Map() }
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
    now = Math.min(
      endMs,
      Math.max(now, Math.min(next?.doneMs ?? Number.POSITIVE_INFINITY, machine.nextTimeout() ?? Number.POSITIVE_INFINITY)),
    )
    if (next !== undefined && next.doneMs <= now) feed(running.shift()!.event)
    else feed({ type: 'tick' })
  }
  return result
}

/** Look-ups that begin before where the last one did: once a round in a sweep. */
const returns = (places: number[]): number => places.filter((place, i) => i > 0 && place < places[i - 1]!).length

/** They were announced at any time of the last twenty hours, by a node that is just starting. */
const agoOf = (i: number): number => ((i * 7919) % 1200) * 60_000

/** Among so many servers: everything is announced again within 22 h, in key order, to those that are asked for it. Returns dials a second. */
export function checkSweep(servers: number): { dialsPerSecond: number; lookUps: number } {
  const network = new Kademlia(servers)
  const { dials, lookUps, announcedMs, places, toldOf } = sweep(network, SHARES, DAYS * 22 * HOUR, agoOf)
  expect(announcedMs.size).toBe(SHARES)
  const gaps = [...announcedMs].flatMap(([cid, times]) => {
    const all = [-agoOf(Number(cid.split(' ')[1])), ...times, DAYS * 22 * HOUR]
    return all.slice(1).map((time, i) => time - all[i]!)
  })
  // Those whose time has come wait for the few look-ups before them.
  expect(Math.max(...gaps.map((gap) => gap / HOUR))).toBeLessThanOrEqual(22 + (10 * PROVIDE_MS) / HOUR)
  expect(lookUps).toBeLessThan(SHARES / 2)
  // On the second day everything has its time.
  const later = places.filter(({ ms }) => ms > 22 * HOUR).map(({ at }) => at)
  expect(later.length).toBeGreaterThan(30)
  expect(returns(later)).toBeLessThanOrEqual(2)
  // Whoever looks for one of them asks at least half of the servers that are nearest to it.
  for (const i of [0, 1, 2, 3, 5_000, 9_999]) {
    const nearest = new Set(network.nearest(idOf(`key ${i}`)))
    expect(toldOf.get(`share ${i}`)!.filter((server) => nearest.has(server)).length).toBeGreaterThanOrEqual(DHT.recordsNear / 2)
  }
  return { dialsPerSecond: (dials * 1000) / (DAYS * 22 * HOUR), lookUps }
}
