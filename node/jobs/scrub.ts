/**
 * The slow look at everything: every stored block is read and hashed once in thirty days, one at a time, while nothing else is to do.
 *
 * What is damaged is set aside by the store and fetched again (damage.ts). Where a pass stands outlives the node; a node that was off for a
 * while hurries a little, up to a bound. At the start of each pass, and of the node, the names in the trees are held against the store.
 */
import { parseCid } from '../../protocol/cid.ts'
import { KEEPING } from '../../protocol/limits.ts'
import type { ScrubStatus } from '../control/api.ts'
import { digestsIn } from '../storage/digest-set.ts'
import { FileError } from '../storage/file-error.ts'
import type { JobEnvironment } from './environment.ts'
import { Slices } from './slices.ts'
import { isWhole, walkTree } from './tree-walk.ts'

/** Where a pass stands, as it is stored. Times are those of the wall clock. */
interface Progress {
  startedMs: number
  /** The first byte of the digests that are next, and the last one done of them in hex. */
  prefix: number
  after: string
  checkedBlocks: number
  damagedBlocks: number
  last: { endedMs: number; checkedBlocks: number; damagedBlocks: number } | null
}

const SETTING = 'scrub'

/** How long to wait before the next block, so that what is left of a pass takes what is left of its time. */
export function scrubWaitMs(pass: { startedMs: number; nowMs: number; leftBlocks: number }): number {
  // A clock that was set back or far ahead makes it slower or quicker, within these bounds.
  const leftMs = Math.min(KEEPING.scrubPassMs, Math.max(0, pass.startedMs + KEEPING.scrubPassMs - pass.nowMs))
  return Math.min(KEEPING.scrubWaitMaxMs, Math.max(KEEPING.scrubWaitMinMs, leftMs / Math.max(1, pass.leftBlocks)))
}

export class Scrub {
  readonly #env: JobEnvironment
  readonly #isBusy: () => boolean
  readonly #signal: AbortSignal
  #progress: Progress = fresh(null)
  #rest: Uint8Array[] = []
  #savedAt = 0
  #isLoaded = false

  constructor(env: JobEnvironment, isBusy: () => boolean, signal: AbortSignal) {
    this.#env = env
    this.#isBusy = isBusy
    this.#signal = signal
  }

  status(): ScrubStatus {
    const { startedMs, prefix, checkedBlocks, damagedBlocks, last } = this.#progress
    return { startedMs, doneFraction: prefix / 256, checkedBlocks, damagedBlocks, last }
  }

  /** How long to wait before the next step. */
  get waitMs(): number {
    if (this.#isBusy()) return KEEPING.scrubBusyMs
    const leftBlocks = Math.ceil((this.#env.blocks.count * (256 - this.#progress.prefix)) / 256)
    return scrubWaitMs({ startedMs: this.#progress.startedMs, nowMs: Date.now(), leftBlocks })
  }

  /** Takes up the pass that an earlier run of the node began. */
  async load(): Promise<void> {
    const stored = parseProgress(await this.#env.records.getSetting(SETTING))
    if (stored !== null) this.#progress = stored
    this.#isLoaded = true
  }

  /** Checks the next block; true when that was the last of a pass. Does nothing while the node is busy. */
  async step(): Promise<boolean> {
    if (this.#isBusy()) return false
    const digest = this.#next()
    if (digest === null) {
      await this.#endPass()
      return true
    }
    try {
      const bytes = await this.#env.blocks.get(digest, this.#signal)
      if (bytes !== null) this.#env.pool.buffers.give(bytes)
    } catch (error) {
      if (!(error instanceof FileError)) throw error
      if (error.code === 'CORRUPT') this.#progress.damagedBlocks++
      else this.#env.log.warn('a stored block could not be checked', { error })
    }
    this.#progress.checkedBlocks++
    this.#progress.after = Buffer.from(digest).toString('hex')
    if (performance.now() - this.#savedAt >= KEEPING.scrubSavedMs) await this.save()
    return false
  }

  /** Holds the names in the trees of all whole shares against the store, but for leaves that lie in files; resolves to how many miss some. */
  async reconcile(): Promise<number> {
    let marked = 0
    const slices = new Slices(this.#signal)
    for (const record of await this.#env.records.listShares()) {
      if (record.state !== 'complete') continue
      let misses = false
      const look = ({ digest, level }: { digest: Uint8Array; level: number }): void => {
        if (level !== 0 || !record.inPlace) misses ||= !this.#env.blocks.has(digest)
      }
      const walked = await walkTree(this.#env.blocks, parseCid(record.cid), look, slices)
      if (!misses && isWhole(walked)) continue
      await this.#env.damage.mark(record.cid)
      marked++
    }
    return marked
  }

  async save(): Promise<void> {
    if (!this.#isLoaded) return
    this.#savedAt = performance.now()
    await this.#env.records.setSetting(SETTING, JSON.stringify(this.#progress))
  }

  #next(): Uint8Array | null {
    while (this.#rest.length === 0) {
      const { prefix, after } = this.#progress
      if (prefix >= 256) return null
      for (const digest of digestsIn(this.#env.blocks.digestsWith(prefix)))
        if (Buffer.from(digest).toString('hex') > after) this.#rest.push(digest)
      this.#rest.reverse()
      this.#progress.prefix++
      if (this.#rest.length > 0) this.#progress.prefix = prefix
      else this.#progress.after = ''
    }
    const digest = this.#rest.pop() ?? null
    return digest
  }

  async #endPass(): Promise<void> {
    const { checkedBlocks, damagedBlocks } = this.#progress
    this.#progress = fresh({ endedMs: Date.now(), checkedBlocks, damagedBlocks })
    await this.save()
    this.#env.log.info('every stored block was checked', { checkedBlocks, damagedBlocks })
    await this.reconcile()
  }
}

const fresh = (last: Progress['last']): Progress => ({
  startedMs: Date.now(),
  prefix: 0,
  after: '',
  checkedBlocks: 0,
  damagedBlocks: 0,
  last,
})

/** What was stored, or null where that is not what we store. */
function parseProgress(text: string | null): Progress | null {
  if (text === null) return null
  try {
    const value: unknown = JSON.parse(text)
    const isProgress =
      typeof value === 'object' &&
      value !== null &&
      'prefix' in value &&
      Number.isInteger(value.prefix) &&
      Number(value.prefix) >= 0 &&
      'startedMs' in value &&
      Number.isFinite(value.startedMs) &&
      'after' in value &&
      typeof value.after === 'string' &&
      'checkedBlocks' in value &&
      'damagedBlocks' in value
    // The fields that steer were checked just above; the others are only shown.
    return isProgress ? (value as Progress) : null
  } catch {
    return null // not ours: a pass begins anew
  }
}
