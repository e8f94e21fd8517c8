/**
 * Shares that are kept in place, one object for the whole node: where their files lie, what became of these, and their leaves when one is
 * opened.
 *
 * What is wrong with files is remembered while the node runs, also for shares that are not open. Looking through files that seem changed
 * happens one share at a time, in the background.
 */
import { dirname, sep } from 'node:path'
import type { ShareDag } from '../../protocol/dag.ts'
import { FormatError } from '../../protocol/errors.ts'
import { SOURCES, STORAGE } from '../../protocol/limits.ts'
import type { CryptoPool } from '../crypto/pool.ts'
import type { Log } from '../log.ts'
import type { BlockStore } from '../storage/blocks.ts'
import { isWorkedIn } from '../storage/extract-files.ts'
import { isPartFolder, partTag } from '../storage/extract-leftover.ts'
import { FileError } from '../storage/file-error.ts'
import { diskFileSystem } from '../storage/fs.ts'
import type { ShareRecord } from '../storage/records.ts'
import { type Faults, faultKey, type SourceFault } from '../storage/share-source.ts'
import type { SourceStore } from '../storage/source-store.ts'
import { type SourceList, SourceTree } from '../storage/source-tree.ts'
import { Turns } from '../storage/turns.ts'
import { scopeSecret } from './scope.ts'
import { isDamage, rootPlainOf, ShareLeaves } from './share-leaves.ts'
import { storedBlock } from './stored.ts'

export interface SourcesParts {
  store: SourceStore
  blocks: BlockStore
  pool: CryptoPool
  nodeSecret: Uint8Array
  log: Log
}

const isWritten = ({ kind }: SourceTree): boolean => kind === 'written'
const NEVER = new AbortController().signal

export class Sources {
  readonly #parts: SourcesParts
  readonly #faults = new Map<string, Faults>()
  readonly #open = new Map<string, ShareLeaves>()
  readonly #suspects = new Set<string>()
  /** Lists are read and written again: one at a time. */
  readonly #changes = new Turns(1, STORAGE.fileOperationsWaitingMax)
  readonly #stopped = new AbortController()
  #rechecking: Promise<void> | null = null
  #timer: NodeJS.Timeout | undefined

  constructor(parts: SourcesParts) {
    this.#parts = parts
  }

  /** The leaves of a kept share as far as they lie in files; null when none do, or nothing can be read of it. */
  async open(record: ShareRecord, dag: ShareDag, signal: AbortSignal): Promise<ShareLeaves | null> {
    try {
      const { rootPlain, trees } = await this.#parts.store.load(record.cid)
      const written = trees.filter(isWritten)
      return written.length === 0 ? null : await this.#leavesOf(record, dag, { rootPlain, trees: written }, signal)
    } catch (error) {
      if (!isDamage(error)) throw error
      this.#parts.log.error('the files of a share that is kept in place are not known any more: share or get it again', { error })
      return null
    }
  }

