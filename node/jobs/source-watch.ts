/**
 * Looks at the files of all shares in place now and then, whether somebody is asking for them or not, so that their owner hears of a
 * change without a watcher on every file.
 *
 * Stats alone, at a steady pace; only a share of which a file differs is opened and, where the file may be right after all, looked
 * through.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { parseCid } from '../../protocol/cid.ts'
import { SOURCES } from '../../protocol/limits.ts'
import type { Log } from '../log.ts'
import type { Records } from '../storage/records.ts'
import { isSameState, type SourceDisk, sourceDisk } from '../storage/source-disk.ts'
import type { SourceTree } from '../storage/source-tree.ts'
import { forEachBounded } from '../storage/turns.ts'
import type { Sources } from './sources.ts'
import type { SwarmHost } from './swarm-host.ts'

export interface SourceWatchParts {
  records: Records
  sources: Sources
  host: SwarmHost
  log: Log
  /** The disk, where not the real one. */
  disk?: SourceDisk
}

export class SourceWatch {
  readonly #parts: SourceWatchParts
  readonly #stopped = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> = Promise.resolve()

  constructor(parts: SourceWatchParts) {
    this.#parts = parts
  }

  /** The first round comes soon after the start, the others in their time. */
  start(): void {
    this.#startIn(SOURCES.sweepFirstMs)
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new Error('the node is stopping'))
    clearTimeout(this.#timer)
    await this.#running
  }

  #startIn(waitMs: number): void {
    this.#timer = setTimeout(() => {
      const { log } = this.#parts
      this.#running = this.sweep()
        .catch((error: unknown) => {
          if (!this.#stopped.signal.aborted) log.warn('the files of shares in place could not be looked at', { error })
        })
        .finally(() => {
          if (!this.#stopped.signal.aborted) this.#startIn(SOURCES.sweepMs)
        })
    }, waitMs)
    this.#timer.unref()
  }

  /** One round over all shares in place. */
  async sweep(): Promise<void> {
    for (const { cid, inPlace } of await this.#parts.records.listShares()) {
      this.#stopped.signal.throwIfAborted()
      if (!inPlace) continue
      const differing = await this.#differing(cid)
      if (differing.length > 0) await this.#look(cid, differing)
    }
  }

  /** The files that are not as they were, or were not the last time: number of the tree, number of the file. */
  async #differing(cid: string): Promise<[tree: number, file: number][]> {
    const found: [number, number][] = []
    for (const [index, tree] of (await this.#parts.sources.written(cid)).entries()) {
      for (let from = 0; from < tree.files; from += SOURCES.looksAtOnceMax) {
        const files = Array.from({ length: Math.min(SOURCES.looksAtOnceMax, tree.files - from) }, (_, i) => from + i)
        await forEachBounded(files, SOURCES.readsAtOnceMax, async (file) => {
          if (this.#parts.sources.isFaulty(cid, index, file) || !(await this.#isSame(tree, file))) found.push([index, file])
        })
        await delay(SOURCES.lookPauseMs, undefined, { signal: this.#stopped.signal, ref: false })
      }
    }
    return found
  }

  async #isSame(tree: SourceTree, file: number): Promise<boolean> {
    const known = tree.stateOf(file)
    if (known === null) return true
    try {
      const now = await (this.#parts.disk ?? sourceDisk).lookAt(tree.pathOf(file))
      return now !== null && isSameState(now, known)
    } catch {
      return false // what it is, the source says
    }
  }

  async #look(cid: string, differing: [tree: number, file: number][]): Promise<void> {
    const { host, sources } = this.#parts
    const { holding, release } = await host.hold(parseCid(cid), this.#stopped.signal)
    try {
      const { leaves } = holding
      if (leaves === null) return
      for (const [tree, file] of differing) await leaves.source.lookAt(tree, file)
      await sources.recheck(cid)
    } finally {
      release()
    }
  }
}
