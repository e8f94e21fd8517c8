/**
 * The block store: sealed blocks as files `blocks/ab/<digest in hex>` in the home folder, and an index of their digests in memory.
 *
 * The files are the truth; the index is rebuilt from their names at start. A block counts as stored only after its bytes, its name
 * and its folder are synced. It is verified by its hash each time it is read; one that fails is set aside and no longer offered.
 * The store does not know what a block means or which share it belongs to.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { assert } from '../../protocol/errors.ts'
import { FORMAT, STORAGE } from '../../protocol/limits.ts'
import type { Log } from '../log.ts'
import { DigestSet } from './digest-set.ts'
import { FileError, naming, systemCode, toFileError } from './file-error.ts'
import type { FileSystem, OpenFile } from './fs.ts'
import { GroupSync } from './group-sync.ts'
import { Quarantine } from './quarantine.ts'
import { forEachBounded, Turns } from './turns.ts'

export interface BlockStore {
  /** Blocks stored. */
  readonly count: number
  /** Whether a block is stored and synced; from memory. */
  has(digest: Uint8Array): boolean
  /** Stores a block; resolves when it is synced, false when it was there already. Does not hash: the caller has. `bytes` are
   *  borrowed until it settles. FileError NO_SPACE, DENIED, IO, BUSY. */
  put(digest: Uint8Array, bytes: Uint8Array, signal: AbortSignal): Promise<boolean>
  /** The verified bytes of a block, in a buffer of their own, or null when it is not here. FileError CORRUPT when it was damaged. */
  get(digest: Uint8Array, signal: AbortSignal): Promise<Uint8Array | null>
  /** Forgets and removes a block; nothing happens when it is not here. */
  delete(digest: Uint8Array, signal: AbortSignal): Promise<void>
  /** Forgets and removes blocks, and makes that durable. `isSpared` is asked about each at the very moment before it is given up. */
  deleteAll(digests: Iterable<Uint8Array>, isSpared: (digest: Uint8Array) => boolean, signal: AbortSignal): Promise<Deleted>
  /** From now until `end`: which blocks somebody was told are here, by `has`, `get` or `put`. */
  watchUse(): UseWatch
  /** The size of a block's file, 0 when there is none. */
  sizeOf(digest: Uint8Array): Promise<number>
  /** Calls back with the digest (a copy) of every block that turns out damaged or gone. */
  onDamaged(listener: (digest: Uint8Array) => void): void
  /** A snapshot of all digests, each a copy. */
  digests(): Iterable<Uint8Array>
  /** Of these, those that begin with this byte: joined, in order. */
  digestsWith(firstByte: number): Uint8Array
  /** Waits for what is under way; later calls get FileError CLOSED. */
  close(): Promise<void>
}

/** What a deletion took away. */
export interface Deleted {
  blocks: number
  bytes: number
}

/** Blocks that somebody counts on since the watch began. */
export interface UseWatch {
  has(digest: Uint8Array): boolean
  end(): void
}

export interface BlockStoreInit {
  /** The home folder; `blocks`, `tmp` and `quarantine` are made in it. */
  dir: string
  fs: FileSystem
  /** SHA-256 of a block. Takes the bytes and gives them back, so that they may be hashed on another thread. */
  verify: (bytes: Uint8Array) => Promise<{ digest: Uint8Array; bytes: Uint8Array }>
  /** Memory for a block that is read: an array of exactly that size that covers all of its memory. */
  allocate: (sizeBytes: number) => Uint8Array
  /** Called when somebody is told BUSY. */
  onFull?: () => void
  log: Log
  signal: AbortSignal
}

