/** Jobs between nodes in one process: hostile and absent peers, damaged shares, and what stays on disk afterwards. */
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { base32 } from 'multiformats/bases/base32'
import { base58btc } from 'multiformats/bases/base58'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { JobEvent, ShareResult } from '../../node/control/api.ts'
import { silentLog } from '../../node/log.ts'
import type { ShoalNode } from '../../node/main.ts'
import { PeerLink } from '../../node/network/peer-link.ts'
import type { Stack } from '../../node/network/stack.ts'
import { openBlockStore } from '../../node/storage/blocks.ts'
import { diskFileSystem } from '../../node/storage/fs.ts'
import { multihashOf, rendezvousDigest, type ShareCid } from '../../protocol/cid.ts'
import { EXIT } from '../../protocol/errors.ts'
import { ShareWriter } from '../../protocol/layout.ts'
import { FORMAT, WIRE } from '../../protocol/limits.ts'
import { formatLink, parseLink } from '../../protocol/link.ts'
import { Secret } from '../../protocol/secret.ts'
import { CreditBudget } from '../../protocol/wire/credit.ts'
import { BrokenSealer } from '../kit/broken-sealer.ts'
import { runCli } from '../kit/daemons.ts'
import { get, ignore, Nodes, patience } from '../kit/nodes.ts'
import { corruptFiles, hexOf, readTree, storedFiles } from '../kit/stored.ts'
import { compareTrees } from '../kit/trees.ts'
import { nodePrimitives } from '../primitives-node.ts'

const FILES = ['first-of-all.bin', 'second one.bin', 'thïrd.bin', 'zu-letzt.bin']
const PIECES = 3

let nodes: Nodes
let a: ShoalNode
let folder: string
let shared: ShareResult
let cid: ShareCid
const links: string[] = []

beforeAll(async () => {
  nodes = await Nodes.create()
  a = await nodes.node('a')
  folder = nodes.path('secret-folder')
  await mkdir(folder)
  for (const name of FILES) await writeFile(join(folder, name), randomBytes(PIECES * FORMAT.pieceBytes))
  shared = await share(a, folder)
  cid = (await parseLink(nodePrimitives, shared.link)).cid
})

afterAll(() => nodes.clear())

async function share(node: ShoalNode, path: string, scope: 'lineage' | 'node' = 'lineage'): Promise<ShareResult> {
  const result = await node.api.share({ paths: [path], scope, name: null }, ignore, patience())
  links.push(result.link)
  return result
}

async function outputDir(name: string): Promise<string> {
  const path = nodes.path(`out-${name}`)
  await mkdir(path)
  return path
}

const differences = async (out: string): Promise<string[]> => (await compareTrees(folder, join(out, 'secret-folder'))).differences

const shares = async (node: ShoalNode): Promise<number> => (await node.api.shares(patience())).length

/** Says that it has everything, and serves the tree as it is but every leaf with one bit changed. */
async function startLiar(stack: Stack): Promise<{ lied: Promise<void> }> {
  const { dag, block } = await readTree(nodes.homeOf('a'), cid)
  const rendezvous = await rendezvousDigest(nodePrimitives, cid)
  const lied = Promise.withResolvers<void>()
  await stack.handleSwarm(async (frames, remote, signal) => {
    const accepted = await PeerLink.accept({
      frames,
      remote,
      self: stack.peerIdBytes,
      budget: new CreditBudget(WIRE.creditBytesTotal),
      primitives: nodePrimitives,
      lookup: (name) => (hexOf(name) === hexOf(rendezvous) ? { rootMultihash: multihashOf(cid), knowsShape: true } : null),
      signal,
    })
    if (accepted === null) return
    const { link } = accepted
    link.learnShape(dag.shape.blockCount, (level, index) => dag.bytesOf(level, index))
    link.sendHave({ kind: 'all' })
    const answer = async (level: number, index: number): Promise<void> => {
      const bytes = await block(level, index)
      if (level === 0) bytes[7]! ^= 1
      await link.serve(level, index, bytes, signal)
    }
    const nothing = (): void => {}
    await link.run(
      {
        onHave: nothing,
        onProgress: nothing,
        onBlock: () => Promise.resolve(),
        onSuggest: nothing,
        onAbsent: nothing,
        onCancel: nothing,
        onPeers: nothing,
        onRequest: (_link, level, index) => void answer(level, index),
      },
      signal,
    )
    lied.resolve()
  })
  return { lied: lied.promise }
}

