/**
 * Letting go: `unseed`, and what a one-shot download leaves behind.
 *
 * A block goes only when no other kept share names it: the trees of all others are read first, and when one of them cannot be read nothing
 * is deleted at all. The record goes before the blocks, so a crash in between leaves blocks without a share, never a share without blocks.
 */
import { parseCid, type ShareCid } from '../../protocol/cid.ts'
import { leafBytes, nodeCount, ShareDag } from '../../protocol/dag.ts'
import { EXIT, FormatError } from '../../protocol/errors.ts'
import { JobError, type UnseedResult } from '../control/api.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import { DigestSet } from '../storage/digest-set.ts'
import type { JobEnvironment } from './environment.ts'
import { storedBlock } from './stored.ts'

export async function unseedJob(env: JobEnvironment, cid: string, signal: AbortSignal): Promise<UnseedResult> {
  const record = await env.records.getShare(parseCid(cid).text)
  if (record === null) throw new JobError('NOT_KEPT', 'this node does not keep that share (see `shoal ls`)', { exitCode: EXIT.badInput })
  signal.throwIfAborted()
  const freedBytes = await env.host.exclusively(record.cid, async () => {
    if ((env.host.holding(record.cid)?.holders ?? 0) > 0) {
      throw new JobError('BUSY', 'a job is working on this share: stop it first, or wait for it', { exitCode: EXIT.badInput })
    }
    return await removeShare(env, record.cid)
  })
  return { cid: record.cid, freedBytes, removed: true }
}

/** Removes a share's record, its announcements, and the blocks that no other share needs. Resolves to the bytes freed. */
export async function removeShare(env: JobEnvironment, cid: string): Promise<number> {
  const own: Named[] = []
  await eachDigest(env, parseCid(cid), (digest, bytes) => own.push({ digest: digest.slice(), bytes }), false)
  return await env.pins.sweep(async () => {
    const live = await liveDigests(env, cid)
    await env.records.removeShare(cid)
    await env.host.removed(cid)
    return await deleteUnless(env, own, live)
  })
}

/** Drops blocks that a job brought in for a share that is not kept, as far as no kept share names them. */
export async function dropBlocks(env: JobEnvironment, digests: DigestSet): Promise<void> {
  if (digests.size === 0) return
  const own = Array.from(digests, (digest) => ({ digest, bytes: 0 }))
  await env.pins.sweep(async () => await deleteUnless(env, own, await liveDigests(env, null)))
}

interface Named {
  digest: Uint8Array
  bytes: number
}

async function deleteUnless(env: JobEnvironment, own: Named[], live: DigestSet): Promise<number> {
  let freed = 0
  for (const { digest, bytes } of own) {
    if (live.has(digest) || env.pins.has(digest) || !env.blocks.has(digest)) continue
    await env.blocks.delete(digest, NEVER)
    freed += bytes
  }
  return freed
}

/** Every block that a kept share names, but for the share `except`. */
async function liveDigests(env: JobEnvironment, except: string | null): Promise<DigestSet> {
  const live = new DigestSet()
  for (const record of await env.records.listShares()) {
    if (record.cid === except) continue
    await eachDigest(env, parseCid(record.cid), (digest) => live.add(digest), record.state === 'complete')
  }
  return live
}

/** Visits the digests of a share's root, nodes and leaves, as far as its tree can be read; all of it must be when `strict`. */
async function eachDigest(
  env: JobEnvironment,
  cid: ShareCid,
  visit: (digest: Uint8Array, bytes: number) => void,
  strict: boolean,
): Promise<void> {
  const unreadable = (): void => {
    if (!strict) return
    const says = `the tree of the share ${cid.text} cannot be read, so nothing was deleted; fetch or unseed that share first`
    throw new JobError('UNREADABLE', says, { exitCode: EXIT.bug })
  }
  const root = await storedBlock(env.blocks, cid.digest, NEVER)
  visit(cid.digest, root?.byteLength ?? 0)
  const dag = root === null ? null : await readable(() => ShareDag.open(nodePrimitives, cid, root))
  if (dag === null) return unreadable()
  for (let level = dag.shape.depth - 1; level >= 1; level--) {
    for (let index = 0; index < nodeCount(dag.shape, level); index++) {
      const digest = dag.digestOf(level, index)
      if (digest === null) continue
      const bytes = await storedBlock(env.blocks, digest, NEVER)
      visit(digest, bytes?.byteLength ?? 0)
      if (bytes === null || (await readable(() => dag.acceptNode(level, index, bytes))) === null) unreadable()
    }
  }
  for (let index = 0; index < dag.shape.blockCount; index++) {
    const digest = dag.digestOf(0, index)
    if (digest !== null && dag.shape.depth > 0) visit(digest, leafBytes(dag.shape, index))
  }
}

/** Null where its publisher broke the tree. */
async function readable<T>(read: () => Promise<T>): Promise<T | null> {
  try {
    return await read()
  } catch (error) {
    if (error instanceof FormatError) return null
    throw error
  }
}

/** Deleting is not interrupted half-way: it is short, and safe to repeat. */
const NEVER = new AbortController().signal
