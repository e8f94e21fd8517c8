/** Blocks made on demand from files: whatever happens to the files, and whenever, nothing but the right block comes out. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { nodePrimitives } from '../../node/crypto/primitives.ts'
import { UseTable } from '../../node/storage/extract-uses.ts'
import { diskFileSystem } from '../../node/storage/fs.ts'
import { type Faults, ShareSource } from '../../node/storage/share-source.ts'
import { SourceStore } from '../../node/storage/source-store.ts'
import { decodeSources, encodeSources, SourceTree } from '../../node/storage/source-tree.ts'
import { createSealer, sealAgain } from '../../protocol/seal.ts'
import { Secret } from '../../protocol/secret.ts'
import { MemoryDisk } from './memory-disk.ts'
import { freshFolder, never } from './storage-fakes.ts'

const PIECE = 64
const SCOPE = new Secret(new Uint8Array(32).fill(5))
const CID = `bafkrei${'a'.repeat(52)}`

/** A generator of its own: the same numbers in every run. */
function randomOf(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

interface World {
  disk: MemoryDisk
  source: ShareSource
  files: SourceTree
  faults: Faults
  blocks: { key: Uint8Array; digest: Uint8Array; block: Uint8Array }[]
  originals: Map<string, Uint8Array>
  paths: string[]
  /** Positions of which each file holds a stretch, and the files of each position. */
  positionsOf: number[][]
  filesOf: number[][]
  changes: [number, number][]
  suspected: { count: number }
}

/** A share of `contents`, laid out as the writer does it: whole pieces, equal ones once; tails packed into fragment blocks. */
async function makeWorld(contents: Uint8Array[], options: { under?: string } = {}): Promise<World> {
  const disk = new MemoryDisk()
  const uses = new UseTable(PIECE)
  const sealer = createSealer(nodePrimitives, SCOPE)
  const blocks: World['blocks'] = []
  const positions = new Map<string, number>()
  const place = async (piece: Uint8Array): Promise<number> => {
    const sealed = await sealer.seal('data', piece.slice())
    const name = Buffer.from(sealed.key).toString('hex')
    const known = positions.get(name)
    if (known !== undefined) return known
    positions.set(name, blocks.length)
    blocks.push(sealed)
    return blocks.length - 1
  }
  const paths = contents.map((_bytes, i) => `/files/f${String(i).padStart(3, '0')}`)
  const positionsOf: number[][] = contents.map(() => [])
  const rows: { file: number; add: () => void }[] = []
  let open = new Uint8Array(PIECE)
  let used = 0
  let parts: { file: number; fileOffsetBytes: number; blockOffsetBytes: number; lengthBytes: number }[] = []
  const close = async (): Promise<void> => {
    if (used === 0) return
    const position = await place(open)
    for (const part of parts) {
      positionsOf[part.file]!.push(position)
      rows.push({ file: part.file, add: () => uses.addFragment(position, part) })
    }
    open = new Uint8Array(PIECE)
    used = 0
    parts = []
  }
  for (const [file, bytes] of contents.entries()) {
    disk.write(paths[file]!, bytes)
    let at = 0
    for (; at + PIECE <= bytes.length; at += PIECE) {
      const position = await place(bytes.subarray(at, at + PIECE))
      const fileOffset = at
      positionsOf[file]!.push(position)
      rows.push({ file, add: () => uses.addBlocks(file, fileOffset, position, 1) })
    }
    while (at < bytes.length) {
      const lengthBytes = Math.min(bytes.length - at, PIECE - used)
      open.set(bytes.subarray(at, at + lengthBytes), used)
      parts.push({ file, fileOffsetBytes: at, blockOffsetBytes: used, lengthBytes })
      used += lengthBytes
      at += lengthBytes
      if (used === PIECE) await close()
    }
  }
  await close()
  for (const { add } of rows.sort((a, b) => a.file - b.file)) add()
  const faults: Faults = new Map()
  const changes: World['changes'] = []
  const suspected = { count: 0 }
  const files = SourceTree.of(
    options.under ?? '',
    paths,
    paths.map((path) => disk.state(path)),
  )
  const source = new ShareSource({
    trees: [{ files, uses }],
    pieceBytes: PIECE,
    dataBlocks: blocks.length,
    disk,
    faults,
    seal: async (position, piece) => {
      const { key, digest } = blocks[position]!
      return { block: await sealAgain(nodePrimitives, { kind: 'data', key, digest }, null, piece), piece }
    },
    allocate: (sizeBytes) => new Uint8Array(sizeBytes).fill(0xee),
    release: () => {},
    onChange: (runs) => changes.push(...runs),
    onSuspect: () => void suspected.count++,
  })
  const filesOf = blocks.map((_block, position) =>
    contents.flatMap((_bytes, file) => (positionsOf[file]!.includes(position) ? [file] : [])),
  )
  const originals = new Map(contents.map((bytes, file) => [paths[file]!, bytes]))
  return { disk, source, files, faults, blocks, originals, paths, positionsOf, filesOf, changes, suspected }
}

function contentsOf(random: (below: number) => number, files: number): Uint8Array[] {
  return Array.from({ length: files }, (_, i) => {
    // Some files hold what others hold, or the same twice, so blocks stand in several places.
    const bytes = new Uint8Array([0, 5, 40, PIECE, PIECE + 9, 3 * PIECE + 20][i % 6]! + (i % 6 === 2 ? random(20) : 0))
    for (let at = 0; at < bytes.length; at++) bytes[at] = 1 + random(255)
    if (i % 6 === 5) bytes.fill(7, 0, i % 12 === 5 ? PIECE : 2 * PIECE)
    return bytes
  })
}

const isSame = (a: Uint8Array | null | undefined, b: Uint8Array | null | undefined): boolean =>
  a != null && b != null && Buffer.compare(a, b) === 0

describe('blocks from files', () => {
  it('are the very blocks that were shared', async () => {
    const world = await makeWorld(contentsOf(randomOf(1), 24))
    for (const [position, { block }] of world.blocks.entries()) {
      expect(world.source.has(position)).toBe(true)
      expect(isSame(await world.source.block(position, never), block), `block ${position}`).toBe(true)
    }
    expect(world.faults.size).toBe(0)
  })

  it('are gone with a file that changed, before anything is read of it, and the others stay', async () => {
    const world = await makeWorld(contentsOf(randomOf(2), 12))
    world.disk.edit(world.paths[4]!, (bytes) => Uint8Array.of(...bytes, 1))
    const own = world.positionsOf[4]!.filter((position) => world.filesOf[position]!.length === 1)
    expect(own.length).toBeGreaterThan(0)
    for (const position of own) expect(await world.source.block(position, never)).toBeNull()
    expect(world.faults.get(4)).toMatchObject({ fault: 'changed' })
    expect(world.changes.map(([first]) => first)).toEqual(expect.arrayContaining(own))
    for (const [position, { block }] of world.blocks.entries()) {
      if (world.filesOf[position]!.includes(4)) continue
      expect(isSame(await world.source.block(position, never), block)).toBe(true)
    }
  })

  it('are looked at again when only the times of a file changed, and the new times are kept', async () => {
    const world = await makeWorld(contentsOf(randomOf(3), 12))
    world.disk.touch(world.paths[5]!)
    const [position] = world.positionsOf[5]!.slice(1)
    expect(await world.source.block(position!, never)).toBeNull()
    expect(world.suspected.count).toBe(1)
    expect(await world.source.recheck(never)).toBe(true)
    expect(world.faults.size).toBe(0)
    expect(isSame(await world.source.block(position!, never), world.blocks[position!]!.block)).toBe(true)
    expect(world.files.stateOf(5)).toEqual(world.disk.state(world.paths[5]!))
  })

  it('are refused when bytes changed and nothing shows', async () => {
    const world = await makeWorld(contentsOf(randomOf(4), 12))
    world.disk.edit(world.paths[3]!, (bytes) => bytes.with(7, bytes[7]! ^ 1) as Uint8Array, true)
    const [position] = world.positionsOf[3]!
    expect(await world.source.block(position!, never)).toBeNull()
    expect(world.faults.get(3)).toMatchObject({ fault: 'changed' })
  })

  it('of a part of a share are those that lie whole in it', async () => {
    const world = await makeWorld(contentsOf(randomOf(5), 12), { under: 'files' })
    const whole = world.blocks.flatMap((_block, position) =>
      world.positionsOf.some((positions, file) => positions.indexOf(position) >= 0 && positions.indexOf(position) < sizeOf(world, file))
        ? [position]
        : [],
    )
    expect(world.blocks.flatMap((_block, position) => (world.source.has(position) ? [position] : []))).toEqual(whole)
  })

  it('name what became of a file', async () => {
    const world = await makeWorld(contentsOf(randomOf(6), 12))
    world.disk.remove(world.paths[3]!)
    world.disk.obstruct(world.paths[4]!)
    world.disk.setReadable(world.paths[5]!, false)
    for (const file of [3, 4]) await world.source.lookAt(0, file)
    for (const position of world.positionsOf[5]!) await world.source.block(position, never)
    expect([3, 4, 5].map((file) => world.faults.get(file)?.fault)).toEqual(['missing', 'not-a-file', 'unreadable'])
  })
})

/** Whole pieces of a file. */
const sizeOf = (world: World, file: number): number => Math.floor(world.originals.get(world.paths[file]!)!.length / PIECE)

/** Thousands of edits at any moment, before, during and after blocks are asked for. */
async function stormOf(seed: number, edits: number): Promise<void> {
  const random = randomOf(seed)
  const world = await makeWorld(contentsOf(random, 30))
  const { disk, source, faults, paths, originals, blocks } = world
  /** Files whose last change left no trace. */
  const silent = new Set<number>()
  let left = edits
  const editOne = (): unknown => {
    if (left === 0) return null
    left--
    const file = random(paths.length)
    const path = paths[file]!
    silent.delete(file)
    const flip = (bytes: Uint8Array): Uint8Array => {
      if (bytes.length > 0) bytes[random(bytes.length)]! ^= 1 + random(255)
      return bytes
    }
    switch (random(16)) {
      case 0:
      case 1:
        return disk.edit(path, flip)
      case 2:
        silent.add(file)
        return disk.edit(path, flip, true)
      case 3:
        return disk.edit(path, (bytes) => Uint8Array.of(...bytes, random(256)))
      case 4:
        return disk.edit(path, (bytes) => bytes.subarray(0, random(bytes.length + 1)))
      case 5:
        return disk.write(path, flip(originals.get(path)!.slice()))
      case 6:
        return disk.touch(path)
      case 7:
        return disk.remove(path)
      case 8: {
        const other = random(paths.length)
        silent.delete(other)
        return disk.swap(path, paths[other]!)
      }
      case 9:
        return random(2) === 0 ? disk.obstruct(path) : disk.setReadable(path, random(3) > 0)
      default:
        return disk.write(path, originals.get(path)!)
    }
  }
  let served = 0
  const serve = async (position: number): Promise<void> => {
    const block = await source.block(position, never)
    if (block === null) return
    served++
    if (!isSame(block, blocks[position]!.block)) expect.unreachable(`a wrong block at ${position}`)
  }
  while (left > 0) {
    for (let n = random(3); n > 0; n--) editOne()
    disk.onAccess = () => {
      if (random(25) === 0) editOne()
    }
    for (let n = random(12); n > 0; n--) await serve(random(blocks.length))
    if (random(4) === 0) await source.recheck(never)
    disk.onAccess = () => {}
    if (random(20) > 0) continue
    // All is quiet: what the owner is told is what is so.
    for (const file of paths.keys()) await source.lookAt(0, file)
    await source.recheck(never)
    for (const position of blocks.keys()) await serve(position)
    await source.recheck(never)
    const isRight = (file: number): boolean => isSame(disk.content(paths[file]!), originals.get(paths[file]!))
    for (const file of paths.keys()) {
      const positions = world.positionsOf[file]!
      if (positions.length === 0) continue
      const hasWrongNeighbour = positions.some((position) => world.filesOf[position]!.some((other) => !isRight(other) || silent.has(other)))
      if (isRight(file)) {
        if (!hasWrongNeighbour) expect(faults.get(file), `file ${file} is right`).toBeUndefined()
      } else if (!silent.has(file) || positions.every((position) => world.filesOf[position]!.length === 1)) {
        expect(faults.has(file), `file ${file} is wrong`).toBe(true)
      }
    }
    for (const position of blocks.keys()) expect((await source.block(position, never)) !== null).toBe(source.has(position))
  }
  expect(served).toBeGreaterThan(edits / 8)
}

describe('10,000 edits', () => {
  it('of files of an owner never let a wrong block out, and the owner is told what is so', async () => {
    for (let seed = 1; seed <= 10; seed++) await stormOf(seed, 1_000)
  })
})

describe('the list of files', () => {
  const listOf = (tree: SourceTree): Uint8Array => encodeSources({ rootPlain: new Uint8Array(0), trees: [tree] })

  const tree = (): SourceTree => {
    const paths = ['/home/me/a', '/home/me/photos/ä b', '/home/me/photos/c', '/x']
    const state = { device: 2n ** 63n, inode: 7n, sizeBytes: 0n, modifiedNs: -5n, changedNs: 1_700_000_000_000_000_001n }
    return SourceTree.of('photos', paths, [state, null, { ...state, sizeBytes: 2n ** 40n }, state])
  }

  it('comes back as it was', () => {
    const rootPlain = Uint8Array.of(0, 0, 0, 1, 9)
    const list = decodeSources(encodeSources({ rootPlain, trees: [tree(), SourceTree.writing('', '/out/.part')] }))
    expect(list.rootPlain).toEqual(rootPlain)
    const [back, part] = list.trees
    expect(Array.from({ length: 4 }, (_, file) => back!.pathOf(file))).toEqual(Array.from({ length: 4 }, (_, file) => tree().pathOf(file)))
    expect(Array.from({ length: 4 }, (_, file) => back!.stateOf(file))).toEqual(
      Array.from({ length: 4 }, (_, file) => tree().stateOf(file)),
    )
    expect([back!.kind, back!.under, back!.replaces(tree()), part!.kind, part!.folders]).toEqual([
      'written',
      'photos',
      true,
      'writing',
      ['/out/.part'],
    ])
  })

  it('is refused when a byte is wrong, or missing at the end', () => {
    const bytes = listOf(tree())
    for (let at = 0; at < bytes.length; at++) {
      expect(() => decodeSources(bytes.with(at, bytes[at]! ^ 1) as Uint8Array)).toThrow(/damaged/)
      expect(() => decodeSources(bytes.subarray(0, at))).toThrow(/damaged/)
    }
  })

  it('refuses garbage', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(() => decodeSources(bytes)).toThrow()
      }),
      { seed: 4 },
    )
  })

  it('is kept by share, and forgotten', async () => {
    const home = freshFolder()
    const store = await SourceStore.open(diskFileSystem, home)
    expect((await store.load(CID)).trees).toEqual([])
    await store.save(CID, { rootPlain: new Uint8Array(0), trees: [tree()] })
    await store.save(CID, { rootPlain: new Uint8Array(0), trees: [tree()] })
    const again = await SourceStore.open(diskFileSystem, home)
    expect((await again.load(CID)).trees[0]!.pathOf(1)).toBe('/home/me/photos/ä b')
    await again.remove(CID)
    await again.remove(CID)
    expect((await again.load(CID)).trees).toEqual([])
  })

  it('takes less than 10 MB for 100,000 files and is read at once', () => {
    const paths = Array.from({ length: 100_000 }, (_, i) => `/home/somebody/pictures/${Math.floor(i / 100)}/IMG_20260101_${i}.jpeg`)
    const state = { device: 1n, inode: 7n, sizeBytes: 1n, modifiedNs: 5n, changedNs: 6n }
    const bytes = listOf(SourceTree.of('', paths, new Array(paths.length).fill(state)))
    expect(bytes.length).toBeLessThan(10_000_000)
    expect(decodeSources(bytes).trees[0]!.pathOf(99_999)).toBe(paths[99_999])
  })
})
