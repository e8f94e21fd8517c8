/**
 * Crowds of strangers around one key: 45 that have taken all the places nearest to it and forget what they are told, and 63 that say they
 * have a share for one that has it.
 */
import { randomBytes } from 'node:crypto'
import { afterEach, expect, test } from 'vitest'
import type { Stack } from '../../node/network/stack.ts'
import { BUSY_MS_MAX, endAll, patience, startAttacker, startBusyMeter, startStack } from './kit.ts'

afterEach(endAll)

const HONEST = 20
const SYBILS = 45

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/** Honest nodes, each a host of its own, that know of each other. */
async function honestNetwork(count: number): Promise<Stack[]> {
  const stacks: Stack[] = []
  for (let i = 0; i < count; i++) {
    const host = `127.30.${i}.1`
    const bootstrap = stacks.slice(-3).flatMap((stack) => stack.addresses())
    const stack = await startStack({ listen: [`/ip4/${host}/tcp/0`], dialFrom: host, bootstrap })
    await stack.connectBootstrap(patience())
    stacks.push(stack)
  }
  await expect.poll(() => Math.min(...stacks.map((stack) => stack.dht()[0]!.peers)), { timeout: 30_000 }).toBeGreaterThan(3)
  return stacks
}

async function finds(stack: Stack, key: Uint8Array, peerId: string): Promise<boolean> {
  for await (const peer of stack.find(key, patience())) if (peer.peerId === peerId) return true
  return false
}

test('a key that 45 strangers surround is still found, by the peers at larger distances', async () => {
  const stacks = await honestNetwork(HONEST)
  const key = randomBytes(32)
  const targets = stacks.map((stack) => stack.addresses()[0]!)
  await startAttacker({ kind: 'surround', count: SYBILS, key: hex(key), targets }).ready
  await expect.poll(() => stacks.filter((stack) => stack.dht()[0]!.peers > HONEST).length, { timeout: 20_000 }).toBeGreaterThan(HONEST / 2)
  const [provider, ...askers] = stacks as [Stack, ...Stack[]]
  expect(await provider.provide(key, patience())).toBeGreaterThan(0)
  const meter = startBusyMeter()
  let found = 0
  for (const asker of askers) if (await finds(asker, key, provider.peerId)) found++
  meter.stop()
  console.log(
    `found by ${found} of ${askers.length}; tables of ${stacks.map((stack) => stack.dht()[0]!.peers).join(' ')}; busy ${BUSY_MS_MAX}`,
  )
  expect(found).toBeGreaterThanOrEqual(0.95 * askers.length)
}, 180_000)
