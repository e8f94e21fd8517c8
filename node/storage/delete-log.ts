/**
 * The list of blocks that are being deleted, on disk before the first of them goes: a deletion that was cut off is finished at the next start.
 *
 * It is an intention and no order: whoever takes it up again looks first at what is needed by then. A list that was damaged counts as
 * none; what it named is found again as blocks that nobody needs.
 */
import { createHash, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { STORAGE } from '../../protocol/limits.ts'
import type { Log } from '../log.ts'
import { naming, systemCode } from './file-error.ts'
import type { FileSystem, OpenFile } from './fs.ts'

const DIGEST_BYTES = 32
const PART_BYTES = 2 ** 20

/** HOME/delete-log: SHA-256 of the rest, then the digests, one after another. */
export class DeleteLog {
  readonly #dir: string
  readonly #fs: FileSystem
  readonly #log: Log

  constructor(init: { dir: string; fs: FileSystem; log: Log }) {
    this.#dir = init.dir
    this.#fs = init.fs
    this.#log = init.log
  }

  get #path(): string {
    return join(this.#dir, 'delete-log')
  }

  /** Replaces the list; on disk when it resolves. At most STORAGE.deletionsMax digests, joined, borrowed until then. */
  async write(digests: Uint8Array): Promise<void> {
    if (digests.length % DIGEST_BYTES !== 0 || digests.length > STORAGE.deletionsMax * DIGEST_BYTES) {
      throw new RangeError(`${digests.length} bytes of digests, limit ${STORAGE.deletionsMax * DIGEST_BYTES}`)
    }
    const temporary = join(this.#dir, 'tmp', `${randomBytes(16).toString('hex')}.log`)
    await naming('writing down what is deleted', undefined, async () => {
      const file = await this.#fs.open(temporary, 'create', 0o600)
      try {
        await closing(file, async () => {
          const hash = createHash('sha256')
          for (let at = 0; at < digests.length; at += PART_BYTES) {
            const part = digests.subarray(at, at + PART_BYTES)
            hash.update(part)
            await file.write(part, DIGEST_BYTES + at)
          }
          await file.write(new Uint8Array(hash.digest()), 0)
          await file.datasync()
        })
        await this.#fs.rename(temporary, this.#path)
      } catch (error) {
        await this.#fs.remove(temporary, 'tree').catch(() => {}) // the first failure is the one to report; tmp is cleared at start
        throw error
      }
      await this.#fs.syncDirectory(this.#dir)
    })
  }

  /** The digests of an unfinished deletion, joined; null when there is none. */
  async read(): Promise<Uint8Array | null> {
    try {
      const file = await this.#fs.open(this.#path, 'read')
      const bytes = await closing(file, async () => {
        const { kind, sizeBytes } = await file.stat()
        const isProper = kind === 'file' && sizeBytes >= DIGEST_BYTES && sizeBytes % DIGEST_BYTES === 0
        if (!isProper || sizeBytes > (STORAGE.deletionsMax + 1) * DIGEST_BYTES) return null
        const whole = new Uint8Array(sizeBytes)
        return (await file.read(whole, 0)) === sizeBytes ? whole : null
      })
      const digests = bytes?.subarray(DIGEST_BYTES) ?? null
      if (bytes === null || digests === null) return this.#damaged()
      const hash = createHash('sha256').update(digests).digest()
      return Buffer.compare(hash, bytes.subarray(0, DIGEST_BYTES)) === 0 ? digests : this.#damaged()
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return null
      this.#log.warn('the list of blocks to delete cannot be read', { error })
      return null
    }
  }

  /** The deletion is done. */
  async clear(): Promise<void> {
    await naming('ending a deletion', undefined, async () => {
      await this.#fs.remove(this.#path, 'tree')
      await this.#fs.syncDirectory(this.#dir)
    })
  }

  #damaged(): null {
    this.#log.warn('the list of blocks to delete was damaged: what it named is found again by `shoal gc`')
    return null
  }
}

async function closing<T>(file: OpenFile, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } finally {
    await file.close()
  }
}
