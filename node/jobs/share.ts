/**
 * `share`: walks the named paths, seals them in one pass, and answers with a link once every block and the record are synced.
 *
 * Sharing the same path again gives the same link and finds most blocks stored already; nothing is announced before the record is saved.
 * In place, only the index is stored: the data is named, and sealed when somebody asks.
 */
import { randomBytes } from 'node:crypto'
import { pipe } from 'it-pipe'
import { EXIT, InputError } from '../../protocol/errors.ts'
import { lineageScope, nodeScope, publicScope, randomScope } from '../../protocol/keys.ts'
import { ShareWriter, type WrittenShare } from '../../protocol/layout.ts'
import { FORMAT, SHARING } from '../../protocol/limits.ts'
import { formatLink } from '../../protocol/link.ts'
import type { Secret } from '../../protocol/secret.ts'
import { JobError, type JobEvent, type ShareRequest, type ShareResult } from '../control/api.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import type { ShareRecord } from '../storage/records.ts'
import { readSource } from '../storage/source.ts'
import { SourcesAhead } from '../storage/source-ahead.ts'
import type { FileState } from '../storage/source-disk.ts'
import { SourceTree } from '../storage/source-tree.ts'
import { type SourceFile, type WalkedTree, walkSources } from '../storage/walk.ts'
import { GrowingShare } from './disk-room.ts'
import { type Earlier, settleEarlier } from './earlier.ts'
import type { JobEnvironment } from './environment.ts'
import { dropCovered } from './gc.ts'
import { type Holding, useLeaves } from './holding.ts'
import { linkHints, worksFromAfar } from './link-hints.ts'
import type { LiveShare } from './live-share.ts'

type OnEvent = (event: JobEvent) => void

interface Tally {
  newBlocks: number
  reusedBlocks: number
  doneBytes: number
}

export async function shareJob(env: JobEnvironment, request: ShareRequest, onEvent: OnEvent, signal: AbortSignal): Promise<ShareResult> {
  const pins = env.pins.open()
  try {
    return await writeShare(env, request, onEvent, pins, signal)
  } finally {
    pins.release()
  }
}

