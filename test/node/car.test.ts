/** Shares in CAR files: out, into another home, and everything that a file can have wrong. */
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { loadConfig } from '../../node/config.ts'
import type { JobEvent, ShareRequest, ShareResult } from '../../node/control/api.ts'
import { silentLog } from '../../node/log.ts'
import { openNode, type ShoalNode } from '../../node/main.ts'
import { concat } from '../../protocol/bytes.ts'
import { type CarSection, decodeCarHeader, decodeCarSection, encodeCarHeader, encodeCarSection } from '../../protocol/car.ts'
import { parseCid, RAW } from '../../protocol/cid.ts'
import { EXIT } from '../../protocol/errors.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { get, ignore, Nodes, patience } from '../kit/nodes.ts'
import { storedFiles } from '../kit/stored.ts'
import { compareTrees } from '../kit/trees.ts'

let nodes: Nodes
let source: ShoalNode
let shared: ShareResult
let folder: string
let car: Uint8Array
let count = 0

/** A node that has no network. */
async function offline(name: string): Promise<ShoalNode> {
  const overrides = { network: nodes.network, mdns: false }
  const node = await openNode(await loadConfig({ home: nodes.homeOf(name), overrides }), { oneShot: true, offline: true, log: silentLog })
  onTestFinished(() => node.stop())
  return node
}

const share = (node: ShoalNode, path: string, more: Partial<ShareRequest> = {}): Promise<ShareResult> =>
  node.api.share({ paths: [path], scope: 'lineage', name: null, ...more }, ignore, patience())

const fresh = (name: string): string => nodes.path(`${name}-${count++}`)

async function fileOf(bytes: Uint8Array): Promise<string> {
  const file = `${fresh('made')}.car`
  await writeFile(file, bytes)
  return file
}

async function exported(node: ShoalNode, cid: string): Promise<Uint8Array> {
  const file = `${fresh('out')}.car`
  await node.api.exportCar({ cid, file, force: false }, ignore, patience())
  return new Uint8Array(await readFile(file)) // a slice of a Buffer would be a view
}

const taken = (node: ShoalNode, file: string) => node.api.importCar({ file }, ignore, patience())

/** The blocks of a file, each with its head. */
function sectionsOf(bytes: Uint8Array): { section: CarSection; whole: Uint8Array }[] {
  const found: { section: CarSection; whole: Uint8Array }[] = []
  for (let at = decodeCarHeader(bytes).headBytes; at < bytes.length; ) {
    const section = decodeCarSection(bytes.subarray(at))
    const end = at + section.headBytes + section.blockBytes
    found.push({ section, whole: bytes.subarray(at, end) })
    at = end
  }
  return found
}

const assembled = (parts: Uint8Array[], cid: string = shared.cid): Uint8Array => concat(encodeCarHeader(parseCid(cid)), ...parts)
const parts = (): Uint8Array[] => sectionsOf(car).map(({ whole }) => whole)

beforeAll(async () => {
  nodes = await Nodes.create()
  source = await nodes.node('source')
  folder = nodes.path('photos')
  await mkdir(folder)
  await writeFile(join(folder, 'a.bin'), randomBytes(3 * FORMAT.pieceBytes + 1000))
  await writeFile(join(folder, 'b.txt'), 'hello')
  shared = await share(source, folder)
  car = await exported(source, shared.cid)
})

afterAll(() => nodes.clear())

