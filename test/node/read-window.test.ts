/** The window of blocks ahead of a reader, and which nodes of a large tree are fetched for it. */

import { describe, expect, it } from 'vitest'
import { CryptoPool } from '../../node/crypto/pool.ts'
import { ReadWindow } from '../../node/jobs/read-ahead.ts'
import type { PeerLink } from '../../node/network/peer-link.ts'
import { buildDag } from '../../protocol/dag.ts'
import { FORMAT, READING } from '../../protocol/limits.ts'
import { bareLiveShare } from '../kit/live-share.ts'
import { nodePrimitives } from '../primitives-node.ts'

/** A share that remembers what it was asked to want. */
function shareOf() {
  const wanted: [first: number, count: number, priority: number][] = []
  const held = new Set<number>()
  return {
    wanted,
    held,
    windows: new Set<ReadWindow>(),
    has: (_level: number, position: number) => held.has(position),
    wantLeaves: (first: number, count: number, priority: number) => void wanted.push([first, count, priority]),
  }
}

function* counting(from: number, end: number): Generator<number, undefined> {
  for (let i = from; i < end; i++) yield i
}

/** The furthest block wanted so far. */
const edgeOf = (share: ReturnType<typeof shareOf>): number => Math.max(...share.wanted.map(([first, count]) => first + count))

describe('the window of a reader', () => {
  it('starts small, doubles while the reader has to wait, and ends at its limit', () => {
    const share = shareOf()
    const window = new ReadWindow(share, counting(0, 1_000))
    expect(share.wanted).toEqual([[0, READING.windowBlocksMin, 1]])
    const sizes = new Set<number>()
    for (let at = 0; at < 500; at++) {
      window.reach(at) // never here
      sizes.add(edgeOf(share) - at - 1)
    }
    expect([...sizes]).toEqual([4, 8, 16, 32, 64])
    expect(share.wanted.filter(([, , priority]) => priority === 0).map(([first]) => first)).toEqual([...counting(0, 500)])
  })

  it('does not grow for a reader that is slower than the network, and only slides as it reads', () => {
    const share = shareOf()
    const window = new ReadWindow(share, counting(0, 1_000))
    for (let at = 0; at < 100; at++) {
      share.held.add(at)
      window.reach(at)
      expect(edgeOf(share)).toBe(at + 1 + READING.windowBlocksMin)
    }
  })

  it('follows the file and not the numbers of its blocks, and wants nothing beyond its end', () => {
    const share = shareOf()
    const window = new ReadWindow(share, [9, 10, 3, 4, 5][Symbol.iterator]())
    expect(share.wanted.sort()).toEqual([
      [3, 2, 1],
      [9, 2, 1],
    ])
    for (const at of [9, 10, 3, 4, 5]) window.reach(at)
    expect(edgeOf(share)).toBe(11)
  })

  it('gives up what nobody else reads when it is closed', () => {
    const share = shareOf()
    const [one, two] = [new ReadWindow(share, counting(0, 100)), new ReadWindow(share, counting(2, 100))]
    share.held.add(1)
    share.wanted.length = 0
    one.close()
    expect(share.wanted).toEqual([[0, 1, 3]]) // 1 is here, 2 and 3 the other still needs
    share.wanted.length = 0
    two.close()
    expect(share.wanted).toEqual([[2, 4, 3]])
    expect(share.windows.size).toBe(0)
  })
})

const MANY = 1_024 * FORMAT.nodeWidth + 30 * FORMAT.nodeWidth // three levels, 1,054 nodes on the lowest

describe('the tree of a large share', () => {
  it('comes as far as the blocks need it that are read', async () => {
    const digests = new Uint8Array(32 * MANY)
    for (let i = 0; i < MANY; i++) new DataView(digests.buffer).setUint32(32 * i, i + 1)
    const nodes = new Map<string, Uint8Array>()
    const cid = await buildDag(nodePrimitives, digests, MANY * FORMAT.blockBytes, async (level, index, _digest, node) => {
      nodes.set(`${level} ${index}`, node.slice())
    })
    const pool = new CryptoPool(1)
    const asked: string[] = []
    const live = bareLiveShare(cid, pool, { has: () => false, put: () => Promise.resolve(true) })
    const left = Promise.withResolvers<{ code: number; strike: 'none' }>()
    const link = {
      remote: { peerId: 'peer' },
      stats: { verifiedBlocks: 0 },
      peerKnowsShape: true,
      learnShape: () => {},
      sendHave: () => {},
      run: () => left.promise,
      cancel: () => {},
      request: (level: number, index: number) => {
        asked.push(`${level} ${index}`)
        const node = nodes.get(`${level} ${index}`)
        if (node !== undefined) queueMicrotask(() => void live.onBlock(link, level, index, node.slice()))
      },
    } as unknown as PeerLink // what a live share uses of one
    void live.attach(link, new AbortController().signal)
    await live.shapeKnown(AbortSignal.timeout(10_000))
    live.onHave(link, { kind: 'all' })
    const far = MANY - 5
    live.wantLeaves(far - 2, 3, 1)
    live.wantLeaves(1_023, 2, 1) // over the border of two nodes
    await expect.poll(() => asked.filter((place) => place.startsWith('0 ')).length, { timeout: 10_000 }).toBeGreaterThan(0)
    await expect.poll(() => asked.includes('1 1'), { timeout: 10_000 }).toBe(true)
    const lowest = Math.floor(far / FORMAT.nodeWidth)
    expect(new Set(asked.filter((place) => !place.startsWith('0 ')))).toEqual(new Set(['255 0', '2 0', '2 1', '1 0', '1 1', `1 ${lowest}`]))
    live.close(new Error('over'))
    left.resolve({ code: 0, strike: 'none' })
    await pool.close()
  })
})
