/**
 * Stories of letting go on the simulated disk: shares come and go, blocks are left that nobody needs, `unseed` and `gc` mark, write down,
 * delete and strike out, and are killed, lose their power or meet a failing or full disk at any operation; the next start finishes what was cut off.
 *
 * The oracle: no share that is kept ever misses a block; what was let go of in order is gone after the next start without anybody's help;
 * a calm `gc` leaves what the kept shares name, and nothing else. The records are not on this disk: they change at once or not at all.
 */
import { join } from 'node:path'
import type { JobEnvironment } from '../../node/jobs/environment.ts'
import { finishDeletion, gcJob, unseedJob } from '../../node/jobs/gc.ts'
import { Pins } from '../../node/jobs/pins.ts'
import { silentLog } from '../../node/log.ts'
import type { BlockStore } from '../../node/storage/blocks.ts'
import { DeleteLog } from '../../node/storage/delete-log.ts'
import { buildDag } from '../../protocol/dag.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { nodePrimitives } from '../primitives-node.ts'
import { Random } from '../sim/crowd/random.ts'
import { Dead, SimDisk, SimProcess } from './disk.ts'
import { BLOCKS, type Block, excused, FAULTS, FOLDER_SYNC_FAILED, HOME, openAll, type StoryOutcome } from './story.ts'

const NEVER = new AbortController().signal

interface Share {
  cid: string
  /** Leaves and nodes. */
  blocks: Block[]
}

/** A share over these blocks. A deletion reads the tree and no leaf, so leaves may be short. */
async function makeShare(leaves: Block[]): Promise<Share> {
  const blocks = [...leaves]
  const digests = Buffer.concat(leaves.map(({ digest }) => digest))
  const { text } = await buildDag(nodePrimitives, digests, leaves.length * FORMAT.blockBytes, async (_level, _index, digest, bytes) => {
    blocks.push({ hex: Buffer.from(digest).toString('hex'), digest: digest.slice(), bytes: bytes.slice() })
  })
  return { cid: text, blocks }
}

// They have blocks in common; what none of them has comes as leftovers.
const SHARES = await Promise.all(
  [
    [0, 5],
    [3, 8],
    [4, 10],
  ].map(([first, end]) => makeShare(BLOCKS.slice(first, end))),
)

/** Tells the story of one seed; throws what the oracle has to say. */
export async function runGcStory(seed: number, trace: ((line: string) => void) | null = null): Promise<StoryOutcome> {
  const disk = new SimDisk(new Random(seed * 6_151 + 29), trace)
  disk.makeFolders('/home/user')
  const story = new GcStory(disk)
  for (let life = 1 + disk.random.below(3); life > 0; life--) await story.live()
  await story.endWell()
  return { happened: disk.happened, operations: disk.operations }
}

interface Life {
  process: SimProcess
  store: BlockStore
  env: JobEnvironment
}

class GcStory {
  readonly #disk: SimDisk
  readonly #random: Random
  /** The records: shares that are kept. */
  readonly #kept = new Set<Share>()
  /** Nothing but deletions in order, so far: they need no `gc`. */
  #isTidy = true
  /** It was full, or something failed: then a power cut may bring back what was deleted, for the next `gc`. */
  #isSpoiled = false

  constructor(disk: SimDisk) {
    this.#disk = disk
    this.#random = disk.random
  }

