/** The tree of a share: like any IPFS implementation's, and strictly checked (rows D1 to D4). */
import * as dagPb from '@ipld/dag-pb'
import { MemoryBlockstore } from 'blockstore-core'
import fc from 'fast-check'
import { UnixFS } from 'ipfs-unixfs'
import { importer } from 'ipfs-unixfs-importer'
import { CID } from 'multiformats/cid'
import { create } from 'multiformats/hashes/digest'
import { describe, expect, it } from 'vitest'
import { concat, toHex } from '../../protocol/bytes.ts'
import { DAG_PB, formatCid, RAW } from '../../protocol/cid.ts'
import { buildDag, leafBytes, nodeCount, ROOT_LEVEL, ShareDag, shapeOf } from '../../protocol/dag.ts'
import { decodeNode, encodeNode, type NodeLink } from '../../protocol/dag-node.ts'
import { type FormatCode, FormatError } from '../../protocol/errors.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { Secret } from '../../protocol/secret.ts'
import { nodePrimitives as p } from '../primitives-node.ts'
import { writeShare } from './memory-share.ts'

const BS = FORMAT.blockBytes

function digest(i: number): Uint8Array {
  return new Uint8Array(32).fill(i + 1)
}

function leaf(i: number, fileBytes = BS): NodeLink {
  return { codec: RAW, digest: digest(i), treeBytes: fileBytes, fileBytes }
}

// A node as the general libraries write it; the UnixFS part may be replaced.
function libraryNode(links: NodeLink[], data?: UnixFS): Uint8Array {
  const file = data ?? new UnixFS({ type: 'file', blockSizes: links.map((link) => BigInt(link.fileBytes)) })
  const cids = links.map((link) => ({
    Hash: CID.createV1(link.codec, create(0x12, link.digest)),
    Name: '',
    Tsize: link.treeBytes,
  }))
  return dagPb.encode(dagPb.prepare({ Links: cids, Data: file.marshal() }))
}

async function open(node: Uint8Array, codec: typeof RAW | typeof DAG_PB = DAG_PB): Promise<ShareDag> {
  return await ShareDag.open(p, formatCid(codec, await p.sha256(node)), node)
}

async function expectRejected(code: FormatCode, node: Uint8Array, codec: typeof RAW | typeof DAG_PB = DAG_PB): Promise<void> {
  await expect(open(node, codec)).rejects.toMatchObject({ name: 'FormatError', code })
}

