/**
 * Letting go: `unseed`, `gc`, and what a job leaves behind that nobody keeps.
 *
 * Mark: the trees of all kept shares are read, and of those that are open; when one of them cannot be read nothing is deleted at all.
 * Then what goes is written down (delete-log.ts), then deleted, then the list is removed: a deletion that was cut off is finished at the
 * next start, after another look at what is needed by then. Spared is what a job pins, and whatever anybody was told is here since the
 * look: see BlockStore.watchUse. One deletion at a time.
 */
import { parseCid } from '../../protocol/cid.ts'
import { nodeCount, type ShareDag } from '../../protocol/dag.ts'
import { EXIT } from '../../protocol/errors.ts'
import { STORAGE } from '../../protocol/limits.ts'
import { type GcRequest, type GcResult, JobError, type JobEvent, type UnseedResult } from '../control/api.ts'
import type { Log } from '../log.ts'
import type { Deleted } from '../storage/blocks.ts'
import type { DeleteLog } from '../storage/delete-log.ts'
import { DigestSet, digestsIn } from '../storage/digest-set.ts'
import { FileError } from '../storage/file-error.ts'
import type { StoreEnvironment } from './environment.ts'
import { GC_ASKS } from './restore.ts'
import { Slices } from './slices.ts'
import { isWhole, walkTree } from './tree-walk.ts'

export async function unseedJob(env: StoreEnvironment, cid: string, signal: AbortSignal): Promise<UnseedResult> {
  const record = await env.records.getShare(parseCid(cid).text)
  if (record === null) throw new JobError('NOT_KEPT', 'this node does not keep that share (see `shoal ls`)', { exitCode: EXIT.badInput })
  signal.throwIfAborted()
  const { deleted, heldBackBy } = await env.host.exclusively(record.cid, async () => {
    if ((env.host.holding(record.cid)?.holders ?? 0) > 0) {
      throw new JobError('BUSY', 'a job is working on this share: stop it first, or wait for it', { exitCode: EXIT.badInput })
    }
    return await removeShare(env, record.cid)
  })
  return { cid: record.cid, freedBytes: deleted.bytes, removed: true, heldBackBy }
}

/** What became of the blocks of a share that is kept no more. */
export interface Removed {
  deleted: Deleted
  /** Another share that cannot be read and may need them: they stay until it can, or is let go of too. */
  heldBackBy: string | null
}

/** Removes a share's record, its announcements, and the blocks that no other share needs. */
export async function removeShare(env: StoreEnvironment, cid: string): Promise<Removed> {
  return await env.pins.sweep(async () => {
    const own = new DigestSet()
    await walkTree(env.blocks, parseCid(cid), ({ digest }) => own.add(digest), new Slices(NEVER))
    // Nobody is told any more that these blocks are here, so whoever counts on them from now on is somebody else.
    const kept = env.host.holding(cid)?.record ?? null
    await env.host.removed(cid)
    const watch = env.blocks.watchUse()
    try {
      const live = await liveDigests(env, cid)
      if (typeof live === 'string') {
        await forget(env, cid)
        return { deleted: { blocks: 0, bytes: 0 }, heldBackBy: live }
      }
      const victims = namesOf(own, (digest) => !live.has(digest) && !env.pins.has(digest))
      const deleted = await deleteLogged(env, victims, NEVER, {
        isSpared: (digest) => watch.has(digest) || env.pins.has(digest),
        afterLog: () => forget(env, cid),
      })
      return { deleted, heldBackBy: null }
    } catch (error) {
      if (kept !== null && (await env.records.getShare(cid)) !== null) await env.host.added(kept)
      throw error
    } finally {
      watch.end()
    }
  })
}

async function forget(env: StoreEnvironment, cid: string): Promise<void> {
  await env.records.removeShare(cid)
  await env.sources.forget(cid)
  env.keeping.forget(cid)
}

/** Drops blocks that a job brought in for a share that is not kept, as far as no kept share names them. */
export async function dropBlocks(env: StoreEnvironment, digests: DigestSet): Promise<void> {
  if (digests.size === 0) return
  await env.pins.sweep(async () => {
    const watch = env.blocks.watchUse()
    try {
      const live = await liveDigests(env, null)
      if (typeof live === 'string') throw unreadable(live)
      const victims = namesOf(digests, (digest) => !live.has(digest) && !env.pins.has(digest))
      await deleteLogged(env, victims, NEVER, { isSpared: (digest) => watch.has(digest) || env.pins.has(digest) })
    } finally {
      watch.end()
    }
  })
}

