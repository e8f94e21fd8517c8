/** When the entrances of a network are dialled: a stand-in for the stack, and the first look at it. */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { keepConnected } from '../../node/jobs/keep-connected.ts'
import type { Stack } from '../../node/network/stack.ts'

let stopping: AbortController
beforeEach(() => {
  stopping = new AbortController()
})
afterEach(() => stopping.abort())

/** Dials of the entrances by a node with so many connections, and so many peers in each DHT. */
function dialsOf(connections: number, tables: Record<string, number>): number {
  let dials = 0
  const stack: Partial<Stack> = {
    connections: () => new Array(connections).fill({ peerId: '', address: '', direction: 'outbound', openedMs: 0 }),
    dht: () => Object.entries(tables).map(([name, peers]) => ({ name, peers, mode: 'client' })),
    connectBootstrap: async () => ++dials,
  }
  void keepConnected(stack as Stack, stopping.signal)
  return dials
}

test('a node that stands alone dials the entrances', () => {
  expect(dialsOf(0, { ipfs: 20, shoal: 3, lan: 0 })).toBe(1)
  expect(dialsOf(0, { net: 0 })).toBe(1)
})

test('a node whose only peers are neighbours on the local network dials the entrances', () => {
  expect(dialsOf(1, { ipfs: 0, shoal: 0, lan: 1 })).toBe(1)
  expect(dialsOf(1, { net: 0 })).toBe(1)
})

test('a node that is in a DHT of the world, or has none but that of the local network, leaves them alone', () => {
  expect(dialsOf(1, { ipfs: 0, shoal: 1, lan: 0 })).toBe(0)
  expect(dialsOf(1, { ipfs: 1, shoal: 0, lan: 1 })).toBe(0)
  expect(dialsOf(1, { lan: 0 })).toBe(0)
})