  /** One start, some work, one end. */
  async live(): Promise<void> {
    const random = this.#random
    const life = await this.#start()
    const failures = this.#disk.happened.get(FOLDER_SYNC_FAILED) ?? 0
    if (random.below(3) === 0) await this.#letGo(life)
    for (let round = random.below(4); round > 0 && life.process.isAlive; round--) {
      if (random.below(2) === 0) await this.#letGo(life)
      else {
        if (random.below(3) === 0) life.process.liveFor(random.below(120))
        await this.#work(life)
      }
    }
    const isUnsure = !life.process.isAlive && (this.#disk.happened.get(FOLDER_SYNC_FAILED) ?? 0) > failures
    life.process.kill()
    this.#disk.faults = []
    this.#disk.isFull = false
    if (isUnsure || random.below(2) === 0) this.#disk.cut()
  }

  /** A calm start and a calm `gc`, one more power cut, and the disk holds what is kept. */
  async endWell(): Promise<void> {
    const life = await this.#start()
    const swept = await life.process.run(gcJob(life.env, { dryRun: false, consent: false }, () => {}, NEVER))
    if (swept.status === 'rejected') throw swept.reason
    this.#isTidy = true
    this.#expectTidy(life.store)
    this.#isTidy = !this.#isSpoiled
    life.process.kill()
    this.#disk.cut()
    await this.#start()
  }

  /** A start without faults, which finishes what was cut off; then everything that is kept is there. */
  async #start(): Promise<Life> {
    const process = new SimProcess(this.#disk)
    const opened = await process.run(openAll(process))
    if (opened.status === 'rejected') throw new Error('a start failed on a disk in order', { cause: opened.reason })
    const { store } = opened.value
    const life = { process, store, env: this.#environment(process, store) }
    const finished = await process.run(finishDeletion(life.env, NEVER))
    if (finished.status === 'rejected') throw new Error('a deletion is not finished on a disk in order', { cause: finished.reason })
    for (const { blocks } of this.#kept) {
      for (const { digest, bytes, hex } of blocks) {
        const read = await process.run(store.get(digest, NEVER))
        if (read.status === 'rejected' || read.value === null) throw new Error(`a kept share misses a block: ${hex}`)
        if (Buffer.compare(read.value, bytes) !== 0) throw new Error('wrong bytes')
      }
    }
    if (this.#disk.contents(join(HOME, 'delete-log')) !== null) throw new Error('a list of blocks to delete is left over')
    this.#expectTidy(store)
    return life
  }

  #expectTidy(store: BlockStore): void {
    if (!this.#isTidy) return
    const needed = new Set([...this.#kept].flatMap(({ blocks }) => blocks.map(({ hex }) => hex)))
    if (store.count !== needed.size) throw new Error(`${store.count} blocks are stored, ${needed.size} are needed`)
  }

  /** Shares that are whole are let go of, and little else; often that is cut off. */
  async #letGo(life: Life): Promise<void> {
    const random = this.#random
    if (random.below(2) === 0)
      await this.#settled(
        life,
        SHARES.map((share) => this.#share(life, share)),
      )
    if (random.below(3) > 0) life.process.liveFor(random.below(40))
    const going = SHARES.filter(() => random.below(2) === 0)
    await this.#settled(
      life,
      going.map((share) => excused(this.#unseed(life, share))),
    )
  }

  /** A few things at once. */
  async #work(life: Life): Promise<void> {
    const random = this.#random
    if (random.below(3) === 0) {
      const [operation, code] = FAULTS[random.below(FAULTS.length)]!
      this.#disk.faults.push({ operation, path: /./, code, skip: random.below(40) >> random.below(6) })
      this.#isTidy = false
      this.#isSpoiled = true
    }
    if (random.below(10) === 0) {
      this.#disk.isFull = true
      this.#isTidy = false
      this.#isSpoiled = true
    }
    const works: Promise<unknown>[] = []
    for (const share of SHARES) {
      const lot = random.below(4)
      if (lot === 0) works.push(this.#share(life, share))
      else if (lot === 1) works.push(excused(this.#unseed(life, share)))
    }
    if (random.below(4) === 0) works.push(this.#leave(life, BLOCKS[random.below(BLOCKS.length)]!))
    if (random.below(4) === 0) works.push(excused(gcJob(life.env, { dryRun: false, consent: false }, () => {}, NEVER)))
    await this.#settled(life, works)
    this.#disk.faults = []
    this.#disk.isFull = false
  }

  async #settled({ process }: Life, works: Promise<unknown>[]): Promise<void> {
    const done = await process.run(Promise.all(works))
    if (done.status === 'rejected') throw done.reason
    if (this.#disk.violations.length > 0) throw new Error(this.#disk.violations.join('; '))
  }

  /** As the job does: pins first, then the blocks, then the record. */
  async #share({ process, store, env }: Life, share: Share): Promise<void> {
    const pins = env.pins.open()
    try {
      for (const { digest } of share.blocks) pins.add(digest)
      const stored = await excused(Promise.all(share.blocks.map(({ digest, bytes }) => store.put(digest, bytes, NEVER))))
      const isSaved = stored !== null && (await excused(this.#commit(process, () => this.#kept.add(share)))) !== null
      if (!isSaved) this.#isTidy = false
    } finally {
      pins.release()
    }
  }

  async #unseed({ env }: Life, share: Share): Promise<void> {
    if (this.#kept.has(share)) await unseedJob(env, share.cid, NEVER).catch(passing('NOT_KEPT'))
  }

  async #leave({ store }: Life, { digest, bytes }: Block): Promise<void> {
    this.#isTidy = false
    await excused(store.put(digest, bytes, NEVER))
  }

  /** Something is written into the records: after any other operation, and at once. */
  async #commit<T>(process: SimProcess, change: () => T): Promise<T> {
    await process.fs.space(HOME)
    if (!process.isAlive) throw new Dead()
    return change()
  }

  #environment(process: SimProcess, blocks: BlockStore): JobEnvironment {
    const record = ({ cid }: Share) => ({ cid, state: 'complete' })
    const shareOf = (cid: string): Share | undefined => [...this.#kept].find((share) => share.cid === cid)
    const parts = {
      blocks: inOrder(blocks),
      deleteLog: new DeleteLog({ dir: HOME, fs: process.fs, log: silentLog }),
      pins: new Pins(),
      log: silentLog,
      records: {
        getShare: (cid: string) => this.#commit(process, () => (shareOf(cid) === undefined ? null : record(shareOf(cid)!))),
        listShares: () => this.#commit(process, () => [...this.#kept].map(record)),
        removeShare: (cid: string) => this.#commit(process, () => this.#kept.delete(shareOf(cid)!)),
        getSetting: () => this.#commit(process, () => null),
      },
      // No network, no shares in place, no damage.
      host: {
        holding: () => undefined,
        holdings: () => [],
        removed: async () => {},
        added: async () => {},
        exclusively: async <T>(_cid: string, work: () => Promise<T>) => await work(),
      },
      sources: { forget: async () => {} },
      keeping: { of: () => ({ isDamaged: false }), isPinned: () => true, forget: () => {} },
      damage: { settled: async () => {} },
    }
    // What gc.ts uses of the parts of a node, and no more.
    return parts as unknown as JobEnvironment
  }
}

/** The store, which deletes by name: its own order is another one in each process. */
function inOrder(store: BlockStore): BlockStore {
  const deleteAll: BlockStore['deleteAll'] = (digests, isSpared, signal) =>
    store.deleteAll(Array.from(digests, (digest) => digest.slice()).sort(Buffer.compare), isSpared, signal)
  return new Proxy(store, {
    get: (target, name) => {
      const value: unknown = name === 'deleteAll' ? deleteAll : Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

const passing =
  (code: string) =>
  (error: unknown): void => {
    if (!(error instanceof Error && 'code' in error && error.code === code)) throw error
  }
