/**
 * Offers a ShoalApi on the control socket: HTTP/1.1 over a unix socket, one request a connection, routes of routes.ts.
 *
 * The folder and mode of the socket keep other users out; a request with a browser's headers is refused all the same.
 */

import { chmod } from 'node:fs/promises'
import { type Hit, NO_HIT } from '../../protocol/limit-table.ts'
import type { Log } from '../log.ts'
import { JobError, type ShoalApi, VERSION } from './api.ts'
import { openFront } from './front.ts'
import { VERSION_HEADER } from './routes.ts'
import { prepareSocketFolder, removeStaleSocket } from './socket-folder.ts'

export interface ControlServer {
  /** Takes no more requests, aborts the jobs of clients, waits for their answers to end (at most WAITS.stopMs), removes the socket. */
  close(): Promise<void>
}

/**
 * Listens on `socketPath` (mode 0600, in a 0700 folder, which it creates if need be). Throws JobError HOME_LOCKED when somebody answers
 * there already, INSECURE when the folder is open to others. Aborting `signal` closes.
 */
export async function serveControl(init: {
  api: ShoalApi
  socketPath: string
  log: Log
  signal: AbortSignal
  hit?: Hit
}): Promise<ControlServer> {
  const { api, socketPath, log, signal, hit = NO_HIT } = init
  signal.throwIfAborted()
  await prepareSocketFolder(socketPath)
  await removeStaleSocket(socketPath)
  const door = { hosts: ['localhost'], origins: [], token: null, verbs: null, checkPaths: null }
  const front = openFront({ api, log, door, headers: { [VERSION_HEADER]: VERSION }, hit })
  try {
    await front.listen({ path: socketPath })
    // The folder keeps others out in the moment before this.
    if (process.platform !== 'win32') await chmod(socketPath, 0o600)
  } catch (cause) {
    await front.close()
    throw new JobError('DENIED', `the control socket ${socketPath} cannot be opened`, { cause })
  }
  signal.addEventListener('abort', () => void front.close(), { once: true })
  return { close: () => front.close() }
}