async function writeShare(
  env: JobEnvironment,
  request: ShareRequest,
  onEvent: OnEvent,
  pins: ReturnType<JobEnvironment['pins']['open']>,
  signal: AbortSignal,
): Promise<ShareResult> {
  const hints = linkHints(request.hints ?? [], env)
  if (hints.length > 0 && !hints.some(worksFromAfar))
    onEvent({
      type: 'warning',
      message: 'the addresses in this link work on the local network only: this node knows of none that work from afar',
    })
  onEvent({ type: 'progress', phase: 'scan', doneBytes: 0, totalBytes: null })
  const tree = await walkSources(request.paths, signal, env.userFiles)
  for (const message of tree.warnings) onEvent({ type: 'warning', message })
  const entries = request.scope === 'public' ? [publicEntry(tree)] : tree.entries
  const { secret, scope } = await scopeOf(env, request, tree)
  const tally: Tally = { newBlocks: 0, reusedBlocks: 0, doneBytes: 0 }
  const inPlace = request.inPlace ?? false
  const files = entries.filter(isFile)
  const stateOf = new Map<SourceFile, FileState>()
  // What was shared before, or is not stored, needs no room of its own.
  const isKnown = (await env.records.listShares()).some((share) => share.scope?.id != null && share.scope.id === scope?.id)
  const room = await GrowingShare.begin(env, inPlace || isKnown || request.scope === 'public' ? 0 : tree.sizeBytes)
  const written = await env.pool.withSealer(secret, async (sealer) => {
    const writer = new ShareWriter({
      primitives: nodePrimitives,
      sealer,
      isMadeOnDemand: inPlace,
      put: async (digest, bytes) => {
        pins.add(digest)
        const isStored = await env.blocks.put(digest, bytes, signal)
        if (isStored) tally.newBlocks++
        else tally.reusedBlocks++
        const sizeBytes = bytes.byteLength
        env.pool.buffers.give(bytes)
        if (isStored) await room.took(sizeBytes)
      },
      concurrency: SHARING.sealsAtOnceMax,
    })
    const ahead = new SourcesAhead(files, (file) => {
      const onState = (state: FileState): void => void (inPlace && stateOf.set(file, state))
      return readSource(file, FORMAT.pieceBytes, signal, env.pool.buffers.take, onState, env.userFiles)
    })
    try {
      for (const entry of entries) {
        signal.throwIfAborted()
        if (isFile(entry)) await writer.addFile(entry, pipe(ahead.next(), counted(tally, tree.sizeBytes, onEvent)))
        else await writer.addEmptyDirectory(entry.dir)
      }
      onEvent({ type: 'progress', phase: 'sync', doneBytes: tally.doneBytes, totalBytes: tree.sizeBytes })
      return await writer.finish()
    } catch (error) {
      await writer.abandon() // whoever hears of the failure finds nothing half written
      throw error
    } finally {
      await ahead.close()
    }
  })
  if (inPlace) tally.newBlocks += written.counts.data + written.counts.pads
  // A share without data blocks lies whole in its root.
  const record = { ...recordOf(written, scope, tree), inPlace: inPlace && written.counts.data > 0 }
  const paths = files.map(({ path }) => path)
  const states = files.map((file) => stateOf.get(file) ?? null)
  const held = record.inPlace ? await env.host.hold(written.cid, signal, true) : null
  try {
    await env.host.exclusively(record.cid, async () => {
      const known = await env.records.getShare(record.cid)
      const kept = { ...record, addedMs: known?.addedMs ?? record.addedMs, announcedMs: known?.announcedMs ?? null }
      if (held !== null) return await keepInPlace(env, held, kept, SourceTree.of('', paths, states), pins, signal)
      await env.records.saveShare(kept)
      await env.keeping.pin(kept.cid)
      await env.host.added(kept)
      if (known?.inPlace === true) await env.sources.forget(kept.cid)
    })
  } finally {
    held?.release()
  }
  const earlier = await settleEarlier(env, record, request.replaces ?? false, signal)
  for (const message of earlier.warnings) onEvent({ type: 'warning', message })
  return await resultOf(written, { ...request, inPlace: record.inPlace, hints }, tree, tally, earlier)
}

/** The record is saved once it is on disk where the files are; then what was stored of them goes. */
async function keepInPlace(
  env: JobEnvironment,
  { holding, live }: { holding: Holding; live: LiveShare },
  record: ShareRecord,
  tree: SourceTree,
  pins: { release(): void },
  signal: AbortSignal,
): Promise<void> {
  const { dag } = live
  if (dag === null) throw new JobError('BUSY', 'a job is working on this share: stop it first, or wait for it', { exitCode: EXIT.badInput })
  const leaves = await env.sources.adopt(record, dag, tree, signal)
  await env.records.saveShare(record)
  await env.keeping.pin(record.cid)
  env.host.kept(holding, record)
  useLeaves(holding, leaves)
  pins.release()
  await dropCovered(env, record.cid, dag, (position) => leaves.has(position))
  live.refresh([[0, dag.shape.blockCount]])
}

const isFile = (entry: WalkedTree['entries'][number]): entry is SourceFile => entry.name !== ''

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
function publicEntry(tree: WalkedTree): SourceFile {
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
  tree: WalkedTree,
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

const recordOf = (written: WrittenShare, scope: ShareRecord['scope'], tree: WalkedTree): ShareRecord => ({
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
  inPlace: false,
  addedMs: Date.now(),
  announcedMs: null,
})

async function resultOf(
  written: WrittenShare,
  request: ShareRequest,
  tree: WalkedTree,
  tally: Tally,
  earlier: Earlier,
): Promise<ShareResult> {
  const bare = { cid: written.cid, peers: request.hints ?? [], vias: [] }
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
    inPlace: request.inPlace ?? false,
    replaced: earlier.replaced,
    warnings: [...tree.warnings, ...earlier.warnings],
  }
}
