/**
 * Stories of a home folder on the simulated disk: a node starts, stores, reads and removes blocks, is killed or loses its power at any
 * operation, meets failing syncs and a full disk, and starts again; as one seed decides.
 *
 * The oracle after each start: what was acknowledged is there and verifies; nothing that is listed is anything else than whole; no
 * leftovers; no step by hand. At the end the power fails once more, over a store that has answered everything.
 */
import { createHash, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { silentLog } from '../../node/log.ts'
import { type BlockStore, openBlockStore } from '../../node/storage/blocks.ts'
import { FileError } from '../../node/storage/file-error.ts'
import { loadOrCreateSecret, prepareHome, readOrCreateFile } from '../../node/storage/home.ts'
import { Random } from '../sim/crowd/random.ts'
import { Dead, type Fault, SimDisk, SimProcess } from './disk.ts'

export interface StoryOutcome {
  happened: ReadonlyMap<string, number>
  operations: number
}

export const HOME = '/home/user/.local/share/shoal'
const NEVER = new AbortController().signal
const IN_HOME = ['blocks', 'identity', 'node-secret', 'quarantine', 'tmp']

/** Tells the story of one seed; throws what the oracle has to say. */
export async function runStory(seed: number, trace: ((line: string) => void) | null = null): Promise<StoryOutcome> {
  const disk = new SimDisk(new Random(seed * 7919 + 17), trace)
  disk.makeFolders('/home/user')
  const story = new Story(disk)
  const lives = 1 + disk.random.below(3)
  for (let life = 0; life < lives; life++) await story.live()
  await story.endWell()
  return { happened: disk.happened, operations: disk.operations }
}

export interface Block {
  hex: string
  digest: Uint8Array
  bytes: Uint8Array
}

class Story {
  readonly #disk: SimDisk
  readonly #random: Random
  /** Every block of this story, stored or not. */
  readonly #blocks = BLOCKS
  /** Acknowledged, and not asked to be removed since. */
  readonly #promised = new Set<Block>()
  #identity: string | null = null

  constructor(disk: SimDisk) {
    this.#disk = disk
    this.#random = disk.random
  }

  /** One start, some work, one end. */
  async live(): Promise<void> {
    const process = new SimProcess(this.#disk)
    const isNew = this.#disk.names('/home/user').length === 0
    const failures = this.#disk.happened.get(FOLDER_SYNC_FAILED) ?? 0
    const end = this.#random.below(4)
    if (end === 0) process.liveFor(this.#random.below(this.#random.below(2) === 0 ? 60 : 900))
    const lot = this.#random.below(8)
    if (lot < 2) this.#fault(this.#random.below(2) === 0 ? 20 : 900)
    else if (isNew && lot < 4) {
      // The syncs of a new home's files: what failed there is made anew by the next start.
      this.#disk.faults.push({ operation: /^syncDirectory$/, path: /shoal$/, code: 'EIO', skip: 1 + this.#random.below(3) })
    }
    const store = await this.#start(process)
    this.#disk.faults = []
    if (store !== null) {
      await this.#check(process, store)
      if (end < 3) process.liveFor(this.#random.below(150))
      for (let round = this.#random.below(6); round > 0 && process.isAlive; round--) await this.#work(process, store)
      if (process.isAlive) await this.#expectSuccess(process.run(store.close()))
    }
    // A process that was killed between a failed sync and what it does about it leaves names that look sound, and so does a start that
    // could not sync what an earlier run left: only a new start of the machine shows what the disk holds.
    const isUnsure = (!process.isAlive || (store === null && !isNew)) && (this.#disk.happened.get(FOLDER_SYNC_FAILED) ?? 0) > failures
    process.kill()
    this.#disk.faults = []
    this.#disk.isFull = false
    if (isUnsure || this.#random.below(2) === 0) this.#disk.cut()
  }

  /** A calm start that stores everything, one more power cut, and all of it is there. */
  async endWell(): Promise<void> {
    let process = new SimProcess(this.#disk)
    const store = await this.#mustStart(process)
    await this.#expectSuccess(process.run(Promise.all(this.#blocks.map((block) => this.#put(process, store, block)))))
    process.kill()
    this.#disk.cut()
    process = new SimProcess(this.#disk)
    const again = await this.#mustStart(process)
    if (again.count !== this.#blocks.length) throw new Error(`${again.count} blocks of ${this.#blocks.length} survived`)
    await this.#expectSuccess(process.run(again.close()))
  }

  /** The start of a node, without its network; null when it was killed in it, or failed by a fault. */
  async #start(process: SimProcess): Promise<BlockStore | null> {
    const faults = this.#disk.faults.length
    const started = await process.run(openAll(process))
    if (!process.isAlive) return null
    const hasStruck = this.#disk.faults.length < faults
    if (started.status === 'rejected') {
      if (hasStruck && started.reason instanceof FileError) return null
      throw new Error('a start failed on a disk in order', { cause: started.reason })
    }
    const { identity, store } = started.value
    if (this.#identity !== null && identity !== this.#identity) throw new Error('the identity or the secret is another one')
    this.#identity = identity
    if (!hasStruck) this.#lookForLeftovers()
    return store
  }

  async #mustStart(process: SimProcess): Promise<BlockStore> {
    const store = await this.#start(process)
    if (store === null) throw new Error('a start without faults gave nothing')
    await this.#check(process, store)
    return store
  }

  async #check(process: SimProcess, store: BlockStore): Promise<void> {
    process.liveFor(Number.POSITIVE_INFINITY)
    for (const { hex, digest } of this.#promised) if (!store.has(digest)) throw new Error(`an acknowledged block is lost: ${hex}`)
    // The store's own order is another one in each process.
    for (const digest of [...store.digests()].sort(Buffer.compare)) {
      const read = await process.run(store.get(digest, NEVER))
      const block = this.#blocks.find((other) => Buffer.compare(other.digest, digest) === 0)
      if (read.status === 'rejected') throw new Error('a block is listed that is not whole', { cause: read.reason })
      if (block === undefined || Buffer.compare(block.bytes, read.value ?? new Uint8Array(0)) !== 0) throw new Error('wrong bytes')
    }
    if (this.#disk.violations.length > 0) throw new Error(this.#disk.violations.join('; '))
  }

  #lookForLeftovers(): void {
    const strange = this.#disk.names(HOME).filter((name) => !IN_HOME.includes(name))
    const left = [...strange, ...this.#disk.names(join(HOME, 'tmp'))]
    if (left.length > 0) throw new Error(`leftovers after a start: ${left.join(', ')}`)
  }

  /** A few things at once. */
  async #work(process: SimProcess, store: BlockStore): Promise<void> {
    const random = this.#random
    this.#disk.isFull = random.below(12) === 0
    if (random.below(4) === 0) this.#fault(20)
    const busy = new Set<Block>()
    const works: Promise<void>[] = []
    for (let i = random.below(random.below(3) === 0 ? 16 : 6); i >= 0; i--) {
      const block = this.#blocks[random.below(this.#blocks.length)]!
      const lot = random.below(10)
      if (lot < 6) works.push(this.#put(process, store, block))
      else if (lot < 8 || busy.has(block)) works.push(this.#get(process, store, block))
      else works.push(this.#delete(process, store, block))
      busy.add(block)
    }
    const done = await process.run(Promise.all(works))
    if (done.status === 'rejected') throw done.reason
    this.#disk.isFull = false
    if (this.#disk.violations.length > 0) throw new Error(this.#disk.violations.join('; '))
  }

  async #put(process: SimProcess, store: BlockStore, block: Block): Promise<void> {
    const stored = await excused(store.put(block.digest, block.bytes, NEVER))
    if (stored !== null && process.isAlive) this.#promised.add(block)
  }

  async #get(process: SimProcess, store: BlockStore, block: Block): Promise<void> {
    const bytes = await excused(store.get(block.digest, NEVER))
    if (bytes === null || !process.isAlive) return
    if (Buffer.compare(bytes, block.bytes) !== 0) throw new Error('wrong bytes')
  }

  async #delete(process: SimProcess, store: BlockStore, block: Block): Promise<void> {
    this.#promised.delete(block)
    // A put of the same block may come after it, in this round or the next.
    await excused(store.delete(block.digest, NEVER))
    if (process.isAlive) this.#promised.delete(block)
  }

  // One at a time: after two in a row, as a failed sync and a removal that fails, no promise is left to keep.
  #fault(operationsAhead: number): void {
    if (this.#disk.faults.length > 0) return
    const { random } = this.#disk
    const [operation, code] = FAULTS[random.below(FAULTS.length)]!
    this.#disk.faults.push({ operation, path: /./, code, skip: random.below(operationsAhead) >> random.below(6) })
  }

  async #expectSuccess<T>(settled: Promise<PromiseSettledResult<T>>): Promise<void> {
    const result = await settled
    if (result.status === 'rejected' && !(result.reason instanceof Dead)) throw result.reason
  }
}

/** Most of them in two folders, so that they share syncs. */
function makeBlock(sizeBytes: number, number: number): Block {
  for (let salt = 0; ; salt++) {
    const bytes = new Uint8Array(sizeBytes).fill(number)
    if (sizeBytes > 16) new DataView(bytes.buffer).setUint32(0, salt)
    const digest = new Uint8Array(createHash('sha256').update(bytes).digest())
    if (sizeBytes <= 16 || digest[0]! < 2) return { hex: Buffer.from(digest).toString('hex'), digest, bytes }
  }
}

export const BLOCKS = [0, 1, 17, 511, 512, 513, 700, 1_024, 1_500, 2_048, 3_000, 4_096].map(makeBlock)

export const FOLDER_SYNC_FAILED = 'syncDirectory EIO'

export const FAULTS: [operation: RegExp, code: Fault['code']][] = [
  [/^datasync$/, 'EIO'],
  [/^syncDirectory$/, 'EIO'],
  [/^syncDirectory$/, 'EIO'],
  [/^write$/, 'ENOSPC'],
  [/^write$/, 'EIO'],
  [/^open/, 'EMFILE'],
  [/^open:create$/, 'ENOSPC'],
  [/^rename$/, 'EIO'],
  [/^remove/, 'EROFS'],
  [/^(list|lstat|mkdir|link)$/, 'EIO'],
]

export async function openAll(process: SimProcess): Promise<{ identity: string; store: BlockStore }> {
  const { fs } = process
  const home = await prepareHome(HOME, fs)
  const identity = await readOrCreateFile(home.identityFile, async () => new Uint8Array(randomBytes(36)), fs)
  const secret = await loadOrCreateSecret(home, 'node-secret', 32, fs)
  const store = await openBlockStore({
    dir: HOME,
    fs,
    verify: async (bytes) => ({ digest: new Uint8Array(createHash('sha256').update(bytes).digest()), bytes }),
    allocate: (sizeBytes) => new Uint8Array(sizeBytes),
    log: silentLog,
    signal: NEVER,
  })
  return { identity: Buffer.concat([identity, secret.reveal()]).toString('hex'), store }
}

/** What an operation gave; null when it failed as operations may. Damage is no excuse: nothing here damages a block. */
export async function excused<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work
  } catch (error) {
    if (error instanceof Dead) return null
    if (error instanceof FileError && error.code !== 'CORRUPT') return null
    throw error
  }
}
