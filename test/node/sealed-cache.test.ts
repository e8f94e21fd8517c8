/** The cache of blocks that are made on demand: what it keeps is its own, made once for all who ask, and bounded. */
import { describe, expect, it } from 'vitest'
import { SealedCache } from '../../node/jobs/sealed-cache.ts'
import { FORMAT } from '../../protocol/limits.ts'

const digestOf = (n: number): Uint8Array => new Uint8Array(32).fill(n)
const blockOf = (n: number, bytes: number = FORMAT.blockBytes): Uint8Array => new Uint8Array(bytes).fill(n)

describe('the cache of sealed blocks', () => {
  it('makes a block once for all who ask meanwhile, and again for those who come later if it is not kept', async () => {
    const cache = new SealedCache()
    let made = 0
    const make = async (): Promise<Uint8Array> => {
      made++
      await Promise.resolve()
      return blockOf(7)
    }
    const all = await Promise.all([1, 2, 3].map(() => cache.getOr(digestOf(1), false, make)))
    for (const block of all) expect(block).toEqual(blockOf(7))
    expect(made).toBe(1)
    await cache.getOr(digestOf(1), true, make)
    expect(made).toBe(2)
    await cache.getOr(digestOf(1), true, make)
    expect(made).toBe(2)
  })

  it('asks again for what could not be made', async () => {
    const cache = new SealedCache()
    expect(await cache.getOr(digestOf(1), true, () => Promise.resolve(null))).toBeNull()
    await expect(cache.getOr(digestOf(1), true, () => Promise.reject(new Error('no')))).rejects.toThrow('no')
    expect(await cache.getOr(digestOf(1), true, () => Promise.resolve(blockOf(1, 5)))).toEqual(blockOf(1, 5))
  })

  it('keeps a copy and gives copies: neither side can change what the other has', () => {
    const cache = new SealedCache()
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
    const cache = new SealedCache(2 * FORMAT.blockBytes)
    cache.add(digestOf(1), blockOf(1))
    cache.add(digestOf(2), blockOf(2, 10))
    const before = cache.get(digestOf(1)) // used last from here on
    cache.add(digestOf(3), blockOf(3))
    expect(cache.get(digestOf(2))).toBeNull()
    expect(cache.get(digestOf(1))).toEqual(blockOf(1))
    expect(cache.get(digestOf(3))).toEqual(blockOf(3))
    cache.add(digestOf(4), blockOf(4, 20))
    expect(cache.get(digestOf(1))).toBeNull()
    expect(cache.get(digestOf(4))).toEqual(blockOf(4, 20))
    expect(before).toEqual(blockOf(1))
  })

  it('keeps nothing where there is no room for a block', () => {
    const cache = new SealedCache(FORMAT.blockBytes - 1)
    cache.add(digestOf(1), blockOf(1, 1))
    expect(cache.get(digestOf(1))).toBeNull()
  })
})
