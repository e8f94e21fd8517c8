/**
 * `get`: fetches what a link names and writes it to disk.
 *
 * Pieces are opened and written as they arrive, in whatever order, and are served to others from what is written: no sealed copy is kept,
 * unless the user asks for one or the share is kept sealed already. What an interrupted run wrote, or stored, is used first.
 */
import { createHash } from 'node:crypto'
import { basename } from 'node:path'
import { FormatError } from '../../protocol/errors.ts'
import { FETCH, FIND, FORMAT, WAITS } from '../../protocol/limits.ts'
import type { ShareReader } from '../../protocol/reader.ts'
import type { GetRequest, GetResult, JobEvent } from '../control/api.ts'
import { Extraction, type ExtractionResult } from '../storage/extract.ts'
import type { ShareRecord } from '../storage/records.ts'
import { reconcileLive } from './damage.ts'
import type { JobEnvironment } from './environment.ts'
import { dropCovered, removeShare } from './gc.ts'
import { useLeaves } from './holding.ts'
import { isKeptForGood } from './keeping.ts'
import type { LiveShare } from './live-share.ts'
import { checkSpace, notInShare, type OpenShare, parseReadable, readerOf, refuseBombs, withShare } from './open.ts'
import { PartLeaves } from './part-leaves.ts'
import { fetchAll } from './seed.ts'
import { Slices } from './slices.ts'

type OnEvent = (event: JobEvent) => void

/** What the steps of one run work with. */
interface Run extends OpenShare {
  env: JobEnvironment
  reader: ShareReader
  plan: Extraction
  record: ShareRecord
  /** It was in the cache. */
  wasCached: boolean
  /** This node had nothing of it but the cache and what a `get` that was cut off left. */
  isNew: boolean
  onEvent: OnEvent
}

export async function getJob(env: JobEnvironment, request: GetRequest, onEvent: OnEvent, outer: AbortSignal): Promise<GetResult> {
  const link = await parseReadable(request.link)
  const under = request.path ?? link.path ?? ''
  const stored = await env.records.getShare(link.cid.text)
  // What is only cached is used like what any other share brought in.
  const known = env.keeping.isPinned(link.cid.text) ? stored : null
  const wasCached = stored !== null && known === null
  const isNew = known === null || (await isLeftover(env, known))
  return await withShare(env, link, request, onEvent, outer, async (open) => {
    const { live, holding, signal } = open
    const before = { blocks: live.fetchedBlocks, bytes: live.fetchedBytes }
    await live.shapeKnown(signal)
    live.wantTree()
    const reader = await readerOf(env, { ...open, link })
    refuseBombs(reader, request.consent)
    const rename = renameOf(reader, link.name)
    const inPlace = isInPlace(request, known) && reader.dataBlocks > 0
    const tag = tagOf(env, link.cid.text, under, rename?.rename)
    const hasBegunIn = inPlace && known?.state === 'partial' ? await env.sources.begun(link.cid.text, under, tag) : null
    const plan = await Extraction.plan({
      entries: reader.entriesUnder(under),
      outputDir: request.outputDir,
      under,
      ...(rename ?? {}),
      pieceBytes: FORMAT.pieceBytes,
      dataBlocks: reader.dataBlocks,
      force: request.force,
      tag,
      resumes: inPlace,
      ...(hasBegunIn === null ? {} : { hasBegunIn }),
      signal,
    })
    try {
      if (plan.isNothing && under !== '') throw notInShare(under)
      if (!inPlace) await checkSpace(env, live)
      // Kept from here on, so that an interrupted run goes on where it was.
      const record = { ...recordOf(known, link.cid.text, link.readKey, reader, live, under), inPlace: inPlace || (known?.inPlace ?? false) }
      await env.records.saveShare(record)
      await env.keeping.pin(record.cid)
      env.host.kept(holding, record)
      await live.treeKnown(signal)
      // A seed that was cut off is a standing wish: it is gone on with all the same.
      if (known?.role === 'blind' && known.state === 'partial') await env.keeping.change(record.cid, { isDamaged: true })
      const run: Run = { ...open, env, reader, plan, record, wasCached, isNew, onEvent }
      const done = inPlace ? await writeInPlace(run, request.keep, under) : await writeSealed(run, request)
      return {
        cid: link.cid.text,
        written: done.finished.written,
        files: done.finished.files,
        sizeBytes: plan.sizeBytes,
        fetchedBytes: live.fetchedBytes - before.bytes,
        fetchedBlocks: live.fetchedBlocks - before.blocks,
        reusedBlocks: done.reused,
        damaged: done.finished.damaged,
        keptBytes: done.keptBytes,
        inPlace: done.isServedInPlace,
      }
    } catch (error) {
      // What was written is gone on with by the same command; of what its publisher broke, and of a sealed copy, nothing half-done stays.
      if (inPlace && !(error instanceof FormatError)) await plan.leave()
      else await plan.abandon()
      throw error
    }
  })
}

