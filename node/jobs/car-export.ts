/**
 * `export --car`: writes the sealed blocks of a kept share into a CAR file, as any IPFS node takes it.
 *
 * No key is needed: blocks come from the store, those of shares in place are sealed on the way, nodes of the tree are written anew from the
 * names below them. What is read is verified as before serving. A few blocks at a time are in memory.
 */
import { type CarPlace, carBytesMax, carOrder, encodeCarHeader, encodeCarSection } from '../../protocol/car.ts'
import { DAG_PB, parseCid, RAW } from '../../protocol/cid.ts'
import type { ShareDag } from '../../protocol/dag.ts'
import { assert, EXIT } from '../../protocol/errors.ts'
import { CAR } from '../../protocol/limits.ts'
import { JobError, type OnEvent } from '../control/api.ts'
import type { CarExportRequest, CarExportResult } from '../control/api-car.ts'
import { CarTarget } from '../storage/car-file.ts'
import { diskFileSystem } from '../storage/fs.ts'
import type { JobEnvironment } from './environment.ts'
import type { LiveShare } from './live-share.ts'

export async function exportCarJob(
  env: JobEnvironment,
  request: CarExportRequest,
  onEvent: OnEvent,
  signal: AbortSignal,
): Promise<CarExportResult> {
  const cid = parseCid(request.cid)
  const record = await env.records.getShare(cid.text)
  if (record === null || !env.keeping.isPinned(cid.text))
    throw new JobError('NOT_KEPT', 'this node does not keep that share (see `shoal ls`): `shoal seed` it first', {
      exitCode: EXIT.badInput,
    })
  if (record.state !== 'complete') throw incomplete()
  const { live, release } = await env.host.hold(cid, signal)
  try {
    const { dag } = live
    if (dag === null || dag.missingNodes > 0 || !live.isComplete) throw incomplete()
    const target = await CarTarget.create(diskFileSystem, request.file, request.force, carBytesMax(dag))
    let blocks: number
    try {
      blocks = await writeBlocks(live, dag, target, onEvent, signal)
    } catch (error) {
      await target.abandon()
      throw error
    }
    await target.finish(request.force)
    return { cid: cid.text, file: request.file, fileBytes: target.writtenBytes, blocks }
  } finally {
    release()
  }
}

const incomplete = (): JobError =>
  new JobError('INCOMPLETE', 'this share is not all here: get or seed it to its end, or mend it with `shoal verify --repair`', {
    exitCode: EXIT.badInput,
  })

async function writeBlocks(live: LiveShare, dag: ShareDag, target: CarTarget, onEvent: OnEvent, signal: AbortSignal): Promise<number> {
  await target.append(encodeCarHeader(live.cid))
  let blocks = 0
  for await (const { place, bytes } of readAhead(live, dag, signal)) {
    const digest = dag.digestOf(place.level, place.index)
    assert(digest !== null, 'the tree is known')
    await target.append(encodeCarSection(place.level === 0 ? RAW : DAG_PB, digest, bytes.length))
    await target.append(bytes)
    blocks++
    onEvent({ type: 'progress', phase: 'write', doneBytes: target.writtenBytes, totalBytes: carBytesMax(dag) })
  }
  return blocks
}

/** The blocks in the order of the file, with a few read ahead. */
async function* readAhead(live: LiveShare, dag: ShareDag, signal: AbortSignal): AsyncGenerator<{ place: CarPlace; bytes: Uint8Array }> {
  const ahead: { place: CarPlace; reading: Promise<Uint8Array> }[] = []
  const read = (place: CarPlace): void => {
    const reading = blockOf(live, dag, place, signal)
    reading.catch(() => {}) // heard of when its turn comes
    ahead.push({ place, reading })
  }
  const order = carOrder(dag.shape)
  for (;;) {
    while (ahead.length < CAR.blocksAtOnceMax) {
      const next = order.next()
      if (next.done === true) break
      read(next.value)
    }
    const first = ahead.shift()
    if (first === undefined) return
    signal.throwIfAborted()
    yield { place: first.place, bytes: await first.reading }
  }
}

async function blockOf(live: LiveShare, dag: ShareDag, { level, index }: CarPlace, signal: AbortSignal): Promise<Uint8Array> {
  const bytes = level === 0 ? await live.read(0, index, signal) : dag.nodeBytes(level, index)
  if (bytes !== null) return bytes
  throw new JobError(
    'LOST_BLOCK',
    `block ${index} of this share is damaged, or the file that it is made from has changed: \`shoal verify ${live.cid.text}\` says more`,
    { exitCode: EXIT.badInput },
  )
}
