/** Gets that were cut off: what they wrote is served before anybody goes on with them, and nothing of it is believed. */
import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { ShareResult, StatusResult } from '../../node/control/api.ts'
import type { ShoalNode } from '../../node/main.ts'
import { get, ignore, Nodes, patience } from '../kit/nodes.ts'

const PIECES = 12
const MIB = 1_048_576

let nodes: Nodes
let a: ShoalNode
let b: ShoalNode
let out: string
let bytes: Buffer
let shared: ShareResult

beforeEach(async () => {
  nodes = await Nodes.create()
  a = await nodes.node('a')
  b = await nodes.node('b')
  out = nodes.path('out')
  await mkdir(out)
  bytes = randomBytes(PIECES * MIB)
  await writeFile(nodes.path('file.bin'), bytes)
  shared = await a.api.share({ paths: [nodes.path('file.bin')], scope: 'lineage', name: null }, ignore, patience())
})
afterEach(() => nodes.clear())

/** A get that ends when so many pieces came; resolves to its part folder. */
async function cutOff(pieces: number): Promise<string> {
  const stop = new AbortController()
  const request = { link: shared.link, outputDir: out, path: null, force: false, consent: false, wait: true, keep: false }
  const half = b.api.get(
    { ...request, peers: a.addresses() },
    (event) => {
      if (event.type === 'progress' && event.phase === 'fetch' && event.doneBytes >= pieces * MIB) stop.abort(new Error('enough'))
    },
    stop.signal,
  )
  await expect(half).rejects.toThrow()
  const [part = ''] = await readdir(out)
  return join(out, part)
}

const unfinished = async (node: ShoalNode): Promise<StatusResult['unfinished']> => (await node.api.status(patience())).unfinished
const haveOf = async (node: ShoalNode): Promise<number> => (await node.api.shares(patience()))[0]?.haveBlocks ?? 0

