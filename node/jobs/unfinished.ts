/**
 * Gets that were cut off, by a kill, an error or their user: what they wrote into their part folders is served as long as nobody goes on with
 * them. They are not gone on with by themselves: their output folder belongs to the command that was interrupted.
 *
 * Nothing of a part folder is believed. Every piece is read, sealed again and held against its name before it is offered to anybody, one
 * get after another. The same `get` takes the folder over, and `unseed` removes it: both have it let go of first.
 */
import { once } from 'node:events'
import { basename, dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseCid } from '../../protocol/cid.ts'
import { FORMAT, NODE } from '../../protocol/limits.ts'
import { parseLink } from '../../protocol/link.ts'
import { ShareReader } from '../../protocol/reader.ts'
import type { GetRequest, GetResult, JobEvent } from '../control/api.ts'
import type { UnfinishedGet } from '../control/api-shares.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import { Extraction } from '../storage/extract.ts'
import { partTag } from '../storage/extract-leftover.ts'
import { FileError } from '../storage/file-error.ts'
import { diskFileSystem } from '../storage/fs.ts'
import type { ShareRecord } from '../storage/records.ts'
import { Turns } from '../storage/turns.ts'
import type { HeldShare, JobEnvironment } from './environment.ts'
import { getJob, tagOf } from './get.ts'
import { PartLeaves } from './part-leaves.ts'

/** One share, while part folders of it are served. */
interface Served {
  stop: AbortController
  ended: Promise<void>
}

export class UnfinishedGets {
  readonly #env: JobEnvironment
  readonly #served = new Map<string, Served>()
  readonly #turns = new Turns(1, NODE.unfinishedGetsMax)
  #isStopped = false

  constructor(env: JobEnvironment) {
    this.#env = env
  }

  /** Begins to serve what gets left, one after another. */
  start(records: readonly ShareRecord[]): void {
    for (const { cid, inPlace, state } of records) if (inPlace && state === 'partial') this.#serve(cid)
  }

