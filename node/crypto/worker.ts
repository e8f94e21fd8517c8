/**
 * Inside a worker thread: hashes, seals and opens blocks with the protocol's own functions. pool.ts is the other end.
 *
 * Buffers travel by transfer, both ways, so a block is never copied between threads.
 */
import { parentPort } from 'node:worker_threads'
import { equalBytes } from '../../protocol/bytes.ts'
import { FormatError } from '../../protocol/errors.ts'
import type { Kind } from '../../protocol/keys.ts'
import { type BlockSealer, createOpener, createSealer, sealAgain } from '../../protocol/seal.ts'
import { Secret } from '../../protocol/secret.ts'
import { BlockBuffers } from '../block-buffers.ts'
import type { Answer, Task } from './pool.ts'
import { createPrimitives } from './primitives.ts'

/** Memory that comes along with tasks and goes back with answers. */
const buffers = new BlockBuffers()
const primitives = createPrimitives(buffers.take)
const opener = createOpener(primitives)
/** One sealer for each scope that a job announced; forgotten when the job ends. */
const sealers = new Map<number, BlockSealer>()

function sealerOf(scopeId: number): BlockSealer {
  const sealer = sealers.get(scopeId)
  if (sealer === undefined) throw new Error(`scope ${scopeId} was not announced to this worker`)
  return sealer
}

async function run(task: Task): Promise<{ answer: unknown; give: Uint8Array[] }> {
  switch (task.op) {
    case 'scope':
      sealers.set(task.scopeId, createSealer(primitives, new Secret(task.secret)))
      return { answer: null, give: [] }
    case 'forget':
      sealers.delete(task.scopeId)
      return { answer: null, give: [] }
    case 'hash':
      return { answer: { digest: await primitives.sha256(task.bytes), bytes: task.bytes }, give: [task.bytes] }
    case 'seal': {
      if (task.spare !== null) buffers.give(task.spare)
      const sealed = await sealerOf(task.scopeId).seal(task.kind, task.plaintext)
      return { answer: { ...sealed, plaintext: task.plaintext }, give: [sealed.block, task.plaintext] }
    }
    case 'name': {
      buffers.passed(task.plaintext.byteLength) // what the cipher leaves of it
      const named = await sealerOf(task.scopeId).name(task.kind, task.plaintext)
      return { answer: { ...named, plaintext: task.plaintext }, give: [task.plaintext] }
    }
    case 'openChecked': {
      if (task.spare !== null) buffers.give(task.spare)
      const isRight = equalBytes(await primitives.sha256(task.block), task.digest)
      const opened = isRight ? await openOr(task.kind, task.key, task.block) : null
      const damage = opened instanceof FormatError ? opened.message : null
      const piece = opened instanceof FormatError ? null : opened
      return { answer: { bytes: task.block, piece, damage, isRight }, give: piece === null ? [task.block] : [task.block, piece] }
    }
    case 'reseal': {
      if (task.spare !== null) buffers.give(task.spare)
      const block = await sealAgain(primitives, task.known, task.derivingKey, task.plaintext)
      return { answer: { block, piece: task.plaintext }, give: block === null ? [task.plaintext] : [block, task.plaintext] }
    }
    case 'open': {
      if (task.spare !== null) buffers.give(task.spare)
      const piece = await opener.open(task.kind, task.key, task.block)
      return { answer: { piece, block: task.block }, give: [piece, task.block] }
    }
  }
}

async function openOr(kind: Kind, key: Uint8Array, block: Uint8Array): Promise<Uint8Array | FormatError> {
  try {
    return await opener.open(kind, key, block)
  } catch (error) {
    if (error instanceof FormatError) return error
    throw error
  }
}

/** Buffers may be listed for transfer only when the array covers all of its own memory. */
const transferable = (arrays: Uint8Array[]): ArrayBuffer[] =>
  arrays.flatMap((array) =>
    array.buffer instanceof ArrayBuffer && array.byteLength === array.buffer.byteLength && array.byteLength > 0 ? [array.buffer] : [],
  )

parentPort?.on('message', async ({ id, task }: { id: number; task: Task }) => {
  let message: Answer
  let give: Uint8Array[] = []
  try {
    const done = await run(task)
    message = { id, answer: done.answer }
    give = done.give
  } catch (error) {
    const { name, message: text } = error instanceof Error ? error : { name: 'Error', message: String(error) }
    const code = error instanceof Error && 'code' in error ? String(error.code) : null
    message = { id, error: { name, code, message: text } }
  }
  parentPort?.postMessage(message, transferable(give))
})
