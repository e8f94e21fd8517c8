import { describe, expect, test } from 'vitest'
import { SourcesAhead } from '../../node/storage/source-ahead.ts'
import type { SourceFile } from '../../node/storage/walk.ts'
import { FORMAT, STORAGE } from '../../protocol/limits.ts'

const file = (name: string, sizeBytes = 3): SourceFile => ({ dir: '', name, path: `/${name}`, sizeBytes, executable: false })
const many = (count: number): SourceFile[] => Array.from({ length: count }, (_, i) => file(`${i}`))

/** Readings that tell which are open, and give as many chunks as a file is said to have. */
function stage(chunksOf: (file: SourceFile) => number = () => 1) {
  const [open, begun, given] = [new Set<string>(), [] as string[], [] as string[]]
  let openMax = 0
  async function* read(source: SourceFile): AsyncGenerator<Uint8Array> {
    open.add(source.name)
    begun.push(source.name)
    openMax = Math.max(openMax, open.size)
    try {
      for (let chunk = 0; chunk < chunksOf(source); chunk++) {
        await null
        given.push(`${source.name}.${chunk}`)
        yield Uint8Array.of(chunk)
      }
      if (chunksOf(source) < 0) throw new Error(`${source.name} is gone`)
    } finally {
      open.delete(source.name)
    }
  }
  return { read, open, begun, given, most: () => openMax }
}

const textOf = async (reading: AsyncIterable<Uint8Array>): Promise<string> => {
  const chunks: Uint8Array[] = []
  for await (const chunk of reading) chunks.push(chunk)
  return Buffer.concat(chunks).toString('hex')
}

describe('files that are read ahead of their turn', () => {
  test('come in their order, each with its own bytes, a bounded number at a time', async () => {
    const { read, open, begun, most } = stage((source) => 1 + (Number(source.name) % 3))
    const ahead = new SourcesAhead(many(100), read)
    for (let i = 0; i < 100; i++) {
      expect(await textOf(ahead.next())).toBe(['00', '0001', '000102'][i % 3])
      expect(begun.length).toBeLessThanOrEqual(i + STORAGE.walkFilesAtOnce)
    }
    expect(() => ahead.next()).toThrow(RangeError)
    expect(most()).toBeLessThanOrEqual(STORAGE.walkFilesAtOnce)
    expect(begun).toEqual(many(100).map(({ name }) => name))
    expect(open.size).toBe(0)
  })

  test('are the small ones: a large one begins at its turn, and one that has grown stops after two pieces', async () => {
    const { read, given, open } = stage((source) => (source.name === 'small' ? 1 : 9))
    const ahead = new SourcesAhead([file('small'), file('large', FORMAT.pieceBytes), file('grown')], read)
    expect(await textOf(ahead.next())).toBe('00')
    const large = ahead.next()
    expect([...given].sort()).toEqual(['grown.0', 'grown.1', 'small.0'])
    expect(await textOf(large)).toHaveLength(18)
    expect(await textOf(ahead.next())).toHaveLength(18)
    expect(open.size).toBe(0)
  })

  test('fail at their turn and not before, and what was begun is closed', async () => {
    const { read, open } = stage((source) => (source.name === '3' ? -1 : 5))
    const ahead = new SourcesAhead(many(10), read)
    for (let i = 0; i < 3; i++) expect(await textOf(ahead.next())).toBe('0001020304')
    await expect(textOf(ahead.next())).rejects.toThrow('3 is gone')
    expect(open.size).toBeGreaterThan(0)
    await ahead.close()
    expect(open.size).toBe(0)
  })

  test('are closed where nobody reads the one whose turn it is', async () => {
    const { read, open } = stage(() => 5)
    const ahead = new SourcesAhead(many(2), read)
    ahead.next()
    await ahead.close()
    expect(open.size).toBe(0)
  })
})