  /** Runs a `get`, which takes over what an earlier run left; what it leaves itself, when it is cut off, is served. */
  async get(request: GetRequest, onEvent: (event: JobEvent) => void, signal: AbortSignal): Promise<GetResult> {
    const cid = (await parseLink(nodePrimitives, request.link)).cid.text
    await this.release(cid)
    try {
      return await this.#untilThereIsRoom(request, onEvent, signal)
    } finally {
      const record = this.#env.host.holding(cid)?.record
      // Another get of the same share may be what is served by now.
      if (record?.state === 'complete') await this.release(cid)
      else if (record !== undefined && record !== null && !this.#env.isOneShot) this.start([record])
    }
  }

  /** On a full disk one that was told to wait does so, and goes on with what it has. */
  async #untilThereIsRoom(request: GetRequest, onEvent: (event: JobEvent) => void, signal: AbortSignal): Promise<GetResult> {
    for (let waitMs: number = NODE.fullDiskRetryMs; ; waitMs = Math.min(2 * waitMs, NODE.resumedRetryMs)) {
      try {
        return await getJob(this.#env, request, onEvent, signal)
      } catch (error) {
        if (!request.wait || !(error instanceof FileError && error.code === 'NO_SPACE')) throw error
        if (waitMs === NODE.fullDiskRetryMs)
          onEvent({ type: 'warning', message: `${error.message}; it goes on by itself when there is room` })
      }
      await sleep(waitMs, undefined, { signal }).catch(() => signal.throwIfAborted())
    }
  }

  /** Lets go of the part folders of a share, as before `unseed`. */
  async release(cid: string): Promise<void> {
    const served = this.#served.get(cid)
    served?.stop.abort(new Error('the part folder is taken over'))
    await served?.ended
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    await Promise.all([...this.#served.keys()].map((cid) => this.release(cid)))
  }

  /** Whether a share is open for this alone, as far as it is up to this. */
  has(cid: string): boolean {
    return this.#served.has(cid)
  }

  /** The first of those that wait for the same command again. */
  async list(): Promise<UnfinishedGet[]> {
    const gets: UnfinishedGet[] = []
    for (const cid of this.#served.keys()) {
      const { live } = this.#env.host.holding(cid) ?? {}
      for (const { under, folders } of await this.#env.sources.writing(cid)) {
        if (gets.length >= NODE.unfinishedListedMax) return gets
        const [folder = ''] = folders
        gets.push({
          cid,
          path: under,
          outputDir: dirname(folder),
          haveBlocks: live?.heldBlocks ?? 0,
          blockCount: live?.leaves.count ?? null,
        })
      }
    }
    return gets
  }

  #serve(cid: string): void {
    if (this.#isStopped || this.#served.has(cid) || this.#served.size >= NODE.unfinishedGetsMax) return
    const stop = new AbortController()
    const served: Served = { stop, ended: Promise.resolve() }
    this.#served.set(cid, served)
    served.ended = this.#run(cid, stop.signal)
      .catch((error: unknown) => {
        if (!stop.signal.aborted) this.#env.log.warn('what a get that was cut off left is not served', { cid, error })
      })
      .finally(() => this.#served.delete(cid))
  }

  async #run(cid: string, signal: AbortSignal): Promise<void> {
    const { holding, live, release } = await this.#env.host.hold(parseCid(cid), signal)
    const undo: (() => Promise<void>)[] = []
    try {
      const trees = await this.#env.sources.writing(cid)
      if (trees.length === 0) return
      const found = await this.#turns.run(signal, async () => {
        let pieces = 0
        for (const { under, folders } of trees) {
          pieces += await this.#look({ holding, live }, under, folders[0] ?? '', undo, signal)
        }
        return pieces
      })
      this.#env.log.info('what a get that was cut off left is served; the same command goes on with it', { cid, pieces: found })
      if (!signal.aborted) await once(signal, 'abort')
    } finally {
      for (const step of undo) await step()
      release()
    }
  }

  /** Opens one part folder and looks through it; resolves to how many pieces of it are served. */
  async #look(
    { holding, live }: HeldShare,
    under: string,
    folder: string,
    undo: (() => Promise<void>)[],
    signal: AbortSignal,
  ): Promise<number> {
    const { dag } = live
    const readKey = holding.record?.readKey ?? null
    const tag = partTag(folder)
    if (dag === null || readKey === null || tag === null) return 0
    const reader = await ShareReader.open({
      opener: this.#env.pool.opener,
      primitives: nodePrimitives,
      readKey,
      shape: dag.shape,
      fetchBlock: async (position) => {
        // Nobody waits for peers here.
        if (!live.has(0, position)) throw new FileError('CORRUPT', 'a block of the index of a share is not here')
        return await live.block(position, 0, signal)
      },
    })
    const rename = await this.#renameIn(folder, holding.cid.text, under, tag)
    const plan = await Extraction.plan({
      ...{ entries: reader.entriesUnder(under), outputDir: dirname(folder), under, pieceBytes: FORMAT.pieceBytes },
      ...{ dataBlocks: reader.dataBlocks, force: true, tag, resumes: true, isOnlyRead: true, signal, ...rename },
    })
    if (!plan.hasLeftover) {
      await plan.leave()
      return 0
    }
    await plan.begin()
    const { pool } = this.#env
    const part = new PartLeaves({
      plan,
      reader,
      dag,
      pool,
      signal,
      onWritten: (position) => live.refresh([[position, 1]]),
      onFailure: () => {},
    })
    live.addSource(part)
    undo.push(async () => {
      live.removeSource(part)
      await plan.leave()
    })
    return await part.resume(
      () => false,
      () => {},
    )
  }

  /** The name that a link gave to the only file of a share, as its part folder has it. */
  async #renameIn(folder: string, cid: string, under: string, tag: string): Promise<{ rename?: string }> {
    if (tag === tagOf(this.#env, cid, under)) return {}
    const [name, more] = await diskFileSystem.list(folder)
    const isName = name !== undefined && more === undefined && tagOf(this.#env, cid, under, name) === tag
    if (!isName) throw new FileError('CORRUPT', `${basename(folder)} is of another get`)
    return { rename: name }
  }
}