/** Finds the blocks that no share and no job needs, as leftovers of what was aborted, and deletes them. */
export async function gcJob(
  env: StoreEnvironment,
  request: GcRequest,
  onEvent: (event: JobEvent) => void,
  signal: AbortSignal,
): Promise<GcResult> {
  const mustAsk = (await env.records.getSetting(GC_ASKS)) === '1'
  if (mustAsk && !request.dryRun && !request.consent) {
    const says = 'the records were lost once, so blocks that no share seems to need may be all that is left of one: look with --dry-run'
    throw new JobError('GC_ASKS', `${says}, delete them with --yes`, { exitCode: EXIT.needsConsent })
  }
  const result = await collect(env, request, onEvent, signal)
  if (mustAsk && !request.dryRun) await env.records.setSetting(GC_ASKS, '0')
  return result
}

async function collect(
  env: StoreEnvironment,
  request: GcRequest,
  onEvent: (event: JobEvent) => void,
  signal: AbortSignal,
): Promise<GcResult> {
  return await env.pins.sweep(async () => {
    const watch = env.blocks.watchUse()
    try {
      const storedBlocks = env.blocks.count
      onEvent({ type: 'progress', phase: 'mark', doneBytes: 0, totalBytes: null })
      const live = await liveDigests(env, null, signal)
      if (typeof live === 'string') throw unreadable(live)
      const isSpared = (digest: Uint8Array): boolean => watch.has(digest) || env.pins.has(digest)
      const found: Deleted = { blocks: 0, bytes: 0 }
      const slices = new Slices(signal)
      for (let first = 0; first < 256; first++) {
        const victims = joined(env.blocks.digestsWith(first), (digest) => !live.has(digest) && !isSpared(digest))
        const part = request.dryRun ? await weigh(env, victims, slices) : await deleteLogged(env, victims, signal, { isSpared })
        found.blocks += part.blocks
        found.bytes += part.bytes
        onEvent({ type: 'progress', phase: 'sweep', doneBytes: found.bytes, totalBytes: null })
        await slices.turn()
      }
      return { ...found, storedBlocks, isDryRun: request.dryRun }
    } finally {
      watch.end()
    }
  })
}

/** Drops those leaves of a kept share that `isCovered` says can be made from files, as far as no other kept share names them. */
export async function dropCovered(
  env: StoreEnvironment,
  cid: string,
  dag: ShareDag,
  isCovered: (position: number) => boolean,
): Promise<void> {
  const own = new DigestSet()
  for (let index = 0; index < dag.shape.blockCount; index++) {
    const digest = isCovered(index) ? dag.digestOf(0, index) : null
    if (digest !== null && env.blocks.has(digest)) own.add(digest)
  }
  if (own.size === 0) return
  await env.pins.sweep(async () => {
    const watch = env.blocks.watchUse()
    try {
      const live = await liveDigests(env, cid)
      // Where another share cannot be read, what is stored twice stays so.
      if (typeof live === 'string') return
      const isSpared = (digest: Uint8Array): boolean => watch.has(digest) || env.pins.has(digest)
      await deleteLogged(
        env,
        namesOf(own, (digest) => !live.has(digest) && !env.pins.has(digest)),
        NEVER,
        { isSpared },
      )
    } finally {
      watch.end()
    }
  })
}

/** Finishes a deletion that was cut off by the end of the node, as far as nobody needs its blocks by now. */
export async function finishDeletion(env: StoreEnvironment, signal: AbortSignal): Promise<void> {
  await env.pins.sweep(async () => {
    const watch = env.blocks.watchUse()
    try {
      const left = await env.deleteLog.read()
      // Once the records were lost it is not for us to say what is not needed.
      if (left === null || (await env.records.getSetting(GC_ASKS)) === '1') return
      const live = await liveDigests(env, null, signal)
      if (typeof live === 'string') {
        env.log.warn('a deletion that was cut off waits until this share can be read', { cid: live })
        return
      }
      const isSpared = (digest: Uint8Array): boolean => live.has(digest) || watch.has(digest) || env.pins.has(digest)
      const deleted = await env.blocks.deleteAll(digestsIn(left), isSpared, signal)
      await env.deleteLog.clear()
      env.log.info('a deletion that was cut off is finished', { ...deleted })
    } finally {
      watch.end()
    }
  })
}

