/** The rules behind the network, without sockets: plans, classes of addresses, budgets of dials, bans, provider records. */
import { multiaddr } from '@multiformats/multiaddr'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { classifyHost, endpointOf, hostGroup, ipGroup, isInSubnets, isPublicAddress } from '../../node/network/addresses.ts'
import { ProviderTable } from '../../node/network/dht-providers.ts'
import { mergeAll } from '../../node/network/dht-results.ts'
import { DialBudget } from '../../node/network/dial-budget.ts'
import { acceptsAddress, networkPlan } from '../../node/network/plan.ts'
import { NETWORK } from '../../protocol/limits.ts'

const ID = '12D3KooWGC6TvWhfajpX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5Q'
const endpoint = (text: string) => endpointOf(multiaddr(text))!

describe('the plan', () => {
  test('of the default network is the public DHT as a client, our own, and the local one', () => {
    const plan = networkPlan(null, ['/ip4/5.6.7.8/tcp/4001'])
    expect(plan.dhts.map(({ protocol, clientMode, addresses }) => [protocol, clientMode, addresses])).toEqual([
      ['/ipfs/kad/1.0.0', true, 'public'],
      ['/shoal/kad/1.0.0', null, 'public'],
      ['/shoal/lan/kad/1.0.0', false, 'private'],
    ])
    expect(plan.swarmProtocol).toBe('/shoal/swarm/1')
    expect(plan.bootstrap).toContain('/ip4/5.6.7.8/tcp/4001')
    expect(plan.bootstrap.length).toBeGreaterThan(1)
    expect([plan.anyAddress, plan.isEd25519Only]).toEqual([false, false])
    expect(plan.dhts.map((dht) => acceptsAddress(dht, multiaddr('/ip4/10.0.0.1/tcp/4001')))).toEqual([false, false, true])
  })

  test('of a named network has nothing but what it was given', () => {
    const plan = networkPlan('crew-7', ['/ip4/127.0.0.1/tcp/4001'])
    expect(plan.bootstrap).toEqual(['/ip4/127.0.0.1/tcp/4001'])
    expect(plan.dhts.map(({ protocol }) => protocol)).toEqual(['/shoal/net/crew-7/kad/1.0.0'])
    expect([plan.swarmProtocol, plan.mdnsTag]).toEqual(['/shoal/net/crew-7/swarm/1', '_shoal-crew-7._udp.local'])
    expect(plan.isEd25519Only).toBe(true)
    for (const name of ['', 'A', 'a/b', 'x'.repeat(33)]) expect(() => networkPlan(name, [])).toThrow(/network name/)
  })
})

describe('the plan with an IPFS DHT', () => {
  test('of a named network meets there as a client, keeps its own DHT, and has no other entrance', () => {
    const plan = networkPlan('crew-7', ['/ip4/5.6.7.8/tcp/4001'], true)
    expect(plan.bootstrap).toEqual(['/ip4/5.6.7.8/tcp/4001'])
    expect(plan.dhts.map(({ name, protocol, clientMode, isEd25519Only }) => [name, protocol, clientMode, isEd25519Only])).toEqual([
      ['ipfs', '/ipfs/kad/1.0.0', true, false],
      ['net', '/shoal/net/crew-7/kad/1.0.0', false, true],
    ])
    expect([plan.swarmProtocol, plan.isEd25519Only]).toEqual(['/shoal/net/crew-7/swarm/1', false])
  })
})

