/** Ranges of files: which stretches hold them, and that reading one opens no other block. */
import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Entry, type Extent, extentBytes } from '../../protocol/entry.ts'
import { randomScope } from '../../protocol/keys.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { ShareReader } from '../../protocol/reader.ts'
import { createOpener } from '../../protocol/seal.ts'
import { partsOf, type Stretch, stretchesOf, zerosOf } from '../../protocol/stretches.ts'
import { nodePrimitives } from '../primitives-node.ts'
import { openDag, writeShare } from './memory-share.ts'

const PIECE = FORMAT.pieceBytes
const SEED = { seed: 20_261_124, numRuns: 300 }

const entryOf = (extents: Extent[]): Entry => {
  const sizeBytes = extents.reduce((sum, extent) => sum + extentBytes(extent), 0)
  return { dir: '', name: 'f', sizeBytes, extents, executable: false }
}

/** Where byte `at` of a file is: "position:offset", or "zero". */
function placeOf(entry: Entry, at: number): string {
  let rest = at
  for (const extent of entry.extents) {
    if (rest >= extentBytes(extent)) {
      rest -= extentBytes(extent)
      continue
    }
    if (extent.kind === 'hole') return 'zero'
    if (extent.kind === 'fragment') return `${extent.position}:${extent.offsetBytes + rest}`
    return `${extent.position + Math.floor(rest / PIECE)}:${rest % PIECE}`
  }
  throw new RangeError(`byte ${at} of ${entry.sizeBytes}`)
}

/** First and last byte of every part of the stretches, with their offsets in the range. */
function edgesOf(stretches: Stretch[]): { at: number; place: string }[] {
  const edges: { at: number; place: string }[] = []
  let at = 0
  for (const stretch of stretches) {
    if (stretch.kind === 'zeros') {
      edges.push({ at, place: 'zero' }, { at: at + stretch.lengthBytes - 1, place: 'zero' })
      at += stretch.lengthBytes
      continue
    }
    for (const { position, offsetBytes, lengthBytes } of partsOf(stretch)) {
      edges.push({ at, place: `${position}:${offsetBytes}` })
      edges.push({ at: at + lengthBytes - 1, place: `${position}:${offsetBytes + lengthBytes - 1}` })
      at += lengthBytes
    }
  }
  return edges
}

const lengthOf = (stretches: Stretch[]): number => stretches.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)

describe('the stretches of a range', () => {
  const blocks = fc.record({ kind: fc.constant('blocks' as const), position: fc.nat(50), count: fc.integer({ min: 1, max: 5 }) })
  const hole = fc.integer({ min: 1, max: 4 }).map((count) => ({ kind: 'hole' as const, lengthBytes: count * PIECE }))
  const fragment = fc.tuple(fc.nat(60), fc.nat(PIECE - 1), fc.integer({ min: 1, max: PIECE })).map(([position, offsetBytes, length]) => ({
    kind: 'fragment' as const,
    position,
    offsetBytes,
    lengthBytes: Math.min(length, PIECE - offsetBytes),
  }))
  const entries = fc
    .tuple(fc.array(fc.oneof(blocks, hole), { maxLength: 5 }), fc.array(fragment, { maxLength: 2 }))
    .map(([whole, fragments]) => entryOf([...whole, ...fragments]))

  it('hold exactly the bytes of the range, in order', () => {
    fc.assert(
      fc.property(entries, fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0, max: 1, noNaN: true }), (entry, a, b) => {
        const [start, end] = [Math.floor(Math.min(a, b) * entry.sizeBytes), Math.floor(Math.max(a, b) * entry.sizeBytes)]
        const stretches = stretchesOf(entry, start, end)
        expect(lengthOf(stretches)).toBe(end - start)
        for (const { at, place } of edgesOf(stretches)) expect(place).toBe(placeOf(entry, start + at))
      }),
      SEED,
    )
  })

  it('are few, however large a hole is', () => {
    const entry = entryOf([
      { kind: 'hole', lengthBytes: 2 ** 20 * PIECE },
      { kind: 'blocks', position: 7, count: 2 },
    ])
    expect(stretchesOf(entry, 5, entry.sizeBytes)).toEqual([
      { kind: 'zeros', lengthBytes: 2 ** 20 * PIECE - 5 },
      { kind: 'pieces', position: 7, count: 2, skipBytes: 0, lengthBytes: 2 * PIECE },
    ])
    expect([...zerosOf(2 * PIECE + 1)]).toEqual([PIECE, PIECE, 1])
    expect([...zerosOf(0)]).toEqual([])
  })

  it('are none for nothing, and asking beyond the end is a fault', () => {
    expect(stretchesOf(entryOf([]), 0, 0)).toEqual([])
    expect(stretchesOf(entryOf([{ kind: 'blocks', position: 0, count: 1 }]), 5, 5)).toEqual([])
    expect(() => stretchesOf(entryOf([]), 0, 1)).toThrow()
  })
})

describe('reading a range of a file', () => {
  it('gives its bytes and fetches only the blocks that hold them', async () => {
    const bytes = new Uint8Array(randomBytes(6 * PIECE + 1000))
    bytes.fill(0, 2 * PIECE, 4 * PIECE) // a hole
    const { written, blocks } = await writeShare(nodePrimitives, randomScope(new Uint8Array(32)), [{ dir: '', name: 'f', content: bytes }])
    const dag = await openDag(nodePrimitives, written.cid, blocks)
    const fetched: number[] = []
    const reader = await ShareReader.open({
      opener: createOpener(nodePrimitives),
      primitives: nodePrimitives,
      readKey: written.readKey,
      shape: dag.shape,
      fetchBlock: async (position) => {
        fetched.push(position)
        return blocks.get(dag.digestOf(0, position)!)
      },
    })
    const entry = (await reader.singleFile())!
    for (const [start, end] of [
      [0, 1],
      [PIECE - 1, PIECE + 1],
      [PIECE, 2 * PIECE],
      [2 * PIECE + 5, 4 * PIECE - 5],
      [PIECE + 7, 5 * PIECE + 7],
      [6 * PIECE - 3, bytes.length],
      [0, bytes.length],
    ] as const) {
      fetched.length = 0
      const chunks: Uint8Array[] = []
      for await (const chunk of reader.read(entry, start, end)) chunks.push(chunk)
      expect(Buffer.concat(chunks).equals(bytes.subarray(start, end))).toBe(true)
      const pieces = new Set<number>()
      for (const stretch of stretchesOf(entry, start, end))
        if (stretch.kind === 'pieces') for (const { position } of partsOf(stretch)) if (position < reader.dataBlocks) pieces.add(position)
      expect(fetched.filter((position) => !pieces.has(position))).toEqual([])
      expect(fetched.length).toBeLessThanOrEqual(pieces.size)
    }
  })
})
