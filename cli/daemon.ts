/** `shoal daemon`: a node in the foreground, until Ctrl-C, SIGTERM or `shoal stop`. It logs on standard error. */
import { EXIT } from '../protocol/errors.ts'
import { formatFields } from './format.ts'
import type { Io } from './io.ts'
import type { Globals } from './program.ts'
import type { Report } from './report.ts'
import { configOf, logTo, stopNode, whenAborted } from './session.ts'

/** Runs until stopped; resolves to the exit code. Throws JobError HOME_LOCKED when another node holds the home. */
export async function runDaemon(io: Io, globals: Globals, report: Report, signal: AbortSignal): Promise<number> {
  const config = await configOf(globals)
  signal.throwIfAborted()
  const node = await io.openLocal(config, { oneShot: false, log: logTo(io, config.logLevel) })
  try {
    const { peerId, socketPath } = node
    const addresses = node.addresses()
    if (globals.json) await report.answer({ peerId, addresses, home: config.home, socket: socketPath, pid: process.pid }, '')
    io.stderr.write(
      formatFields([
        ['peer id', peerId],
        ...addresses.map((address, i): [string, string] => [i === 0 ? 'addresses' : '', address]),
        ['home', config.home],
        ['network', config.network ?? 'public'],
      ]),
    )
    await Promise.race([node.whenStopped(), whenAborted(signal)])
  } finally {
    await stopNode(node)
  }
  return EXIT.ok
}