describe('the tree', () => {
  it.each([0, 1, 5])('over a share of %d whole blocks has the CID that the UnixFS importer gives its ciphertext', async (count) => {
    const content = new Uint8Array(count * FORMAT.pieceBytes + 100)
    for (let i = 0; i < content.length; i += 1000) content[i] = (i / 1000) % 256
    const { written, blocks } = await writeShare(p, new Secret(new Uint8Array(32)), [{ dir: '', name: 'a', content }])
    const dag = await ShareDag.open(p, written.cid, blocks.get(written.cid.digest))
    const ciphertext = Array.from({ length: dag.shape.blockCount }, (_, i) => blocks.get(dag.digestOf(0, i)!))
    const imported = importer([{ content: concat(...ciphertext) }], new MemoryBlockstore(), { profile: 'unixfs-v1-2025' })
    for await (const entry of imported) expect(entry.cid.toString()).toBe(written.cid.text)
    expect(written.shape.blockCount).toBe(count + 1)
  })

  it('has nodes that equal those of the general libraries', () => {
    const link = fc.record({
      codec: fc.constantFrom(RAW, DAG_PB),
      digest: fc.uint8Array({ minLength: 32, maxLength: 32 }),
      treeBytes: fc.integer({ min: 0, max: 2 ** 45 }),
      fileBytes: fc.integer({ min: 0, max: 2 ** 45 }),
    })
    fc.assert(
      fc.property(fc.array(link as fc.Arbitrary<NodeLink>, { minLength: 1, maxLength: 20 }), (links) => {
        const node = encodeNode(links)
        expect(toHex(node)).toBe(toHex(libraryNode(links)))
        expect(decodeNode(node).links).toEqual(links)
      }),
      { seed: 0x5ca1ab1e, numRuns: 200 },
    )
  })

  it('of two levels is learnt node by node', async () => {
    const leaves = 2050
    const digests = new Uint8Array(32 * leaves)
    for (let i = 0; i < leaves; i++) new DataView(digests.buffer).setUint32(32 * i, i)
    const nodes = new Map<string, Uint8Array>()
    const totalBytes = (leaves - 1) * BS + 53
    const cid = await buildDag(p, digests, totalBytes, async (level, index, _digest, bytes) => void nodes.set(`${level}/${index}`, bytes))
    expect([...nodes.keys()]).toEqual(['1/0', '1/1', '1/2', '255/0'])
    const dag = await ShareDag.open(p, cid, nodes.get('255/0')!)
    expect(dag.shape).toEqual({ totalBytes, blockCount: leaves, depth: 2 })
    expect(dag.missingNodes).toBe(3)
    expect([dag.isLeafKnown(0), dag.digestOf(0, 1024), dag.bytesOf(0, 2049), dag.bytesOf(1, 0)]).toEqual([false, null, 53, null])
    expect(dag.digestOf(ROOT_LEVEL, 0)).toEqual(cid.digest)
    await dag.acceptNode(1, 1, nodes.get('1/1')!)
    await dag.acceptNode(1, 1, nodes.get('1/1')!)
    expect(dag.missingNodes).toBe(2)
    expect([dag.isLeafKnown(1023), dag.isLeafKnown(1024), dag.isLeafKnown(2047), dag.isLeafKnown(2048)]).toEqual([false, true, true, false])
    expect(dag.digestOf(0, 1030)).toEqual(digests.slice(32 * 1030, 32 * 1031))
    await dag.acceptNode(1, 2, nodes.get('1/2')!)
    for (const [level, index] of [
      [0, -1],
      [0, leaves],
      [1, 3],
      [2, 1],
      [3, 0],
      [7, 0],
      [ROOT_LEVEL, 1],
    ])
      expect(dag.digestOf(level!, index!)).toBeNull()
    await expect(dag.acceptNode(1, 0, nodes.get('1/1')!)).rejects.toMatchObject({ code: 'D1' })
    await expect(dag.checkLeaf(2049, new Uint8Array(53))).rejects.toMatchObject({ code: 'D1' })
  })

  it('of the largest share takes no memory in advance', async () => {
    const shape = shapeOf(FORMAT.blocksMax * BS)
    expect(shape).toEqual({ totalBytes: 2 ** 48, blockCount: 2 ** 28, depth: 3 })
    expect([1, 2, 3].map((level) => nodeCount(shape, level))).toEqual([2 ** 18, 2 ** 8, 1])
    // The sizes of a full subtree: measured on smaller nodes, level by level.
    const level1 = encodeNode(Array.from({ length: 1024 }, (_, i) => leaf(i % 255))).length + 1024 * BS
    const level2Links: NodeLink[] = Array.from({ length: 1024 }, (_, i) => ({
      codec: DAG_PB,
      digest: digest(i % 255),
      treeBytes: level1,
      fileBytes: 1024 * BS,
    }))
    const level2 = encodeNode(level2Links).length + 1024 * level1
    const root = encodeNode(
      Array.from({ length: 256 }, (_, i) => ({
        codec: DAG_PB,
        digest: new Uint8Array(32).fill(i),
        treeBytes: level2,
        fileBytes: 2 ** 20 * BS,
      })),
    )
    const dag = await open(root)
    expect([dag.shape, dag.missingNodes, dag.isLeafKnown(0)]).toEqual([shape, 2 ** 18 + 2 ** 8, false])
    expect(leafBytes(shape, 2 ** 28 - 1)).toBe(BS)
  })
})