/** Opens the store in a home folder: clears unfinished writes of an earlier run and reads the names of all blocks. */
export async function openBlockStore(init: BlockStoreInit): Promise<BlockStore> {
  const { dir, fs, log, signal } = init
  const blocksDir = join(dir, 'blocks')
  const index = new DigestSet()
  let quarantine: Quarantine | undefined
  await naming('opening the block store', dir, async () => {
    for (const folder of [blocksDir, join(dir, 'tmp'), join(dir, 'quarantine')]) await ensureFolder(fs, folder)
    // An earlier run that did not end in order may have left names that are seen and yet not durable.
    const leftovers = await fs.list(join(dir, 'tmp'))
    const made = new Set(await fs.list(blocksDir))
    const prefixes = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'))
    await forEachBounded(prefixes, STORAGE.fileOperationsMax, async (prefix) => {
      signal.throwIfAborted()
      const folder = join(blocksDir, prefix)
      if (!made.has(prefix)) return fs.mkdir(folder, 0o700)
      await readPrefix(fs, folder, prefix, index, log)
      if (leftovers.length > 0) await fs.syncDirectory(folder)
    })
    quarantine = await Quarantine.open({ dir: join(dir, 'quarantine'), fs, log, isHere: (hex) => index.has(fromHex(hex)) })
    // The 256 folders exist from here on and are durable, so a put syncs one folder only.
    await fs.syncDirectory(blocksDir)
    await fs.syncDirectory(dir)
    for (const name of leftovers) await fs.remove(join(dir, 'tmp', name), 'tree')
  })
  assert(quarantine !== undefined, 'opened above')
  return new DiskBlockStore(init, index, quarantine)
}

/** In `tmp` from the first write or deletion until an orderly end. */
const UNCLEAN = 'unclean'

async function ensureFolder(fs: FileSystem, path: string): Promise<void> {
  try {
    await fs.mkdir(path, 0o700)
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error
  }
}

async function readPrefix(fs: FileSystem, folder: string, prefix: string, index: DigestSet, log: Log): Promise<void> {
  let ignored = 0
  for (const name of await fs.list(folder)) {
    if (/^[0-9a-f]{64}$/.test(name) && name.startsWith(prefix)) index.add(fromHex(name))
    else ignored += 1
  }
  if (ignored > 0) log.warn('files in the block store that are no blocks', { prefix, ignored })
}

class DiskBlockStore implements BlockStore {
  readonly #init: BlockStoreInit
  readonly #index: DigestSet
  readonly #turns = new Turns(STORAGE.fileOperationsMax, STORAGE.fileOperationsWaitingMax, () => this.#init.onFull?.())
  readonly #folders: GroupSync
  // Digests whose file is being written, removed or set aside: one change at a time each. Bounded by the turns.
  readonly #changing = new Map<string, Promise<unknown>>()
  readonly #watches = new Set<DigestSet>()
  #marked: Promise<void> | null = null
  readonly #quarantine: Quarantine
  readonly #listeners = new Set<(digest: Uint8Array) => void>()
  #isClosed = false

  constructor(init: BlockStoreInit, index: DigestSet, quarantine: Quarantine) {
    this.#quarantine = quarantine
    this.#init = init
    this.#index = index
    this.#folders = new GroupSync(init.fs)
  }

  get count(): number {
    return this.#index.size
  }

  has(digest: Uint8Array): boolean {
    const isHere = this.#index.has(digest)
    if (isHere) this.#noteUse(digest)
    return isHere
  }

