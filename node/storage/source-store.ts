/**
 * HOME/sources: one small file for each share that is kept in place, named by its content ID. Which files those are, see source-tree.ts.
 *
 * A file is there whole or not at all, and on disk before `save` resolves.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { SOURCES } from '../../protocol/limits.ts'
import { FileError, naming, systemCode } from './file-error.ts'
import type { FileSystem } from './fs.ts'
import { decodeSources, encodeSources, type SourceList } from './source-tree.ts'

export class SourceStore {
  readonly #fs: FileSystem
  readonly #dir: string

  private constructor(fs: FileSystem, dir: string) {
    this.#fs = fs
    this.#dir = dir
  }

  /** Opens the folder in a home, and clears what an interrupted run left half-written. */
  static async open(fs: FileSystem, home: string): Promise<SourceStore> {
    const dir = join(home, 'sources')
    await naming('opening the list of sources', dir, async () => {
      try {
        await fs.mkdir(dir, 0o700)
        await fs.syncDirectory(home)
      } catch (error) {
        if (systemCode(error) !== 'EEXIST') throw error
      }
      for (const name of await fs.list(dir)) if (name.endsWith('.tmp')) await fs.remove(join(dir, name), 'tree')
    })
    return new SourceStore(fs, dir)
  }

  /** What is kept of a share; no trees when there is nothing. FileError CORRUPT, NEWER. */
  async load(cid: string): Promise<SourceList> {
    const path = this.#pathOf(cid)
    return await naming('reading the sources of a share', path, async () => {
      let file: Awaited<ReturnType<FileSystem['open']>>
      try {
        file = await this.#fs.open(path, 'read')
      } catch (error) {
        if (systemCode(error) === 'ENOENT') return { rootPlain: new Uint8Array(0), trees: [] }
        throw error
      }
      try {
        const { sizeBytes } = await file.stat()
        if (sizeBytes > SOURCES.fileBytesMax) throw new FileError('CORRUPT', `a list of sources of ${sizeBytes} bytes`, { path })
        const bytes = new Uint8Array(sizeBytes)
        return decodeSources(bytes.subarray(0, await file.read(bytes, 0)))
      } finally {
        await file.close()
      }
    })
  }

  /** Resolves once it is on disk. FileError TOO_LARGE, NO_SPACE, DENIED, IO. */
  async save(cid: string, list: SourceList): Promise<void> {
    const bytes = encodeSources(list)
    if (bytes.length > SOURCES.fileBytesMax) throw new FileError('TOO_LARGE', 'too many files to keep this share in place')
    const path = this.#pathOf(cid)
    const temporary = `${path}.${randomBytes(8).toString('hex')}.tmp`
    await naming('writing the sources of a share', path, async () => {
      try {
        const file = await this.#fs.open(temporary, 'create', 0o600)
        try {
          await file.write(bytes, 0)
          await file.datasync()
        } finally {
          await file.close()
        }
        await this.#fs.rename(temporary, path)
      } catch (error) {
        await this.#fs.remove(temporary, 'tree')
        throw error
      }
      await this.#fs.syncDirectory(this.#dir)
    })
  }

  /** Nothing happens when there is none. */
  async remove(cid: string): Promise<void> {
    const path = this.#pathOf(cid)
    await naming('removing the sources of a share', path, async () => {
      try {
        await this.#fs.remove(path, 'file')
      } catch (error) {
        if (systemCode(error) === 'ENOENT') return
        throw error
      }
      await this.#fs.syncDirectory(this.#dir)
    })
  }

  #pathOf(cid: string): string {
    if (!/^[a-z2-7]{59}$/.test(cid)) throw new RangeError('not a content ID')
    return join(this.#dir, cid)
  }
}
