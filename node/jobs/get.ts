/**
 * `get`: fetches what a link names and writes it to disk.
 *
 * Pieces are opened and written as they arrive, in whatever order; blocks stored by an earlier, interrupted run are used first.
 */
import { basename } from 'node:path'
import { FormatError } from '../../protocol/errors.ts'
import { FETCH, FORMAT } from '../../protocol/limits.ts'
import type { ShareReader } from '../../protocol/reader.ts'
import type { GetRequest, GetResult, JobEvent } from '../control/api.ts'
import { Extraction, type ExtractionResult } from '../storage/extract.ts'
import type { ShareRecord } from '../storage/records.ts'
import type { JobEnvironment } from './environment.ts'
import { removeShare } from './gc.ts'
import type { LiveShare } from './live-share.ts'
import { checkSpace, notInShare, type OpenShare, parseReadable, readerOf, refuseBombs, withShare } from './open.ts'

type OnEvent = (event: JobEvent) => void

export async function getJob(env: JobEnvironment, request: GetRequest, onEvent: OnEvent, outer: AbortSignal): Promise<GetResult> {
  const link = await parseReadable(request.link)
  const under = request.path ?? link.path ?? ''
  const known = await env.records.getShare(link.cid.text)
  return await withShare(env, link, request, onEvent, outer, async (open) => {
    const { live, holding, signal } = open
    const before = { blocks: live.fetchedBlocks, bytes: live.fetchedBytes }
    await live.shapeKnown(signal)
    live.wantTree()
    const reader = await readerOf(env, { ...open, link })
    refuseBombs(reader, request.consent)
    const plan = await Extraction.plan({
      entries: reader.entriesUnder(under),
      outputDir: request.outputDir,
      under,
      ...(renameOf(reader, link.name) ?? {}),
      pieceBytes: FORMAT.pieceBytes,
      dataBlocks: reader.dataBlocks,
      force: request.force,
      tag: tagOf(env, link.cid.text),
      signal,
    })
    if (plan.isNothing && under !== '') throw notInShare(under)
    await checkSpace(env, live)
    // Kept from here on, so that an interrupted run goes on where it was.
    const record = recordOf(known, link.cid.text, link.readKey, reader, live, under)
    await env.records.saveShare(record)
    env.host.kept(holding, record)
    const { reused, finished } = await write(env, live, reader, plan, onEvent, signal)
    const result: GetResult = {
      cid: link.cid.text,
      written: finished.written,
      files: finished.files,
      sizeBytes: plan.sizeBytes,
      fetchedBytes: live.fetchedBytes - before.bytes,
      fetchedBlocks: live.fetchedBlocks - before.blocks,
      reusedBlocks: reused,
      damaged: finished.damaged,
      keptBytes: 0,
    }
    return { ...result, keptBytes: await settle(env, open, record, known, request.keep) }
  })
}

/** What stays of the sealed blocks: everything with a daemon, nothing after a one-shot run that was not told to keep it. */
async function settle(
  env: JobEnvironment,
  open: OpenShare,
  record: ShareRecord,
  known: ShareRecord | null,
  keep: boolean,
): Promise<number> {
  const { live, holding } = open
  if (env.isOneShot && !keep && known?.state !== 'complete') {
    await removeShare(env, record.cid)
    return 0
  }
  if (live.isComplete && record.state !== 'complete') {
    const complete: ShareRecord = { ...record, state: 'complete' }
    await env.records.saveShare(complete)
    env.host.kept(holding, complete)
  }
  // The last block of each level may be shorter than the others.
  return Math.min(live.heldBlocks * FORMAT.blockBytes, live.dag?.shape.totalBytes ?? 0)
}

/** Fills the extraction and puts the files in place; when either fails nothing half-done stays. */
async function write(
  env: JobEnvironment,
  live: LiveShare,
  reader: ShareReader,
  plan: Extraction,
  onEvent: OnEvent,
  signal: AbortSignal,
): Promise<{ reused: number; finished: ExtractionResult }> {
  try {
    await live.treeKnown(signal)
    const reused = await fill(env, live, reader, plan, onEvent, signal)
    return { reused, finished: await plan.finish(signal) }
  } catch (error) {
    await plan.abandon()
    throw error
  }
}

/** Feeds the extraction from the store and from the wire until nothing is missing; resolves to how many pieces were here before. */
async function fill(
  env: JobEnvironment,
  live: LiveShare,
  reader: ShareReader,
  plan: Extraction,
  onEvent: OnEvent,
  signal: AbortSignal,
): Promise<number> {
  const totalBytes = plan.missing * FORMAT.blockBytes
  let done = 0
  let reused = 0
  const accept = async (position: number, sealed: Uint8Array): Promise<Uint8Array> => {
    if (!plan.needs(position)) return sealed
    let block = sealed
    try {
      const key = await reader.keyOf(position)
      const opened = await env.pool.openTaken('data', key, block)
      block = opened.block
      await plan.accept(position, opened.piece, signal)
      env.pool.buffers.give(opened.piece)
    } catch (error) {
      if (!(error instanceof FormatError)) throw error
      plan.damage(position, error) // the publisher's fault: the other files are still good
    }
    done++
    onEvent({ type: 'progress', phase: 'fetch', doneBytes: done * FORMAT.blockBytes, totalBytes, peers: live.links.length })
    return block
  }
  const failed = Promise.withResolvers<never>()
  failed.promise.catch(() => {}) // looked at by the races below; may fail after the last of them
  const complete = Promise.withResolvers<void>()
  const stop = live.onLeaf(async (position, block) => {
    try {
      return await accept(position, block)
    } catch (error) {
      failed.reject(error)
      return block
    } finally {
      if (plan.isFilled) complete.resolve()
    }
  })
  const onAbort = (): void => failed.reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    signal.throwIfAborted() // from here on the listener hears of it
    if (reader.inline !== null && plan.needs(reader.dataBlocks)) await plan.accept(reader.dataBlocks, reader.inline, signal)
    const missing: [number, number][] = []
    const here: number[] = []
    for (const [first, count] of [...plan.neededRanges()]) {
      for (let position = first; position < first + count; position++) {
        if (live.has(0, position)) here.push(position)
        else if (missing.at(-1)?.[0] === position - (missing.at(-1)?.[1] ?? 0)) missing.at(-1)![1]++
        else missing.push([position, 1])
      }
    }
    for (const [first, count] of missing) live.wantLeaves(first, count, 2)
    const fromStore = async (): Promise<void> => {
      for (let position = here.pop(); position !== undefined; position = here.pop()) {
        signal.throwIfAborted()
        env.pool.buffers.give(await accept(position, await live.block(position, 1, signal)))
        reused++
      }
    }
    here.reverse()
    await Promise.race([failed.promise, Promise.all(Array.from({ length: FETCH.readsAtOnceMax }, fromStore))])
    if (!plan.isFilled) await Promise.race([failed.promise, complete.promise])
    return reused
  } finally {
    signal.removeEventListener('abort', onAbort)
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
    inPlace: known?.inPlace ?? false,
    addedMs: known?.addedMs ?? Date.now(),
    announcedMs: known?.announcedMs ?? null,
  }
}

/** Names the temporary folder: the same for every run of this node on this share, so that leftovers are found again. */
const tagOf = (env: JobEnvironment, cid: string): string => `${cid.slice(-10)}${env.peerId.slice(-6)}`