/** A share of our own, one that is being hosted for others, and one that lies here sealed already stay as they are. */
const isInPlace = (request: GetRequest, known: ShareRecord | null): boolean =>
  request.keepSealed !== true && (known === null || (known.role === 'reader' && (known.inPlace || known.state === 'partial')))

interface Done {
  finished: ExtractionResult
  reused: number
  keptBytes: number
  isServedInPlace: boolean
}

/** Whether a record says no more than that a `get` in place was cut off: shares that miss blocks for other reasons are kept. */
async function isLeftover(env: JobEnvironment, { cid, role, state }: ShareRecord): Promise<boolean> {
  if (role !== 'reader' || state !== 'partial' || env.keeping.of(cid).isDamaged) return false
  return (await env.sources.written(cid)).length === 0 && (await env.sources.writing(cid)).length > 0
}

/** Nothing of it is wanted after a one-shot run that was not told to keep it, of a share that was not kept before. */
const isPassing = ({ env, isNew }: Run, keep: boolean): boolean => env.isOneShot && !keep && isNew

/** Writes into the part folder as blocks come, serves from there meanwhile, and from the files in the end. */
async function writeInPlace(run: Run, keep: boolean, under: string): Promise<Done> {
  const { env, live, holding, plan, reader, record, signal } = run
  const { dag } = live
  if (dag === null) throw new RangeError('the tree is known by now')
  const partFolder = await plan.begin()
  await env.sources.begin(record.cid, under, partFolder)
  const failed = Promise.withResolvers<never>()
  failed.promise.catch(() => {}) // looked at in fill; may fail after its end
  const count = counter(run)
  const part = new PartLeaves({ plan, reader, dag, pool: env.pool, signal, onWritten: count, onFailure: failed.reject })
  live.addSource(part)
  if (live.sink === null) live.sink = part
  try {
    const resumed = plan.hasLeftover
      ? await Promise.race([
          failed.promise,
          part.resume(
            (position) => live.has(0, position),
            (first, blocks) => live.wantLeaves(first, blocks, 2),
          ),
        ])
      : 0
    live.refresh([[0, reader.dataBlocks]])
    const reused = resumed + (await fill(run, count, failed))
    const finished = await plan.finish(signal)
    if (isPassing(run, keep)) {
      // Where nothing was stored for it but its index, that is of no use to anybody.
      if (run.wasCached) await env.cache.demote(run)
      else if (!isKeptForGood(holding.record)) await removeShare(env, record.cid)
      return { finished, reused, keptBytes: 0, isServedInPlace: false }
    }
    // The files are on disk; now where they are, then that the share is here.
    const leaves = await env.sources.adopt(record, dag, await plan.sources(finished.damaged), signal, partFolder)
    const complete: ShareRecord = { ...record, state: 'complete' }
    await env.records.saveShare(complete)
    env.host.kept(holding, complete)
    useLeaves(holding, leaves)
    await dropCovered(env, record.cid, dag, (position) => leaves.has(position) && !part.refused.has(position))
    return { finished, reused, keptBytes: 0, isServedInPlace: true }
  } finally {
    if (live.sink === part) live.sink = null
    live.removeSource(part)
  }
}

