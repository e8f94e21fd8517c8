/**
 * `import --car`: takes a share from a CAR file, checks every block of it against the tree, and keeps it as `seed` does.
 *
 * The file is walked along with the tree: each block must be the next one of it. One that is here already may be left out, as files are
 * written that name every block once; nothing else may stand in between or behind. So memory is a few blocks and the names in the tree,
 * and no byte is stored that is not of the share. It is kept once all of it is on disk; where it fails, what came in goes again.
 */
import { type CarPlace, type CarSection, carBytesMax, carOrder } from '../../protocol/car.ts'
import { DAG_PB, formatCid, RAW, type ShareCid } from '../../protocol/cid.ts'
import { leafBytes, ShareDag } from '../../protocol/dag.ts'
import { assert, EXIT, FormatError } from '../../protocol/errors.ts'
import { CAR } from '../../protocol/limits.ts'
import { JobError, type OnEvent } from '../control/api.ts'
import type { CarImportRequest, CarImportResult } from '../control/api-car.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import { CarSource } from '../storage/car-file.ts'
import { DigestSet } from '../storage/digest-set.ts'
import { diskFileSystem } from '../storage/fs.ts'
import type { ShareRecord } from '../storage/records.ts'
import { checkFree, checkPinned } from './disk-room.ts'
import type { JobEnvironment } from './environment.ts'
import { dropBlocks } from './gc.ts'
import { receive } from './leaf-sink.ts'
import { storedBlock } from './stored.ts'

/** `letGo` stops what goes on by itself with a share, as before `unseed`. */
export async function importCarJob(
  env: JobEnvironment,
  request: CarImportRequest,
  letGo: (cid: string) => Promise<void>,
  onEvent: OnEvent,
  signal: AbortSignal,
): Promise<CarImportResult> {
  const source = await CarSource.open(diskFileSystem, request.file)
  const intake = new Intake(env, source, onEvent, signal)
  const pins = env.pins.open()
  try {
    const dag = await intake.run(pins.add)
    await letGo(source.root.text)
    await env.host.exclusively(source.root.text, () => keep(env, source.root, dag))
    const { newBlocks, reusedBlocks } = intake
    return { cid: source.root.text, wireBytes: dag.shape.totalBytes, blockCount: dag.shape.blockCount, newBlocks, reusedBlocks }
  } catch (error) {
    pins.release()
    await dropBlocks(env, intake.stored).catch((cause: unknown) => {
      env.log.warn('blocks that nobody needs could not be removed', { error: cause }) // they do no harm
    })
    throw error
  } finally {
    pins.release()
    await source.close()
  }
}

async function keep(env: JobEnvironment, cid: ShareCid, { shape }: ShareDag): Promise<void> {
  if ((env.host.holding(cid.text)?.holders ?? 0) > 0) {
    throw new JobError('BUSY', 'a job is working on this share: stop it first, or wait for it', { exitCode: EXIT.badInput })
  }
  const known = await env.records.getShare(cid.text)
  const fresh = { readKey: null, scope: null, label: null, files: null, sizeBytes: null, addedMs: Date.now(), announcedMs: null }
  const record: ShareRecord = {
    ...(known ?? { ...fresh, cid: cid.text, role: 'blind' as const }),
    ...{ wireBytes: shape.totalBytes, blockCount: shape.blockCount, state: 'complete', inPlace: false },
  }
  await env.records.saveShare(record)
  await env.keeping.pin(record.cid)
  await env.damage.mended(record.cid)
  await env.host.added(record)
  if (known?.inPlace === true) await env.sources.forget(record.cid)
}

/** What comes from one file into the store. */
class Intake {
  readonly #env: JobEnvironment
  readonly #source: CarSource
  readonly #onEvent: OnEvent
  readonly #signal: AbortSignal
  readonly #writing = new Set<Promise<void>>()
  #failure: { error: unknown } | null = null
  #doneBytes = 0
  /** Digests of blocks that were not here before. */
  readonly stored = new DigestSet()
  reusedBlocks = 0

  constructor(env: JobEnvironment, source: CarSource, onEvent: OnEvent, signal: AbortSignal) {
    this.#env = env
    this.#source = source
    this.#onEvent = onEvent
    this.#signal = signal
  }

  get newBlocks(): number {
    return this.stored.size
  }

