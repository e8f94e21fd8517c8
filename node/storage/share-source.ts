/**
 * The blocks of one share, sealed on demand from the files that hold their plaintext.
 *
 * A file counts as unchanged while its state (size, times, inode) is the one that was kept; bytes are read once into memory of our own and
 * nothing is given out but a sealed block that is the right one. A file that changed, moved or vanished takes its blocks with it until
 * `recheck` finds the same bytes again. It knows no keys and no network: `seal` is given to it. See source-tree.ts for what is kept.
 */
import { SOURCES } from '../../protocol/limits.ts'
import type { Bits, Use, UseTable } from './extract-uses.ts'
import { systemCode, toFileError } from './file-error.ts'
import { type FileState, isSameState, type SourceDisk } from './source-disk.ts'
import type { SourceTree } from './source-tree.ts'
import { forEachBounded } from './turns.ts'

/** What became of a file. 'changed' includes one that is still to be looked through. */
export type SourceFault = 'changed' | 'missing' | 'not-a-file' | 'unreadable'

/** A fault, and the state in which the file was found so: while it stays in that, nothing is looked at again. */
export interface Fault {
  path: string
  fault: SourceFault
  /** Null: it may be right after all, and is to be looked through. */
  found: FileState | 'nothing' | null
}

/** By file: index of its tree × 2^24 + number in the tree. Outlives the source, which may be closed and opened again. */
export type Faults = Map<number, Fault>

export interface SourceInit {
  trees: readonly { files: SourceTree; uses: UseTable }[]
  pieceBytes: number
  /** D of the share. */
  dataBlocks: number
  disk: SourceDisk
  faults: Faults
  /** The sealed block when `piece` (taken, and given back) is what stands at `position`, else null. */
  seal(position: number, piece: Uint8Array, signal: AbortSignal): Promise<{ block: Uint8Array | null; piece: Uint8Array }>
  /** Memory for one piece, and its return. */
  allocate(sizeBytes: number): Uint8Array
  release(bytes: Uint8Array): void
  /** Blocks in these runs may have gone or come back. */
  onChange(runs: [first: number, count: number][]): void
  /** A file looks changed and could be right after all: `recheck` is called for. */
  onSuspect(): void
}

const FILES_PER_TREE = 2 ** 24

/** The key of a file in Faults. */
export const faultKey = (tree: number, file: number): number => tree * FILES_PER_TREE + file

export class ShareSource {
  readonly #init: SourceInit
  readonly #trees: Tree[]

  constructor(init: SourceInit) {
    this.#init = init
    this.#trees = init.trees.map((tree, index) => new Tree(init, index, tree.files, tree.uses))
  }

  /** Whether the block can be made, as far as is known. */
  has(position: number): boolean {
    return this.#trees.some((tree) => tree.has(position))
  }

  /** Whether files that are watched hold bytes of the block, as they are now or as they were. */
  claims(position: number): boolean {
    return this.#trees.some((tree) => tree.claims(position))
  }

  /** The sealed block, right by its name, in memory of its own; null when the files do not hold it any more. FileError IO where the
   *  system is at fault and not the file. */
  async block(position: number, signal: AbortSignal): Promise<Uint8Array | null> {
    for (const tree of this.#trees) {
      // Every failed round takes a file out, so it ends.
      for (let chosen = tree.choose(position); chosen !== null; chosen = tree.choose(position)) {
        signal.throwIfAborted()
        const piece = await tree.read([chosen], recorded)
        if (piece === null) continue
        const { block, piece: back } = await this.#init.seal(position, piece, signal)
        this.#init.release(back)
        if (block !== null) return block
        // Of several files nobody knows which one it is.
        for (const { file } of chosen) tree.fail(file, 'changed', chosen.length === 1 ? tree.files.stateOf(file) : null)
      }
    }
    return null
  }

  /** Looks at one file without reading it. */
  async lookAt(tree: number, file: number): Promise<void> {
    await this.#trees[tree]?.lookAt(file)
  }

  /** Looks through the files that seem changed and have the right size; true when states were learnt that had better be kept. */
  async recheck(signal: AbortSignal): Promise<boolean> {
    let isNews = false
    for (const tree of this.#trees) if (await tree.recheck(signal)) isNews = true
    return isNews
  }
}

/** Of a block made from files that seem changed: 'open' where another of its files may be the wrong one. */
type Verdict = 'right' | 'wrong' | 'open'

type Expected = (tree: Tree, file: number) => FileState | null
const recorded: Expected = (tree, file) => tree.files.stateOf(file)

/** The files at one place. */
class Tree {
  readonly files: SourceTree
  readonly #init: SourceInit
  readonly #index: number
  readonly #uses: UseTable
  /** Blocks that these files hold every byte of. */
  readonly #held: Bits
  #faulty = 0