/** Writes from blocks that are stored as they come, and stay. */
async function writeSealed(run: Run, request: GetRequest): Promise<Done> {
  const { env, live, holding, plan, record, signal } = run
  const failed = Promise.withResolvers<never>()
  failed.promise.catch(() => {}) // looked at in fill; may fail after its end
  const reused = await fill(run, counter(run), failed)
  const finished = await plan.finish(signal)
  if (isPassing(run, request.keep)) {
    await env.cache.demote(run)
    return { finished, reused, keptBytes: 0, isServedInPlace: false }
  }
  await sealAll(run)
  if ((request.path ?? '') === '' && run.link.path === undefined) await fetchRest(run)
  await reconcileLive(env.blocks, live, new Slices(NEVER))
  const state = isStored(run) ? 'complete' : 'partial'
  if (record.inPlace || record.state !== state) {
    const kept: ShareRecord = { ...record, state, inPlace: false }
    await env.records.saveShare(kept)
    env.host.kept(holding, kept)
  }
  if (state === 'complete') await env.damage.mended(record.cid)
  if (record.inPlace) {
    useLeaves(holding, null)
    await env.sources.forget(record.cid)
  }
  // The last block of each level may be shorter than the others.
  const keptBytes = Math.min(live.heldBlocks * FORMAT.blockBytes, live.dag?.shape.totalBytes ?? 0)
  return { finished, reused, keptBytes, isServedInPlace: false }
}

/** What no file needs is part of a sealed copy of all of a share: it is fetched while somebody who has everything is connected, and gives. */
async function fetchRest({ live, onEvent, signal }: Run): Promise<void> {
  const isOffered = (): boolean => live.links.some(({ remote }) => live.blocksOf(remote.peerId) === null)
  const gone = new AbortController()
  let last = { blocks: live.fetchedBlocks, atMs: performance.now() }
  const look = setInterval(() => {
    const atMs = performance.now()
    if (live.fetchedBlocks !== last.blocks) last = { blocks: live.fetchedBlocks, atMs }
    if (!isOffered() || atMs - last.atMs > WAITS.blockMs) gone.abort(new Error('nobody gives the rest'))
  }, FIND.watchMs)
  const ended = AbortSignal.any([signal, gone.signal])
  try {
    if (isOffered()) await fetchAll(live, onEvent, ended)
  } catch (error) {
    if (!ended.aborted) throw error // the files are written: what is missing is left so
  } finally {
    clearInterval(look)
  }
}

/** Whether every block of a share lies in the store. */
function isStored({ env, live }: Run): boolean {
  const { dag } = live
  for (let index = 0; index < (dag?.shape.blockCount ?? 0); index++) {
    const digest = dag?.digestOf(0, index) ?? null
    if (digest === null || !env.blocks.has(digest)) return false
  }
  return true
}

/** What of a share lies in files gets its sealed copy. */
async function sealAll({ live, env, signal }: Run): Promise<void> {
  for (const [first, count] of [...live.leaves.runs()]) {
    for (let position = first; position < first + count; position++) {
      const digest = live.digestOf(0, position)
      if (digest !== null && !env.blocks.has(digest)) await live.intake.put(digest, await live.block(position, 1, signal))
    }
  }
}

/** Tells of progress, a piece at a time. */
function counter({ plan, live, onEvent }: Run): () => void {
  const totalBytes = plan.missing * FORMAT.blockBytes
  let done = 0
  return () => {
    done++
    onEvent({ type: 'progress', phase: 'fetch', doneBytes: done * FORMAT.blockBytes, totalBytes, peers: live.links.length })
  }
}

/** Feeds the extraction from what is here and from the wire until nothing is missing; resolves to how many pieces were, or turned out to be,
 *  here. */