describe('what a tree is refused for', () => {
  const good = [leaf(0), leaf(1, 100)]

  it('accepts the node that the cases start from', async () => {
    expect((await open(encodeNode(good))).shape.blockCount).toBe(2)
  })

  it('D1 rejects bytes that do not hash to the CID', async () => {
    const node = encodeNode(good)
    const cid = formatCid(DAG_PB, await p.sha256(node))
    for (let bit = 0; bit < 8 * node.length; bit++) {
      const spoiled = node.slice()
      spoiled[bit >> 3]! ^= 1 << (bit & 7)
      await expect(ShareDag.open(p, cid, spoiled)).rejects.toMatchObject({ code: 'D1' })
    }
    const leafBlock = new Uint8Array(53)
    const raw = formatCid(RAW, await p.sha256(leafBlock))
    await expect(ShareDag.open(p, raw, new Uint8Array(54))).rejects.toMatchObject({ code: 'D1' })
    await expect((await ShareDag.open(p, raw, leafBlock)).checkLeaf(0, new Uint8Array(54))).rejects.toMatchObject({ code: 'D1' })
  })

  it('D2 rejects a leaf over 1 MiB and a node over 64 KiB', async () => {
    await expectRejected('D2', new Uint8Array(BS + 1), RAW)
    await expectRejected('D2', encodeNode(Array.from({ length: 1500 }, () => leaf(0))))
  })

  it('D2 rejects a node that is not canonical', async () => {
    const node = encodeNode(good)
    const links = node.subarray(0, node.length - 14)
    const data = node.subarray(node.length - 14)
    expect(data[0]).toBe(0x0a)
    await expectRejected('D2', new Uint8Array(0))
    await expectRejected('D2', node.slice(0, -1))
    await expectRejected('D2', concat(node, Uint8Array.of(0)))
    // Data before the links, data twice, a number in a longer form, an unknown field.
    await expectRejected('D2', concat(data, links))
    await expectRejected('D2', concat(node, data))
    await expectRejected('D2', concat(links, Uint8Array.of(0x0a, 13, ...data.subarray(2, -1), data.at(-1)! | 0x80, 0)))
    await expectRejected('D2', concat(links, Uint8Array.of(0x0a, 14, ...data.subarray(2), 0x48, 1)))
  })

  it('D2 rejects a link without the empty name', async () => {
    const node = libraryNode(good)
    const nameless = [...node]
    const at = nameless.findIndex((byte, i) => byte === 0x12 && nameless[i + 1] === 0 && nameless[i + 2] === 0x18)
    nameless.splice(at, 2)
    nameless[1]! -= 2
    await expectRejected('D2', Uint8Array.from(nameless))
  })

  it('D3 rejects sizes that do not add up, inline data, mode and time', async () => {
    const sizes = good.map((link) => BigInt(link.fileBytes))
    await expectRejected('D3', libraryNode(good, new UnixFS({ type: 'file', blockSizes: [...sizes, 5n] })))
    await expectRejected('D3', libraryNode(good, new UnixFS({ type: 'file', blockSizes: sizes.slice(1) })))
    await expectRejected('D3', libraryNode(good, new UnixFS({ type: 'file', data: Uint8Array.of(1), blockSizes: sizes })))
    await expectRejected('D3', libraryNode(good, new UnixFS({ type: 'file', mode: 0o600, blockSizes: sizes })))
    await expectRejected('D3', libraryNode(good, new UnixFS({ type: 'file', mtime: { secs: 1n }, blockSizes: sizes })))
    await expectRejected('D3', libraryNode(good, new UnixFS({ type: 'raw', blockSizes: sizes })))
    await expectRejected('D3', libraryNode([leaf(0), { ...leaf(1, 100), treeBytes: 101 }]))
    const node = encodeNode(good)
    const wrongSum = node.slice()
    // The lowest digit of the file size: behind tag, length, type (2) and tag.
    wrongSum[node.length - 14 + 5]! ^= 1
    await expectRejected('D3', wrongSum)
  })

  it('D3 rejects a leaf whose length is not what its tree says', async () => {
    const block = new Uint8Array(99)
    const last: NodeLink = { ...leaf(1, 100), digest: await p.sha256(block) }
    const dag = await open(encodeNode([leaf(0), last]))
    await expect(dag.checkLeaf(1, block)).rejects.toMatchObject({ code: 'D3' })
  })

  it.each<[string, Uint8Array]>([
    ['a single link', encodeNode([leaf(0, 100)])],
    ['a full single link', encodeNode([leaf(0)])],
    ['no links', encodeNode([])],
    ['a short leaf before the last', encodeNode([leaf(0, 100), leaf(1)])],
    ['three leaves where two belong', encodeNode([leaf(0), leaf(1, 60), leaf(2, 60)])],
    ['a last block too short for a root', encodeNode([leaf(0), leaf(1, 52)])],
    ['a node where a leaf belongs', encodeNode([leaf(0), { ...leaf(1, 100), codec: DAG_PB }])],
    ['one CID twice', encodeNode([leaf(0), leaf(0), leaf(1, 100)])],
    ['more blocks than allowed', encodeNode([{ ...leaf(0), codec: DAG_PB, fileBytes: 2 ** 48, treeBytes: 2 ** 49 }, leaf(1, 100)])],
    ['a directory', libraryNode([], new UnixFS({ type: 'directory' }))],
    ['a sharded directory', libraryNode(good, new UnixFS({ type: 'hamt-sharded-directory', hashType: 0x22n, fanout: 256n }))],
  ])('D4 rejects %s', (_what, node) => expectRejected('D4', node))

  it('D4 rejects a share of one block that is too short for a root', () => expectRejected('D4', new Uint8Array(52), RAW))

  it('refuses garbage with FormatError only', async () => {
    const node = encodeNode(good)
    const damage = fc.array(fc.tuple(fc.nat(node.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 })
    await fc.assert(
      fc.asyncProperty(damage, async (changes) => {
        const spoiled = node.slice()
        for (const [at, byte] of changes) spoiled[at] = byte
        try {
          // What is accepted can only differ in digests.
          expect((await open(spoiled)).shape).toEqual(shapeOf(BS + 100))
          expect(toHex(encodeNode(decodeNode(spoiled).links))).toBe(toHex(spoiled))
        } catch (error) {
          if (!(error instanceof FormatError)) throw error
        }
      }),
      { seed: 0x5ca1ab1e, numRuns: 1000 },
    )
  })
})
