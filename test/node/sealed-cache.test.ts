/** The cache of blocks that are made on demand: what it keeps is its own, made once for all who ask, and bounded. */
import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { CryptoPool } from '../../node/crypto/pool.ts'
import { nodePrimitives } from '../../node/crypto/primitives.ts'
import { SealedCache } from '../../node/jobs/sealed-cache.ts'
import type { PeerLink } from '../../node/network/peer-link.ts'
import { equalBytes } from '../../protocol/bytes.ts'
import { buildDag } from '../../protocol/dag.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { bareLiveShare } from '../kit/live-share.ts'

const digestOf = (n: number): Uint8Array => new Uint8Array(32).fill(n)
const blockOf = (n: number, bytes: number = FORMAT.blockBytes): Uint8Array => new Uint8Array(bytes).fill(n)

const allocate = (sizeBytes: number): Uint8Array => new Uint8Array(sizeBytes)
const bytesOf = async (made: ReturnType<SealedCache['getOr']>): Promise<Uint8Array | undefined> => (await made)?.bytes

describe('the cache of sealed blocks', () => {
  it('makes a block once for all who ask meanwhile, and again for those who come later if it is not kept', async () => {
    const cache = new SealedCache(allocate)
    let made = 0
    const make = async (): Promise<Uint8Array> => {
      made++
      await Promise.resolve()
      return blockOf(7)
    }
    const all = await Promise.all([1, 2, 3].map(() => cache.getOr(digestOf(1), false, make)))
    for (const each of all) expect(each).toEqual({ bytes: blockOf(7), isShared: true })
    expect(made).toBe(1)
    await cache.getOr(digestOf(1), true, make)
    expect(made).toBe(2)
    expect(await cache.getOr(digestOf(1), true, make)).toEqual({ bytes: blockOf(7), isShared: false })
    expect(made).toBe(2)
  })

  it('asks again for what could not be made', async () => {
    const cache = new SealedCache(allocate)
    expect(await cache.getOr(digestOf(1), true, () => Promise.resolve(null))).toBeNull()
    await expect(cache.getOr(digestOf(1), true, () => Promise.reject(new Error('no')))).rejects.toThrow('no')
    expect(await bytesOf(cache.getOr(digestOf(1), true, () => Promise.resolve(blockOf(1, 5))))).toEqual(blockOf(1, 5))
  })

  it('keeps a copy and gives copies: neither side can change what the other has', () => {
    const cache = new SealedCache(allocate)
    const given = blockOf(1, 100)
    cache.add(digestOf(1), given)
    given.fill(9)
    const got = cache.get(digestOf(1))
    expect(got).toEqual(blockOf(1, 100))
    got?.fill(8)
    structuredClone(got, { transfer: [got!.buffer as ArrayBuffer] }) // as on the way to a worker
    expect(cache.get(digestOf(1))).toEqual(blockOf(1, 100))
  })

  it('lets the least recently used go, also for one of another length, and uses its memory again', () => {
    let rooms = 0
    const counting = (sizeBytes: number): Uint8Array => {
      if (sizeBytes === FORMAT.blockBytes) rooms++
      return new Uint8Array(sizeBytes)
    }
    const cache = new SealedCache(counting, 2 * FORMAT.blockBytes)
    cache.add(digestOf(1), blockOf(1, 30))
    cache.add(digestOf(2), blockOf(2, 10))
    const before = cache.get(digestOf(1)) // used last from here on
    cache.add(digestOf(3), blockOf(3))
    expect(cache.get(digestOf(2))).toBeNull()
    expect(cache.get(digestOf(1))).toEqual(blockOf(1, 30))
    cache.add(digestOf(4), blockOf(4, 20))
    expect(cache.get(digestOf(3))).toBeNull()
    cache.add(digestOf(5), blockOf(5, 40))
    expect(cache.get(digestOf(1))).toBeNull()
    expect(cache.get(digestOf(4))).toEqual(blockOf(4, 20))
    expect(cache.get(digestOf(5))).toEqual(blockOf(5, 40))
    expect(before).toEqual(blockOf(1, 30))
    expect(rooms).toBe(2)
  })

  it('keeps nothing where there is no room for a block', () => {
    const cache = new SealedCache(allocate, FORMAT.blockBytes - 1)
    cache.add(digestOf(1), blockOf(1, 1))
    expect(cache.get(digestOf(1))).toBeNull()
  })
})

describe('a share whose blocks are made on demand', () => {
  it('keeps made blocks while a second peer may ask for them, and for whoever reads here', async () => {
    let root = new Uint8Array(0)
    const digests = new Uint8Array(randomBytes(2 * 32))
    const cid = await buildDag(nodePrimitives, digests, 2 * FORMAT.blockBytes, async (_level, _index, _digest, node) => {
      root = node.slice()
    })
    let made = 0
    const pool = new CryptoPool(1)
    const live = bareLiveShare(cid, pool, {
      has: () => false,
      get: (digest) => Promise.resolve(equalBytes(digest, cid.digest) ? root : null),
    })
    const join = (peerId: string): void => {
      const link = { remote: { peerId }, peerKnowsShape: true, learnShape: () => {}, sendHave: () => {}, run: () => new Promise(() => {}) }
      void live.attach(link as unknown as PeerLink, new AbortController().signal) // what a live share uses of one
    }
    try {
      await live.load(AbortSignal.timeout(10_000))
      live.addSource({ has: () => true, block: () => Promise.resolve(blockOf(++made)) })
      const read = async (index: number): Promise<number | undefined> => (await live.read(0, index, AbortSignal.timeout(10_000)))?.[0]
      join('one')
      expect([await read(0), await read(0)]).toEqual([1, 2])
      join('two')
      expect([await read(0), await read(0)]).toEqual([3, 3])
      const taken = [await live.block(1, 0, AbortSignal.timeout(10_000)), await live.block(1, 0, AbortSignal.timeout(10_000))]
      expect(taken.map((bytes) => bytes[0])).toEqual([4, 4])
      expect(taken[0]?.buffer).not.toBe(taken[1]?.buffer)
    } finally {
      live.close(new Error('the test is over'))
      await pool.close()
    }
  })
})