async function dial(stack: Stack, node: ShoalNode, share: ShareCid): Promise<PeerLink> {
  const { frames, remote } = await stack.openSwarm({ peerId: node.peerId, addresses: node.addresses(), isGiven: true }, patience())
  return await PeerLink.connect({
    frames,
    remote,
    self: stack.peerIdBytes,
    budget: new CreditBudget(WIRE.creditBytesTotal),
    primitives: nodePrimitives,
    rootMultihash: multihashOf(share),
    rendezvous: await rendezvousDigest(nodePrimitives, share),
    knowsShape: false,
    signal: patience(),
  })
}

describe('getting a share', () => {
  it('drops and bans a peer that serves corrupt blocks, and ends with the bytes of an honest one', async () => {
    const [victim, stack] = await Promise.all([nodes.node('victim'), nodes.stack()])
    const liar = await startLiar(stack)
    const out = await outputDir('victim')
    const got = get(victim, shared.link, out, { peers: stack.addresses() })
    got.catch(ignore) // awaited below
    await liar.lied
    // A second job on the same share brings the honest peer in.
    const listing = victim.api.list({ link: shared.link, path: null, wait: false, peers: a.addresses() }, ignore, patience())
    const paths: string[] = []
    for await (const entry of listing) paths.push(entry.path)
    expect(paths).toEqual([...FILES].sort().map((name) => `secret-folder/${name}`))
    expect((await got).files).toBe(FILES.length)
    expect(await differences(out)).toEqual([])
    expect(await corruptFiles(nodes.homeOf('victim'))).toEqual([])
    expect((await victim.api.peers(patience())).map(({ peerId }) => peerId)).toEqual([a.peerId])
    await expect(dial(stack, victim, cid)).rejects.toThrow()
  })

  it('takes blocks from two seeders at once', async () => {
    const [c, blind] = await Promise.all([nodes.node('c'), nodes.node('blind')])
    await blind.api.seed({ link: shared.seedLink, wait: false, peers: a.addresses() }, ignore, patience())
    const peers = [...a.addresses(), ...blind.addresses()]
    const before = [await a.api.status(patience()), await blind.api.status(patience())].map(({ bytesOut }) => bytesOut)
    // An open listing keeps both connected before the download begins.
    const listing = c.api.list({ link: shared.link, path: null, wait: false, peers }, ignore, patience())[Symbol.asyncIterator]()
    await listing.next()
    await expect.poll(async () => (await c.api.status(patience())).swarmPeers).toBeGreaterThanOrEqual(2)
    const out = await outputDir('c')
    await get(c, shared.link, out, { peers })
    await listing.return?.()
    expect(await differences(out)).toEqual([])
    const after = [await a.api.status(patience()), await blind.api.status(patience())].map(({ bytesOut }) => bytesOut)
    for (const [i, bytes] of after.entries()) expect(bytes - before[i]!).toBeGreaterThan(FORMAT.blockBytes)
    expect((await blind.api.shares(patience()))[0]).toMatchObject({ role: 'blind', state: 'complete', label: null, sizeBytes: null })
  })

  it('fetches what a path needs and no more, and serves it to others while it is partial itself', async () => {
    const apart = await Nodes.create() // nobody else is to be found there
    try {
      const [owner, partial, last] = await Promise.all([apart.node('owner'), apart.node('partial'), apart.node('last')])
      const { link } = await share(owner, folder)
      const path = `secret-folder/${FILES[1]}`
      const got = await get(partial, link, await outputDir('partial'), { path, peers: owner.addresses() })
      expect(got.fetchedBlocks).toBe(PIECES + 2) // the root node and the root block of the index
      expect((await storedFiles(apart.homeOf('partial'))).size).toBe(1) // the root node; all else is in the file
      expect((await partial.api.shares(patience()))[0]).toMatchObject({ state: 'complete', role: 'reader' })
      await owner.stop()
      const out = await outputDir('last')
      await get(last, link, out, { path, peers: partial.addresses() })
      expect(await readFile(join(out, FILES[1]!))).toEqual(await readFile(join(folder, FILES[1]!)))
    } finally {
      nodes.lines.push(...apart.lines)
      await apart.clear()
    }
  })

  it('goes on where an earlier run stopped, and refuses to let go of a share that a job works on', async () => {
    const e = await nodes.node('e')
    await get(e, shared.link, await outputDir('e1'), { path: `secret-folder/${FILES[0]}`, peers: a.addresses() })
    const stopped = new AbortController()
    const out = await outputDir('e2')
    const waiting = get(e, shared.link, out, { wait: true }, stopped.signal)
    waiting.catch(ignore) // awaited below
    await expect.poll(async () => (await e.api.status(patience())).jobs).toBe(1)
    await expect(e.api.unseed({ cid: shared.cid }, patience())).rejects.toMatchObject({ code: 'BUSY' })
    stopped.abort()
    await expect(waiting).rejects.toMatchObject({ code: 'INTERRUPTED' })
    expect((await readdir(out)).filter((name) => !name.endsWith('.part'))).toEqual([])
    const got = await get(e, shared.link, out, { peers: a.addresses() })
    expect(got).toMatchObject({ reusedBlocks: PIECES, fetchedBlocks: PIECES * (FILES.length - 1) })
    expect(await differences(out)).toEqual([])
    expect((await e.api.unseed({ cid: shared.cid }, patience())).removed).toBe(true)
    expect((await storedFiles(nodes.homeOf('e'))).size).toBe(0)
  })

  it('fetches a block again that was damaged on disk', async () => {
    const f = await nodes.node('f')
    await get(f, shared.link, await outputDir('f1'), { peers: a.addresses(), keepSealed: true })
    const { dag } = await readTree(nodes.homeOf('a'), cid)
    const path = (await storedFiles(nodes.homeOf('f'))).get(hexOf(dag.digestOf(0, 1)!))!
    await writeFile(path, randomBytes(FORMAT.blockBytes))
    const out = await outputDir('f2')
    const got = await get(f, shared.link, out, { peers: a.addresses() })
    expect(got.fetchedBlocks).toBe(1)
    expect(await differences(out)).toEqual([])
    expect(await corruptFiles(nodes.homeOf('f'))).toEqual([])
  })

  it('leaves nothing behind in a one-shot node, unless it is told to keep it', async () => {
    const g = await nodes.node('g', true)
    const path = `secret-folder/${FILES[0]}`
    expect(await get(g, shared.link, await outputDir('g1'), { path, peers: a.addresses() })).toMatchObject({ keptBytes: 0 })
    expect([await shares(g), (await storedFiles(nodes.homeOf('g'))).size]).toEqual([0, 0])
    await get(g, shared.link, await outputDir('g2'), { path, peers: a.addresses(), keep: true })
    expect([await shares(g), (await storedFiles(nodes.homeOf('g'))).size]).toEqual([1, 1])
  })

  it('says wrong key for another key, and leaves no record, no block and no file', async () => {
    const h = await nodes.node('h')
    const link = await formatLink(nodePrimitives, { cid, readKey: new Secret(new Uint8Array(randomBytes(32))), peers: [], vias: [] })
    links.push(link)
    const out = await outputDir('h')
    await expect(get(h, link, out, { peers: a.addresses() })).rejects.toMatchObject({ code: 'B1', exitCode: EXIT.wrongKey })
    expect([await shares(h), await readdir(out)]).toEqual([0, []])
    expect((await storedFiles(nodes.homeOf('h'))).size).toBe(0)
  })
})

