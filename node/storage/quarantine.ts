/**
 * Damaged blocks, set aside for whoever wants to look at them: few, and only until the block is here again.
 *
 * Files `quarantine/<digest in hex>.<random>` in the home folder. Nothing is ever served or restored from here.
 */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { STORAGE } from '../../protocol/limits.ts'
import type { Log } from '../log.ts'
import { systemCode } from './file-error.ts'
import type { FileSystem } from './fs.ts'

export class Quarantine {
  readonly #dir: string
  readonly #fs: FileSystem
  readonly #log: Log
  /** File names by digest; at most STORAGE.quarantinedBlocksMax in all. */
  readonly #names = new Map<string, string[]>()
  #count = 0

  private constructor(dir: string, fs: FileSystem, log: Log) {
    this.#dir = dir
    this.#fs = fs
    this.#log = log
  }

  /** Looks at what an earlier run left: removed are blocks that are here again (`isHere`, by digest in hex), and what is over the bound. */
  static async open(init: { dir: string; fs: FileSystem; log: Log; isHere: (hex: string) => boolean }): Promise<Quarantine> {
    const quarantine = new Quarantine(init.dir, init.fs, init.log)
    for (const name of await init.fs.list(init.dir)) {
      const hex = /^([0-9a-f]{64})\./.exec(name)?.[1]
      if (hex === undefined || init.isHere(hex) || quarantine.#count >= STORAGE.quarantinedBlocksMax)
        await init.fs.remove(join(init.dir, name), 'tree')
      else quarantine.#note(hex, name)
    }
    return quarantine
  }

  /** Moves what stands at `path` here; removes it where enough is here already. */
  async take(hex: string, path: string): Promise<void> {
    try {
      if (this.#count >= STORAGE.quarantinedBlocksMax) return await this.#fs.remove(path, 'tree')
      const name = `${hex}.${randomBytes(4).toString('hex')}`
      await this.#fs.rename(path, join(this.#dir, name))
      this.#note(hex, name)
    } catch (error) {
      // It is out of the index; a file that cannot be moved is found again, and checked again, after the next start.
      if (systemCode(error) !== 'ENOENT') this.#log.warn('a damaged block could not be moved', { error })
    }
  }

  /** The block is here again: what was damaged is of no use any more. */
  async drop(hex: string): Promise<void> {
    const names = this.#names.get(hex)
    if (names === undefined) return
    this.#names.delete(hex)
    this.#count -= names.length
    try {
      for (const name of names) await this.#fs.remove(join(this.#dir, name), 'tree')
    } catch (error) {
      this.#log.warn('a damaged block that was set aside could not be removed', { error }) // looked at again at the next start
    }
  }

  #note(hex: string, name: string): void {
    this.#names.set(hex, [...(this.#names.get(hex) ?? []), name])
    this.#count += 1
  }
}
