/**
 * CAR files on disk: one that is read block by block, and one that is written whole or not at all.
 *
 * Neither holds more in memory than the block that is asked for or given. What the bytes mean is said by protocol/car.ts.
 */
import { randomBytes } from 'node:crypto'
import { basename, dirname, join, resolve } from 'node:path'
import { CAR_HEAD_BYTES_MAX, type CarSection, decodeCarHeader, decodeCarSection } from '../../protocol/car.ts'
import type { ShareCid } from '../../protocol/cid.ts'
import { FormatError } from '../../protocol/errors.ts'
import { moveFile } from './extract-move.ts'
import { lookAt } from './extract-target.ts'
import { FileError, naming, showPath } from './file-error.ts'
import type { FileSystem, OpenFile } from './fs.ts'

/** A CAR file that is read from its beginning to its end. Close it exactly once. */
export class CarSource {
  readonly root: ShareCid
  readonly fileBytes: number
  readonly #path: string
  readonly #file: OpenFile
  readonly #head = new Uint8Array(CAR_HEAD_BYTES_MAX)
  #at: number
  #next: CarSection | null = null

  private constructor(path: string, file: OpenFile, fileBytes: number, root: ShareCid, at: number) {
    this.#path = path
    this.#file = file
    this.fileBytes = fileBytes
    this.root = root
    this.#at = at
  }

  /** Throws FileError, or FormatError C1 when it is no CAR file of a share. */
  static async open(fs: FileSystem, path: string): Promise<CarSource> {
    return await naming('reading', path, async () => {
      // The user named it, so a symlink is fine.
      const file = await fs.open(await fs.realpath(path), 'read')
      try {
        const { kind, sizeBytes } = await file.stat()
        if (kind !== 'file') throw new FileError('DENIED', `${showPath(path)} is not a file`, { path })
        const head = new Uint8Array(Math.min(CAR_HEAD_BYTES_MAX, sizeBytes))
        const { root, headBytes } = decodeCarHeader(head.subarray(0, await file.read(head, 0)))
        return new CarSource(path, file, sizeBytes, root, headBytes)
      } catch (error) {
        await file.close()
        throw error
      }
    })
  }

  get isAtEnd(): boolean {
    return this.#next === null && this.#at >= this.fileBytes
  }

  /** The head of the next block; null at the end. The same until `read` takes the block. FormatError C2. */
  async peek(): Promise<CarSection | null> {
    if (this.#next !== null) return this.#next
    if (this.isAtEnd) return null
    const head = this.#head.subarray(0, Math.min(CAR_HEAD_BYTES_MAX, this.fileBytes - this.#at))
    const section = decodeCarSection(head.subarray(0, await this.#read(head)))
    if (section.headBytes + section.blockBytes > this.fileBytes - this.#at) {
      throw new FormatError('C2', 'the file ends inside a block')
    }
    this.#at += section.headBytes
    this.#next = { ...section, digest: section.digest.slice() }
    return this.#next
  }

  /** The bytes of the block whose head was peeked, into `target`, which has its length. */
  async read(target: Uint8Array): Promise<void> {
    this.#next = null
    if ((await this.#read(target)) < target.length) throw new FormatError('C2', 'the file became shorter while it was read')
    this.#at += target.length
  }

  close(): Promise<void> {
    return this.#file.close()
  }

  #read(target: Uint8Array): Promise<number> {
    return naming('reading', this.#path, () => this.#file.read(target, this.#at))
  }
}

/** A CAR file that is written beside its place and moved there when it is whole. End it by `finish` or `abandon`. */
export class CarTarget {
  readonly #fs: FileSystem
  readonly #path: string
  readonly #temporary: string
  readonly #file: OpenFile
  #at = 0

  private constructor(fs: FileSystem, path: string, temporary: string, file: OpenFile) {
    this.#fs = fs
    this.#path = path
    this.#temporary = temporary
    this.#file = file
  }

  /** FileError EXISTS when anything stands at `path`, or with `force` anything but a file; NO_SPACE when `fileBytes` do not fit. */
  static async create(fs: FileSystem, path: string, force: boolean, fileBytes: number): Promise<CarTarget> {
    return await naming('writing', path, async () => {
      const folder = await fs.realpath(dirname(resolve(path)))
      const place = join(folder, basename(path))
      const found = await lookAt(fs, place)
      if (found !== null && !force) throw new FileError('EXISTS', `${showPath(path)} exists; --force replaces it`, { path })
      if (found !== null && found.kind !== 'file') throw new FileError('EXISTS', `${showPath(path)} exists and is not a file`, { path })
      const { freeBytes } = await fs.space(folder)
      if (freeBytes < fileBytes) {
        const [needed, free] = [fileBytes, freeBytes].map((bytes) => Math.ceil(bytes / 2 ** 20))
        throw new FileError('NO_SPACE', `disk full: ${showPath(path)} needs ${needed} MiB and there are ${free} MiB free`, { path })
      }
      const temporary = `${place}.${randomBytes(8).toString('hex')}.part`
      return new CarTarget(fs, place, temporary, await fs.open(temporary, 'create', 0o644))
    })
  }

  get writtenBytes(): number {
    return this.#at
  }

  /** Appends; `bytes` are borrowed until it resolves. */
  async append(bytes: Uint8Array): Promise<void> {
    await naming('writing', this.#path, () => this.#file.write(bytes, this.#at))
    this.#at += bytes.length
  }

  /** Puts the file in its place, durable. What came up there meanwhile is replaced with `force` only. */
  async finish(force: boolean): Promise<void> {
    await naming('writing', this.#path, async () => {
      try {
        await this.#file.datasync()
      } finally {
        await this.#file.close()
      }
      try {
        await moveFile(this.#fs, this.#temporary, this.#path, force)
      } catch (error) {
        await this.#fs.remove(this.#temporary, 'file').catch(() => {}) // the first failure is the one to report
        throw error
      }
      await this.#fs.syncDirectory(dirname(this.#path))
    })
  }

  /** Leaves nothing behind. */
  async abandon(): Promise<void> {
    await this.#file.close().catch(() => {}) // it goes anyway
    await this.#fs.remove(this.#temporary, 'file').catch(() => {}) // what stopped the writing is the failure to report
  }
}