  /** Keeps which folder a `get` is writing into, so that it can be found if nobody goes on with it. */
  async begin(cid: string, under: string, partFolder: string): Promise<void> {
    await this.#changes.run(NEVER, async () => {
      const { rootPlain, trees } = await this.#known(cid)
      // Part folders of earlier runs of the same get are gone, or are this one.
      const isSame = (other: string): boolean => dirname(other) === dirname(partFolder) && partTag(other) === partTag(partFolder)
      const others = trees.filter((other) => !(other.kind === 'writing' && isSame(other.folders[0] ?? '')))
      const list = { rootPlain, trees: [SourceTree.writing(under, partFolder), ...others].slice(0, SOURCES.treesMax) }
      await this.#parts.store.save(cid, list)
    })
  }

  /** Keeps where files of a share lie, beside those that are known; all is on disk when it resolves, and the record may be saved. */
  async adopt(record: ShareRecord, dag: ShareDag, tree: SourceTree, signal: AbortSignal, partFolder = ''): Promise<ShareLeaves> {
    return await this.#changes.run(signal, () => this.#adopt(record, dag, tree, signal, partFolder))
  }

  async #adopt(record: ShareRecord, dag: ShareDag, tree: SourceTree, signal: AbortSignal, partFolder: string): Promise<ShareLeaves> {
    const { blocks, store } = this.#parts
    const known = await this.#known(record.cid)
    const others = known.trees.filter((other) => (other.kind === 'written' ? !tree.replaces(other) : other.folders[0] !== partFolder))
    const digest = dag.digestOf(0, dag.shape.blockCount - 1)
    const root = digest === null ? null : await storedBlock(blocks, digest, signal)
    const rootPlain = root === null || record.readKey === null ? known.rootPlain : await rootPlainOf(record.readKey, root)
    // The newest first: it is the one that was looked at last.
    const list = { rootPlain, trees: [tree, ...others].slice(0, SOURCES.treesMax) }
    this.#faults.delete(record.cid)
    const leaves = await this.#leavesOf(record, dag, { rootPlain, trees: list.trees.filter(isWritten) }, signal)
    await store.save(record.cid, list)
    return leaves
  }

  /** The share is not kept in place any more: what a `get` left half-written goes too, what it finished stays. A folder that a `get` works
   *  in stays, and stays known. */
  async forget(cid: string): Promise<void> {
    this.#faults.delete(cid)
    this.#open.delete(cid)
    await this.#changes.run(NEVER, async () => {
      const { rootPlain, trees } = await this.#known(cid)
      const worked: SourceTree[] = []
      for (const tree of trees) {
        const [folder = ''] = tree.folders
        if (isWritten(tree) || !isPartFolder(folder)) continue
        if (isWorkedIn(diskFileSystem, folder)) worked.push(tree)
        else await diskFileSystem.remove(folder, 'tree')
      }
      if (worked.length === 0) await this.#parts.store.remove(cid)
      else await this.#parts.store.save(cid, { rootPlain, trees: worked })
    })
  }

  async #known(cid: string): Promise<SourceList> {
    try {
      return await this.#parts.store.load(cid)
    } catch (error) {
      // What is damaged is replaced; what cannot be read now may be whole.
      if (!(error instanceof FormatError || (error instanceof FileError && error.code === 'CORRUPT'))) throw error
      return { rootPlain: new Uint8Array(0), trees: [] }
    }
  }

  /** The files of a share that are known to be whole, by place; none when that cannot be read. */
  async written(cid: string): Promise<SourceTree[]> {
    return (await this.#known(cid)).trees.filter(isWritten)
  }

  /** Whether an earlier run of a get may have put files of a share into a folder before it could say so: its part folder stood there, or
   *  where they are is known though the share is not complete. */
  async begun(cid: string, under: string, tag: string): Promise<(dir: string) => boolean> {
    const trees = (await this.#known(cid)).trees.filter((tree) => tree.under === under)
    return (dir) =>
      trees.some((tree) =>
        isWritten(tree)
          ? tree.folders.some((folder) => folder === dir || folder.startsWith(dir.endsWith(sep) ? dir : dir + sep))
          : dirname(tree.folders[0] ?? '') === dir && partTag(tree.folders[0] ?? '') === tag,
      )
  }

  /** The part folders of gets that are not done. */
  async writing(cid: string): Promise<SourceTree[]> {
    return (await this.#known(cid)).trees.filter((tree) => !isWritten(tree))
  }

  isFaulty(cid: string, tree: number, file: number): boolean {
    return this.#faults.get(cid)?.has(faultKey(tree, file)) === true
  }

  /** How many files of a share are not as they were. */
  faultsOf(cid: string): number {
    return this.#faults.get(cid)?.size ?? 0
  }

  /** Files that are not as they were, of all shares: the first few, and how many there are. */
  faults(): { count: number; first: { cid: string; path: string; fault: SourceFault }[] } {
    let count = 0
    const first: { cid: string; path: string; fault: SourceFault }[] = []
    for (const [cid, faults] of this.#faults) {
      count += faults.size
      for (const { path, fault } of faults.values()) {
        if (first.length >= SOURCES.faultsListedMax) break
        first.push({ cid, path, fault })
      }
    }
    return { count, first }
  }

  /** Looks through the files of an open share that seem changed, now. */
  async recheck(cid: string): Promise<void> {
    const leaves = this.#open.get(cid)
    if (leaves === undefined) return
    this.#suspects.delete(cid)
    try {
      if (await leaves.source.recheck(this.#stopped.signal)) await this.#saveStates(cid, leaves)
    } catch (error) {
      if (!this.#stopped.signal.aborted) this.#parts.log.warn('files that seem changed could not be looked through', { error })
    }
  }

  /** The share was closed. */
  closed(cid: string): void {
    this.#open.delete(cid)
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new Error('the node is stopping'))
    clearTimeout(this.#timer)
    await this.#rechecking
  }

  async #leavesOf(record: ShareRecord, dag: ShareDag, list: SourceList, signal: AbortSignal): Promise<ShareLeaves> {
    const { cid, readKey } = record
    if (readKey === null) throw new RangeError('a share without its key is not kept in place')
    const faults: Faults = this.#faults.get(cid) ?? new Map()
    this.#faults.set(cid, faults)
    const { blocks, pool, nodeSecret } = this.#parts
    const scope = await scopeSecret(nodeSecret, record.scope)
    const onSuspect = (): void => this.#suspect(cid)
    const leaves = await ShareLeaves.open({ dag, readKey, scope, ...list, faults, blocks, pool, onSuspect, signal })
    this.#open.set(cid, leaves)
    return leaves
  }

  /** Files of a share seem changed: they are looked through soon. */
  #suspect(cid: string): void {
    this.#suspects.add(cid)
    this.#recheckSoon()
  }

  #recheckSoon(): void {
    if (this.#suspects.size === 0 || this.#rechecking !== null || this.#timer !== undefined || this.#stopped.signal.aborted) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#rechecking = this.#recheckAll().finally(() => {
        this.#rechecking = null
        this.#recheckSoon()
      })
    }, SOURCES.recheckAfterMs)
    this.#timer.unref()
  }

  /** Keeps the states that files are known in by now. */
  async #saveStates(cid: string, leaves: ShareLeaves): Promise<void> {
    await this.#changes.run(NEVER, async () => {
      if (this.#open.get(cid) !== leaves) return // let go of, or shared anew meanwhile
      const { trees } = await this.#known(cid)
      const { rootPlain, trees: written } = leaves.list
      await this.#parts.store.save(cid, { rootPlain, trees: [...written, ...trees.filter((tree) => !isWritten(tree))] })
    })
  }

  /** One round: what is suspected again meanwhile, because it is being written to, waits for the next. */
  async #recheckAll(): Promise<void> {
    for (const cid of [...this.#suspects]) {
      if (this.#stopped.signal.aborted) return
      if (this.#suspects.delete(cid)) await this.recheck(cid)
    }
  }
}
