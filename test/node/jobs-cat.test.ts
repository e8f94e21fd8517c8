/** Streaming a file between nodes in one process: ranges, how much is fetched, readers that pause or leave, and damaged files. */
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import type { CatRequest, ShareResult } from '../../node/control/api.ts'
import { silentLog } from '../../node/log.ts'
import type { ShoalNode } from '../../node/main.ts'
import { openBlockStore } from '../../node/storage/blocks.ts'
import { diskFileSystem } from '../../node/storage/fs.ts'
import { EXIT } from '../../protocol/errors.ts'
import { randomScope } from '../../protocol/keys.ts'
import { ShareWriter } from '../../protocol/layout.ts'
import { FORMAT, READING } from '../../protocol/limits.ts'
import { formatLink } from '../../protocol/link.ts'
import { createSealer } from '../../protocol/seal.ts'
import { get, ignore, Nodes, patience } from '../kit/nodes.ts'
import { storedFiles } from '../kit/stored.ts'
import { nodePrimitives } from '../primitives-node.ts'

const PIECE = FORMAT.pieceBytes
const PIECES = 256

let nodes: Nodes
let owner: ShoalNode
let big: Buffer
let share: ShareResult

beforeAll(async () => {
  nodes = await Nodes.create()
  owner = await nodes.node('owner')
  big = randomBytes(PIECES * PIECE + 12_345)
  big.fill(0, 100 * PIECE, 110 * PIECE) // a hole
  await mkdir(nodes.path('folder', 'deep'), { recursive: true })
  await writeFile(nodes.path('folder', 'big.bin'), big)
  await writeFile(nodes.path('folder', 'deep', 'small.txt'), 'a few words')
  await writeFile(nodes.path('folder', 'empty'), '')
  share = await owner.api.share({ paths: [nodes.path('folder')], scope: 'lineage', name: null }, ignore, patience())
})

afterAll(() => nodes.clear())

const BIG = { path: 'folder/big.bin' }

function cat(node: ShoalNode, request: Partial<CatRequest> = {}, signal: AbortSignal = patience()): AsyncIterator<Uint8Array> {
  const whole = { link: share.link, path: null, range: null, consent: false, wait: false, peers: owner.addresses(), ...request }
  return node.api.cat(whole, ignore, signal)[Symbol.asyncIterator]()
}

/** Reads to the end, or until `bytesMax` are there. */
async function read(chunks: AsyncIterator<Uint8Array>, bytesMax = Number.POSITIVE_INFINITY): Promise<Buffer> {
  const parts: Uint8Array[] = []
  for (let sizeBytes = 0; sizeBytes < bytesMax; ) {
    const { value, done } = await chunks.next()
    if (done === true) break
    parts.push(value)
    sizeBytes += value.length
  }
  return Buffer.concat(parts)
}

const status = (node: ShoalNode) => node.api.status(patience())

/** Bytes that a node took in for blocks, as whole blocks. */
const blocksIn = async (node: ShoalNode): Promise<number> => Math.round((await status(node)).bytesIn / FORMAT.blockBytes)

/** A node that ends with its test. */
async function fresh(name: string): Promise<ShoalNode> {
  const node = await nodes.node(name)
  onTestFinished(() => node.stop())
  return node
}

/** One that keeps nothing of what it only reads. */
async function forgetful(name: string): Promise<ShoalNode> {
  const node = await fresh(name)
  await node.api.limits({ set: { cachedBytes: 0 }, reset: false, save: false }, patience())
  return node
}

