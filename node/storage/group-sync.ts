/**
 * Folder syncs shared between those who wait for the same folder.
 *
 * A caller's own rename or link must be over before it asks. A sync that is already under way may have begun before that rename, so
 * such a caller shares the next one; at most one runs and one is due per folder. A failed sync fails all who shared it, never repeated.
 */
import type { FileSystem } from './fs.ts'

/** Groups syncDirectory calls per folder. */
export class GroupSync {
  readonly #fs: FileSystem
  readonly #running = new Map<string, Promise<void>>()
  readonly #due = new Map<string, Promise<void>>()

  constructor(fs: FileSystem) {
    this.#fs = fs
  }

  /** Resolves once a sync of `folder` that began after this call has succeeded. */
  sync(folder: string): Promise<void> {
    const due = this.#due.get(folder)
    if (due !== undefined) return due
    const running = this.#running.get(folder)
    if (running === undefined) return this.#start(folder)
    const next = running
      // Whoever shared the failed sync has been told; ours is another one.
      .catch(() => {})
      .then(() => {
        this.#due.delete(folder)
        return this.#start(folder)
      })
    this.#due.set(folder, next)
    return next
  }

  #start(folder: string): Promise<void> {
    const sync = this.#fs.syncDirectory(folder).finally(() => {
      if (this.#running.get(folder) === sync) this.#running.delete(folder)
    })
    this.#running.set(folder, sync)
    return sync
  }
}