describe('an address', () => {
  test('is public only when strangers on the internet can use it', () => {
    const publicHosts = ['/ip4/5.6.7.8', '/ip6/2a01:4f8::1', '/dns4/example.org', `/ip4/10.0.0.1/tcp/1/p2p/${ID}/p2p-circuit`]
    const others = [
      '0.0.0.0',
      '10.1.1.1',
      '100.64.0.1',
      '127.9.9.9',
      '169.254.1.1',
      '172.31.0.1',
      '192.168.0.1',
      '198.18.0.1',
      '224.0.0.1',
      '255.255.255.255',
    ]
    const others6 = ['::', '::1', 'fc00::1', 'fe80::1', 'ff02::1', '::ffff:10.0.0.1', '2002:a00:1::', '64:ff9b::a00:1', '2001:db8::1']
    for (const text of publicHosts) expect([text, isPublicAddress(multiaddr(text))]).toEqual([text, true])
    for (const host of others) expect([host, isPublicAddress(multiaddr(`/ip4/${host}/tcp/1`))]).toEqual([host, false])
    for (const host of others6) expect([host, isPublicAddress(multiaddr(`/ip6/${host}/tcp/1`))]).toEqual([host, false])
    expect(classifyHost(endpoint('/ip4/127.0.0.1/tcp/1'))).toBe('loopback')
  })

  test('belongs to a /24 or /56, a host to itself or a /64; private ones only when asked for', () => {
    expect(ipGroup(endpoint('/ip4/5.6.7.8/tcp/1'), false)).toBe('5.6.7.0/24')
    expect(ipGroup(endpoint('/ip6/2a01:4f8:1:23ff::1/tcp/1'), false)).toBe('2a01:4f8:1:2300::/56')
    expect(hostGroup(endpoint('/ip6/2a01:4f8:1:23ff::1/tcp/1'), false)).toBe(hostGroup(endpoint('/ip6/2a01:4f8:1:23ff:9::7/tcp/1'), false))
    expect(ipGroup(endpoint('/ip6/::ffff:5.6.7.8/tcp/1'), false)).toBe('5.6.7.0/24')
    expect(ipGroup(endpoint('/ip4/127.0.1.1/tcp/1'), false)).toBeNull()
    expect(ipGroup(endpoint('/ip4/127.0.1.1/tcp/1'), true)).toBe('127.0.1.0/24')
    expect(isInSubnets(endpoint('/ip4/192.168.5.9/tcp/1'), ['192.168.4.1/22'])).toBe(true)
    expect(isInSubnets(endpoint('/ip4/192.168.8.9/tcp/1'), ['192.168.4.1/22', 'fe80::1/64'])).toBe(false)
  })

  test('of any form is classified without an exception', () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), fc.integer({ min: 0, max: 65_535 }), (host, port) => {
        const address = multiaddr(`/${host.includes(':') ? 'ip6' : 'ip4'}/${host}/tcp/${port}`)
        expect(['public', 'private', 'loopback']).toContain(classifyHost(endpointOf(address)!))
        expect(ipGroup(endpointOf(address)!, true)).toBeTypeOf('string')
      }),
      { seed: 7, numRuns: 300 },
    )
  })
})

describe('the dial budget', () => {
  const create = (anyAddress = false): { budget: DialBudget; advance: (ms: number) => void } => {
    let clock = 0
    const rules = { now: () => clock, groupPrivate: false, anyAddress, ownSubnets: () => ['192.168.4.1/24'] }
    const advance = (ms: number): void => {
      clock += ms
    }
    return { budget: new DialBudget(rules), advance }
  }
  const dial = (budget: DialBudget, text: string): boolean => {
    if (!budget.allows(multiaddr(text))) return false
    budget.spend(multiaddr(text))
    return true
  }

  test('is three a minute for one host and eight for its neighbourhood', () => {
    const { budget, advance } = create()
    const tries = (host: string) => Array.from({ length: 5 }, (_, i) => dial(budget, `/ip4/${host}/tcp/${4000 + i}`)).filter(Boolean).length
    expect([tries('5.6.7.1'), tries('5.6.7.2'), tries('5.6.7.3'), tries('5.6.7.4'), tries('5.6.8.1')]).toEqual([3, 3, 2, 0, 3])
    advance(60_000)
    expect(tries('5.6.7.4')).toBe(3)
  })

  test('never allows system ports, names, or other private networks, unless a person gave the address', () => {
    const { budget } = create()
    const denied = [
      '/ip4/5.6.7.8/tcp/22',
      '/dns4/example.org/tcp/4001',
      '/ip4/10.0.0.1/tcp/4001',
      '/ip4/127.0.0.1/tcp/4001',
      '/ip4/169.254.1.1/tcp/4001',
    ]
    for (const text of denied) {
      expect([text, budget.allows(multiaddr(text))]).toEqual([text, false])
      budget.trustAddress(multiaddr(`${text}/p2p/${ID}`))
      expect([text, budget.allows(multiaddr(text))]).toEqual([text, true])
    }
    for (const text of ['/ip4/5.6.7.8/tcp/443', '/ip4/192.168.4.77/tcp/4001']) expect(budget.allows(multiaddr(text))).toBe(true)
    expect(create(true).budget.allows(multiaddr('/ip4/127.0.0.1/tcp/4001'))).toBe(true)
  })

  test('does not hold for a peer that passed hello, at its own host alone', () => {
    const { budget } = create()
    for (const host of ['5.6.7.8', '9.9.9.9']) for (let i = 0; i < 3; i++) dial(budget, `/ip4/${host}/tcp/4001`)
    budget.trustPeer(ID, multiaddr('/ip4/5.6.7.8/tcp/50000'))
    expect(budget.allows(multiaddr(`/ip4/5.6.7.8/tcp/4001/p2p/${ID}`))).toBe(true)
    expect(budget.allows(multiaddr(`/ip4/9.9.9.9/tcp/4001/p2p/${ID}`))).toBe(false)
  })

  test('holds for the host of the relay through which a peer passed hello', () => {
    const { budget } = create()
    budget.trustPeer(ID, multiaddr(`/ip4/5.6.7.8/tcp/4001/p2p/${ID}/p2p-circuit/p2p/${ID}`))
    expect(budget.allows(multiaddr(`/ip4/5.6.7.8/tcp/22/p2p/${ID}`))).toBe(false)
  })

  test('of a query ends, and so does that of what runs by itself, until the next minute', () => {
    const { budget, advance } = create()
    const dials = { left: 2 }
    expect([1, 2, 3].map(() => budget.takeForQuery(dials))).toEqual([true, true, false])
    for (let i = 0; i < NETWORK.dialsBackgroundPerMinuteMax; i++) expect(budget.takeForQuery(undefined)).toBe(true)
    expect(budget.takeForQuery(undefined)).toBe(false)
    advance(60_000)
    expect(budget.takeForQuery(undefined)).toBe(true)
  })
})

