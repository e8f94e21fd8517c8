/**
 * The cache on disk: sealed blocks of shares that were read here and that nobody pinned. They stay, and are served, while there is room.
 *
 * A share goes whole, the one that was read here longest ago first: its tree and index are of no use without leaves, its record says with one
 * number when it was read, and one deletion that is written down takes it away. What peers ask for does not count as use: they have no say in
 * what this disk holds. A share that is larger than all the room loses leaves while it is read, and keeps its beginning: whoever reads it in
 * order once more finds that here, where the last blocks read would be gone again before their turn came.
 *
 * A cached share has a record with no key and no pin file. Its keeping is written before its record, so that a crash between the two leaves
 * no share that is kept for good; blocks of a share that has no record yet are for gc.
 */

import { RAW, type ShareCid } from '../../protocol/cid.ts'
import { KEEPING, STORAGE } from '../../protocol/limits.ts'
import { diskRoom } from '../free-space.ts'
import type { ShareRecord } from '../storage/records.ts'
import { Turns } from '../storage/turns.ts'
import type { HeldShare, ShareCache, StoreEnvironment } from './environment.ts'
import { dropCovered, removeShare } from './gc.ts'
import { type Holding, useLeaves } from './holding.ts'
import { isKeptForGood } from './keeping.ts'
import { blindRecord, GC_ASKS } from './restore.ts'
import { Slices } from './slices.ts'
import { isWhole, walkTree } from './tree-walk.ts'

/** What is here of a share. */
interface Weight {
  bytes: number
  isComplete: boolean
}

/** The one of a running node. */
export class DiskCache implements ShareCache {
  readonly #env: StoreEnvironment
  /** One change at a time: each looks at what all of them take. */
  readonly #turns = new Turns(1, STORAGE.sweepsWaitingMax)

  constructor(env: StoreEnvironment) {
    this.#env = env
  }

  use(): { shares: number; bytes: number } {
    const cached = this.#env.keeping.all().filter(({ isCached }) => isCached)
    return { shares: cached.length, bytes: cached.reduce((sum, { cachedBytes }) => sum + cachedBytes, 0) }
  }

  follow(read: HeldShare, dataBlocks: number): { end(): Promise<void> } {
    let sinceBytes = 0
    let looking: Promise<void> | null = null
    const look = async (): Promise<void> => {
      try {
        await this.#turns.run(NEVER, () => this.#keep(read, dataBlocks))
      } catch (error) {
        this.#env.log.warn('what was read could not be kept in the cache', { error }) // the reader has what it wanted all the same
      }
    }
    const stop = read.live.onLeaf(async (_position, block) => {
      sinceBytes += block.byteLength
      if (sinceBytes >= KEEPING.cacheLookBytes && looking === null) {
        sinceBytes = 0
        looking = look().finally(() => {
          looking = null
        })
      }
      return block
    })
    return {
      end: async () => {
        stop()
        await looking
        await look()
      },
    }
  }