describe('a get that was cut off', () => {
  it('is served after a restart, and `status` says where to go on; a piece that is not what it was is not served', async () => {
    const part = await cutOff(5)
    await b.stop()
    const file = await open(join(part, 'file.bin'), 'r+')
    const held = Buffer.alloc(bytes.length)
    await file.read(held, 0, held.length, 0)
    const isHere = (i: number): boolean =>
      held.subarray(i * 1_048_560, (i + 1) * 1_048_560).equals(bytes.subarray(i * 1_048_560, (i + 1) * 1_048_560))
    const here = Array.from({ length: PIECES }, (_, i) => i).filter(isHere)
    expect(here.length).toBeGreaterThanOrEqual(5)
    await file.write(Buffer.from([held[here[0]! * 1_048_560 + 9]! ^ 1]), 0, 1, here[0]! * 1_048_560 + 9)
    await file.close()
    b = await nodes.node('b')
    const waiting = { cid: shared.cid, path: '', outputDir: out }
    await expect.poll(() => unfinished(b)).toMatchObject({ running: 0, waiting: 1, gets: [waiting] })
    await a.stop()
    const c = await nodes.node('c')
    await mkdir(nodes.path('out-c'))
    const stop = new AbortController()
    const getting = get(c, shared.link, nodes.path('out-c'), { peers: b.addresses(), wait: true }, stop.signal)
    getting.catch(ignore)
    // All of them but one, and what lies in the store: the root block, and what came as a block of its own.
    await expect.poll(() => haveOf(c), { timeout: 10_000 }).toBeGreaterThanOrEqual(here.length - 1)
    // Whoever asks has all of it in the end, and no more.
    await expect.poll(async () => (await unfinished(b)).gets[0]?.haveBlocks === (await haveOf(c)), { timeout: 10_000 }).toBe(true)
    expect(await haveOf(c)).toBeLessThanOrEqual(here.length)
    stop.abort()
    a = await nodes.node('a')
    const got = await get(b, shared.link, out, { peers: a.addresses() })
    expect(got.reusedBlocks).toBe(here.length - 1)
    expect((await readFile(join(out, 'file.bin'))).equals(bytes)).toBe(true)
    expect(await readdir(out)).toEqual(['file.bin'])
    expect(await unfinished(b)).toEqual({ running: 0, waiting: 0, gets: [] })
  })

  it('is served at once, too, and goes on with the same command', async () => {
    await cutOff(4)
    await expect.poll(async () => (await unfinished(b)).gets[0]?.haveBlocks ?? 0).toBeGreaterThanOrEqual(4)
    const got = await get(b, shared.link, out, { peers: a.addresses() })
    expect(got.reusedBlocks).toBeGreaterThanOrEqual(4)
    expect((await readFile(join(out, 'file.bin'))).equals(bytes)).toBe(true)
    expect(await readdir(out)).toEqual(['file.bin'])
  })

  it('gives what it wrote to another get of the same share that is waiting for peers', async () => {
    await cutOff(4)
    await a.stop()
    const common = { link: shared.link, path: null, force: false, consent: false, wait: true, keep: false }
    const isWaiting = Promise.withResolvers<void>()
    const signal = AbortSignal.timeout(50_000)
    let gotBytes = 0
    await mkdir(nodes.path('other'))
    const other = b.api.get(
      { ...common, outputDir: nodes.path('other'), peers: [] },
      (event) => {
        if (event.type !== 'progress') return
        if (event.phase === 'find') isWaiting.resolve()
        else gotBytes = event.doneBytes
      },
      signal,
    )
    other.catch(ignore)
    await isWaiting.promise
    const resumed = get(b, shared.link, out, { wait: true }, signal)
    resumed.catch(ignore)
    await expect.poll(() => gotBytes, { timeout: 20_000 }).toBeGreaterThanOrEqual(4 * MIB)
    a = await nodes.node('a')
    await mkdir(nodes.path('third'))
    await get(b, shared.link, nodes.path('third'), { peers: a.addresses() }, signal)
    await Promise.all([other, resumed])
    expect((await readFile(nodes.path('other', 'file.bin'))).equals(bytes)).toBe(true)
    expect((await readFile(join(out, 'file.bin'))).equals(bytes)).toBe(true)
  })

  it('goes with `unseed` while it is served, and its folder with it', async () => {
    await cutOff(4)
    await b.stop()
    b = await nodes.node('b')
    await expect.poll(async () => (await unfinished(b)).gets[0]?.haveBlocks ?? 0).toBeGreaterThanOrEqual(4)
    await b.api.unseed({ cid: shared.cid }, patience())
    expect(await readdir(out)).toEqual([])
    expect(await unfinished(b)).toEqual({ running: 0, waiting: 0, gets: [] })
  })

  it('has its name from its link where that gave it one', async () => {
    shared = await a.api.share({ paths: [nodes.path('file.bin')], scope: 'public', name: null }, ignore, patience())
    await cutOff(4)
    await b.stop()
    b = await nodes.node('b')
    await expect.poll(async () => (await unfinished(b)).gets[0]?.haveBlocks ?? 0).toBeGreaterThanOrEqual(4)
  })
})

describe('a get that finds the disk full', () => {
  const setFreeBytesKept = (freeBytesKept: number | null) => b.api.limits({ set: { freeBytesKept }, reset: false, save: false }, patience())

  /** A get that was told to wait; `onWarning` hears that it does. */
  const waitingGet = (onWarning: (message: string) => void, signal: AbortSignal) => {
    const request = {
      link: shared.link,
      outputDir: out,
      path: null,
      force: false,
      consent: false,
      wait: true,
      keep: false,
      keepSealed: true,
    }
    return b.api.get({ ...request, peers: a.addresses() }, (event) => void (event.type === 'warning' && onWarning(event.message)), signal)
  }

  it('ends when it was not told to wait', async () => {
    await setFreeBytesKept(1e15)
    await expect(get(b, shared.link, out, { peers: a.addresses(), keepSealed: true })).rejects.toMatchObject({ code: 'NO_SPACE' })
    expect(await readdir(out)).toEqual([])
  })

  it('goes on by itself when there is room, where it was told to wait', async () => {
    await setFreeBytesKept(1e15)
    const warned = Promise.withResolvers<string>()
    const done = waitingGet(warned.resolve, patience())
    expect(await Promise.race([warned.promise, done])).toContain('when there is room')
    await setFreeBytesKept(null)
    expect(await done).toMatchObject({ files: 1 })
    expect((await readFile(join(out, 'file.bin'))).equals(bytes)).toBe(true)
  })

  it('ends at once when it is stopped while it waits', async () => {
    await setFreeBytesKept(1e15)
    const stop = new AbortController()
    const ended = waitingGet(() => stop.abort(new Error('enough')), stop.signal)
    await expect(ended).rejects.toMatchObject({ code: 'INTERRUPTED' })
  })
})