describe('a range of a file', () => {
  it('of 3 MiB from the middle costs its blocks and the index', async () => {
    const node = await forgetful('range')
    const start = 150 * PIECE + 1_000
    const got = cat(node, { ...BIG, range: { start, end: start + 3 * 1_048_576 - 1 } })
    const first = (await got.next()).value as Uint8Array // the range is not empty
    const rest = await read(got)
    expect(Buffer.concat([first, rest]).equals(big.subarray(start, start + 3 * 1_048_576))).toBe(true)
    expect(await blocksIn(node)).toBeLessThanOrEqual(4 + 1) // and the root block of the index
    await expect.poll(async () => (await status(node)).blocks).toBe(0) // nothing is kept
  })

  it('counts from the start or the end, is cut at the end, and may lie in a hole', async () => {
    const node = await fresh('ranges')
    const ranges: [start: number, end: number | null, from: number, to: number][] = [
      [0, 0, 0, 1],
      [big.length - 1, null, big.length - 1, big.length],
      [-20_000, null, big.length - 20_000, big.length],
      [big.length - 5, big.length + 5_000, big.length - 5, big.length],
      [100 * PIECE + 5, 104 * PIECE, 100 * PIECE + 5, 104 * PIECE + 1],
      [99 * PIECE - 1, 111 * PIECE, 99 * PIECE - 1, 111 * PIECE + 1],
    ]
    for (const [start, end, from, to] of ranges)
      expect((await read(cat(node, { ...BIG, range: { start, end } }))).equals(big.subarray(from, to))).toBe(true)
    const small = { path: 'folder/deep/small.txt' }
    expect((await read(cat(node, { ...small, range: { start: 2, end: 4 } }))).toString()).toBe('few')
    expect((await read(cat(node, { ...small, range: { start: -1_000, end: null } }))).toString()).toBe('a few words')
    expect((await read(cat(node, { path: 'folder/empty' }))).length).toBe(0)
    expect((await read(cat(node, { path: 'folder/empty', range: { start: -5, end: null } }))).length).toBe(0)
  })

  it('that the file does not have is said to be so', async () => {
    const node = await fresh('refused')
    const refused: [path: string, start: number, end: number | null][] = [
      ['folder/big.bin', big.length, null],
      ['folder/big.bin', 2 ** 50, 2 ** 51],
      ['folder/big.bin', 5, 4],
      ['folder/big.bin', -5, 4],
      ['folder/empty', 0, null],
    ]
    for (const [path, start, end] of refused)
      await expect(cat(node, { path, range: { start, end } }).next()).rejects.toMatchObject({ code: 'BAD_RANGE', exitCode: EXIT.badInput })
  })
})

describe('reading in order', () => {
  it('gives the whole file, from two seeders at once', async () => {
    const [node, blind] = [await fresh('both'), await fresh('blind')]
    const content = randomBytes(64 * PIECE + 5)
    await writeFile(nodes.path('pair.bin'), content)
    const pair = await owner.api.share({ paths: [nodes.path('pair.bin')], scope: 'lineage', name: null }, ignore, patience())
    await blind.api.seed({ link: pair.seedLink, wait: false, peers: owner.addresses() }, ignore, patience())
    const before = [(await status(owner)).bytesOut, (await status(blind)).bytesOut]
    const chunks = cat(node, { link: pair.link, peers: [...owner.addresses(), ...blind.addresses()] })
    const start = await read(chunks, 1)
    await expect.poll(async () => (await status(node)).swarmPeers).toBe(2)
    expect(Buffer.concat([start, await read(chunks)]).equals(content)).toBe(true)
    for (const [i, seeder] of [owner, blind].entries())
      expect((await status(seeder)).bytesOut - before[i]!).toBeGreaterThan(8 * FORMAT.blockBytes)
  })

  it('fetches no more than the window for a reader that pauses, and nothing after it left', async () => {
    const node = await forgetful('pausing')
    const chunks = cat(node, BIG)
    await read(chunks, 1)
    const ahead = 1 + 2 * READING.windowBlocksMin + READING.openedMax
    await expect.poll(async () => (await status(node)).blocks).toBeGreaterThan(READING.windowBlocksMin)
    // The window is full when as much came twice in a row: whoever asks the peers asks for nothing more.
    for (let last = -1, now = 0; now !== last; ) {
      last = now
      for (let i = 0; i < 20; i++) now = (await status(node)).blocks
    }
    expect(await blocksIn(node)).toBeLessThanOrEqual(ahead + 3)
    await chunks.return?.()
    await expect.poll(async () => await status(node)).toMatchObject({ jobs: 0, blocks: 0 })
    expect((await storedFiles(nodes.homeOf('pausing'))).size).toBe(0)
    expect(await blocksIn(node)).toBeLessThanOrEqual(ahead + 3)
  })

  it('ends at once when it is interrupted', async () => {
    const node = await fresh('interrupted')
    const stopped = new AbortController()
    const chunks = cat(node, BIG, stopped.signal)
    await read(chunks, 1)
    stopped.abort()
    await expect(read(chunks)).rejects.toMatchObject({ code: 'INTERRUPTED' })
    expect(await status(node)).toMatchObject({ jobs: 0 })
  })

  it('does not disturb another job on the same share, nor the other way round', async () => {
    const node = await fresh('shared')
    const out = nodes.path('shared-out')
    await mkdir(out)
    const [left, stays] = [cat(node, BIG), cat(node, { ...BIG, range: { start: 30 * PIECE, end: 120 * PIECE - 1 } })]
    await read(left, 1)
    await read(stays, 1)
    const getting = get(node, share.link, out, { path: 'folder/deep', peers: owner.addresses() })
    await left.return?.()
    expect((await read(stays)).equals(big.subarray(31 * PIECE, 120 * PIECE))).toBe(true)
    expect((await getting).files).toBe(1)
  })

  it('finds the seeder again at once, however soon one reading follows another', async () => {
    const node = await fresh('again')
    const path = 'folder/deep/small.txt'
    for (let i = 0; i < 20; i++) {
      // Half of them end while peers are still being dialled for them.
      if (i % 2 === 0) await expect(cat(node, { path: 'folder/none' }).next()).rejects.toMatchObject({ code: 'NOT_IN_SHARE' })
      else expect((await read(cat(node, { path }))).toString()).toBe('a few words')
    }
  })

  it('refuses a folder, and what is not there', async () => {
    const node = await fresh('wrong')
    await expect(cat(node).next()).rejects.toMatchObject({ code: 'NOT_ONE_FILE', exitCode: EXIT.usage })
    await expect(cat(node, { path: 'folder/none' }).next()).rejects.toMatchObject({ code: 'NOT_IN_SHARE' })
  })
})