/** Writes down, deletes, strikes out. A `signal` that aborts leaves the list for the next start. */
async function deleteLogged(
  env: StoreEnvironment,
  victims: Uint8Array,
  signal: AbortSignal,
  how: { isSpared: (digest: Uint8Array) => boolean; afterLog?: () => Promise<void> },
): Promise<Deleted> {
  const sum: Deleted = { blocks: 0, bytes: 0 }
  const step = 32 * STORAGE.deletionsMax
  for (let at = 0; at < Math.max(1, victims.length); at += step) {
    const part = victims.subarray(at, at + step)
    if (part.length > 0) await writeDown(env, part)
    if (at === 0) await how.afterLog?.()
    if (part.length === 0) continue
    const { blocks, bytes } = await env.blocks.deleteAll(digestsIn(part), how.isSpared, signal)
    sum.blocks += blocks
    sum.bytes += bytes
    await env.deleteLog.clear()
  }
  return sum
}

/** Puts the list on disk. A full disk must not stand in the way of making room: then a deletion that is cut off leaves blocks that `gc` finds. */
async function writeDown({ deleteLog, log }: { deleteLog: DeleteLog; log: Log }, victims: Uint8Array): Promise<void> {
  try {
    await deleteLog.write(victims)
  } catch (error) {
    if (!(error instanceof FileError && error.code === 'NO_SPACE')) throw error
    log.warn('the disk is too full to write down what is deleted', { error })
  }
}

/** Every block that a kept share or an open one names, but for the share `except`; or the share that cannot be read. */
async function liveDigests(env: StoreEnvironment, except: string | null, signal: AbortSignal = NEVER): Promise<DigestSet | string> {
  await env.damage.settled() // what a share misses is strictly looked at, and what was just found may be of any
  const live = new DigestSet()
  const slices = new Slices(signal)
  for (const { cid, state } of await env.records.listShares()) {
    if (cid === except) continue
    const walked = await walkTree(env.blocks, parseCid(cid), ({ digest }) => live.add(digest), slices)
    // Of a share that is still being fetched some nodes never were here, and what they name was not either. Of one that is only cached
    // nothing is lost that cannot be had again.
    const isExpected = env.keeping.isPinned(cid) && (state === 'complete' || env.keeping.of(cid).isDamaged || walked.damaged.length > 0)
    if (isExpected && !isWhole(walked)) return cid
  }
  for (const holding of env.host.holdings()) {
    if (holding.cid.text === except) continue
    live.add(holding.cid.digest)
    if (holding.live?.dag) await addKnown(holding.live.dag, live, slices)
  }
  return live
}

/** Adds every name that an open share knows. */
async function addKnown(dag: ShareDag, live: DigestSet, slices: Slices): Promise<void> {
  for (let level = 0; level < dag.shape.depth; level++) {
    for (let index = 0; index < nodeCount(dag.shape, level); index++) {
      const digest = dag.digestOf(level, index)
      if (digest !== null) live.add(digest)
      if (slices.isOver) await slices.turn()
    }
  }
}

async function weigh(env: StoreEnvironment, victims: Uint8Array, slices: Slices): Promise<Deleted> {
  let bytes = 0
  for (const digest of digestsIn(victims)) {
    bytes += await env.blocks.sizeOf(digest)
    await slices.turn()
  }
  return { blocks: victims.length / 32, bytes }
}

function joined(all: Uint8Array, isIn: (digest: Uint8Array) => boolean): Uint8Array {
  let length = 0
  const chosen = new Uint8Array(all.length)
  for (const digest of digestsIn(all)) {
    if (!isIn(digest)) continue
    chosen.set(digest, length)
    length += 32
  }
  return chosen.subarray(0, length)
}

function namesOf(set: DigestSet, isIn: (digest: Uint8Array) => boolean): Uint8Array {
  const all = new Uint8Array(32 * set.size)
  let at = 0
  for (const digest of set) {
    all.set(digest, at)
    at += 32
  }
  return joined(all, isIn)
}

const unreadable = (cid: string): JobError =>
  new JobError(
    'UNREADABLE',
    `the tree of the share ${cid} cannot be read, so nothing was deleted: mend it with \`shoal verify --repair ${cid}\`, or let go of it with \`shoal unseed ${cid}\``,
    { exitCode: EXIT.damagedShare },
  )

/** Deleting is not interrupted half-way: it is short, and safe to repeat. */
const NEVER = new AbortController().signal
