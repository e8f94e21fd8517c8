/** `shoal daemon`: a node in the foreground, until Ctrl-C, SIGTERM or `shoal stop`. It logs on standard error, or to a file in its home. */
import { join } from 'node:path'
import type { Config } from '../node/config.ts'
import { createLog, type Log } from '../node/log.ts'
import { LogFile } from '../node/log-file.ts'
import { EXIT } from '../protocol/errors.ts'
import { formatFields } from './format.ts'
import type { Globals } from './globals.ts'
import type { Io } from './io.ts'
import type { ShoalNode } from './local-node.ts'
import type { Report } from './report.ts'
import { configOf, logTo, stopNode, whenAborted } from './session.ts'

/** Runs until stopped; resolves to the exit code. Throws JobError HOME_LOCKED when another node holds the home. */
export async function runDaemon(io: Io, globals: Globals, toFile: boolean, report: Report, signal: AbortSignal): Promise<number> {
  const config = await configOf(globals)
  signal.throwIfAborted()
  const file = toFile ? new LogFile(join(config.home, 'daemon.log')) : null
  const log = file === null ? logTo(io, config.logLevel) : createLog(config.logLevel, file.write)
  try {
    const node = await io.openLocal(config, { oneShot: false, log })
    io.onReload(() => void reload(node, log))
    return await runNode(node, config, io, globals, report, signal)
  } finally {
    await file?.close()
  }
}

/** Reads the config file again; one that is not sound changes nothing. */
async function reload(node: ShoalNode, log: Log): Promise<void> {
  try {
    await node.reload()
    log.info('the config file was read again')
  } catch (error) {
    log.error('the config file was read again and is of no use: nothing has changed', { error })
  }
}

async function runNode(node: ShoalNode, config: Config, io: Io, globals: Globals, report: Report, signal: AbortSignal): Promise<number> {
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
