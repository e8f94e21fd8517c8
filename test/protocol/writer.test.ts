/** What the writer promises beside the known answers: bounds, errors, and the index of very large shares. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { toHex, writeU32 } from '../../protocol/bytes.ts'
import { ShareDag } from '../../protocol/dag.ts'
import { ShareWriter, type WrittenShare } from '../../protocol/layout.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { ShareReader } from '../../protocol/reader.ts'
import { type BlockSealer, createOpener, createSealer } from '../../protocol/seal.ts'
import type { Put } from '../../protocol/seal-queue.ts'
import { Secret } from '../../protocol/secret.ts'
import { nodePrimitives as p } from '../primitives-node.ts'
import { MemoryBlocks, openShare, readAll, writeShare } from './memory-share.ts'

const PT = FORMAT.pieceBytes
const SCOPE = new Secret(new Uint8Array(32).fill(3))
const REAL = createSealer(p, SCOPE)

// Seals data blocks by their first bytes alone, so that shares of many gigabytes take a second; all other kinds for real.
const quickSealer: BlockSealer = {
  sealRoot: (plaintext) => REAL.sealRoot(plaintext),
  async seal(kind, plaintext) {
    if (kind === 'keys' || kind === 'path') return await REAL.seal(kind, plaintext)
    const key = await p.sha256(plaintext.subarray(0, 16))
    return { key, digest: await p.sha256(key), block: new Uint8Array(0) }
  },
  name: (kind, plaintext) => quickSealer.seal(kind, plaintext),
}

async function* numbered(count: number, from = 0): AsyncGenerator<Uint8Array> {
  const piece = new Uint8Array(PT)
  for (let i = 0; i < count; i++) {
    writeU32(piece, 0, from + i + 1)
    yield piece
  }
}

/** A share of four blocks and a little more, and what was put of it. */
async function written(isMadeOnDemand: boolean, sealer = REAL): Promise<{ share: WrittenShare; kinds: string[] }> {
  const kinds: string[] = []
  const put: Put = async (_digest, _bytes, kind) => void kinds.push(kind)
  const writer = new ShareWriter({ primitives: p, sealer, put, concurrency: 2, isMadeOnDemand })
  await writer.addFile(plain('', 'a'), numbered(4))
  return { share: await writer.finish(), kinds: kinds.sort() }
}

async function* none(): AsyncGenerator<Uint8Array> {}

const plain = (dir: string, name: string) => ({ dir, name, executable: false })