  constructor(init: SourceInit, index: number, files: SourceTree, uses: UseTable) {
    this.#init = init
    this.#index = index
    this.files = files
    this.#uses = uses
    const covered = uses.seal(init.dataBlocks)
    // Of a part of a share, blocks that hold pieces of other files as well are not ours to make.
    this.#held = files.under === '' ? covered : uses.whole(init.dataBlocks)
    for (let file = 0; file < files.files; file++) if (!this.isGood(file)) this.#faulty++
  }

  has(position: number): boolean {
    if (!this.#held.has(position)) return false
    return this.#faulty === 0 || this.choose(position) !== null
  }

  claims(position: number): boolean {
    for (const { file } of this.#uses.at(position)) if (this.files.stateOf(file) !== null) return true
    return false
  }

  isGood = (file: number): boolean => !this.#init.faults.has(this.#key(file)) && this.files.stateOf(file) !== null

  /** Stretches that together are the block, of files that are as they were; null when there are none. */
  choose(position: number, isGood: (file: number) => boolean = this.isGood): Use[] | null {
    if (!this.#held.has(position)) return null
    const all = [...this.#uses.at(position)]
    const good = all.filter(({ file }) => isGood(file))
    const whole = good.find(({ lengthBytes }) => lengthBytes === this.#init.pieceBytes)
    if (whole !== undefined) return [whole]
    if (this.files.under !== '' || good.length === 0) return null
    good.sort((a, b) => a.blockOffsetBytes - b.blockOffsetBytes || b.lengthBytes - a.lengthBytes)
    const chosen: Use[] = []
    for (const use of good) if (endOf(use) > endOf(chosen.at(-1))) chosen.push(use)
    const isCovered = good.length === all.length || all.every((use) => isGood(use.file) || covers(chosen, use))
    return isCovered ? chosen : null
  }

  /** The bytes of one block, zeros where no file holds any, later layers above earlier ones; null when a file was not as expected, which
   *  is noted. */
  async read(layers: readonly (readonly Use[])[], expected: Expected): Promise<Uint8Array | null> {
    const piece = this.#init.allocate(this.#init.pieceBytes)
    if (layers[0]?.[0]?.lengthBytes !== piece.length) piece.fill(0)
    let isWhole = true
    try {
      for (const layer of layers) {
        await forEachBounded(layer, SOURCES.readsAtOnceMax, async (use) => {
          const into = piece.subarray(use.blockOffsetBytes, endOf(use))
          if (isWhole && !(await this.#readUse(use, into, expected(this, use.file)))) isWhole = false
        })
      }
    } catch (error) {
      this.#init.release(piece)
      throw error
    }
    if (isWhole) return piece
    this.#init.release(piece)
    return null
  }

  async #readUse({ file, fileOffsetBytes }: Use, into: Uint8Array, expected: FileState | null): Promise<boolean> {
    const path = this.files.pathOf(file)
    try {
      const opened = await this.#init.disk.open(path)
      try {
        const before = await opened.state()
        if (before === null || expected === null || !isSameState(before, expected)) return this.#differs(file, before)
        const read = await opened.read(into, fileOffsetBytes)
        const after = await opened.state()
        if (read === into.length && after !== null && isSameState(after, expected)) return true
        return this.#differs(file, after)
      } finally {
        await opened.close()
      }
    } catch (error) {
      return this.#failed(file, error, path)
    }
  }

  async lookAt(file: number): Promise<void> {
    const known = this.files.stateOf(file)
    if (known === null) return
    const path = this.files.pathOf(file)
    try {
      const now = await this.#init.disk.lookAt(path)
      if (now === null || !isSameState(now, known) || this.#init.faults.has(this.#key(file))) this.#differs(file, now)
    } catch (error) {
      this.#failed(file, error, path)
    }
  }

  /** The file is not in the state that was kept: with another size it has changed, with the same it is to be looked through. */
  #differs(file: number, now: FileState | null): false {
    if (now === null) return this.fail(file, 'not-a-file', 'nothing')
    if (now.sizeBytes !== this.files.stateOf(file)?.sizeBytes) return this.fail(file, 'changed', now)
    const before = this.#init.faults.get(this.#key(file))?.found ?? 'nothing'
    if (before !== 'nothing' && isSameState(before, now)) return false // looked through in this very state
    this.fail(file, 'changed', null)
    this.#init.onSuspect()
    return false
  }

  #failed(file: number, error: unknown, path: string): false {
    const fault = FAULTS[systemCode(error) ?? '']
    if (fault === undefined) throw toFileError(error, 'reading', path)
    return this.fail(file, fault, 'nothing')
  }

  /** The blocks that need this file are gone until it is right again. */
  fail(file: number, fault: SourceFault, found: Fault['found']): false {
    const isNew = this.isGood(file)
    this.#init.faults.set(this.#key(file), { path: this.files.pathOf(file), fault, found })
    if (isNew) {
      this.#faulty++
      this.#init.onChange([...this.#uses.runsOf(file)])
    }
    return false
  }

  #mend(file: number): void {
    if (!this.#init.faults.delete(this.#key(file))) return
    this.#faulty--
    this.#init.onChange([...this.#uses.runsOf(file)])
  }

  async recheck(signal: AbortSignal): Promise<boolean> {
    const trial = await this.#suspects()
    if (trial.size === 0) return false
    const isGood = (file: number): boolean => trial.has(file) || this.isGood(file)
    const expected: Expected = (_tree, file) => trial.get(file) ?? this.files.stateOf(file)
    /** Of blocks that may hold several files. */
    const verdicts = new Map<number, Verdict>()
    const verdictOf = async (position: number, file: number): Promise<Verdict> => {
      const known = verdicts.get(position)
      if (known !== undefined) return known
      signal.throwIfAborted()
      const chosen = this.choose(position, isGood)
      if (chosen === null) return this.#held.has(position) ? 'open' : 'right' // not made from these files anyway
      const own = [...this.#uses.at(position)].filter((use) => use.file === file)
      // Where each byte comes from one stretch, the verdict is on all of them; else every stretch of this file is looked at by itself.
      const isOnAll = isApart(chosen) && own.every((use) => chosen.some((one) => one.file === file && isSameUse(one, use)))
      let verdict: Verdict = 'right'
      for (const layers of isOnAll ? [[chosen]] : own.map((use) => [chosen, [use]])) {
        if (verdict === 'right') verdict = await this.#judge(position, layers, expected, signal)
      }
      if (isOnAll && chosen.length > 1) verdicts.set(position, verdict)
      return verdict
    }
    let isNews = false
    for (const [file, state] of trial) {
      let verdict: Verdict = 'right'
      // The shared ones come first: while these do not tell, a long file need not be read.
      for (const [first, count] of [...this.#uses.runsOf(file)].sort((a, b) => a[1] - b[1])) {
        for (let position = first; position < first + count && verdict === 'right'; position++) {
          if (position < this.#init.dataBlocks) verdict = await verdictOf(position, file)
        }
      }
      if (verdict === 'wrong') this.fail(file, 'changed', state)
      if (verdict !== 'right') continue
      this.files.setState(file, state)
      this.#mend(file)
      isNews = true
    }
    return isNews
  }

  async #judge(position: number, chosen: readonly Use[][], expected: Expected, signal: AbortSignal): Promise<Verdict> {
    const piece = await this.read(chosen, expected)
    if (piece === null) return 'open'
    const { block, piece: back } = await this.#init.seal(position, piece, signal)
    this.#init.release(back)
    return block !== null ? 'right' : chosen.at(-1)?.[0]?.lengthBytes === this.#init.pieceBytes ? 'wrong' : 'open'
  }

  /** Files that may be right after all, with their present states. */
  async #suspects(): Promise<Map<number, FileState>> {
    const trial = new Map<number, FileState>()
    for (const [key, { found }] of [...this.#init.faults]) {
      if (found !== null || Math.floor(key / FILES_PER_TREE) !== this.#index) continue
      const file = key % FILES_PER_TREE
      const path = this.files.pathOf(file)
      try {
        const now = await this.#init.disk.lookAt(path)
        if (now !== null && now.sizeBytes === this.files.stateOf(file)?.sizeBytes) trial.set(file, now)
        else this.#differs(file, now)
      } catch (error) {
        this.#failed(file, error, path)
      }
    }
    return trial
  }

  #key = (file: number): number => faultKey(this.#index, file)
}

/** What the system says of a file that is not ours to read any more; anything else (too many open files, …) says nothing about it. */
const FAULTS: Record<string, SourceFault> = {
  ENOENT: 'missing',
  ENOTDIR: 'missing',
  ELOOP: 'not-a-file',
  EISDIR: 'not-a-file',
  ENXIO: 'not-a-file',
  EACCES: 'unreadable',
  EPERM: 'unreadable',
  EIO: 'unreadable',
}

const endOf = (use: Use | undefined): number => (use === undefined ? 0 : use.blockOffsetBytes + use.lengthBytes)

const isSameUse = (a: Use, b: Use): boolean => a.blockOffsetBytes === b.blockOffsetBytes && a.fileOffsetBytes === b.fileOffsetBytes

/** Whether no byte is in two of `uses`, which ascend. */
const isApart = (uses: readonly Use[]): boolean => uses.every((use, i) => i === 0 || endOf(uses[i - 1]) <= use.blockOffsetBytes)

/** Whether every byte of `use` is in one of `chosen`, which ascend. */
function covers(chosen: readonly Use[], use: Use): boolean {
  let at = use.blockOffsetBytes
  for (const one of chosen) {
    if (one.blockOffsetBytes > at) break
    at = Math.max(at, endOf(one))
  }
  return at >= endOf(use)
}