describe('provider records', () => {
  const create = () => {
    let clock = 0
    let state = 1
    const random = (): number => {
      state = (state * 48_271) % 2_147_483_647
      return state / 2_147_483_647
    }
    const advance = (ms: number): void => {
      clock += ms
    }
    return { table: new ProviderTable({ now: () => clock, random }), advance }
  }
  const offer = (peerId: string, group: string | null = null) => ({
    peerId,
    group,
    peer: new TextEncoder().encode(peerId),
    addresses: [Uint8Array.of(1)],
  })

  test('are at most 64 for a key and two of one neighbourhood, each peer once, and newcomers get a place', () => {
    const { table } = create()
    for (let i = 0; i < 20; i++) table.add('crowd', offer(`sybil-${i}`, '5.6.7.0/24'))
    expect(table.get('crowd')).toHaveLength(2)
    for (let i = 0; i < 200; i++) table.add('key', offer(`peer-${i}`, `group-${i}`))
    table.add('key', offer('late', 'elsewhere'))
    table.add('key', offer('late', 'elsewhere'))
    const peers = table.get('key').map(({ peer }) => new TextDecoder().decode(peer))
    expect([peers.length, new Set(peers).size, peers.includes('late')]).toEqual([
      NETWORK.providersPerKeyMax,
      NETWORK.providersPerKeyMax,
      true,
    ])
  })

  test('of one peer end at its limit, by the minute and in all', () => {
    const { table, advance } = create()
    for (let i = 0; i < NETWORK.providersPerPeerPerMinuteMax; i++) table.add(`key-${i}`, offer('greedy'))
    expect(() => table.add('more', offer('greedy'))).toThrow(expect.objectContaining({ code: 'FLOOD' }))
    advance(60_000)
    expect(() => table.add('more', offer('greedy'))).toThrow(expect.objectContaining({ code: 'FLOOD' }))
    table.add('key-1', offer('greedy'))
    table.add('more', offer('modest'))
    expect(table.size).toBe(NETWORK.providersPerPeerMax + 1)
  })

  test('are at most 100,000 in all', () => {
    const { table } = create()
    for (let i = 0; i < NETWORK.providersTotalMax + 500; i++) table.add(`key-${i}`, offer(`peer-${i % 90}`))
    expect(table.size).toBe(NETWORK.providersTotalMax)
  })

  test('end after 48 hours unless they were renewed', () => {
    const { table, advance } = create()
    table.add('key', offer('old'))
    table.add('key', offer('renewed'))
    advance(NETWORK.providerValidityMs - 1)
    table.add('key', offer('renewed'))
    advance(2)
    expect(table.get('key').map(({ peer }) => new TextDecoder().decode(peer))).toEqual(['renewed'])
    expect(table.size).toBe(1)
  })
})

test('merged sources give all values up to the limit, and leaving ends those that still wait', async () => {
  let ended = 0
  async function* source(values: number[]): AsyncGenerator<number> {
    try {
      for (const value of values) yield value
    } finally {
      ended++
    }
  }
  const all: number[] = []
  for await (const value of mergeAll([source([1, 2, 3]), source([4]), source([])], 10)) all.push(value)
  expect(all.sort()).toEqual([1, 2, 3, 4])
  for await (const value of mergeAll([source([1, 2, 3, 4, 5])], 2)) all.push(value)
  expect(all).toHaveLength(6)
  await expect.poll(() => ended).toBe(4)
})