describe('the writer', () => {
  it('has nothing at work any more once it was abandoned after a failure', async () => {
    const full = new Error('the disk is full')
    const slow = Promise.withResolvers<void>()
    let puts = 0
    let isAtWork = false
    const put: Put = async () => {
      if (++puts > 1) throw full
      isAtWork = true
      await slow.promise
      isAtWork = false
    }
    const writer = new ShareWriter({ primitives: p, sealer: quickSealer, put, concurrency: 2 })
    await expect(writer.addFile(plain('', 'a'), numbered(20))).rejects.toBe(full)
    expect(isAtWork).toBe(true)
    let isQuiet = false
    const abandoned = writer.abandon().then(() => {
      isQuiet = true
    })
    await nextTurn()
    expect(isQuiet).toBe(false)
    slow.resolve()
    await abandoned
    expect(isAtWork).toBe(false)
  })

  it('puts no data block and no pad that is made on demand, and writes the same share', async () => {
    const whole = await written(false)
    const bare = await written(true)
    expect(whole.share.counts).toMatchObject({ data: 4, pads: 0 })
    expect([bare.share.cid.text, bare.share.readKey.reveal()]).toEqual([whole.share.cid.text, whole.share.readKey.reveal()])
    expect(whole.kinds).toEqual(['data', 'data', 'data', 'data', 'node', 'root'])
    expect(bare.kinds).toEqual(['node', 'root'])
    const quick = await written(true, quickSealer) // one that makes the block all the same
    expect(quick.kinds).toEqual(['node', 'root'])
  })

  it.each([
    [8192, 0],
    [8193, 1],
    [32_768, 2],
  ])('of %d data blocks keeps their keys on %d key pages', async (count, pages) => {
    const blocks = new MemoryBlocks()
    const writer = new ShareWriter({ primitives: p, sealer: quickSealer, put: blocks.put, concurrency: 1 })
    await writer.addFile(plain('', 'a'), numbered(count))
    const written = await writer.finish()
    expect([written.counts.data, written.counts.keys]).toEqual([count, pages])
    const dag = await ShareDag.open(p, written.cid, blocks.get(written.cid.digest))
    for (let i = 0; dag.missingNodes > 0; i++) await dag.acceptNode(1, i, blocks.get(dag.digestOf(1, i)!))
    const fetched: number[] = []
    const reader = await ShareReader.open({
      opener: createOpener(p),
      primitives: p,
      readKey: written.readKey,
      shape: dag.shape,
      fetchBlock: async (position) => {
        fetched.push(position)
        return blocks.get(dag.digestOf(0, position)!)
      },
    })
    const first = new Uint8Array(16)
    for (const i of [0, 8191, count - 1]) {
      writeU32(first, 0, i + 1)
      expect(toHex(await reader.keyOf(i))).toBe(toHex(await p.sha256(first)))
    }
    expect(fetched).toHaveLength(1 + pages)
    const { pagePositions, rootPosition } = reader.indexPositions()
    expect([pagePositions.length, rootPosition]).toEqual([pages, dag.shape.blockCount - 1])
    for (const position of fetched.slice(1)) expect(pagePositions).toContain(position)
  })

  it('keeps at most a few blocks in flight, and settles them in order', async () => {
    const blocks = new MemoryBlocks()
    let sealing = 0
    let putting = 0
    let most = 0
    const track = () => {
      most = Math.max(most, sealing, putting)
    }
    const sealer: BlockSealer = {
      name: REAL.name,
      sealRoot: (plaintext) => REAL.sealRoot(plaintext),
      async seal(kind, plaintext) {
        sealing++
        track()
        // Later ones finish first.
        for (let turn = 4 - (plaintext[3]! % 4); turn > 0; turn--) await new Promise(setImmediate)
        const sealed = await REAL.seal(kind, plaintext)
        sealing--
        return sealed
      },
    }
    const put = async (digest: Uint8Array, bytes: Uint8Array) => {
      putting++
      track()
      await new Promise(setImmediate)
      await blocks.put(digest, bytes)
      putting--
    }
    const writer = new ShareWriter({ primitives: p, sealer, put, concurrency: 4 })
    const copied = async function* () {
      for await (const piece of numbered(12)) yield piece.slice()
    }
    await writer.addFile(plain('', 'a'), copied())
    await writer.addFile(plain('', 'b'), copied())
    const written = await writer.finish()
    expect(written.counts.data).toBe(12)
    expect(new Set(blocks.puts).size).toBe(blocks.puts.length)
    expect(most).toBe(4)
    const one = await writeShare(
      p,
      SCOPE,
      [
        { dir: '', name: 'a', content: copied() },
        { dir: '', name: 'b', content: copied() },
      ],
      [],
      1,
    )
    expect(one.written.cid.text).toBe(written.cid.text)
    expect(one.blocks.puts.length).toBe(blocks.puts.length)
  })

  it('uses a chunk of exactly one piece without a copy', async () => {
    const seen: Uint8Array[] = []
    const sealer: BlockSealer = {
      ...quickSealer,
      seal(kind, plaintext) {
        seen.push(plaintext)
        return quickSealer.seal(kind, plaintext)
      },
    }
    const writer = new ShareWriter({ primitives: p, sealer, put: async () => {}, concurrency: 2 })
    const piece = new Uint8Array(PT).fill(1)
    await writer.addFile(
      plain('', 'a'),
      (async function* () {
        yield piece
      })(),
    )
    await writer.finish()
    expect(seen[0]).toBe(piece)
  })

  it('gives one share however the bytes were cut into chunks', async () => {
    const bytes = new Uint8Array(2 * PT + 12_345)
    for (let i = 0; i < bytes.length; i++) bytes[i] = i % 249
    const cids = new Set<string>()
    for (const chunkBytes of [1000, 65_536, PT, PT + 1, bytes.length]) {
      const chunks = async function* () {
        for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.slice(at, at + chunkBytes)
      }
      cids.add((await writeShare(p, SCOPE, [{ dir: '', name: 'a', content: chunks() }])).written.cid.text)
    }
    expect(cids.size).toBe(1)
  })

  it('passes a failure of sealing or storing on, once it has happened and ever after', async () => {
    const full = new Error('disk full')
    const writer = new ShareWriter({ primitives: p, sealer: quickSealer, put: () => Promise.reject(full), concurrency: 2 })
    await expect(writer.addFile(plain('', 'a'), numbered(9))).rejects.toBe(full)
    await expect(writer.finish()).rejects.toBe(full)
  })

  it('keeps t and h where they were given', async () => {
    const sha256 = new Uint8Array(32).fill(5)
    const file = { dir: '', name: 'a', content: Uint8Array.of(1), executable: true, mtimeSeconds: 1_700_000_000, sha256 }
    const { written, blocks } = await writeShare(p, SCOPE, [file, { ...file, name: 'b', mtimeSeconds: -5 }])
    const entries = []
    for await (const entry of (await openShare(p, written, blocks)).entries()) entries.push(entry)
    expect(entries[0]).toMatchObject({ executable: true, mtimeSeconds: 1_700_000_000, sha256 })
    expect(entries[1]!.mtimeSeconds).toBeUndefined()
  })

  it('of nothing writes a share of nothing', async () => {
    const { written, blocks } = await writeShare(p, SCOPE, [])
    expect(written).toMatchObject({ files: 0, sizeBytes: 0, counts: { data: 0, keys: 0, paths: 0, pads: 0 } })
    expect([...(await readAll(await openShare(p, written, blocks))).keys()]).toEqual([''])
  })

  it('refuses names and trees that no share can hold', async () => {
    const writer = () => new ShareWriter({ primitives: p, sealer: quickSealer, put: async () => {}, concurrency: 1 })
    await expect(writer().addFile(plain('', 'a\u202eb'), none())).rejects.toMatchObject({ name: 'InputError', code: 'BAD_NAME' })
    await expect(writer().addEmptyDirectory('a/../b')).rejects.toMatchObject({ name: 'InputError', code: 'BAD_NAME' })
    const collision = writer()
    await collision.addFile(plain('', 'a'), none())
    await expect(collision.addFile(plain('a', 'b'), none())).rejects.toMatchObject({ name: 'InputError', code: 'COLLISION' })
    const disordered = writer()
    await disordered.addFile(plain('b', 'a'), none())
    await expect(disordered.addFile(plain('a', 'b'), none())).rejects.toMatchObject({ name: 'AssertionError' })
  })

  it('says when a file lies in more stretches than an entry may have', async () => {
    const writer = new ShareWriter({ primitives: p, sealer: quickSealer, put: async () => {}, concurrency: 1 })
    const piece = new Uint8Array(PT)
    const jumping = async function* () {
      // One piece again and again: no two neighbours follow each other.
      for (let i = 0; i < 65_537; i++) {
        piece[0] = 1
        yield piece
      }
    }
    await expect(writer.addFile(plain('', 'a'), jumping())).rejects.toMatchObject({ name: 'InputError', code: 'TOO_LARGE' })
  })
})

