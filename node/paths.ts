/**
 * Where things are: the home folder by the platform's convention, and the control socket of a home.
 *
 * Computes paths only; creating and checking the folders is done by who uses them (storage/home.ts, control/socket-folder.ts).
 */
import { createHash } from 'node:crypto'
import { homedir, tmpdir, userInfo } from 'node:os'
import { join, posix, resolve, win32 } from 'node:path'
import { JobError } from './control/api.ts'

/** What the paths depend on; `machine()` for the real one. */
export interface Machine {
  platform: string
  env: Record<string, string | undefined>
  /** The user's home folder. */
  homeDir: string
  tempDir: string
  /** Distinguishes users in shared folders: the uid, or the name where there are none. */
  user: string
}

/** The machine that this process runs on. */
export function machine(): Machine {
  const user = process.getuid ? String(process.getuid()) : userInfo().username
  return { platform: process.platform, env: process.env, homeDir: homedir(), tempDir: tmpdir(), user }
}

/** The folder of the node when the user names none: SHOAL_HOME, or the platform's place for application data. Absolute. */
export function defaultHome(at: Machine = machine()): string {
  const named = at.env.SHOAL_HOME
  if (named) return resolve(named)
  if (at.platform === 'win32') return win32.join(at.env.LOCALAPPDATA || win32.join(at.homeDir, 'AppData', 'Local'), 'shoal')
  if (at.platform === 'darwin') return posix.join(at.homeDir, 'Library', 'Application Support', 'shoal')
  const data = at.env.XDG_DATA_HOME
  // The XDG rules: a relative path there is to be ignored.
  return posix.join(data && posix.isAbsolute(data) ? data : posix.join(at.homeDir, '.local', 'share'), 'shoal')
}

/** Longest path that fits in a sockaddr_un with its closing zero: 108 bytes on Linux, 104 on the BSDs and macOS. */
const socketPathBytesMax = (platform: string): number => (platform === 'linux' ? 107 : 103)

/**
 * The control socket of a home: HOME/control.sock, or, where that is too long for a socket address, a folder of its own under the
 * runtime directory, named by a hash of the home. A named pipe on Windows. Throws JobError BAD_INPUT when neither fits.
 */
export function socketPathFor(home: string, at: Machine = machine()): string {
  const absolute = resolve(home)
  const id = createHash('sha256').update(absolute).digest('hex').slice(0, 24)
  if (at.platform === 'win32') return `\\\\.\\pipe\\shoal-${at.user}-${id}`
  const bytesMax = socketPathBytesMax(at.platform)
  const inHome = join(absolute, 'control.sock')
  if (fits(inHome, bytesMax)) return inHome
  const inRuntime = join(at.env.XDG_RUNTIME_DIR || at.tempDir, `shoal-${at.user}-${id}`, 'control.sock')
  if (fits(inRuntime, bytesMax)) return inRuntime
  throw new JobError('BAD_INPUT', `no path for the control socket is short enough (limit ${bytesMax} bytes); choose a shorter --home`)
}

const fits = (path: string, bytesMax: number): boolean => new TextEncoder().encode(path).length <= bytesMax