/** A share of two files whose publisher stated their hashes, the second one wrongly, in the home of a node to be. */
async function makeLie(home: string, content: Uint8Array): Promise<string> {
  await mkdir(home, { mode: 0o700 })
  const store = await openBlockStore({
    dir: home,
    fs: diskFileSystem,
    verify: async (bytes) => ({ digest: await nodePrimitives.sha256(bytes), bytes }),
    allocate: (size) => new Uint8Array(size),
    log: silentLog,
    signal: patience(),
  })
  const writer = new ShareWriter({
    primitives: nodePrimitives,
    sealer: createSealer(nodePrimitives, randomScope(new Uint8Array(randomBytes(32)))),
    put: async (digest, bytes) => void (await store.put(digest, bytes, patience())),
    concurrency: 1,
  })
  const right = new Uint8Array(createHash('sha256').update(content).digest())
  for (const [name, sha256] of [
    ['honest', right],
    ['lied', right.toReversed()],
  ] as const) {
    await writer.addFile(
      { dir: '', name, executable: false, sha256 },
      (async function* () {
        yield content.slice()
      })(),
    )
  }
  const written = await writer.finish()
  await store.close()
  return await formatLink(nodePrimitives, { cid: written.cid, readKey: written.readKey, peers: [], vias: [] })
}

describe('a file that is not what its publisher stated', () => {
  it('comes whole and then fails; a range of it does not', async () => {
    const content = new Uint8Array(randomBytes(2 * PIECE + 100))
    const link = await makeLie(nodes.homeOf('liar'), content)
    const [liar, node] = [await fresh('liar'), await fresh('reader')]
    await liar.api.seed({ link, wait: false, peers: [] }, ignore, patience())
    const request = { link, peers: liar.addresses() }
    expect((await read(cat(node, { ...request, path: 'honest' }))).equals(content)).toBe(true)
    const chunks = cat(node, { ...request, path: 'lied' })
    expect((await read(chunks, content.length)).equals(content)).toBe(true)
    await expect(chunks.next()).rejects.toMatchObject({ code: 'X8', exitCode: EXIT.damagedShare })
    const range = { start: 1, end: null }
    expect((await read(cat(node, { ...request, path: 'lied', range }))).equals(content.subarray(1))).toBe(true)
  })
})
