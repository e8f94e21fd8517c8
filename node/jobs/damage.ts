/**
 * Blocks that were here and are lost: which kept shares miss them, so that they are fetched again, with no key at all.
 *
 * The store says which block it found damaged, and does not know whose it is: the trees of all shares are read once for as many as come
 * together. A share with lost blocks is partial, says so to peers and in `ls`, and is remembered as damaged until it is whole again.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { parseCid } from '../../protocol/cid.ts'
import { nodeCount, ROOT_LEVEL } from '../../protocol/dag.ts'
import { FORMAT, KEEPING } from '../../protocol/limits.ts'
import type { Log } from '../log.ts'
import type { BlockStore } from '../storage/blocks.ts'
import { DigestSet } from '../storage/digest-set.ts'
import type { Records, ShareRecord } from '../storage/records.ts'
import type { Keeping } from './keeping.ts'
import type { LiveShare } from './live-share.ts'
import { Slices } from './slices.ts'
import type { SwarmHost } from './swarm-host.ts'
import { walkTree } from './tree-walk.ts'

export interface DamageParts {
  blocks: BlockStore
  records: Records
  keeping: Keeping
  host: SwarmHost
  log: Log
}

export class Damage {
  readonly #parts: DamageParts
  readonly #stopped = new AbortController()
  readonly #listeners = new Set<(cid: string) => void>()
  #fresh = new DigestSet()
  #looking: Promise<void> | null = null

  constructor(parts: DamageParts) {
    this.#parts = parts
    parts.blocks.onDamaged((digest) => this.#noticed(digest))
  }

  /** Calls back with each share that misses blocks, also when it was known to. */
  onMarked(listener: (cid: string) => void): void {
    this.#listeners.add(listener)
  }

  /** Resolves when it is known which shares miss what was found damaged until now. */
  async settled(): Promise<void> {
    while (this.#looking !== null) await this.#looking
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new Error('the node is stopping'))
    await this.#looking
  }

  /** Blocks of this share are lost. */
  async mark(cid: string): Promise<void> {
    const { records, keeping, host } = this.#parts
    const record = await records.getShare(cid)
    if (record === null) return
    const holding = host.holding(cid)
    // Of what is only cached nothing is fetched again for its own sake.
    if (keeping.isPinned(cid) && !keeping.of(cid).isDamaged) await keeping.change(cid, { isDamaged: true })
    if (record.state === 'complete') {
      const partial: ShareRecord = { ...record, state: 'partial' }
      await records.saveShare(partial)
      if (holding !== undefined && host.holding(cid) === holding) host.kept(holding, partial)
    }
    if (holding?.live) await reconcileLive(this.#parts.blocks, holding.live, new Slices(this.#stopped.signal))
    for (const listener of this.#listeners) listener(cid)
  }

  /** Every block of the share is here. */
  async mended(cid: string): Promise<void> {
    if (this.#parts.keeping.of(cid).isDamaged) await this.#parts.keeping.change(cid, { isDamaged: false })
  }

  #noticed(digest: Uint8Array): void {
    this.#fresh.add(digest)
    if (this.#stopped.signal.aborted) return
    this.#looking ??= this.#look()
      .catch((error: unknown) => {
        if (!this.#stopped.signal.aborted)
          this.#parts.log.warn('it could not be found out which share a damaged block belongs to', { error })
      })
      .finally(() => {
        this.#looking = null
      })
  }

  async #look(): Promise<void> {
    const { signal } = this.#stopped
    await delay(KEEPING.damageGatherMs, undefined, { signal, ref: false })
    while (this.#fresh.size > 0) {
      const lost = this.#fresh
      this.#fresh = new DigestSet()
      const slices = new Slices(signal)
      for (const { cid } of await this.#parts.records.listShares()) {
        let misses = false
        await walkTree(this.#parts.blocks, parseCid(cid), ({ digest }) => (misses ||= lost.has(digest)), slices)
        if (misses) await this.mark(cid)
      }
    }
  }
}

/**
 * Tells an open share what of it is here by now and what is not. Nodes that it knows are simply written anew: their bytes follow from the
 * names below them.
 */
export async function reconcileLive(blocks: BlockStore, live: LiveShare, slices: Slices): Promise<void> {
  const { dag } = live
  if (dag === null) return
  for (let level = dag.shape.depth; level >= 1; level--) {
    const isRoot = level === dag.shape.depth
    for (let index = 0; index < nodeCount(dag.shape, level); index++) {
      const digest = isRoot ? dag.cid.digest : dag.digestOf(level, index)
      if (digest === null || blocks.has(digest)) continue
      const bytes = dag.nodeBytes(isRoot ? ROOT_LEVEL : level, index)
      if (bytes !== null) await blocks.put(digest, bytes, NEVER)
      await slices.turn()
    }
  }
  for (let first = 0; first < dag.shape.blockCount; first += FORMAT.nodeWidth) {
    live.refresh([[first, FORMAT.nodeWidth]])
    await slices.turn()
  }
}

const NEVER = new AbortController().signal