describe('a share in a CAR file', () => {
  it('is kept whole and blind by the node that takes it, served, and read with its link', async () => {
    const node = await nodes.node('taker')
    const events: JobEvent[] = []
    const file = await fileOf(car)
    const { wireBytes } = shared
    const blockCount = sectionsOf(car).length - 1
    const result = await node.api.importCar({ file }, (event) => events.push(event), patience())
    expect(result).toEqual({ cid: shared.cid, wireBytes, blockCount, newBlocks: blockCount + 1, reusedBlocks: 0 })
    expect(events.at(-1)).toMatchObject({ type: 'progress', phase: 'check', totalBytes: car.length })
    expect(await node.api.shares(patience())).toMatchObject([
      { cid: shared.cid, role: 'blind', state: 'complete', haveBlocks: blockCount, cachedBytes: null, inPlace: false },
    ])
    const { isSound, checkedBlocks } = await node.api.verify({ cids: [], repair: false, wait: false, peers: [] }, ignore, patience())
    expect({ isSound, checkedBlocks }).toEqual({ isSound: true, checkedBlocks: blockCount })
    const reader = await nodes.node('reader')
    const out = fresh('got')
    await get(reader, shared.link, out, { peers: node.addresses() })
    expect((await compareTrees(folder, join(out, basename(folder)))).differences).toEqual([])
    expect(await taken(node, file)).toMatchObject({ newBlocks: 0, reusedBlocks: blockCount + 1 })
  })

  it('comes out of another node byte for byte the same', async () => {
    const node = await offline('again')
    await taken(node, await fileOf(car))
    expect(Buffer.compare(await exported(node, shared.cid), car)).toBe(0)
  })

  it('comes out the same where its data lies in the files alone', async () => {
    const node = await nodes.node('in-place')
    const large = nodes.path('large.bin')
    await writeFile(large, randomBytes(2 * FORMAT.pieceBytes + 5))
    const sealed = await share(source, large, { scope: 'public' })
    const inPlace = await share(node, large, { scope: 'public', inPlace: true })
    expect(inPlace).toMatchObject({ cid: sealed.cid, inPlace: true })
    expect(Buffer.compare(await exported(node, sealed.cid), await exported(source, sealed.cid))).toBe(0)
  })

  it('does not come out where its files have changed, and brings back what they were', async () => {
    const node = await nodes.node('changed')
    const large = nodes.path('changing.bin')
    await writeFile(large, randomBytes(2 * FORMAT.pieceBytes + 5))
    const { cid } = await share(source, large, { scope: 'public' })
    await share(node, large, { scope: 'public', inPlace: true })
    await writeFile(large, randomBytes(2 * FORMAT.pieceBytes + 5))
    const file = `${fresh('changed')}.car`
    const asked = node.api.exportCar({ cid, file, force: false }, ignore, patience())
    await expect(asked).rejects.toMatchObject({ exitCode: EXIT.badInput })
    expect((await readdir(nodes.dir)).filter((name) => name.startsWith(basename(file)))).toEqual([])
    const sealed = await exported(source, cid)
    await taken(node, await fileOf(sealed))
    expect(await node.api.shares(patience())).toMatchObject([{ cid, role: 'owner', state: 'complete', inPlace: false, faultyFiles: 0 }])
    expect(Buffer.compare(await exported(node, cid), sealed)).toBe(0)
  })

  it('may be a share of a single block', async () => {
    const small = nodes.path('small.txt')
    await writeFile(small, 'no tree at all')
    const { cid, link } = await share(source, small)
    expect(parseCid(cid).codec).toBe(RAW)
    const node = await nodes.node('small')
    expect(await taken(node, await fileOf(await exported(source, cid)))).toMatchObject({ cid, blockCount: 1, newBlocks: 1 })
    const out = fresh('got-small')
    await get(node, link, out)
    expect(await readFile(join(out, 'small.txt'), 'utf8')).toBe('no tree at all')
  })

  it('is not written over a file without being told to, nor through a symlink, and a folder never', async () => {
    const file = await fileOf(new Uint8Array(3))
    const to = (path: string, force: boolean) => source.api.exportCar({ cid: shared.cid, file: path, force }, ignore, patience())
    await expect(to(file, false)).rejects.toMatchObject({
      code: 'EXISTS',
      exitCode: EXIT.pathExists,
      message: expect.stringContaining('--force'),
    })
    expect((await stat(file)).size).toBe(3)
    const way = fresh('symlink')
    await symlink(file, way)
    await expect(to(way, true)).rejects.toMatchObject({ code: 'EXISTS' })
    await expect(to(folder, true)).rejects.toMatchObject({ code: 'EXISTS' })
    expect(await to(file, true)).toEqual({ cid: shared.cid, file, fileBytes: car.length, blocks: parts().length })
    expect(Buffer.compare(await readFile(file), car)).toBe(0)
  })

  it('is written only of a share that is kept and all here', async () => {
    const node = await offline('empty')
    const asked = (cid: string) => node.api.exportCar({ cid, file: fresh('none'), force: false }, ignore, patience())
    await expect(asked(shared.cid)).rejects.toMatchObject({ code: 'NOT_KEPT', exitCode: EXIT.badInput })
    await expect(asked('bafybei')).rejects.toMatchObject({ code: 'L1' })
  })
})

