/**
 * HOME/pins: an empty file for each share that is kept, named by its content ID: what a node keeps is known though its records are lost.
 *
 * The records say how it is kept, and hold its key; a share that is known by its pin alone comes back as one that is hosted blind.
 */
import { join } from 'node:path'
import { naming, systemCode } from './file-error.ts'
import type { FileSystem } from './fs.ts'
import type { KeepingRecord, Records } from './records.ts'

export class PinFiles {
  readonly #fs: FileSystem
  readonly #dir: string
  readonly #cids: Set<string>

  private constructor(fs: FileSystem, dir: string, cids: Set<string>) {
    this.#fs = fs
    this.#dir = dir
    this.#cids = cids
  }

  static async open(fs: FileSystem, home: string): Promise<PinFiles> {
    const dir = join(home, 'pins')
    return await naming('opening the list of what is kept', dir, async () => {
      try {
        await fs.mkdir(dir, 0o700)
        await fs.syncDirectory(home)
      } catch (error) {
        if (systemCode(error) !== 'EEXIST') throw error
      }
      const names = await fs.list(dir)
      return new PinFiles(fs, dir, new Set(names.filter((name) => CID.test(name))))
    })
  }

  get cids(): string[] {
    return [...this.#cids]
  }

  has(cid: string): boolean {
    return this.#cids.has(cid)
  }

  /** On disk when it resolves. */
  async add(cids: readonly string[]): Promise<void> {
    const fresh = cids.filter((cid) => !this.#cids.has(cid) && CID.test(cid))
    if (fresh.length === 0) return
    await naming('writing down what is kept', undefined, async () => {
      for (const cid of fresh) {
        try {
          await (await this.#fs.open(join(this.#dir, cid), 'create', 0o600)).close()
        } catch (error) {
          if (systemCode(error) !== 'EEXIST') throw error
        }
        this.#cids.add(cid)
      }
      await this.#fs.syncDirectory(this.#dir)
    })
  }

  /** On disk when it resolves; nothing happens when there is none. */
  async remove(cid: string): Promise<void> {
    if (!this.#cids.delete(cid)) return
    await naming('writing down what is kept no more', undefined, async () => {
      try {
        await this.#fs.remove(join(this.#dir, cid), 'file')
      } catch (error) {
        if (systemCode(error) === 'ENOENT') return
        throw error
      }
      await this.#fs.syncDirectory(this.#dir)
    })
  }
}

const CID = /^[a-z2-7]{59}$/

/**
 * Records that keep the pins in step: a pin follows its record, and goes before it, so that a cut-off removal leaves the share as it was.
 * A share that is only cached has none.
 */
export async function withPinFiles(records: Records, pins: PinFiles): Promise<Records> {
  const cached = new Set<string>()
  const note = (rows: readonly KeepingRecord[]): void => {
    for (const { cid, isCached } of rows) {
      if (isCached) cached.add(cid)
      else cached.delete(cid)
    }
  }
  note(await records.listKeeping())
  return {
    listShares: () => records.listShares(),
    getShare: (cid) => records.getShare(cid),
    async saveShare(record) {
      await records.saveShare(record)
      if (!cached.has(record.cid)) await pins.add([record.cid])
    },
    async removeShare(cid) {
      await pins.remove(cid)
      cached.delete(cid)
      return await records.removeShare(cid)
    },
    setAnnounced: (cid, atMs) => records.setAnnounced(cid, atMs),
    listKeeping: () => records.listKeeping(),
    async saveKeeping(rows) {
      const freed = rows.filter(({ cid, isCached }) => cached.has(cid) && !isCached)
      for (const { cid } of rows.filter(({ isCached }) => isCached)) await pins.remove(cid)
      await records.saveKeeping(rows)
      note(rows)
      await pins.add(freed.map(({ cid }) => cid))
    },
    getSetting: (name) => records.getSetting(name),
    setSetting: (name, value) => records.setSetting(name, value),
    datastore: () => records.datastore(),
    dump: () => records.dump(),
    async fill(dump) {
      await records.fill(dump)
      note(await records.listKeeping())
      await pins.add((await records.listShares()).map(({ cid }) => cid).filter((cid) => !cached.has(cid)))
    },
    close: () => records.close(),
  }
}
