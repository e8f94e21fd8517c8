/** What the command line touches outside itself, handed in so that tests can hold the other end. */
import type { Readable, Writable } from 'node:stream'
import type { importHome, openLocalNode } from './local-node.ts'

export interface Io {
  stdin: Readable & { isTTY?: boolean }
  stdout: Writable & { isTTY?: boolean }
  stderr: Writable & { isTTY?: boolean }
  /** What relative paths start from. */
  cwd: string
  /** Calls back on every Ctrl-C, SIGTERM and hang-up. */
  onInterrupt(handler: () => void): void
  /** Calls back on every hang-up from now on, which then interrupts nothing; never where a terminal was closed. */
  onReload(handler: () => void): void
  /** Ends the process at once. */
  exitNow(code: number): void
  /** Opens a node in this process. */
  openLocal: typeof openLocalNode
  /** Makes a home of what was exported. */
  importHome: typeof importHome
}

/** Writes and waits until the stream takes more; ends early when it was closed. */
export async function writeAll(stream: Writable, chunk: string | Uint8Array): Promise<void> {
  if (stream.destroyed || stream.write(chunk)) return
  const { promise, resolve } = Promise.withResolvers<void>()
  const go = (): void => resolve()
  stream.once('drain', go)
  stream.once('close', go)
  stream.once('error', go)
  await promise
  stream.off('drain', go)
  stream.off('close', go)
  stream.off('error', go)
}