describe('a CAR file that is not a whole share', () => {
  const lastOf = (all: Uint8Array[]): Uint8Array => all.at(-1)!
  const without = (all: Uint8Array[], at: number): Uint8Array[] => all.filter((_, i) => i !== at)
  const turned = (bytes: Uint8Array, at: number): Uint8Array => {
    const copy = bytes.slice()
    copy[at]! ^= 1
    return copy
  }
  const foreign = (): Uint8Array => {
    const bytes = randomBytes(100)
    return concat(encodeCarSection(RAW, new Uint8Array(32).fill(9), bytes.length), bytes)
  }

  it.each<[string, string, () => Uint8Array]>([
    ['without its header', 'C1', () => car.subarray(1)],
    ['that is empty', 'C1', () => new Uint8Array(0)],
    ['that ends after its header', 'C3', () => assembled([])],
    ['that begins with another block than its root', 'C3', () => assembled(without(parts(), 0))],
    ['that lacks a block', 'C3', () => assembled(without(parts(), 2))],
    ['that lacks the last block', 'C3', () => assembled(without(parts(), parts().length - 1))],
    ['that ends inside a block', 'C2', () => car.subarray(0, car.length - 1)],
    ['that ends inside a CID', 'C2', () => assembled([...parts().slice(0, 2), lastOf(parts()).subarray(0, 20)])],
    ['that ends inside a number', 'C2', () => assembled([...parts().slice(0, 2), Uint8Array.of(0x80)])],
    ['with a bit turned in a block', 'C2', () => assembled(parts().map((part, i) => (i === 2 ? turned(part, 500) : part)))],
    ['with a bit turned in its root', 'C2', () => assembled(parts().map((part, i) => (i === 0 ? turned(part, part.length - 1) : part)))],
    ['with two blocks in each other’s place', 'C3', () => assembled([parts()[0]!, parts()[2]!, parts()[1]!, ...parts().slice(3)])],
    ['with a block of nobody in between', 'C3', () => assembled([...parts().slice(0, 2), foreign(), ...parts().slice(2)])],
    ['with a block of nobody behind', 'C3', () => assembled([...parts(), foreign()])],
    ['with its blocks twice', 'C3', () => assembled([...parts(), ...parts()])],
    ['with zeros behind', 'C3', () => assembled([...parts(), new Uint8Array(64)])],
    [
      'whose blocks are longer than any',
      'C2',
      () => assembled([...parts().slice(0, 1), Uint8Array.of(0xff, 0xff, 0xff, 0x7f), new Uint8Array(64)]),
    ],
    ['with a number that never ends', 'C2', () => assembled([...parts().slice(0, 1), new Uint8Array(100).fill(0xff)])],
  ])('%s is refused as a whole, and nothing of it stays', async (_name, code, make) => {
    const node = await offline('strict')
    await expect(taken(node, await fileOf(make()))).rejects.toMatchObject({ code, exitCode: EXIT.badInput })
    expect((await storedFiles(nodes.homeOf('strict'))).size).toBe(0)
    expect(await node.api.shares(patience())).toEqual([])
  })

  it('of something else than a share is refused, however right its hashes are', async () => {
    const { section, whole } = sectionsOf(car)[0]!
    const node = await offline('strange')
    const root = whole.subarray(section.headBytes)
    // A root that is a leaf too short to be one.
    const tiny = new Uint8Array(10)
    const { nodePrimitives } = await import('../../node/crypto/primitives.ts')
    const digest = await nodePrimitives.sha256(tiny)
    const header = encodeCarHeader({ text: '', codec: RAW, digest })
    const bytes = concat(header, encodeCarSection(RAW, digest, tiny.length), tiny)
    await expect(taken(node, await fileOf(bytes))).rejects.toMatchObject({ code: 'D4', exitCode: EXIT.damagedShare })
    expect(root.length).toBeGreaterThan(tiny.length)
    expect((await storedFiles(nodes.homeOf('strange'))).size).toBe(0)
  })

  it('is taken where what it leaves out is here already', async () => {
    const node = await offline('partly')
    const next = nodes.path('versions')
    await mkdir(next)
    const bytes = randomBytes(2 * FORMAT.pieceBytes)
    await writeFile(join(next, 'a.bin'), bytes)
    const before = await share(source, next)
    await taken(node, await fileOf(await exported(source, before.cid)))
    await writeFile(join(next, 'z.bin'), randomBytes(FORMAT.pieceBytes))
    const after = await share(source, next)
    const all = sectionsOf(await exported(source, after.cid))
    const known = new Set(sectionsOf(await exported(source, before.cid)).map(({ section }) => Buffer.from(section.digest).toString('hex')))
    const missing = all.filter(({ section }) => !known.has(Buffer.from(section.digest).toString('hex')))
    expect(missing.length).toBeLessThan(all.length)
    const result = await taken(
      node,
      await fileOf(
        assembled(
          missing.map(({ whole }) => whole),
          after.cid,
        ),
      ),
    )
    expect(result).toMatchObject({ newBlocks: missing.length, reusedBlocks: all.length - missing.length })
    expect(await node.api.verify({ cids: [], repair: false, wait: false, peers: [] }, ignore, patience())).toMatchObject({ isSound: true })
  })

  it('is refused for what stands behind its last block, however short it is', async () => {
    const node = await offline('behind')
    await taken(node, await fileOf(car))
    // All that it leaves out is here.
    expect(await taken(node, await fileOf(assembled([])))).toMatchObject({ newBlocks: 0, reusedBlocks: parts().length })
    await expect(taken(node, await fileOf(assembled([foreign()])))).rejects.toMatchObject({ code: 'C3' })
    expect(await node.api.shares(patience())).toMatchObject([{ cid: shared.cid, state: 'complete' }])
  })

  it('is refused for its length before it is read', async () => {
    const node = await offline('long')
    const file = await fileOf(car)
    await truncate(file, 2 ** 40)
    await expect(taken(node, file)).rejects.toMatchObject({ code: 'C3', message: expect.stringContaining(`${2 ** 40} bytes`) })
  })

  it('is no file at all', async () => {
    const node = await offline('nothing')
    await expect(taken(node, nodes.path('nowhere.car'))).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(taken(node, folder)).rejects.toMatchObject({ code: 'DENIED', exitCode: EXIT.badInput })
  })
})

