/** `shoal service …`: what it says. What it does stands in service.ts. */
import { realpath } from 'node:fs/promises'
import { homedir, userInfo } from 'node:os'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { JobError } from '../../node/control/api.ts'
import { connectControl, socketPathFor } from '../../node/control/client.ts'
import { defaultHome } from '../../node/paths.ts'
import { EXIT } from '../../protocol/errors.ts'
import { WAITS } from '../../protocol/limits.ts'
import { formatFields } from '../format.ts'
import type { Globals } from '../globals.ts'
import type { Report } from '../report.ts'
import { installService, runProgram, type ServiceMachine, type ServiceResult, serviceStatus, uninstallService } from './service.ts'

export interface ServiceCall {
  verb: 'service'
  action: 'install' | 'uninstall' | 'status'
  dryRun: boolean
}

const thisMachine = (): ServiceMachine => ({
  platform: process.platform,
  homeDir: homedir(),
  configHome: process.env.XDG_CONFIG_HOME || undefined,
  uid: process.getuid?.() ?? 0,
  user: userInfo().username,
  run: runProgram,
})

/** Runs the verb for the home and with the options of `globals`; `machine` is given by tests. */
export async function runService(call: ServiceCall, globals: Globals, report: Report, machine = thisMachine()): Promise<number> {
  if (call.action === 'status') {
    const status = await serviceStatus(machine)
    await report.answer(status, sayStatus(status))
    return status.running === true ? EXIT.ok : EXIT.noDaemon
  }
  const result = call.action === 'install' ? await install(call, globals, machine) : await uninstallService(machine, call.dryRun)
  await report.answer(result, sayResult(call, result))
  return EXIT.ok
}

async function install(call: ServiceCall, globals: Globals, machine: ServiceMachine): Promise<ServiceResult> {
  const command = { ...(await commandOf(globals.home)), options: optionsOf(globals) }
  return await installService(command, machine, call.dryRun, await holderOf(command.home))
}

/** The node that answers for a home, in words; null when none does. */
export async function holderOf(home: string): Promise<string | null> {
  try {
    const api = await connectControl(socketPathFor(home))
    return api === null ? null : `process ${(await api.status(AbortSignal.timeout(WAITS.stopMs))).pid}`
  } catch (error) {
    // As after an upgrade; where that one is the service, it is about to be replaced.
    if (error instanceof JobError && error.code === 'OTHER_VERSION') return 'of another version'
    throw error
  }
}

/** The node options that were given, as the daemon of the service is to get them. */
export function optionsOf(globals: Globals): string[] {
  const { network, bootstrap, listen, mdns, logLevel, http, up, down, capLan, verbose } = globals
  const rate = (cap: number | null): string => (cap === null ? 'none' : String(cap))
  return [
    ...(network === null ? [] : ['--network', network]),
    ...(bootstrap ?? []).flatMap((address) => ['--bootstrap', address]),
    ...(listen ?? []).flatMap((address) => ['--listen', address]),
    ...(mdns === null ? [] : [mdns ? '--mdns' : '--no-mdns']),
    ...(logLevel === null ? [] : ['--log-level', logLevel]),
    ...(up === undefined ? [] : ['--up', rate(up)]),
    ...(down === undefined ? [] : ['--down', rate(down)]),
    ...(http === null ? [] : ['--http', String(http)]),
    ...(capLan === null ? [] : [capLan ? '--cap-lan' : '--no-cap-lan']),
    ...(verbose ? ['--verbose'] : []),
  ]
}

/** The sources lie one folder deeper in the package than in the repository. */
const LAUNCHERS = ['../shoal.js', '../../../cli/shoal.js']

async function commandOf(home: string | null): Promise<{ node: string; script: string; home: string }> {
  const found = await Promise.all(LAUNCHERS.map((path) => realpath(fileURLToPath(new URL(path, import.meta.url))).catch(() => null)))
  const script = found.find((path) => path !== null) ?? resolve(process.argv[1] ?? 'shoal')
  return { node: process.execPath, script, home: resolve(home ?? defaultHome()) }
}

function sayStatus({ file, installed, running }: ServiceResult): string {
  const state = running === null ? 'not known: its manager does not answer' : running ? 'running' : 'not running'
  return formatFields([
    ['service', installed ? 'installed' : 'not installed; see `shoal service install`'],
    ['file', file],
    ['state', state],
  ])
}

function sayResult(call: ServiceCall, { file, content, done, todo, running, installed }: ServiceResult): string {
  if (call.dryRun) {
    const what = content === undefined ? '' : `# would write ${file}\n${content}\n`
    return `${what}# would run\n${lines(todo)}`
  }
  if (call.action === 'uninstall' && done.length === 0) return `No service is installed (${file}).\n`
  const left =
    todo.length === 0 ? '' : `${installed && running === true ? 'To keep it running without a session' : 'Now run'}:\n${lines(todo)}`
  const state = installed
    ? `${file} is written; the service ${running ? 'runs' : 'does not run yet'}.\n`
    : 'The service is removed; the home stays.\n'
  return state + left
}

const lines = (texts: readonly string[]): string => texts.map((text) => `  ${text}\n`).join('')
