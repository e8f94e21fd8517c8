/**
 * `verify`: checks every block of the kept shares, without any key: that it is here, its length, its hash, its place in the tree.
 *
 * A damaged block is set aside, as on any other read. With `repair` what is damaged or missing is fetched from peers, one share after
 * another; a daemon does so by itself, too, as soon as damage is known.
 */
import { parseCid } from '../../protocol/cid.ts'
import { leafBytes } from '../../protocol/dag.ts'
import { EXIT, FormatError } from '../../protocol/errors.ts'
import { KEEPING } from '../../protocol/limits.ts'
import { formatLink } from '../../protocol/link.ts'
import { JobError, type JobEvent, type VerifiedShare, type VerifyRequest, type VerifyResult } from '../control/api.ts'
import { nodePrimitives } from '../crypto/primitives.ts'
import { DigestSet } from '../storage/digest-set.ts'
import { FileError } from '../storage/file-error.ts'
import type { ShareRecord } from '../storage/records.ts'
import { forEachBounded } from '../storage/turns.ts'
import type { HeldShare, JobEnvironment } from './environment.ts'
import { seedJob } from './seed.ts'
import { Slices } from './slices.ts'
import { walkTree } from './tree-walk.ts'

type OnEvent = (event: JobEvent) => void

export async function verifyJob(env: JobEnvironment, request: VerifyRequest, onEvent: OnEvent, signal: AbortSignal): Promise<VerifyResult> {
  const records = await chosen(env, request.cids)
  const totalBytes = records.reduce((sum, { wireBytes }) => sum + (wireBytes ?? 0), 0)
  const check = new Check(env, signal, (doneBytes) => onEvent({ type: 'progress', phase: 'check', doneBytes, totalBytes }))
  const shares: VerifiedShare[] = []
  for (const record of records) {
    signal.throwIfAborted()
    const found = await check.share(record)
    if (!found.isSound && found.damagedBlocks + found.missingBlocks > 0) await env.damage.mark(record.cid)
    else if (found.isSound && found.missingBlocks + found.changedBlocks === 0 && env.keeping.of(record.cid).isDamaged)
      await settle(env, record.cid)
    shares.push(found)
  }
  await env.damage.settled()
  if (request.repair) {
    await forEachBounded(shares, KEEPING.repairsAtOnceMax, (share) => repair(env, share, check, request, onEvent, signal))
  }
  return { shares, checkedBlocks: check.blocks, checkedBytes: check.bytes, isSound: shares.every(({ isSound }) => isSound) }
}

async function chosen(env: JobEnvironment, cids: readonly string[]): Promise<ShareRecord[]> {
  const records = await env.records.listShares()
  if (cids.length === 0) return records.filter(({ cid }) => env.keeping.isPinned(cid))
  const wanted = new Set(cids.map((cid) => parseCid(cid).text))
  const found = records.filter(({ cid }) => wanted.has(cid))
  if (found.length === wanted.size) return found
  throw new JobError('NOT_KEPT', 'this node does not keep that share (see `shoal ls`)', { exitCode: EXIT.badInput })
}

/** One run over shares; a block that several of them name is read once. */
class Check {
  readonly #env: JobEnvironment
  readonly #signal: AbortSignal
  readonly #onBytes: (doneBytes: number) => void
  readonly #good = new DigestSet()
  #doneBytes = 0
  /** Read and hashed. */
  blocks = 0
  bytes = 0

  constructor(env: JobEnvironment, signal: AbortSignal, onBytes: (doneBytes: number) => void) {
    this.#env = env
    this.#signal = signal
    this.#onBytes = onBytes
  }

