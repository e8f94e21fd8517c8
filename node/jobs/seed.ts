/**
 * `seed`: hosts a share without reading it: fetches every block, checks them against the tree, keeps and announces them.
 *
 * Works with a seed link or a share link; the key of a share link is not used and not kept.
 */
import { FORMAT } from '../../protocol/limits.ts'
import { parseLink } from '../../protocol/link.ts'
import { JobError, type JobEvent, type SeedRequest, type SeedResult } from '../control/api.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import type { ShareRecord } from '../storage/records.ts'
import { reconcileLive } from './damage.ts'
import { checkPinned } from './disk-room.ts'
import type { JobEnvironment } from './environment.ts'
import type { LiveShare } from './live-share.ts'
import { checkSpace, withShare } from './open.ts'
import { Slices } from './slices.ts'

export async function seedJob(
  env: JobEnvironment,
  request: SeedRequest,
  onEvent: (event: JobEvent) => void,
  outer: AbortSignal,
): Promise<SeedResult> {
  const link = await parseLink(nodePrimitives, request.link)
  return await withShare(env, link, request, onEvent, outer, async ({ live, holding, signal }) => {
    const before = { blocks: live.fetchedBlocks, bytes: live.fetchedBytes }
    const { shape } = await live.shapeKnown(signal)
    await checkSpace(env, live)
    const known = await env.records.getShare(link.cid.text)
    if (known === null || !env.keeping.isPinned(known.cid)) await checkPinned(env, shape.totalBytes)
    const record: ShareRecord = known ?? {
      cid: link.cid.text,
      role: 'blind',
      readKey: null,
      scope: null,
      label: null,
      files: null,
      sizeBytes: null,
      wireBytes: shape.totalBytes,
      blockCount: shape.blockCount,
      state: 'partial',
      inPlace: false,
      addedMs: Date.now(),
      announcedMs: null,
    }
    const { keepForMs } = request
    if (keepForMs !== undefined) {
      if (keepForMs !== null && record.role !== 'blind')
        throw new JobError('BAD_INPUT', 'this share is your own or one you got: it is kept until you `unseed` it, not for a time')
      const keepUntilMs = keepForMs === null ? null : Date.now() + keepForMs
      if (env.keeping.of(record.cid).keepUntilMs !== keepUntilMs) await env.keeping.change(record.cid, { keepUntilMs })
    }
    await env.records.saveShare(record)
    await env.keeping.pin(record.cid)
    env.host.kept(holding, record)
    // What was here and is lost is fetched again, also what gets lost meanwhile.
    do {
      await reconcileLive(env.blocks, live, new Slices(signal))
      await fetchAll(live, onEvent, signal)
      await reconcileLive(env.blocks, live, new Slices(signal))
    } while (!live.isComplete)
    const latest = (await env.records.getShare(record.cid)) ?? record
    if (latest.state !== 'complete') {
      const complete: ShareRecord = { ...latest, state: 'complete', wireBytes: shape.totalBytes, blockCount: shape.blockCount }
      await env.records.saveShare(complete)
      env.host.kept(holding, complete)
    }
    await env.damage.mended(record.cid)
    return {
      cid: link.cid.text,
      wireBytes: shape.totalBytes,
      blockCount: shape.blockCount,
      fetchedBytes: live.fetchedBytes - before.bytes,
      fetchedBlocks: live.fetchedBlocks - before.blocks,
    }
  })
}

/** Fetches every node and leaf that is missing. */
export async function fetchAll(live: LiveShare, onEvent: (event: JobEvent) => void, signal: AbortSignal): Promise<void> {
  const { shape } = await live.shapeKnown(signal)
  await live.treeKnown(signal)
  const filled = Promise.withResolvers<void>()
  const look = (): void => {
    if (live.isComplete) filled.resolve()
  }
  const stopFound = live.onFound(look)
  const stop = live.onLeaf(async (_position, block) => {
    onEvent({
      type: 'progress',
      phase: 'fetch',
      doneBytes: live.heldBlocks * FORMAT.blockBytes,
      totalBytes: shape.totalBytes,
      peers: live.links.length,
    })
    look()
    return block
  })
  const onAbort = (): void => filled.reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    signal.throwIfAborted()
    live.wantTree()
    live.wantLeaves(0, shape.blockCount, 2)
    if (!live.isComplete) await filled.promise
  } finally {
    signal.removeEventListener('abort', onAbort)
    stop()
    stopFound()
  }
}