  watchUse(): UseWatch {
    const used = new DigestSet()
    this.#watches.add(used)
    return { has: (digest) => used.has(digest), end: () => void this.#watches.delete(used) }
  }

  onDamaged(listener: (digest: Uint8Array) => void): void {
    this.#listeners.add(listener)
  }

  digestsWith(firstByte: number): Uint8Array {
    return this.#index.withFirstByte(firstByte)
  }

  digests(): Iterable<Uint8Array> {
    return this.#index
  }

  async put(digest: Uint8Array, bytes: Uint8Array, signal: AbortSignal): Promise<boolean> {
    if (bytes.length > FORMAT.blockBytes) throw new RangeError(`block of ${bytes.length} bytes, limit ${FORMAT.blockBytes}`)
    const hex = toHex(digest)
    this.#noteUse(digest)
    if (this.#index.has(digest) && !this.#changing.has(hex)) return false // it may be on its way out
    return this.#change(hex, signal, async () => {
      if (this.#index.has(digest)) return false
      await naming('storing a block', undefined, () => this.#write(hex, bytes))
      this.#index.add(digest)
      await this.#quarantine.drop(hex)
      return true
    })
  }

  async get(digest: Uint8Array, signal: AbortSignal): Promise<Uint8Array | null> {
    this.#assertOpen()
    if (!this.has(digest)) return null
    const hex = toHex(digest)
    const read = await this.#turns.run(signal, () => this.#read(hex))
    if (read !== null) {
      const { digest: actual, bytes } = await this.#init.verify(read)
      if (equal(actual, digest)) return bytes
    }
    // Between the index and the file it may have been deleted, which is no damage.
    if (!this.#index.has(digest)) return null
    await this.#change(hex, signal, () => this.#setAside(digest, hex))
    throw new FileError('CORRUPT', 'a stored block was damaged on disk and has been set aside', { path: this.#pathOf(hex) })
  }

  async delete(digest: Uint8Array, signal: AbortSignal): Promise<void> {
    const hex = toHex(digest)
    await this.#change(hex, signal, async () => {
      if (!this.#index.delete(digest)) return
      await naming('removing a block', undefined, () => this.#removeFile(this.#pathOf(hex)))
    })
  }

  async deleteAll(digests: Iterable<Uint8Array>, isSpared: (digest: Uint8Array) => boolean, signal: AbortSignal): Promise<Deleted> {
    const deleted = { blocks: 0, bytes: 0 }
    const touched = new Set<string>()
    // Killed on the way, it leaves removals that are seen and yet not durable. A full disk must not hold up what makes room on it.
    await this.#mark().catch(() => {})
    await forEachBounded(digests, STORAGE.deletionsAtOnceMax, async (digest) => {
      signal.throwIfAborted()
      const hex = toHex(digest)
      await this.#change(hex, signal, async () => {
        if (isSpared(digest) || !this.#index.delete(digest)) return
        touched.add(hex.slice(0, 2))
        const bytes = await naming('removing a block', undefined, () => this.#removeWhatever(this.#pathOf(hex)))
        deleted.bytes += bytes // read only now: others add to it meanwhile
        deleted.blocks += 1
      })
    })
    await naming('removing blocks', undefined, async () => {
      for (const prefix of touched) await this.#folders.sync(join(this.#init.dir, 'blocks', prefix))
    })
    return deleted
  }

  async sizeOf(digest: Uint8Array): Promise<number> {
    return await this.#turns.run(NEVER, async () => {
      try {
        return (await this.#init.fs.lstat(this.#pathOf(toHex(digest)))).sizeBytes
      } catch (error) {
        if (systemCode(error) === 'ENOENT') return 0
        throw toFileError(error, 'looking at a block')
      }
    })
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await this.#turns.whenIdle()
    // What is stored is durable now, so the next start need not make sure of it.
    if (this.#marked === null || !this.#folders.isSound) return
    this.#marked = null
    await this.#discard(join(this.#init.dir, 'tmp', UNCLEAN))
  }

  #noteUse(digest: Uint8Array): void {
    for (const used of this.#watches) used.add(digest)
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new FileError('CLOSED', 'the block store is closed')
  }

  #pathOf(hex: string): string {
    return join(this.#init.dir, 'blocks', hex.slice(0, 2), hex)
  }

  async #change<T>(hex: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    for (let other = this.#changing.get(hex); other !== undefined; other = this.#changing.get(hex)) {
      // Its own caller hears of its failure; we only wait for its end.
      await other.catch(() => {})
    }
    this.#assertOpen()
    const mine = this.#turns.run(signal, work)
    this.#changing.set(hex, mine)
    try {
      return await mine
    } finally {
      this.#changing.delete(hex)
    }
  }

  // Bytes, then their sync, then the name, then its sync: a crash at any point leaves a leftover in tmp or a whole block.
  async #write(hex: string, bytes: Uint8Array): Promise<void> {
    const { fs, dir } = this.#init
    const temporary = join(dir, 'tmp', `${randomBytes(16).toString('hex')}.block`)
    const path = this.#pathOf(hex)
    await this.#mark()
    const file = await fs.open(temporary, 'create', 0o600)
    let place = temporary
    try {
      await closing(file, async () => {
        await file.write(bytes, 0)
        await file.datasync()
      })
      await this.#folders.change(join(path, '..'), async () => {
        await fs.rename(temporary, path)
        place = path
      })
    } catch (error) {
      // After a failed sync nobody knows what the disk holds: the file goes, the caller may store the block anew.
      await this.#discard(place)
      throw error
    }
  }

