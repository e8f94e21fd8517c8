/** Whom a key is told to: the nearest, some at each larger distance, and which neighbours one look-up serves. */
import { describe, expect, it } from 'vitest'
import { commonBits, compareDistance, farStarts, type KadId, ProvidePlan } from '../../node/network/provide-plan.ts'
import { DHT, NETWORK } from '../../protocol/limits.ts'
import { idOf, Kademlia } from '../kit/kademlia.ts'

/** A place with `bits` leading bits in common with the all-zero key, told apart by `tail`. */
function placeAt(bits: number, tail: number): KadId {
  const at = new Uint8Array(32)
  at[bits >> 3] = 0x80 >> (bits & 7)
  new DataView(at.buffer).setUint32(28, tail)
  return at
}

const KEY = new Uint8Array(32)

describe('distances', () => {
  it('are compared from the first bit that differs', () => {
    expect([commonBits(KEY, KEY), commonBits(KEY, placeAt(0, 1)), commonBits(KEY, placeAt(9, 1))]).toEqual([256, 0, 9])
    expect(compareDistance(KEY, placeAt(3, 1), placeAt(2, 0))).toBeLessThan(0)
    expect(compareDistance(placeAt(2, 0), placeAt(3, 1), placeAt(2, 5))).toBeGreaterThan(0)
    expect(compareDistance(KEY, placeAt(3, 1), placeAt(3, 1))).toBe(0)
  })
})

describe('a provide plan', () => {
  it('tells few at each larger distance at once, and all the nearest at the end', () => {
    const plan = new ProvidePlan<string>(KEY)
    const atOnce: string[] = []
    for (let bits = 0; bits < 12; bits++)
      for (let i = 0; i < 10; i++) if (plan.meet(`${bits}/${i}`, placeAt(bits, 10 - i))) atOnce.push(`${bits}/${i}`)
    expect(atOnce).toHaveLength(DHT.recordDistances * DHT.recordsPerDistance)
    expect(atOnce.slice(0, 4)).toEqual(['0/0', '0/1', '0/2', '1/0'])
    const rest = plan.rest()
    // The twenty nearest, and the very nearest at each of the larger distances.
    expect(rest.filter((peer) => /^1[01]\//.test(peer))).toHaveLength(DHT.recordsNear)
    expect(rest.filter((peer) => !/^1[01]\//.test(peer)).sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map((bits) => `${bits}/9`))
  })

  it('does not give the places at larger distances to a crowd around the key', () => {
    const plan = new ProvidePlan<string>(KEY)
    for (let i = 0; i < 100; i++) expect(plan.meet(`sybil ${i}`, placeAt(12, i))).toBe(false)
    expect(plan.meet('honest', placeAt(2, 1))).toBe(true)
    expect(plan.peersFor(KEY)).toContain('honest')
  })

  it('covers the keys of the region that its nearest peers span, and no others', () => {
    const plan = new ProvidePlan<string>(KEY)
    for (let bits = 0; bits < 8; bits++) for (let i = 0; i < 5; i++) plan.meet(`${bits}/${i}`, placeAt(bits, i))
    // The twenty nearest have at least four bits in common with the key.
    expect([placeAt(4, 7), placeAt(5, 7), placeAt(30, 7)].map((key) => plan.covers(key))).toEqual([true, true, true])
    expect([placeAt(3, 7), placeAt(0, 7)].map((key) => plan.covers(key))).toEqual([false, false])
    const few = new ProvidePlan<string>(KEY)
    few.meet('only', placeAt(9, 1))
    expect(few.covers(placeAt(0, 7))).toBe(true)
    expect(few.peersFor(placeAt(0, 7))).toEqual(['only'])
  })

  it('keeps no more peers in mind than the limit', () => {
    const plan = new ProvidePlan<number>(KEY)
    for (let i = 0; i < 1_000; i++) plan.meet(i, placeAt(200, i))
    expect(plan.peersFor(KEY).every((peer) => peer < DHT.lookUpPeersMax)).toBe(true)
  })
})

describe('a look-up', () => {
  it('starts at every larger distance as well', () => {
    const peers = [0, 0, 1, 5, 5, 9].map((bits, i) => ({ peer: `${bits}/${i}`, at: placeAt(bits, 10 - i) }))
    expect(farStarts(KEY, peers).sort()).toEqual(['0/1', '1/2', '5/4'])
  })

  it('asks no more than some sixty peers of a large network, and meets nearly all of the twenty nearest', () => {
    const network = new Kademlia(4_000)
    for (const name of ['a', 'b', 'c']) {
      const key = idOf(`looked up ${name}`)
      const asked = network.lookUp(idOf('somebody'), key, NETWORK.dialsPerFindMax + DHT.recordsNear)
      expect(asked.length).toBeLessThanOrEqual(80)
      const met = new Set(asked)
      expect(network.nearest(key).filter((server) => met.has(server)).length).toBeGreaterThanOrEqual(18)
    }
  })
})