/** Seals a share whose first data block does not open, and puts it into the store of a home that no node uses yet. */
async function makeDamaged(home: string): Promise<{ link: string; good: Uint8Array }> {
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
    sealer: new BrokenSealer(),
    put: async (digest, bytes) => void (await store.put(digest, bytes, patience())),
    concurrency: 1,
  })
  const good = new Uint8Array(randomBytes(2 * FORMAT.pieceBytes))
  for (const [name, bytes] of [
    ['bad-apple.bin', new Uint8Array(randomBytes(FORMAT.pieceBytes))],
    ['good-apple.bin', good.slice()],
  ] as const) {
    await writer.addFile(
      { dir: '', name, executable: false },
      (async function* () {
        yield bytes
      })(),
    )
  }
  const written = await writer.finish()
  await store.close()
  const link = await formatLink(nodePrimitives, { cid: written.cid, readKey: written.readKey, peers: [], vias: [] })
  links.push(link)
  return { link, good }
}

describe('a share that its publisher sealed wrongly', () => {
  it('costs the files that use the block and no others, and nobody is banned for it', async () => {
    const { link, good } = await makeDamaged(nodes.homeOf('publisher'))
    const [publisher, reader] = await Promise.all([nodes.node('publisher'), nodes.node('reader')])
    await publisher.api.seed({ link, wait: false, peers: [] }, ignore, patience()) // all of it is stored: nobody is asked
    const out = await outputDir('reader')
    const got = await get(reader, link, out, { peers: publisher.addresses() })
    expect(got).toMatchObject({ files: 1, damaged: [{ path: 'bad-apple.bin', cause: expect.stringMatching(/^B2/) }] })
    expect(await readdir(out)).toEqual(['good-apple.bin'])
    expect(new Uint8Array(await readFile(join(out, 'good-apple.bin')))).toEqual(good)
    expect((await reader.api.peers(patience())).map(({ peerId }) => peerId)).toEqual([publisher.peerId])
    const again = await runCli(['--home', nodes.homeOf('reader'), 'get', link, '-o', await outputDir('reader2')])
    expect([again.code, again.stderr]).toEqual([EXIT.damagedShare, expect.stringContaining('bad-apple.bin')])
  })
})