  /** Resolves when all blocks are stored. */
  async run(pin: (digest: Uint8Array) => void): Promise<ShareDag> {
    try {
      const dag = await this.#walk(pin)
      await this.#written()
      return dag
    } finally {
      await Promise.all(this.#writing)
    }
  }

  async #walk(pin: (digest: Uint8Array) => void): Promise<ShareDag> {
    const { root } = this.#source
    pin(root.digest)
    const dag = await ShareDag.open(nodePrimitives, root, await this.#node(root, 'the root'))
    await this.#checkRoom(dag)
    for (const place of carOrder(dag.shape)) {
      this.#signal.throwIfAborted()
      if (place.level !== dag.shape.depth) await this.#take(dag, place, pin)
    }
    if (!this.#source.isAtEnd) throw new FormatError('C3', 'more follows after the last block')
    return dag
  }

  async #checkRoom(dag: ShareDag): Promise<void> {
    const longest = carBytesMax(dag)
    if (this.#source.fileBytes > longest) {
      throw new FormatError('C3', `the file has ${this.#source.fileBytes} bytes, and one of this share at most ${longest}`)
    }
    const { totalBytes } = dag.shape
    const known = await this.#env.records.getShare(dag.cid.text)
    if (known === null || known.inPlace || !this.#env.keeping.isPinned(known.cid)) await checkPinned(this.#env, totalBytes)
    if (known === null || known.inPlace || known.state !== 'complete') await checkFree(this.#env, totalBytes)
  }

  async #take(dag: ShareDag, place: CarPlace, pin: (digest: Uint8Array) => void): Promise<void> {
    const digest = dag.digestOf(place.level, place.index)
    assert(digest !== null, 'nodes come before what is below them')
    pin(digest)
    if (place.level > 0) {
      const name = `node ${place.index} of level ${place.level}`
      await dag.acceptNode(place.level, place.index, await this.#node(formatCid(DAG_PB, digest), name))
      return
    }
    const bytes = await this.#next(formatCid(RAW, digest), `block ${place.index}`)
    if (bytes === null) return
    const expected = leafBytes(dag.shape, place.index)
    if (bytes.length !== expected) {
      throw new FormatError('D3', `block ${place.index} has ${bytes.length} bytes, its tree says ${expected}`)
    }
    await this.#store(digest, bytes)
  }

  /** A node, from the file or the store, stored already: what is below it is read by its names. */
  async #node(cid: ShareCid, what: string): Promise<Uint8Array> {
    const bytes = await this.#next(cid, what)
    if (bytes === null) {
      const known = await storedBlock(this.#env.blocks, cid.digest, this.#signal)
      if (known === null) throw new FormatError('C3', `${what} is missing`)
      return known
    }
    const copy = bytes.slice()
    await this.#store(cid.digest, bytes)
    return copy
  }

  /** The block that is due, checked; null when the file leaves it out and it is here. */
  async #next(cid: ShareCid, what: string): Promise<Uint8Array | null> {
    const section = await this.#source.peek()
    if (section === null || !isOf(section, cid)) {
      await this.#written() // it may have come before, and be on its way to disk
      if (this.#env.blocks.has(cid.digest)) {
        this.reusedBlocks++
        return null
      }
      throw new FormatError('C3', section === null ? `it ends before ${what}` : `another block stands where ${what} belongs`)
    }
    const read = this.#env.pool.buffers.take(section.blockBytes)
    await this.#source.read(read)
    const { bytes, isRight } = await receive(this.#env.pool, read, cid.digest, null)
    if (!isRight) throw new FormatError('C2', `the bytes of ${what} do not hash to its CID`)
    return bytes
  }

  /** Begins to store a block, which is taken; resolves when few enough are under way. */
  async #store(digest: Uint8Array, bytes: Uint8Array): Promise<void> {
    const writing = this.#write(digest, bytes)
      .catch((error: unknown) => {
        this.#failure ??= { error }
      })
      .finally(() => this.#writing.delete(writing))
    this.#writing.add(writing)
    while (this.#writing.size >= CAR.blocksAtOnceMax) await Promise.race(this.#writing)
    if (this.#failure !== null) throw this.#failure.error
  }

  /** Resolves when what came until now is stored. */
  async #written(): Promise<void> {
    await Promise.all(this.#writing)
    if (this.#failure !== null) throw this.#failure.error
  }

  async #write(digest: Uint8Array, bytes: Uint8Array): Promise<void> {
    if (await this.#env.blocks.put(digest, bytes, this.#signal)) this.stored.add(digest)
    else this.reusedBlocks++
    this.#doneBytes += bytes.length
    this.#env.pool.buffers.give(bytes)
    this.#onEvent({ type: 'progress', phase: 'check', doneBytes: this.#doneBytes, totalBytes: this.#source.fileBytes })
  }
}

const isOf = (section: CarSection, { codec, digest }: ShareCid): boolean =>
  section.codec === codec && Buffer.compare(section.digest, digest) === 0
