/**
 * Folder syncs shared between those who wait for the same folder.
 *
 * A caller's own rename or link must be over before it asks. A sync that is already under way may have begun before that rename, so
 * such a caller shares the next one; at most one runs and one is due per folder. A failed sync is never repeated, and it fails all
 * whose change was in the folder when it failed: the system may have dropped any of them, and says so once only.
 */
import { FileError } from './file-error.ts'
import type { FileSystem } from './fs.ts'

/** Groups syncDirectory calls per folder. */
export class GroupSync {
  readonly #fs: FileSystem
  readonly #running = new Map<string, Promise<void>>()
  readonly #due = new Map<string, Promise<void>>()
  // How many syncs of a folder have failed; as many entries as there are folders.
  readonly #failures = new Map<string, number>()

  constructor(fs: FileSystem) {
    this.#fs = fs
  }

  /** Whether every sync so far has succeeded. */
  get isSound(): boolean {
    return this.#failures.size === 0
  }

  /** Runs `change`, a rename or link in `folder`, and resolves once it is durable. Throws when any sync of the folder failed since. */
  async change(folder: string, change: () => Promise<void>): Promise<void> {
    const before = this.#failures.get(folder) ?? 0
    await change()
    await this.sync(folder)
    if ((this.#failures.get(folder) ?? 0) !== before) throw new FileError('IO', 'a sync of the folder failed meanwhile')
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
    const sync = this.#fs
      .syncDirectory(folder)
      .catch((error: unknown) => {
        this.#failures.set(folder, (this.#failures.get(folder) ?? 0) + 1)
        throw error
      })
      .finally(() => {
        if (this.#running.get(folder) === sync) this.#running.delete(folder)
      })
    this.#running.set(folder, sync)
    return sync
  }
}
