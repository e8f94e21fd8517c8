/**
 * Which paths of this machine a request over HTTP may name: those below the folders of the setting `httpRoots`, after every symbolic
 * link on the way is resolved.
 *
 * The user of the control socket is the user of the machine and may name any. A token is handed to programs and pages, which get no more
 * than they were told to get: without the setting, nothing.
 */
import { lstat, realpath } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, normalize, sep } from 'node:path'
import { Refusal } from './door.ts'

/** The check for `roots`, absolute folders. */
export const pathsWithin =
  (roots: readonly string[]) =>
  async (paths: readonly string[]): Promise<void> => {
    const real = (await Promise.all(roots.map(realOrNull))).filter((root) => root !== null)
    for (const path of paths) {
      if (!isAbsolute(path) || normalize(path) !== path || path.includes('\0')) throw refused()
      const target = await realOfExisting(path)
      if (target === null || !real.some((root) => target === root || target.startsWith(root.endsWith(sep) ? root : root + sep)))
        throw refused()
    }
  }

// One sentence for all, so that nobody learns what exists elsewhere.
const refused = (): Refusal =>
  new Refusal(403, 'DENIED', 'over HTTP only plain absolute paths below the folders of the setting "httpRoots" may be named')

/** Where a path leads, or would lead once its missing last parts are made; null where that cannot be said. */
async function realOfExisting(path: string): Promise<string | null> {
  const found = await realOrNull(path)
  if (found !== null) return found
  // A dangling symbolic link is there, and leads elsewhere as soon as it does not dangle.
  const parent = dirname(path)
  if (parent === path || (await isThere(path))) return null
  const within = await realOfExisting(parent)
  return within === null ? null : join(within, basename(path))
}

const realOrNull = (path: string): Promise<string | null> => realpath(path).catch(() => null)

const isThere = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => error.code !== 'ENOENT',
  )