  async share(record: ShareRecord): Promise<VerifiedShare> {
    const { cid, state, label } = record
    const slices = new Slices(this.#signal)
    const walked = await walkTree(this.#env.blocks, parseCid(cid), () => {}, slices)
    const found = { damagedBlocks: walked.damaged.length, missingBlocks: walked.missing.length, changedBlocks: 0 }
    const note = (outcome: Outcome): void => {
      if (outcome === 'damaged') found.damagedBlocks++
      if (outcome === 'missing') found.missingBlocks++
      if (outcome === 'changed') found.changedBlocks++
    }
    const { dag } = walked
    const files = record.inPlace && dag !== null ? await this.#env.host.hold(parseCid(cid), this.#signal) : null
    if (dag === null) {
      // One block, or a root that is not here: then nothing else has a name.
      if (walked.missing.length === 0 && walked.damaged.length === 0) note(await this.#block(parseCid(cid).digest, null))
    } else {
      try {
        await forEachBounded(positions(dag.shape.blockCount), KEEPING.checksAtOnceMax, async (index) => {
          const digest = dag.digestOf(0, index)
          const isMade = digest !== null && files !== null && !this.#env.blocks.has(digest)
          note(isMade ? await this.#made(files, index) : await this.#block(digest, leafBytes(dag.shape, index)))
          if (slices.isOver) await slices.turn()
        })
      } finally {
        files?.release()
      }
    }
    const isWhole = state === 'complete' || this.#env.keeping.of(cid).isDamaged
    const isSound = found.damagedBlocks === 0 && ((found.missingBlocks === 0 && found.changedBlocks === 0) || !isWhole)
    return { cid, label, state, ...found, repairedBlocks: 0, isSound, failure: null }
  }

  async #block(digest: Uint8Array | null, sizeBytes: number | null): Promise<Outcome> {
    this.#signal.throwIfAborted()
    if (digest === null) return 'missing'
    const outcome = this.#good.has(digest) ? 'good' : await this.#read(digest, sizeBytes)
    if (outcome === 'good') this.#good.add(digest)
    this.#doneBytes += sizeBytes ?? 0
    this.#onBytes(this.#doneBytes)
    return outcome
  }

  /** A leaf that is made from the user's files, in the way in which it is served. */
  async #made({ holding, live }: HeldShare, index: number): Promise<Outcome> {
    const bytes = live.has(0, index) ? await live.read(0, index, this.#signal) : null
    if (bytes === null) return holding.leaves?.claims(index) === false ? 'elsewhere' : 'changed'
    this.blocks++
    this.bytes += bytes.byteLength
    this.#doneBytes += bytes.byteLength
    this.#onBytes(this.#doneBytes)
    return 'good'
  }

  async #read(digest: Uint8Array, sizeBytes: number | null): Promise<Outcome> {
    try {
      const bytes = await this.#env.blocks.get(digest, this.#signal)
      if (bytes === null) return 'missing'
      this.blocks++
      this.bytes += bytes.byteLength
      const isRight = sizeBytes === null || bytes.byteLength === sizeBytes
      this.#env.pool.buffers.give(bytes)
      return isRight ? 'good' : 'damaged'
    } catch (error) {
      if (error instanceof FileError && error.code === 'CORRUPT') return 'damaged'
      throw error
    }
  }
}

/** 'changed': its file is not what it was when it was shared. 'elsewhere': nobody here asked for it. */
type Outcome = 'good' | 'damaged' | 'missing' | 'changed' | 'elsewhere'

function* positions(count: number): Generator<number> {
  for (let index = 0; index < count; index++) yield index
}

/** Fetches what a share misses, and looks again: below a node that was missing nothing could be checked before. */
async function repair(
  env: JobEnvironment,
  share: VerifiedShare,
  check: Check,
  request: VerifyRequest,
  onEvent: OnEvent,
  signal: AbortSignal,
): Promise<void> {
  if (!env.keeping.isPinned(share.cid)) return // what is only cached comes again when somebody reads it
  const link = await formatLink(nodePrimitives, { cid: parseCid(share.cid), readKey: null, peers: [], vias: [] })
  for (let round = 0; !share.isSound && round < KEEPING.repairRoundsMax; round++) {
    try {
      const { fetchedBlocks } = await seedJob(env, { link, wait: request.wait, peers: request.peers }, onEvent, signal)
      share.repairedBlocks += fetchedBlocks
    } catch (error) {
      signal.throwIfAborted()
      if (!(error instanceof JobError || error instanceof FileError || error instanceof FormatError)) throw error
      share.failure = error.message
      return
    }
    const record = await env.records.getShare(share.cid)
    if (record === null) return // unseeded meanwhile
    const { damagedBlocks, missingBlocks, isSound } = await check.share(record)
    if (damagedBlocks + missingBlocks > 0) await env.damage.mark(share.cid)
    share.damagedBlocks += damagedBlocks
    share.missingBlocks += missingBlocks
    share.isSound = isSound
    share.state = 'complete'
  }
}

/** A damaged share turned out to be whole: somebody put its blocks back. */
async function settle(env: JobEnvironment, cid: string): Promise<void> {
  const record = await env.records.getShare(cid)
  if (record === null) return
  const complete: ShareRecord = { ...record, state: 'complete' }
  await env.records.saveShare(complete)
  await env.host.added(complete)
  await env.damage.mended(cid)
}
