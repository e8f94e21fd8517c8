/**
 * The node behind a command: the daemon of the home when one runs, else a node in this process for as long as it is needed.
 *
 * A node opened here takes the home's lock and opens its socket, so a second command joins it instead of failing.
 */
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Config, type ConfigOverrides, loadConfig } from '../node/config.ts'
import { JobError, type ShoalApi } from '../node/control/api.ts'
import { connectControl, socketPathFor } from '../node/control/client.ts'
import { createLog, type LeveledLog, type LogLevel } from '../node/log.ts'
import { defaultHome } from '../node/paths.ts'
import { WAITS } from '../protocol/limits.ts'
import type { Globals } from './globals.ts'
import type { Io } from './io.ts'
import type { ShoalNode } from './local-node.ts'

/** What a verb needs: a node that runs already, any with a network, or only what is in the home. */
export type Need = 'running' | 'online' | 'offline'

export interface Session {
  api: ShoalApi
  /** The node of this process; null when the daemon does the work. */
  own: ShoalNode | null
}

/** Somebody else may hold the lock while its socket is not open yet, or not any more. */
const JOIN_TRIES = 30
const JOIN_PAUSE_MS = 100

/** Finds or opens the node. Throws JobError NO_DAEMON when `need` is a running one and there is none. */
export async function openSession(io: Io, globals: Globals, need: Need, signal: AbortSignal): Promise<Session> {
  // Who only asks a node that runs needs no config: a file that is not sound must not keep anybody from stopping it.
  const socketPath = socketPathFor(homeOf(globals))
  for (let tries = 1; ; tries++) {
    signal.throwIfAborted()
    const api = await connectControl(socketPath)
    if (api !== null) {
      warnOfIdleOptions(io, globals)
      return { api, own: null }
    }
    if (need === 'running') throw new JobError('NO_DAEMON', 'no daemon runs for this home')
    const config = await configOf(globals)
    try {
      // Commands keep quiet unless asked; a daemon logs.
      const level = globals.logLevel ?? (globals.verbose ? 'info' : 'silent')
      const own = await io.openLocal(config, { oneShot: true, offline: need === 'offline', log: logTo(io, level) })
      return { api: own.api, own }
    } catch (error) {
      if (!(error instanceof JobError) || error.code !== 'HOME_LOCKED' || tries >= JOIN_TRIES) throw error
      await sleep(JOIN_PAUSE_MS, undefined, { signal })
    }
  }
}

/** The home that the options name; absolute. */
export const homeOf = (globals: Globals): string => resolve(globals.home ?? defaultHome())

/** The config that the options of this command and the home's file make. */
export async function configOf(globals: Globals): Promise<Config> {
  const overrides: ConfigOverrides = {}
  if (globals.network !== null) overrides.network = globals.network
  if (globals.bootstrap !== null) overrides.bootstrap = globals.bootstrap
  if (globals.listen !== null) overrides.listen = globals.listen
  if (globals.mdns !== null) overrides.mdns = globals.mdns
  if (globals.up !== undefined) overrides.uploadBytesPerSecond = globals.up
  if (globals.down !== undefined) overrides.downloadBytesPerSecond = globals.down
  if (globals.http !== null) overrides.http = globals.http
  if (globals.capLan !== null) overrides.lanExempt = !globals.capLan
  if (globals.logLevel !== null || globals.verbose) overrides.logLevel = globals.logLevel ?? 'debug'
  return await loadConfig({ home: homeOf(globals), overrides })
}

/** A log on standard error: text for people at a terminal, JSON for programs. */
export const logTo = (io: Pick<Io, 'stderr'>, level: LogLevel): LeveledLog =>
  createLog(level, (line) => io.stderr.write(line), io.stderr.isTTY === true ? 'text' : 'json')

function warnOfIdleOptions(io: Io, globals: Globals): void {
  const idle = [
    globals.network !== null && '--network',
    globals.bootstrap !== null && '--bootstrap',
    globals.listen !== null && '--listen',
    globals.mdns !== null && '--mdns',
    globals.http !== null && '--http',
    globals.up !== undefined && '--up',
    globals.down !== undefined && '--down',
    globals.capLan !== null && '--cap-lan',
  ].filter((name) => name !== false)
  if (idle.length > 0) io.stderr.write(`shoal: a node runs for this home already, so ${idle.join(', ')} changed nothing\n`)
}

/** Stops a node, waiting no longer than WAITS.stopMs. */
export async function stopNode(node: ShoalNode): Promise<void> {
  const patience = new AbortController()
  await Promise.race([node.stop(), sleep(WAITS.stopMs, undefined, { signal: patience.signal }).catch(() => {})])
  patience.abort()
}

/** Resolves when `signal` is aborted. */
export function whenAborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  if (signal.aborted) resolve()
  else signal.addEventListener('abort', () => resolve(), { once: true })
  return promise
}
