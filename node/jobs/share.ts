/**
 * `share`: walks the named paths, seals them in one pass, and answers with a link once every block and the record are synced.
 *
 * Sharing the same path again gives the same link and finds most blocks stored already; nothing is announced before the record is saved.
 */
import { randomBytes } from 'node:crypto'
import { pipe } from 'it-pipe'
import { InputError } from '../../protocol/errors.ts'
import { lineageScope, nodeScope, publicScope, randomScope } from '../../protocol/keys.ts'
import { ShareWriter, type WrittenShare } from '../../protocol/layout.ts'
import { FORMAT, SHARING } from '../../protocol/limits.ts'
import { formatLink } from '../../protocol/link.ts'
import type { Secret } from '../../protocol/secret.ts'
import type { JobEvent, ShareRequest, ShareResult } from '../control/api.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import type { ShareRecord } from '../storage/records.ts'
import { readSource } from '../storage/source.ts'
import { type SourceFile, type SourceTree, walkSources } from '../storage/walk.ts'
import type { JobEnvironment } from './environment.ts'

type OnEvent = (event: JobEvent) => void

interface Tally {
  newBlocks: number
  reusedBlocks: number
  doneBytes: number
}

export async function shareJob(env: JobEnvironment, request: ShareRequest, onEvent: OnEvent, signal: AbortSignal): Promise<ShareResult> {
  const pins = env.pins.open()
  try {
    return await writeShare(env, request, onEvent, (digest) => pins.add(digest), signal)
  } finally {
    pins.release()
  }
}

async function writeShare(
  env: JobEnvironment,
  request: ShareRequest,
  onEvent: OnEvent,
  pin: (digest: Uint8Array) => void,
  signal: AbortSignal,
): Promise<ShareResult> {
  onEvent({ type: 'progress', phase: 'scan', doneBytes: 0, totalBytes: null })
  const tree = await walkSources(request.paths, signal)
  for (const message of tree.warnings) onEvent({ type: 'warning', message })
  const entries = request.scope === 'public' ? [publicEntry(tree)] : tree.entries
  const { secret, scope } = await scopeOf(env, request, tree)
  const tally: Tally = { newBlocks: 0, reusedBlocks: 0, doneBytes: 0 }
  const written = await env.pool.withSealer(secret, async (sealer) => {
    const writer = new ShareWriter({
      primitives: nodePrimitives,
      sealer,
      put: async (digest, bytes) => {
        pin(digest)
        if (await env.blocks.put(digest, bytes, signal)) tally.newBlocks++
        else tally.reusedBlocks++
        env.pool.buffers.give(bytes)
      },
      concurrency: SHARING.sealsAtOnceMax,
    })
    for (const entry of entries) {
      signal.throwIfAborted()
      if (isFile(entry))
        await writer.addFile(
          entry,
          pipe(readSource(entry, FORMAT.pieceBytes, signal, env.pool.buffers.take), counted(tally, tree.sizeBytes, onEvent)),
        )
      else await writer.addEmptyDirectory(entry.dir)
    }
    onEvent({ type: 'progress', phase: 'sync', doneBytes: tally.doneBytes, totalBytes: tree.sizeBytes })
    return await writer.finish()
  })
  const record = recordOf(written, scope, tree)
  await env.host.exclusively(record.cid, async () => {
    const known = await env.records.getShare(record.cid)
    const kept = { ...record, addedMs: known?.addedMs ?? record.addedMs, announcedMs: known?.announcedMs ?? null }
    await env.records.saveShare(kept)
    await env.host.added(kept)
  })
  return resultOf(written, request, tree, tally)
}

const isFile = (entry: SourceTree['entries'][number]): entry is SourceFile => entry.name !== ''

/** Passes chunks on and counts them for the progress. */
const counted = (tally: Tally, totalBytes: number, onEvent: OnEvent) =>
  async function* (source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of source) {
      tally.doneBytes += chunk.byteLength
      onEvent({ type: 'progress', phase: 'seal', doneBytes: tally.doneBytes, totalBytes })
      yield chunk
    }
  }

/** The public scope knows one file, called "file", with no attributes: equal files give equal roots wherever they lie. */
function publicEntry(tree: SourceTree): SourceFile {
  const entry = tree.entries[0]
  if (tree.entries.length !== 1 || entry === undefined || !isFile(entry) || entry.dir !== '') {
    throw new InputError('NOT_PUBLIC', 'a public share is exactly one file')
  }
  if (entry.sizeBytes < FORMAT.blockBytes) {
    throw new InputError('NOT_PUBLIC', `a public share is a file of at least ${FORMAT.blockBytes} bytes, this one has ${entry.sizeBytes}`)
  }
  return { ...entry, name: 'file', executable: false }
}

async function scopeOf(
  env: JobEnvironment,
  request: ShareRequest,
  tree: SourceTree,
): Promise<{ secret: Secret; scope: ShareRecord['scope'] }> {
  switch (request.scope) {
    case 'public':
      return { secret: await publicScope(nodePrimitives), scope: { kind: 'public', id: null, secret: null } }
    case 'node':
      return { secret: await nodeScope(nodePrimitives, env.nodeSecret), scope: { kind: 'node', id: null, secret: null } }
    case 'fresh': {
      const secret = randomScope(new Uint8Array(randomBytes(32)))
      return { secret, scope: { kind: 'random', id: null, secret } }
    }
    case 'lineage': {
      const id = request.name === null ? tree.lineageId : `name:${request.name}`
      return { secret: await lineageScope(nodePrimitives, env.nodeSecret, id), scope: { kind: 'lineage', id, secret: null } }
    }
  }
}

const recordOf = (written: WrittenShare, scope: ShareRecord['scope'], tree: SourceTree): ShareRecord => ({
  cid: written.cid.text,
  role: 'owner',
  readKey: written.readKey,
  scope,
  label: tree.topNames.join(', ').slice(0, SHARING.labelCharactersMax),
  files: written.files,
  sizeBytes: written.sizeBytes,
  wireBytes: written.shape.totalBytes,
  blockCount: written.shape.blockCount,
  state: 'complete',
  addedMs: Date.now(),
  announcedMs: null,
})

async function resultOf(written: WrittenShare, request: ShareRequest, tree: SourceTree, tally: Tally): Promise<ShareResult> {
  const bare = { cid: written.cid, peers: [], vias: [] }
  const name = request.scope === 'public' ? tree.topNames[0] : undefined
  return {
    link: await formatLink(nodePrimitives, { ...bare, readKey: written.readKey, ...(name === undefined ? {} : { name }) }),
    seedLink: await formatLink(nodePrimitives, { ...bare, readKey: null }),
    cid: written.cid.text,
    files: written.files,
    sizeBytes: written.sizeBytes,
    wireBytes: written.shape.totalBytes,
    scope: request.scope === 'fresh' ? 'random' : request.scope,
    newBlocks: tally.newBlocks,
    reusedBlocks: tally.reusedBlocks,
    warnings: tree.warnings,
  }
}
