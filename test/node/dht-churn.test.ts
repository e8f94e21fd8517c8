/** Peers of a DHT that go without a word. */
import { randomBytes } from 'node:crypto'
import type { PeerId } from '@libp2p/interface'
import type { KadDHTComponents } from '@libp2p/kad-dht'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { MemoryDatastore } from 'datastore-core'
import { afterEach, describe, expect, test } from 'vitest'
import { silentLog } from '../../node/log.ts'
import { guardedComponents, isUnreachable } from '../../node/network/dht-guard.ts'
import { DialBudget } from '../../node/network/dial-budget.ts'
import { NetworkError } from '../../node/network/network-error.ts'
import { acceptsAddress, networkPlan } from '../../node/network/plan.ts'
import { createIdentity, createStack, type Stack } from '../../node/network/stack.ts'

const stacks: Stack[] = []

async function start(bootstrap: string[] = []): Promise<Stack> {
  const stack = await createStack({
    ...{ identity: await createIdentity(), network: 'test-churn', listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap, mdns: false },
    ...{ datastore: new MemoryDatastore(), log: silentLog, groupPrivate: false },
  })
  stacks.push(stack)
  if (bootstrap.length > 0) await stack.connectBootstrap(AbortSignal.timeout(10_000))
  return stack
}

const tableOf = (stack: Stack): number => stack.dht()[0]!.peers

afterEach(async () => {
  await Promise.all(stacks.splice(0).map((stack) => stack.stop()))
})

test('a peer that is gone leaves the tables of those who ask it, and hides nobody', async () => {
  const entrance = await start()
  const [asker, provider, leaver] = [
    await start(entrance.addresses()),
    await start(entrance.addresses()),
    await start(entrance.addresses()),
  ]
  await asker.connectBootstrap(AbortSignal.timeout(10_000))
  await expect.poll(() => tableOf(asker), { timeout: 15_000 }).toBe(3)
  const key = randomBytes(32)
  await provider.provide(key, AbortSignal.timeout(10_000))
  await leaver.stop()
  await expect.poll(() => asker.connections().some(({ peerId }) => peerId === leaver.peerId), { timeout: 5_000 }).toBe(false)
  const found: string[] = []
  for await (const { peerId } of asker.find(key, AbortSignal.timeout(10_000))) found.push(peerId)
  expect(found).toContain(provider.peerId)
  await expect.poll(() => tableOf(asker), { timeout: 5_000 }).toBe(2)
})

test('a share that only the local network was told of is not announced, where there are other DHTs', async () => {
  const start = async (): Promise<Stack> => {
    const stack = await createStack({
      ...{ identity: await createIdentity(), network: null, listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap: [], mdns: false },
      ...{ datastore: new MemoryDatastore(), log: silentLog, groupPrivate: false },
    })
    stacks.push(stack)
    return stack
  }
  const [server, neighbour] = [await start(), await start()]
  await server.handleSwarm(async () => {})
  const target = { peerId: server.peerId, addresses: server.addresses(), isGiven: true }
  const { frames } = await neighbour.openSwarm(target, AbortSignal.timeout(10_000))
  frames.abort(new Error('connected'))
  const lanOf = (stack: Stack): number => stack.dht().find(({ name }) => name === 'lan')?.peers ?? 0
  await expect.poll(() => lanOf(neighbour), { timeout: 15_000 }).toBe(1)
  expect(await neighbour.provideAll([randomBytes(32), randomBytes(32)], AbortSignal.timeout(30_000))).toEqual({ told: 0, covered: [] })
  expect(server.recordCount()).toBeGreaterThan(0)
}, 60_000)

describe('a dial that failed', () => {
  const coded = (code: string): Error => Object.assign(new Error('dial'), { code })

  test('says nothing where this computer has no way to the peer, but by one of its addresses', () => {
    expect(isUnreachable(coded('ENETUNREACH'))).toBe(false)
    expect(isUnreachable(new AggregateError([coded('ENETUNREACH'), coded('ENETUNREACH')]))).toBe(false)
    expect(isUnreachable(new AggregateError([coded('ECONNREFUSED'), coded('ENETUNREACH')]))).toBe(true)
  })

  test('says nothing about a peer of the world while there are connections to the local network alone', async () => {
    const peer = peerIdFromString('12D3KooWGC6TvWhfajpX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5Q')
    const [world] = networkPlan(null, []).dhts
    const goneWith = async (...connected: string[]): Promise<PeerId[]> => {
      const gone: PeerId[] = []
      const connectionManager = {
        getConnections: (to?: PeerId) => (to === undefined ? connected.map((address) => ({ remoteAddr: multiaddr(address) })) : []),
        openStream: () => Promise.reject(coded('EHOSTUNREACH')),
      }
      const components = { connectionManager, addressManager: {} } as unknown as KadDHTComponents // as much as is read
      const budget = new DialBudget({ now: () => 0, groupPrivate: false, anyAddress: true, ownSubnets: () => [] })
      const guarded = guardedComponents(
        components,
        budget,
        (address) => acceptsAddress(world!, address),
        (one) => gone.push(one),
      )
      await guarded.connectionManager.openStream(peer, '/kad').catch(() => {})
      return gone
    }
    expect(await goneWith()).toEqual([])
    expect(await goneWith('/ip4/192.168.1.7/tcp/4801')).toEqual([])
    expect(await goneWith('/ip4/192.168.1.7/tcp/4801', '/ip4/5.6.7.8/tcp/4801')).toEqual([peer])
  })

  test('says that the peer is gone only when nobody answered there', () => {
    expect([coded('ECONNREFUSED'), coded('EHOSTUNREACH'), coded('ETIMEDOUT')].map(isUnreachable)).toEqual([true, true, true])
    expect(isUnreachable(new AggregateError([coded('ECONNREFUSED'), coded('ETIMEDOUT')]))).toBe(true)
    const ours = [
      new NetworkError('BUDGET', 'no more dials'),
      new DOMException('stopped', 'AbortError'),
      new DOMException('late', 'TimeoutError'),
      coded('EMFILE'),
      'text',
      undefined,
    ]
    expect(ours.map(isUnreachable)).toEqual(ours.map(() => false))
    expect(isUnreachable(new AggregateError([coded('ECONNREFUSED'), new NetworkError('BUDGET', 'no more dials')]))).toBe(false)
    expect(isUnreachable(new AggregateError([]))).toBe(false)
  })
})
