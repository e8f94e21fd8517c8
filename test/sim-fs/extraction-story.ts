/**
 * Stories of a `get` that writes its files on the simulated disk: pieces come in any order, the process is killed or the power fails at
 * any operation, syncs fail, the disk is full, and the same extraction is done again: anew, or going on with what was left.
 *
 * The oracle: at its final place stands nothing or the whole folder; once the extraction has said that it is done, a power cut changes
 * nothing; the repetition needs no help; nothing is left beside the files.
 */
import { Extraction } from '../../node/storage/extract.ts'
import { FileError } from '../../node/storage/file-error.ts'
import type { Entry } from '../../protocol/entry.ts'
import { Random } from '../sim/crowd/random.ts'
import { type Fault, SimDisk, SimProcess } from './disk.ts'
import type { StoryOutcome } from './story.ts'

const OUT = '/home/user/out'
const PIECE_BYTES = 1_024
const NEVER = new AbortController().signal

interface Tree {
  entries: Entry[]
  pieces: Uint8Array[]
  /** Path under OUT to content. */
  files: Map<string, Uint8Array>
}

/** A folder with files of a few pieces each, one empty, in it and below it. */
function makeTree(): Tree {
  const tree: Tree = { entries: [], pieces: [], files: new Map() }
  for (const [dir, name, count] of [
    ['tree', 'a', 3],
    ['tree', 'b', 1],
    ['tree', 'empty', 0],
    ['tree/below', 'c', 2],
    ['tree/below/deep', 'd', 1],
  ] as const) {
    const position = tree.pieces.length
    for (let i = 0; i < count; i++) tree.pieces.push(new Uint8Array(PIECE_BYTES).fill(tree.pieces.length + 1))
    const extents: Entry['extents'] = count === 0 ? [] : [{ kind: 'blocks', position, count }]
    tree.entries.push({ dir, name, sizeBytes: count * PIECE_BYTES, extents, executable: false })
    tree.files.set(`${dir}/${name}`, new Uint8Array(Buffer.concat(tree.pieces.slice(position))))
  }
  return tree
}

const TREE = makeTree()

const FAULTS: [operation: RegExp, code: Fault['code']][] = [
  [/^datasync$/, 'EIO'],
  [/^datasync$/, 'EIO'],
  [/^datasync$/, 'EIO'],
  [/^syncDirectory$/, 'EIO'],
  [/^write$/, 'ENOSPC'],
  [/^(open:create|mkdir)$/, 'ENOSPC'],
  [/^open/, 'EMFILE'],
  [/^(rename|link)$/, 'EIO'],
]

/** Tells the story of one seed; throws what the oracle has to say. */
export async function runExtractionStory(seed: number, trace: ((line: string) => void) | null = null): Promise<StoryOutcome> {
  const disk = new SimDisk(new Random(seed * 104_729 + 3), trace)
  disk.makeFolders('/home/user')
  let isDone = false
  for (let life = disk.random.below(4); life > 0 && !isDone; life--) {
    isDone = await live(disk, false)
    look(disk, isDone)
  }
  if (!isDone) isDone = await live(disk, true)
  disk.cut()
  look(disk, isDone)
  const left = disk.names(OUT).filter((name) => name !== 'tree')
  // The removal of the temporary folder need not be durable, so a power cut may bring it back: the next extraction clears it.
  if (left.some((name) => !name.endsWith('.part'))) throw new Error(`leftovers: ${left.join(', ')}`)
  return { happened: disk.happened, operations: disk.operations }
}

/** One run of the extraction; true once it has said that all is in place. Where an earlier run was killed just before it would have said
 *  so, the repetition finds that the files are there, and promises nothing. */
async function live(disk: SimDisk, isCalm: boolean): Promise<boolean> {
  const { random } = disk
  const process = new SimProcess(disk)
  if (!isCalm && random.below(4) > 0) process.liveFor(random.below(200))
  if (!isCalm && random.below(2) === 0) {
    const [operation, code] = FAULTS[random.below(FAULTS.length)]!
    disk.faults.push({ operation, path: /out/, code, skip: random.below(30) >> random.below(5) })
  }
  const struck = disk.faults.length
  const result = await process.run(extract(process, random))
  const isStruck = disk.faults.length < struck
  disk.faults = []
  const wasAlive = process.isAlive
  process.kill()
  const isDone = wasAlive && result.status === 'fulfilled'
  if (wasAlive && result.status === 'rejected') {
    const isInPlace = result.reason instanceof FileError && result.reason.code === 'EXISTS' && isWhole(disk)
    if (!isInPlace && !isStruck) throw new Error('an extraction failed on a disk in order', { cause: result.reason })
  }
  if (isDone && disk.names(OUT).length !== 1) throw new Error(`leftovers: ${disk.names(OUT).join(', ')}`)
  // Killed between a failed sync and what it does about it: only a new start of the machine shows what the disk holds.
  const isUnsure = !wasAlive && isStruck
  if (isDone || isUnsure || random.below(2) === 0) disk.cut()
  return isDone
}

async function extract({ fs }: SimProcess, random: Random): Promise<void> {
  const resumes = random.below(3) > 0
  const plan = await Extraction.plan({
    entries: stream(),
    outputDir: OUT,
    under: '',
    pieceBytes: PIECE_BYTES,
    dataBlocks: TREE.pieces.length,
    force: false,
    tag: 'tag',
    resumes,
    signal: NEVER,
    fs,
    folds: false,
    isWindows: false,
  })
  try {
    const needed = [...plan.neededRanges()].flatMap(([first, count]) => Array.from({ length: count }, (_, i) => first + i))
    random.shuffle(needed)
    await Promise.all(
      needed.map((position) => (plan.hasLeftover ? goOn(plan, position) : plan.accept(position, TREE.pieces[position]!, NEVER))),
    )
    const { damaged } = await plan.finish(NEVER)
    if (damaged.length > 0) throw new Error(`damaged: ${damaged[0]?.path}`)
  } catch (error) {
    if (resumes) await plan.leave()
    else await plan.abandon()
    throw error
  }
}

/** A piece that is there and right need not be written again. */
async function goOn(plan: Extraction, position: number): Promise<void> {
  const piece = TREE.pieces[position]!
  const found = new Uint8Array(PIECE_BYTES)
  if ((await plan.read(position, found)) && Buffer.compare(found, piece) === 0) await plan.found(position)
  else await plan.accept(position, piece, NEVER)
}

async function* stream(): AsyncGenerator<Entry> {
  yield* TREE.entries
}

const isWhole = (disk: SimDisk): boolean =>
  [...TREE.files].every(([path, content]) => Buffer.compare(disk.contents(`${OUT}/${path}`) ?? new Uint8Array(1), content) === 0)

/** What stands at the final place is whole, or it is an empty folder, which stands in nobody's way. */
function look(disk: SimDisk, isPromised: boolean): void {
  if (isWhole(disk)) return
  if (isPromised) throw new Error('an extraction that was acknowledged is not there')
  const found = [...TREE.files].filter(([path]) => disk.contents(`${OUT}/${path}`) !== null)
  if (found.length > 0) throw new Error(`half an extraction stands at its place: ${found.map(([path]) => path).join(', ')}`)
}