async function fill(run: Run, count: () => void, failed: PromiseWithResolvers<never>): Promise<number> {
  const { env, live, reader, plan, signal } = run
  let reused = 0
  /** Positions that are here and were not read yet. */
  const here = new Set<number>()
  /** Takes a verified block and gives it back, whatever becomes of it. */
  const accept = async (position: number, sealed: Uint8Array): Promise<Uint8Array> => {
    const digest = live.digestOf(0, position)
    if (digest === null || !plan.needs(position)) return sealed
    let block = sealed
    try {
      const { bytes, opened } = await env.pool.openChecked('data', await reader.keyOf(position), digest, block)
      block = bytes
      if (opened instanceof FormatError) throw opened
      if (opened === null) throw new RangeError('a block that was verified has another name')
      await plan.accept(position, opened, signal)
      env.pool.buffers.give(opened)
    } catch (error) {
      if (!(error instanceof FormatError)) {
        here.clear()
        failed.reject(error)
        return block
      }
      plan.damage(position, error) // the publisher's fault: the other files are still good
    }
    count()
    return block
  }
  const complete = Promise.withResolvers<void>()
  const stop = live.onLeaf(async (position, block) => {
    const back = await accept(position, block)
    if (plan.isFilled) complete.resolve()
    return back
  })
  const ended = new AbortController()
  const reading = AbortSignal.any([signal, ended.signal])
  let readers = 0
  const read = async (): Promise<void> => {
    readers++
    try {
      for (const position of here) {
        here.delete(position)
        reading.throwIfAborted()
        if (!plan.needs(position)) continue
        env.pool.buffers.give(await accept(position, await live.block(position, 1, reading)))
        reused++
      }
      if (plan.isFilled) complete.resolve()
    } catch (error) {
      failed.reject(error)
    } finally {
      readers--
    }
  }
  const readOn = (): void => {
    while (readers < FETCH.readsAtOnceMax && here.size > 0) void read()
  }
  const stopFound = live.onFound((position) => {
    here.add(position)
    readOn()
  })
  const onAbort = (): void => failed.reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    signal.throwIfAborted() // from here on the listener hears of it
    if (reader.inline !== null && plan.needs(reader.dataBlocks)) await plan.accept(reader.dataBlocks, reader.inline, signal)
    const missing: [number, number][] = []
    for (const [first, count] of [...plan.neededRanges()]) {
      for (let position = first; position < first + count; position++) {
        if (live.has(0, position)) here.add(position)
        else if (missing.at(-1)?.[0] === position - (missing.at(-1)?.[1] ?? 0)) missing.at(-1)![1]++
        else missing.push([position, 1])
      }
    }
    for (const [first, count] of missing) live.wantLeaves(first, count, 2)
    readOn()
    if (!plan.isFilled) await Promise.race([failed.promise, complete.promise])
    return reused
  } finally {
    signal.removeEventListener('abort', onAbort)
    ended.abort(new Error('reading ended'))
    stopFound()
    stop()
  }
}

/** A single file may be given a name by its link; L4 on any other share. */
function renameOf(reader: ShareReader, name: string | undefined): { rename: string } | null {
  if (name === undefined) return null
  if (reader.files !== 1) throw new FormatError('L4', 'a link may name a file only where the share is one file')
  return { rename: name }
}

function recordOf(
  known: ShareRecord | null,
  cid: string,
  readKey: ShareRecord['readKey'],
  reader: ShareReader,
  live: LiveShare,
  under: string,
): ShareRecord {
  if (known !== null && known.role !== 'blind') return known
  return {
    cid,
    role: 'reader',
    readKey,
    scope: null,
    label: under === '' ? null : basename(under),
    files: reader.files,
    sizeBytes: reader.sizeBytes,
    wireBytes: live.dag?.shape.totalBytes ?? null,
    blockCount: live.dag?.shape.blockCount ?? null,
    state: known?.state ?? 'partial',
    inPlace: false,
    addedMs: known?.addedMs ?? Date.now(),
    announcedMs: known?.announcedMs ?? null,
  }
}

/** Names the temporary folder: the same for every run of this node on this part of this share, so that leftovers are found again. */
export function tagOf(env: Pick<JobEnvironment, 'peerId'>, cid: string, under: string, rename = ''): string {
  const what = createHash('sha256').update(`${under}\0${rename}`).digest('hex').slice(0, 8)
  return `${cid.slice(-10)}${env.peerId.slice(-6)}${what}`
}

/** What is written down once the files are there is not interrupted. */
const NEVER = new AbortController().signal