describe('unseed', () => {
  it('removes the blocks that no other share needs, keeps shared ones, and stops answering for the share', async () => {
    const [k, stack] = await Promise.all([nodes.node('k'), nodes.stack()])
    const common = randomBytes(FORMAT.pieceBytes)
    for (const name of ['one', 'two']) {
      await mkdir(nodes.path(name))
      await writeFile(nodes.path(name, 'common.bin'), common)
      await writeFile(nodes.path(name, `only ${name}.bin`), randomBytes(FORMAT.pieceBytes))
    }
    const one = await share(k, nodes.path('one'), 'node')
    const before = (await storedFiles(nodes.homeOf('k'))).size
    const two = await share(k, nodes.path('two'), 'node')
    expect(two.reusedBlocks).toBe(1)
    const secondCid = (await parseLink(nodePrimitives, two.link)).cid
    const link = await dial(stack, k, secondCid)
    await link.goodbye(0)
    const removed = await k.api.unseed({ cid: two.cid }, patience())
    expect(removed).toMatchObject({ removed: true })
    expect((await storedFiles(nodes.homeOf('k'))).size).toBe(before)
    await expect(dial(stack, k, secondCid)).rejects.toMatchObject({ code: 'UNKNOWN_SHARE' })
    const out = await outputDir('k')
    await get(a, one.link, out, { peers: k.addresses() })
    expect((await compareTrees(nodes.path('one'), join(out, 'one'))).differences).toEqual([])
    expect((await k.api.status(patience())).shares).toBe(1)
    await expect(k.api.unseed({ cid: two.cid }, patience())).rejects.toMatchObject({ code: 'NOT_KEPT' })
  })

  it('leaves the blocks alone that a share job under way counts on', async () => {
    const m = await nodes.node('m')
    await mkdir(nodes.path('next'))
    const pinned = randomBytes(6 * FORMAT.pieceBytes)
    for (const path of [nodes.path('pinned.bin'), nodes.path('next', 'pinned.bin')]) await writeFile(path, pinned)
    await writeFile(nodes.path('next', 'pinned too.bin'), randomBytes(2 * FORMAT.pieceBytes))
    const first = await share(m, nodes.path('pinned.bin'), 'node')
    let unseeding: Promise<unknown> | null = null
    const onEvent = (event: JobEvent): void => {
      if (event.type === 'progress' && event.phase === 'sync') unseeding ??= m.api.unseed({ cid: first.cid }, patience())
    }
    const second = await m.api.share({ paths: [nodes.path('next')], scope: 'node', name: null }, onEvent, patience())
    links.push(second.link)
    await unseeding
    expect((await m.api.shares(patience())).map((row) => row.cid)).toEqual([second.cid])
    const out = await outputDir('m')
    await get(a, second.link, out, { peers: m.addresses() })
    expect((await compareTrees(nodes.path('next'), join(out, 'next'))).differences).toEqual([])
  })
})

describe('the logs of all these nodes', () => {
  it('hold no link, no key in any spelling and no file name, at level debug', async () => {
    const text = nodes.lines.join('')
    expect(text).toContain('peer joined')
    const needles = [...FILES, 'secret-folder', 'bad-apple', 'good-apple', 'common.bin', 'pinned.bin', ...links]
    for (const link of links) {
      const key = (await parseLink(nodePrimitives, link)).readKey!.reveal()
      const bytes = Buffer.from(key)
      needles.push(link.split('#')[1]!, bytes.toString('hex'), bytes.toString('base64url'), bytes.toString('base64').slice(0, 43))
      needles.push(base32.encode(key).slice(1), base58btc.encode(key).slice(1))
    }
    expect(needles.filter((needle) => text.toLowerCase().includes(needle.toLowerCase()))).toEqual([])
  })
})
