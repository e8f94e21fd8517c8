/** F3, F4, F5: provider records cannot stall a DHT server, fill it, or hide the providers that are alive. */
import { randomBytes } from 'node:crypto'
import { peerIdFromString } from '@libp2p/peer-id'
import { MemoryDatastore } from 'datastore-core'
import { base32 } from 'multiformats/bases/base32'
import { afterEach, expect, test } from 'vitest'
import type { Stack } from '../../node/network/stack.ts'
import { BUSY_MS_MAX, endAll, patience, startAttacker, startBusyMeter, startStack } from './kit.ts'

afterEach(endAll)

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

async function findAll(stack: Stack, key: Uint8Array): Promise<{ peerIds: string[]; tookMs: number }> {
  const beganMs = performance.now()
  const peerIds: string[] = []
  for await (const peer of stack.find(key, patience())) peerIds.push(peer.peerId)
  return { peerIds, tookMs: performance.now() - beganMs }
}

async function joined(entrance: Stack, host: string): Promise<Stack> {
  const stack = await startStack({ listen: [`/ip4/${host}/tcp/0`], bootstrap: entrance.addresses() })
  await stack.connectBootstrap(patience())
  await expect.poll(() => stack.dht()[0]!.peers, { timeout: 5_000 }).toBeGreaterThan(0)
  return stack
}

test('F3 records with thousands of addresses neither hold the event loop nor slow the answers for that key', async () => {
  const server = await startStack()
  const provider = await joined(server, '127.0.3.1')
  const asking = await joined(server, '127.0.5.1')
  const key = randomBytes(32)
  await provider.provide(key, patience())
  const meter = startBusyMeter()
  await startAttacker({ kind: 'addressBomb', target: server.addresses()[0]!, count: 150_000, key: hex(key) }).done
  const { peerIds, tookMs } = await findAll(asking, key)
  expect(meter.stop()).toBeLessThanOrEqual(BUSY_MS_MAX)
  expect(peerIds).toContain(provider.peerId)
  expect(tookMs).toBeLessThan(1_000)
  expect(server.connections().map(({ peerId }) => peerId)).toEqual(expect.arrayContaining([provider.peerId, asking.peerId]))
})

test('F4 a flood of records from one peer is cut off at 2,000, and others are still served', async () => {
  const server = await startStack()
  const provider = await joined(server, '127.0.3.1')
  const asking = await joined(server, '127.0.5.1')
  const report = await startAttacker({ kind: 'recordFlood', target: server.addresses()[0]!, count: 20_000 }).done
  expect(report).toMatchObject({ type: 'done', refused: expect.any(Number) })
  expect(report.type === 'done' && report.refused).toBeGreaterThan(0)
  expect(server.recordCount()).toBeGreaterThan(1_000)
  expect(server.recordCount()).toBeLessThanOrEqual(2_000)
  const key = randomBytes(32)
  await provider.provide(key, patience())
  expect((await findAll(asking, key)).peerIds).toContain(provider.peerId)
})

test('F5 a provider that left and was forgotten does not hide the one that is alive', async () => {
  const datastore = new MemoryDatastore()
  const server = await startStack({ datastore })
  const key = randomBytes(32)
  await startAttacker({ kind: 'announceAndLeave', target: server.addresses()[0]!, count: 1, key: hex(key) }).done
  // What the peer store does with a peer that has not been seen for long.
  const self = peerIdFromString(server.peerId).toCID().toString(base32)
  for await (const stored of datastore.queryKeys({ prefix: '/peers' })) if (stored.name() !== self) await datastore.delete(stored)
  const provider = await joined(server, '127.0.3.1')
  await provider.provide(key, patience())
  const asking = await joined(server, '127.0.5.1')
  await provider.stop()
  const { peerIds } = await findAll(asking, key)
  expect(peerIds).toContain(provider.peerId)
})
