/** Properties that hold for every share. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { toHex } from '../../protocol/bytes.ts'
import { FormatError } from '../../protocol/errors.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { ShareReader } from '../../protocol/reader.ts'
import { createOpener } from '../../protocol/seal.ts'
import { Secret } from '../../protocol/secret.ts'
import { nodePrimitives } from '../primitives-node.ts'
import { webPrimitives } from '../primitives-web.ts'
import { type InputFile, openDag, openShare, readAll, writeShare } from './memory-share.ts'

const SEED = 0x5ca1ab1e
const PT = FORMAT.pieceBytes
const SCOPE = new Secret(new Uint8Array(32).fill(3))

// Sizes around every edge: empty, small, a piece and its neighbours.
const size = fc.oneof(
  { weight: 6, arbitrary: fc.nat(5000) },
  { weight: 2, arbitrary: fc.nat(300_000) },
  { weight: 2, arbitrary: fc.constantFrom(0, 1, PT - 1, PT, PT + 1, 2 * PT, 2 * PT + 7) },
)
const content = fc.tuple(size, fc.nat(3)).map(([length, fill]) => {
  const bytes = new Uint8Array(length)
  // Fill 0 gives holes and zero tails; the others repeat, so pieces are found again.
  if (fill > 0) for (let i = 0; i < length; i++) bytes[i] = (i * fill) % 251
  return bytes
})
const part = fc.constantFrom('a', 'b', 'ab', 'é', 'ファイル', '\u{1f600}', 'z z', '__proto__', '\uffee')
const path = fc.array(part, { minLength: 1, maxLength: 3 })

// Files and empty directories that do not collide: a file's path never begins another's.
const tree = fc
  .uniqueArray(fc.tuple(path, content, fc.boolean()), { maxLength: 12, selector: ([parts]) => parts.join('/') })
  .map((items) => {
    const files: InputFile[] = []
    const emptyDirs: string[] = []
    const taken = items.map(([parts]) => parts.join('/'))
    for (const [parts, bytes, executable] of items) {
      const own = parts.join('/')
      if (taken.some((other) => other.startsWith(`${own}/`))) continue
      if (bytes.length % 7 === 3) emptyDirs.push(own)
      else files.push({ dir: parts.slice(0, -1).join('/'), name: parts.at(-1)!, content: bytes, executable })
    }
    return { files, emptyDirs }
  })

describe('every share', () => {
  it('gives back what was put in, and comes out the same however it was sealed', async () => {
    await fc.assert(
      fc.asyncProperty(tree, fc.integer({ min: 1, max: 6 }), async ({ files, emptyDirs }, concurrency) => {
        const { written, blocks } = await writeShare(nodePrimitives, SCOPE, files, emptyDirs, concurrency)
        const again = await writeShare(webPrimitives, SCOPE, files, emptyDirs, 2)
        expect(again.written.cid.text).toBe(written.cid.text)
        expect(toHex(again.written.readKey.reveal())).toBe(toHex(written.readKey.reveal()))
        // Each block once.
        expect(new Set(blocks.puts).size).toBe(blocks.puts.length)
        const read = await readAll(await openShare(nodePrimitives, written, blocks))
        const wanted = new Map<string, Uint8Array>(emptyDirs.map((dir) => [dir, new Uint8Array(0)]))
        for (const file of files) wanted.set(file.dir === '' ? file.name : `${file.dir}/${file.name}`, file.content as Uint8Array)
        if (wanted.size === 0) wanted.set('', new Uint8Array(0))
        expect([...read.keys()].sort()).toEqual([...wanted.keys()].sort())
        for (const [name, bytes] of wanted) expect(Buffer.compare(read.get(name)!, bytes), name).toBe(0)
      }),
      { seed: SEED, numRuns: 25 },
    )
  })

  it('shares no data key and no block with a share of another scope', async () => {
    const files: InputFile[] = [
      { dir: '', name: 'a', content: new Uint8Array(2 * PT + 500_000).fill(9) },
      { dir: '', name: 'b', content: new Uint8Array(PT).fill(8) },
    ]
    const keys = new Set<string>()
    const puts = new Set<string>()
    let count = 0
    for (let scope = 0; scope < 4; scope++) {
      const { written, blocks } = await writeShare(nodePrimitives, new Secret(new Uint8Array(32).fill(scope)), files)
      const reader = await openShare(nodePrimitives, written, blocks)
      for (let i = 0; i < reader.dataBlocks; i++) keys.add(toHex(await reader.keyOf(i)))
      for (const put of blocks.puts) puts.add(put)
      count += reader.dataBlocks
      expect(blocks.puts.length).toBeGreaterThan(reader.dataBlocks)
    }
    expect(keys.size).toBe(count)
    expect(puts.size % 4).toBe(0)
  })

  it('with any bit of any block flipped is refused, tree or no tree', async () => {
    const bytes = new Uint8Array(PT + 40_000)
    for (let i = 0; i < bytes.length; i++) bytes[i] = i % 253
    const { written, blocks } = await writeShare(nodePrimitives, SCOPE, [{ dir: 'd', name: 'a', content: bytes }], ['e'])
    const dag = await openDag(nodePrimitives, written.cid, blocks)
    const leaves = Array.from({ length: dag.shape.blockCount }, (_, i) => blocks.get(dag.digestOf(0, i)!))
    await fc.assert(
      fc.asyncProperty(fc.nat(leaves.length - 1), fc.nat(), fc.nat(7), async (position, at, bit) => {
        const block = leaves[position]!.slice()
        block[at % block.length]! ^= 1 << bit
        // The tree sees it first; without the tree, the tag does.
        await expect(dag.checkLeaf(position, block)).rejects.toMatchObject({ code: 'D1' })
        const read = ShareReader.open({
          opener: createOpener(nodePrimitives),
          primitives: nodePrimitives,
          readKey: written.readKey,
          shape: dag.shape,
          fetchBlock: async (index) => (index === position ? block : leaves[index]!),
        }).then(readAll)
        await expect(read).rejects.toSatisfy((error) => error instanceof FormatError && (error.code === 'B1' || error.code === 'B2'))
      }),
      { seed: SEED, numRuns: 60 },
    )
  })
})
