/** Two connections with one peer because both dialled at once: one stays, the same for both, and nothing that is used is closed. */
import type { PeerId } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { describe, expect, test } from 'vitest'
import { createIdentity, type FoundPeer, peerIdOf, type Stack } from '../../node/network/stack.ts'
import { type Link, Twins } from '../../node/network/twins.ts'
import { NETWORK } from '../../protocol/limits.ts'
import { startsStacks } from '../kit/stacks.ts'

const patience = (): AbortSignal => AbortSignal.timeout(10_000)
const isSmaller = (a: PeerId, b: PeerId): boolean => Buffer.compare(a.toMultihash().bytes, b.toMultihash().bytes) < 0

const [one, two] = (await Promise.all([createIdentity(), createIdentity()])).map((identity) => peerIdFromString(peerIdOf(identity).text))
const [small, great] = isSmaller(one!, two!) ? [one!, two!] : [two!, one!]

interface Told {
  direction?: 'inbound' | 'outbound'
  openMs?: number
  streams?: number
  host?: string
  isRelayed?: boolean
  status?: string
}

/** A look of the node `self` at connections with `peer` at 100 s; which of them it closed. */
function closed(self: PeerId, peer: PeerId, at: Told[], isTied = false): number[] {
  const gone: number[] = []
  const links = at.map(
    ({ direction = 'outbound', openMs = 0, streams = 0, host = '1.2.3.4', isRelayed = false, status = 'open' }, i) =>
      ({
        ...{ remotePeer: peer, direction, status, timeline: { open: openMs }, streams: Array(streams).fill({}) },
        remoteAddr: multiaddr(`/ip4/${host}/tcp/1${isRelayed ? `/p2p/${peer.toString()}/p2p-circuit` : ''}`),
        close: () => Promise.resolve(void gone.push(i)),
        abort: () => expect.unreachable('it closed in time'),
      }) as unknown as Link,
  )
  const node = { peerId: self, getConnections: () => links }
  const told: Link[] = []
  const twins = new Twins({ node, isTied: () => isTied, onSpare: (link) => void told.push(link), everyMs: 15_000 })
  twins.look(100_000)
  twins.stop()
  expect(told.map((link) => links.indexOf(link))).toEqual(gone)
  return gone
}

const PAIR: Told[] = [{ direction: 'outbound' }, { direction: 'inbound', openMs: 50 }]

describe('a look at connections', () => {
  test('closes the one that the greater of the two dialled, on the side that dialled it', () => {
    expect(closed(great, small, PAIR)).toEqual([0])
    expect(closed(small, great, PAIR)).toEqual([])
  })

  test('leaves alone what is in use, what is young, and peers that something hangs on', () => {
    expect(closed(great, small, [{ streams: 1 }, { direction: 'inbound' }])).toEqual([])
    expect(closed(great, small, [{ openMs: 85_001 }, { direction: 'inbound', openMs: 85_001 }])).toEqual([])
    expect(closed(great, small, [{ openMs: 85_000 }, { direction: 'inbound', openMs: 85_001 }])).toEqual([0])
    expect(closed(great, small, PAIR, true)).toEqual([])
  })

  test('leaves alone what has no twin: one alone, two from one side, one of another time or network, one over a relay or that ends', () => {
    expect(closed(great, small, [{}])).toEqual([])
    expect(closed(great, small, [{}, {}])).toEqual([])
    expect(closed(great, small, [{}, { direction: 'inbound', openMs: NETWORK.twinsApartMs + 1 }])).toEqual([])
    expect(closed(great, small, [{}, { direction: 'inbound', openMs: NETWORK.twinsApartMs }])).toEqual([0])
    expect(closed(great, small, [{}, { direction: 'inbound', host: '127.0.0.1' }])).toEqual([])
    expect(closed(great, small, [{}, { direction: 'inbound', status: 'closing' }])).toEqual([])
    expect(closed(great, small, [{}, { direction: 'inbound', isRelayed: true }])).toEqual([])
    expect(closed(great, small, [{ isRelayed: true }, { direction: 'inbound' }])).toEqual([])
  })
})

describe('two that dial each other at once', () => {
  const start = startsStacks({ network: 'test-twins', twinsLookMs: 100 })
  const targetOf = (stack: Stack): FoundPeer => ({ peerId: stack.peerId, addresses: stack.addresses() })
  const count = (stacks: Stack[]): number[] => stacks.map((stack) => stack.connections().length)

  test('keep both connections while both are used, and then the one that the smaller dialled', async () => {
    const pair = [await start(), await start()]
    const [a, b] = pair.sort((x, y) => Buffer.compare(x.peerIdBytes, y.peerIdBytes)) as [Stack, Stack]
    for (const stack of pair)
      await stack.handleSwarm(async (frames, _remote, signal) => {
        for (let frame = await frames.read(signal); frame !== null; frame = await frames.read(signal)) await frames.write(frame, signal)
      })
    const [there, back] = await Promise.all([a.openSwarm(targetOf(b), patience()), b.openSwarm(targetOf(a), patience())])
    await expect.poll(() => count(pair), { timeout: 10_000 }).toEqual([2, 2])
    await back.frames.write(Uint8Array.of(1), patience()) // over the spare one
    expect(await back.frames.read(patience())).toEqual(Uint8Array.of(1))
    const again = await b.openSwarm(targetOf(a), patience()) // over the other
    await back.frames.close(patience())
    await expect.poll(() => count(pair), { timeout: 10_000 }).toEqual([1, 1])
    expect([a, b].map((stack) => stack.connections()[0]?.direction)).toEqual(['outbound', 'inbound'])
    // It was reached there, over the one that is closed.
    expect(b.dialableAddresses(a.peerId)).toContain(a.addresses()[0]?.replace(/\/p2p\/.*/, ''))
    for (const { frames } of [there, again]) {
      await frames.write(Uint8Array.of(2), patience())
      expect(await frames.read(patience())).toEqual(Uint8Array.of(2))
    }
  })
})
