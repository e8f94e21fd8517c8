/** Peers of a DHT that go without a word. */
import { randomBytes } from 'node:crypto'
import { MemoryDatastore } from 'datastore-core'
import { afterEach, describe, expect, test } from 'vitest'
import { silentLog } from '../../node/log.ts'
import { isUnreachable } from '../../node/network/dht-guard.ts'
import { NetworkError } from '../../node/network/network-error.ts'
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

describe('a dial that failed', () => {
  const coded = (code: string): Error => Object.assign(new Error('dial'), { code })

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
