/** Who enters the routing table of a DHT: few of one neighbourhood. Over a stand-in for the library's table. */
import type { Connection, PeerId } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { describe, expect, it } from 'vitest'
import { endpointOf, tableGroup } from '../../node/network/addresses.ts'
import type { Insides, TablePeer } from '../../node/network/dht-insides.ts'
import { diversifyTable, spreadStarts } from '../../node/network/dht-table.ts'
import type { LimitName } from '../../protocol/limit-table.ts'
import { DHT } from '../../protocol/limits.ts'

/** A table of two buckets, halved by the first bit, which asks `verify` before it takes anybody. */
class Table {
  readonly peers: TablePeer[] = []
  readonly hits: LimitName[] = []
  readonly addresses = new Map<string, string>()
  verifies = 0
  nowMs = 0
  readonly insides: Pick<Insides, 'routingTable'>

  constructor() {
    const kb: Insides['routingTable']['kb'] = {
      verify: async () => {
        this.verifies++
        return true
      },
      get: (key) => this.peers.find(({ kadId }) => Buffer.compare(kadId, key) === 0),
      toIterable: () => this.peers,
      _determineBucket: (key) => ((key[0] ?? 0) < 0x80 ? low : high),
    }
    const [low, high] = [{ peers: [] }, { peers: [] }]
    const closestPeers: Insides['routingTable']['closestPeers'] = (_key, options) =>
      this.peers.slice(0, options?.count ?? 20).map(({ peerId }) => peerId)
    this.insides = { routingTable: { kb, closestPeers, size: 0, remove: async () => {}, addEventListener: () => {} } }
    diversifyTable(this.insides, {
      connectionsOf: (peer) => {
        const address = this.addresses.get(peer.toString())
        return address === undefined ? [] : [{ status: 'open', remoteAddr: multiaddr(address) } as Connection] // all that is read of one
      },
      groupPrivate: false,
      now: () => this.nowMs,
      hit: (name) => this.hits.push(name),
    })
  }

  async add(address: string, firstByte = this.peers.length): Promise<boolean> {
    const text = `peer ${this.peers.length} ${address} ${Math.random()}`
    const kadId = new Uint8Array(32).fill(this.peers.length + 1)
    kadId[0] = firstByte
    const peer: TablePeer = { peerId: { toString: () => text } as PeerId, kadId } // all that is read of one
    if (address !== '') this.addresses.set(text, address)
    const isIn = await this.insides.routingTable.kb.verify(peer)
    if (isIn) this.peers.push(peer)
    return isIn
  }
}

describe('the routing table', () => {
  it('takes two of one neighbourhood into a bucket and three in all', async () => {
    const table = new Table()
    const outcomes: boolean[] = []
    for (const [i, first] of [0, 1, 2, 0x80, 0x81].entries()) outcomes.push(await table.add(`/ip4/5.6.7.${i}/tcp/4001`, first))
    expect(outcomes).toEqual([true, true, false, true, false])
    expect(await table.add('/ip4/5.6.8.1/tcp/4001', 3)).toBe(true)
    expect(table.hits).toEqual(['tablePerGroup', 'tablePerGroup'])
    expect([DHT.tablePerGroupPerBucketMax, DHT.tablePerGroupMax]).toEqual([2, 3])
  })

  it('asks nobody to answer a ping whom it will not take', async () => {
    const table = new Table()
    for (let i = 0; i < 10; i++) await table.add(`/ip4/5.6.7.${i}/tcp/4001`, 0)
    expect(table.verifies).toBe(DHT.tablePerGroupPerBucketMax)
  })

  it('counts by what a peer is really connected from, a relay for all behind it, and leaves out who is not connected', async () => {
    const table = new Table()
    const relayed = '/ip4/5.6.7.1/tcp/4001/p2p/12D3KooWGC6TvWhfajpX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5Q/p2p-circuit'
    expect([await table.add(relayed, 0), await table.add(relayed, 1), await table.add(relayed, 2)]).toEqual([true, true, false])
    expect(await table.add('', 3)).toBe(false)
  })

  it('does not limit neighbours on a private network', async () => {
    const table = new Table()
    for (let i = 0; i < 10; i++) expect(await table.add(`/ip4/192.168.1.${i}/tcp/4001`, 0)).toBe(true)
  })

  it('has room again when one of them is gone', async () => {
    const table = new Table()
    for (let i = 0; i < 2; i++) await table.add(`/ip4/5.6.7.${i}/tcp/4001`, 0)
    table.peers.pop()
    table.nowMs += 2_000
    expect(await table.add('/ip4/5.6.7.9/tcp/4001', 0)).toBe(true)
  })

  it('takes no more when many come at the same moment', async () => {
    const table = new Table()
    const outcomes = await Promise.all(Array.from({ length: 10 }, (_, i) => table.add(`/ip4/5.6.7.${i}/tcp/4001`, 0)))
    expect(outcomes.filter(Boolean)).toHaveLength(DHT.tablePerGroupPerBucketMax)
  })

  it('counts IPv6 by the /48', () => {
    const groupOf = (text: string): string | null => tableGroup(endpointOf(multiaddr(text))!, false)
    expect(groupOf('/ip6/2a01:4f8:1:2300::1/tcp/1')).toBe('2a01:4f8:1::/48')
    expect(groupOf('/ip6/2a01:4f8:1:ffff::9/tcp/1')).toBe('2a01:4f8:1::/48')
    expect(groupOf('/ip4/5.6.7.8/tcp/1')).toBe('5.6.7.0/24')
  })
})

describe('the starts of a query', () => {
  it('are the nearest and one at each larger distance; an answer to others holds the nearest alone', async () => {
    const table = new Table()
    for (const first of [0, 1, 2, 0x40, 0x41, 0x80, 0x81]) await table.add(`/ip4/5.${first}.7.1/tcp/4001`, first)
    spreadStarts(table.insides)
    const key = new Uint8Array(32)
    const firstBytes = (peers: PeerId[]): number[] => peers.map((peer) => table.peers.find(({ peerId }) => peerId === peer)!.kadId[0]!)
    expect(firstBytes(table.insides.routingTable.closestPeers(key, { count: 3 }))).toEqual([0, 1, 2, 0x40, 0x80])
    expect(firstBytes(table.insides.routingTable.closestPeers(key, { count: 3, exclude: [] }))).toEqual([0, 1, 2])
    expect(firstBytes(table.insides.routingTable.closestPeers(key, { count: 1 }))).toEqual([0])
  })
})
