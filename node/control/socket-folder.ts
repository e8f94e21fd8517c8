/**
 * The folder that a control socket stands in: 0700 and ours, or neither side touches it.
 *
 * The socket takes orders from whoever can open it, and the client tells it links; both trust the folder's mode, not the socket's alone.
 */
import { lstat, mkdir, stat, unlink } from 'node:fs/promises'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { JobError } from './api.ts'

/** Windows keeps its pipes in a name space of their own, private to the user by default. */
const hasFolder = (socketPath: string): boolean => !socketPath.startsWith('\\\\.\\pipe\\')

/** Creates the folder if need be. Throws JobError INSECURE when others own it or can enter it. */
export async function prepareSocketFolder(socketPath: string): Promise<void> {
  if (!hasFolder(socketPath)) return
  await mkdir(dirname(socketPath), { recursive: true, mode: 0o700 })
  await isSocketFolderThere(socketPath)
}

/** False when the folder is not there; throws JobError INSECURE when others own it or can enter it. */
export async function isSocketFolderThere(socketPath: string): Promise<boolean> {
  if (!hasFolder(socketPath)) return true
  const folder = dirname(socketPath)
  let found: Awaited<ReturnType<typeof stat>>
  try {
    found = await stat(folder)
  } catch (cause) {
    if (isMissing(cause)) return false
    throw new JobError('DENIED', `folder ${folder} cannot be read`, { cause })
  }
  if (!found.isDirectory()) throw new JobError('BAD_INPUT', `${folder} is not a folder`)
  const isOurs = process.getuid === undefined || found.uid === process.getuid()
  if (!isOurs) throw new JobError('INSECURE', `folder ${folder} belongs to another user`)
  if (process.platform !== 'win32' && (found.mode & 0o077) !== 0) {
    throw new JobError('INSECURE', `folder ${folder} is open to other users; run: chmod 700 ${folder}`)
  }
  return true
}

/** Whether somebody accepts connections on the socket. */
export async function isAnswered(socketPath: string): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>()
  const socket = connect({ path: socketPath, timeout: 5_000 })
  socket.once('connect', () => resolve(true))
  // A backlog that is full for this long still has somebody behind it.
  socket.once('timeout', () => resolve(true))
  socket.once('error', (cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ECONNREFUSED' || cause.code === 'ENOENT' || cause.code === 'ENOTSOCK') resolve(false)
    else if (cause.code === 'EAGAIN') resolve(true)
    else reject(new JobError('DENIED', `the control socket ${socketPath} cannot be opened`, { cause }))
  })
  try {
    return await promise
  } finally {
    socket.destroy()
  }
}

/** Removes a socket file that nobody answers on. Throws JobError HOME_LOCKED when somebody does, EXISTS when it is no socket. */
export async function removeStaleSocket(socketPath: string): Promise<void> {
  if (!hasFolder(socketPath)) return
  let found: Awaited<ReturnType<typeof lstat>>
  try {
    found = await lstat(socketPath)
  } catch (cause) {
    if (isMissing(cause)) return
    throw new JobError('DENIED', `${socketPath} cannot be read`, { cause })
  }
  if (!found.isSocket()) throw new JobError('EXISTS', `${socketPath} stands where the control socket belongs and is no socket`)
  if (await isAnswered(socketPath)) throw new JobError('HOME_LOCKED', `another Shoal answers on ${socketPath}`)
  await unlink(socketPath)
}

const isMissing = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')