  // The mark needs no sync: a power cut takes it away together with all that it warns of.
  async #mark(): Promise<void> {
    const { fs, dir } = this.#init
    this.#marked ??= fs.open(join(dir, 'tmp', UNCLEAN), 'create', 0o600).then((file) => file.close())
    const mine = this.#marked
    try {
      await mine
    } catch (error) {
      if (this.#marked === mine) this.#marked = null
      throw error
    }
  }

  /** The bytes as they stand on disk; null when they cannot be those of a block. */
  async #read(hex: string): Promise<Uint8Array | null> {
    try {
      const file = await this.#init.fs.open(this.#pathOf(hex), 'read')
      return await closing(file, async () => {
        const { kind, sizeBytes } = await file.stat()
        if (kind !== 'file' || sizeBytes > FORMAT.blockBytes) return null
        const bytes = this.#init.allocate(sizeBytes)
        return (await file.read(bytes, 0)) === sizeBytes ? bytes : null
      })
    } catch (error) {
      const code = systemCode(error) ?? ''
      // What no disk in order answers for one of our files; the rest (too many open files, ...) says nothing about the block.
      if (['ENOENT', 'ELOOP', 'EISDIR', 'EIO', 'EACCES', 'ENXIO'].includes(code)) return null
      throw toFileError(error, 'reading a block')
    }
  }

  async #setAside(digest: Uint8Array, hex: string): Promise<void> {
    if (!this.#index.delete(digest)) return
    this.#init.log.warn('a stored block was damaged and has been set aside', { digest: hex })
    await this.#quarantine.take(hex, this.#pathOf(hex))
    for (const listener of this.#listeners) listener(digest.slice())
  }

  async #removeFile(path: string): Promise<void> {
    try {
      await this.#init.fs.remove(path, 'file')
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error
    }
  }

  /** Removes whatever stands in the place of a block; resolves to its size. */
  async #removeWhatever(path: string): Promise<number> {
    try {
      const { kind, sizeBytes } = await this.#init.fs.lstat(path)
      await this.#init.fs.remove(path, kind === 'folder' ? 'tree' : 'file')
      return sizeBytes
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return 0
      throw error
    }
  }

  async #discard(path: string): Promise<void> {
    try {
      await this.#removeFile(path)
    } catch (error) {
      // The first failure is the one to report; a leftover is cleared or verified later.
      this.#init.log.warn('an unfinished block could not be removed', { error })
    }
  }
}

async function closing<T>(file: OpenFile, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } finally {
    await file.close()
  }
}

function toHex(digest: Uint8Array): string {
  if (digest.length !== 32) throw new RangeError(`digest of ${digest.length} bytes, expected 32`)
  return Buffer.from(digest.buffer, digest.byteOffset, digest.length).toString('hex')
}

const fromHex = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'))

const NEVER = new AbortController().signal

const equal = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0