describe('the reader', () => {
  it('finds a file or a folder, and opens only the pages that it needs', async () => {
    const blocks = new MemoryBlocks()
    const writer = new ShareWriter({ primitives: p, sealer: REAL, put: blocks.put, concurrency: 2 })
    const long = 'x'.repeat(200)
    for (let dir = 0; dir < 12; dir++) {
      for (let i = 0; i < 1000; i++)
        await writer.addFile(plain(`d${String(dir).padStart(2, '0')}`, `${long}${String(i).padStart(4, '0')}`), none())
    }
    await writer.addFile(plain('e', 'a'), none())
    await writer.addFile(plain('e b', 'x'), none())
    await writer.addEmptyDirectory('e/void')
    const written = await writer.finish()
    expect(written.counts.paths).toBe(3)
    const dag = await ShareDag.open(p, written.cid, blocks.get(written.cid.digest))
    const fetched: number[] = []
    const fetchBlock = async (position: number) => {
      fetched.push(position)
      return blocks.get(dag.digestOf(0, position)!)
    }
    const reader = await ShareReader.open({
      opener: createOpener(p),
      primitives: p,
      readKey: written.readKey,
      shape: dag.shape,
      fetchBlock,
    })
    const under = async (path: string): Promise<string[]> => {
      fetched.length = 0
      const found: string[] = []
      for await (const entry of reader.entriesUnder(path)) found.push(`${entry.dir}|${entry.name}`)
      return found
    }
    expect(await under(`d05/${long}0500`)).toEqual([`d05|${long}0500`])
    expect(fetched).toHaveLength(1)
    expect(await under('d05')).toHaveLength(1000)
    expect(await under('e')).toEqual(['e|a', 'e/void|'])
    expect(await under('e/void')).toEqual(['e/void|'])
    expect(await under('e/a')).toEqual(['e|a'])
    for (const absent of ['f', 'd', 'e/b', 'd05/x', '\u{1f600}', '!']) expect(await under(absent)).toEqual([])
    expect(await under('')).toHaveLength(12_003)
    await expect(under('../x')).rejects.toMatchObject({ code: 'L4' })
  })
})