  async demote(read: HeldShare): Promise<void> {
    const { holding } = read
    const cid = holding.cid.text
    await this.#turns.run(NEVER, async () => {
      if (isKeptForGood(holding.record)) return
      useLeaves(holding, null)
      await this.#save(holding, await this.#weigh(holding.cid))
      await this.#env.sources.forget(cid)
      await this.#shrink(await this.#room(this.use().bytes), null)
    })
  }

  async settle(): Promise<void> {
    if (this.use().shares === 0) return
    await this.#turns.run(NEVER, async () => await this.#shrink(await this.#room(this.use().bytes), null))
  }

  async makeRoom(bytes: number): Promise<void> {
    if (this.use().shares === 0) return
    await this.#turns.run(NEVER, () => this.#shrink(Math.max(0, this.use().bytes - bytes), null))
  }

  async reconcile(signal: AbortSignal): Promise<void> {
    for (const { cid, isCached, cachedBytes } of this.#env.keeping.all()) {
      if (!isCached) continue
      signal.throwIfAborted()
      await this.#turns.run(signal, async () => {
        const record = await this.#env.records.getShare(cid)
        if (record === null) {
          await this.#env.records.removeShare(cid)
          this.#env.keeping.forget(cid)
          return
        }
        const holding = this.#env.host.holding(cid)
        if (holding === undefined || !this.#env.keeping.of(cid).isCached) return
        const { bytes } = await this.#weigh(holding.cid)
        if (bytes === 0) await this.#evict(cid)
        else if (bytes !== cachedBytes) await this.#env.keeping.change(cid, { cachedBytes: bytes })
      })
    }
    await this.settle()
  }

  async #keep(read: HeldShare, dataBlocks: number): Promise<void> {
    const { holding, live } = read
    const cid = holding.cid.text
    const isPinned = (): boolean => holding.record !== null && this.#env.keeping.isPinned(cid)
    if (live.dag === null || isPinned() || (await this.#asks())) return
    const weight = await this.#weigh(holding.cid)
    const others = (): number => this.use().bytes - this.#env.keeping.of(cid).cachedBytes
    const room = await this.#room(others() + weight.bytes)
    if (room > 0 && weight.bytes > 0) {
      await this.#env.host.exclusively(cid, async () => {
        // Another job on it keeps it in its own way, or comes here in its turn.
        if (holding.holders === 1 && !isPinned()) await this.#save(holding, weight)
      })
    }
    await this.#shrink(room - (weight.bytes - this.#env.keeping.of(cid).cachedBytes), cid)
    if (others() + weight.bytes > room && !isPinned()) await this.#trim(read, dataBlocks, others() + weight.bytes - room)
  }

  async #save(holding: Holding, { bytes, isComplete }: Weight): Promise<void> {
    const { keeping, records, host } = this.#env
    const cid = holding.cid.text
    const usedOrder = 1 + keeping.all().reduce((last, one) => Math.max(last, one.usedOrder), 0)
    await keeping.change(cid, { isCached: true, isDamaged: false, keepUntilMs: null, usedOrder, cachedBytes: bytes })
    const { record } = holding
    const state = isComplete ? 'complete' : 'partial'
    if (record !== null && record.role === 'blind' && record.state === state && record.blockCount !== null) return
    const shape = holding.live?.dag?.shape
    const { addedMs, announcedMs } = record ?? { addedMs: Date.now(), announcedMs: null }
    const size = { wireBytes: shape?.totalBytes ?? null, blockCount: shape?.blockCount ?? null }
    const cached: ShareRecord = { ...blindRecord(cid), ...size, addedMs, announcedMs, state }
    await records.saveShare(cached)
    host.kept(holding, cached)
  }

  /** Bytes that all cached shares together may take, where so many are taken now. */
  async #room(takenBytes: number): Promise<number> {
    const { cachedBytes, freeBytesKept } = this.#env.budgets.current
    const { freeBytes, keptBytes } = await diskRoom(this.#env.home, freeBytesKept)
    return Math.max(0, Math.min(cachedBytes ?? Number.POSITIVE_INFINITY, takenBytes + freeBytes - keptBytes))
  }

  /** Once the records were lost it is not for us to say what is not needed. */
  async #asks(): Promise<boolean> {
    return (await this.#env.records.getSetting(GC_ASKS)) === '1'
  }

  /** Lets go of the shares that were used longest ago, but for `except` and those that are in use, until the rest fits. */
  async #shrink(room: number, except: string | null): Promise<void> {
    const { keeping, budgets } = this.#env
    if (this.use().bytes <= room) return
    const oldest = keeping.all().filter(({ cid, isCached }) => isCached && cid !== except)
    oldest.sort((a, b) => a.usedOrder - b.usedOrder)
    if (oldest.length === 0 || (await this.#asks())) return
    budgets.hit('cached')
    for (const { cid } of oldest) {
      if (this.use().bytes <= room) return
      await this.#evict(cid)
    }
  }

  async #evict(cid: string): Promise<void> {
    const { host, keeping } = this.#env
    await host.exclusively(cid, async () => {
      const isUsed = (host.holding(cid)?.holders ?? 0) > 0
      if (!isUsed && keeping.of(cid).isCached) await removeShare(this.#env, cid)
    })
  }

  /** Drops leaves of a share that is being read: the last ones, but none of its index. Those that a reader comes to soon do not count. */
  async #trim({ holding, live }: HeldShare, dataBlocks: number, bytes: number): Promise<void> {
    const { dag } = live
    if (dag === null) return
    const dropped = new Set<number>()
    const passed: number[] = []
    let left = bytes
    for (const [first, count] of live.leaves.runs()) {
      for (let position = first; position < Math.min(first + count, dataBlocks); position++) {
        if ([...live.windows].some((window) => window.covers(position))) left -= dag.bytesOf(0, position) ?? 0
        else passed.push(position)
      }
    }
    for (let position = passed.pop(); position !== undefined && left > 0; position = passed.pop()) {
      dropped.add(position)
      left -= dag.bytesOf(0, position) ?? 0
    }
    if (dropped.size === 0) return
    await dropCovered(this.#env, holding.cid.text, dag, (position) => dropped.has(position))
    for (const position of dropped) {
      const digest = dag.digestOf(0, position)
      if (digest !== null && !this.#env.blocks.has(digest)) live.lost(position, true)
    }
    if (this.#env.keeping.of(holding.cid.text).isCached) await this.#save(holding, await this.#weigh(holding.cid))
  }

  /** What is stored of a share; blocks that others name as well count, too. */
  async #weigh(cid: ShareCid): Promise<Weight> {
    const { blocks } = this.#env
    if (cid.codec === RAW) {
      const bytes = await blocks.sizeOf(cid.digest)
      return { bytes, isComplete: bytes > 0 }
    }
    let total = 0
    let missing = 0
    const slices = new Slices(NEVER)
    const walked = await walkTree(
      blocks,
      cid,
      ({ digest, level, bytes }) => {
        const isHere = level !== 0 || blocks.has(digest)
        total += isHere ? bytes : 0
        missing += isHere ? 0 : 1
      },
      slices,
    )
    return { bytes: total, isComplete: isWhole(walked) && missing === 0 }
  }
}

/** Room is looked after to the end, whoever asked for it. */
const NEVER = new AbortController().signal