describe('a CAR file and what goes on beside it', () => {
  it('completes a share that waits for its blocks, and its get', async () => {
    const node = await nodes.node('waiting')
    const waiting = new AbortController()
    const seeding = node.api.seed({ link: shared.seedLink, wait: true, peers: [] }, ignore, waiting.signal)
    const ended = expect(seeding).rejects.toMatchObject({ code: 'INTERRUPTED' })
    const file = await fileOf(car)
    await expect.poll(() => taken(node, file).catch((error: { code: string }) => error.code)).toBe('BUSY')
    waiting.abort()
    await ended
    expect(await taken(node, file)).toMatchObject({ cid: shared.cid })
    const out = fresh('completed')
    await get(node, shared.link, out)
    expect((await compareTrees(folder, join(out, basename(folder)))).differences).toEqual([])
  })

  it('leaves nothing behind when it is interrupted', async () => {
    const node = await offline('interrupted')
    const stop = new AbortController()
    const events = (event: JobEvent): void => {
      if (event.type === 'progress') stop.abort()
    }
    await expect(node.api.importCar({ file: await fileOf(car) }, events, stop.signal)).rejects.toMatchObject({ code: 'INTERRUPTED' })
    expect((await storedFiles(nodes.homeOf('interrupted'))).size).toBe(0)
    const file = `${fresh('cut-short')}.car`
    const stopToo = new AbortController()
    const asked = source.api.exportCar({ cid: shared.cid, file, force: false }, () => stopToo.abort(), stopToo.signal)
    await expect(asked).rejects.toMatchObject({ code: 'INTERRUPTED' })
    expect((await readdir(nodes.dir)).filter((name) => name.includes('cut-short'))).toEqual([])
  })
})
