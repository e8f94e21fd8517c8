/**
 * Letting go: `unseed`, and what a one-shot download leaves behind.
 *
 * A block goes only when no other kept share names it: the trees of all others are read first, and when one of them cannot be read nothing
 * is deleted at all. The record goes before the blocks, so a crash in between leaves blocks without a share, never a share without blocks.
 */
import { parseCid, type ShareCid } from '../../protocol/cid.ts'
import { leafBytes, nodeCount, ShareDag } from '../../protocol/dag.ts'
import { EXIT } from '../../protocol/errors.ts'
import { JobError, type UnseedResult } from '../control/api.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import { DigestSet } from '../storage/digest-set.ts'
import type { JobEnvironment } from './environment.ts'

export async function unseedJob(env: JobEnvironment, cid: string, signal: AbortSignal): Promise<UnseedResult> {
  const record = await env.records.getShare(parseCid(cid).text)
  if (record === null) throw new JobError('NOT_KEPT', 'this node does not keep that share (see `shoal ls`)', { exitCode: EXIT.badInput })
  signal.throwIfAborted()
  return { cid: record.cid, freedBytes: await removeShare(env, record.cid), removed: true }
}

/** Removes a share's record, its announcements, and the blocks that no other share needs. Resolves to the bytes freed. */
export async function removeShare(env: JobEnvironment, cid: string): Promise<number> {
  const own: Named[] = []
  await eachDigest(env, parseCid(cid), (digest, bytes) => own.push({ digest: digest.slice(), bytes }), false)
  const live = await liveDigests(env, cid)
  await env.records.removeShare(cid)
  await env.host.removed(cid)
  return await deleteUnless(env, own, live)
}

/** Drops blocks that a read-only job brought in, as far as no kept share names them. */
export async function dropBlocks(env: JobEnvironment, digests: Uint8Array[]): Promise<void> {
  if (digests.length === 0) return
  await deleteUnless(
    env,
    digests.map((digest) => ({ digest, bytes: 0 })),
    await liveDigests(env, null),
  )
}

interface Named {
  digest: Uint8Array
  bytes: number
}

async function deleteUnless(env: JobEnvironment, own: Named[], live: DigestSet): Promise<number> {
  let freed = 0
  for (const { digest, bytes } of own) {
    if (live.has(digest) || !env.blocks.has(digest)) continue
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

/** Visits the digests of a share's root, nodes and leaves, as far as its nodes are stored; all of them must be when `strict`. */
async function eachDigest(
  env: JobEnvironment,
  cid: ShareCid,
  visit: (digest: Uint8Array, bytes: number) => void,
  strict: boolean,
): Promise<void> {
  const root = await env.blocks.get(cid.digest, NEVER)
  visit(cid.digest, root?.byteLength ?? 0)
  if (root === null) {
    if (strict)
      throw new JobError('UNREADABLE', `the tree of the share ${cid.text} cannot be read, so nothing was deleted`, { exitCode: EXIT.bug })
    return
  }
  const dag = await ShareDag.open(nodePrimitives, cid, root)
  for (let level = dag.shape.depth - 1; level >= 1; level--) {
    for (let index = 0; index < nodeCount(dag.shape, level); index++) {
      const digest = dag.digestOf(level, index)
      if (digest === null) continue
      const bytes = env.blocks.has(digest) ? await env.blocks.get(digest, NEVER) : null
      visit(digest, bytes?.byteLength ?? 0)
      if (bytes !== null) await dag.acceptNode(level, index, bytes)
      else if (strict)
        throw new JobError('UNREADABLE', `the tree of the share ${cid.text} cannot be read, so nothing was deleted`, { exitCode: EXIT.bug })
    }
  }
  for (let index = 0; index < dag.shape.blockCount; index++) {
    const digest = dag.digestOf(0, index)
    if (digest !== null && dag.shape.depth > 0) visit(digest, leafBytes(dag.shape, index))
  }
}

/** Deleting is not interrupted half-way: it is short, and safe to repeat. */
const NEVER = new AbortController().signal
