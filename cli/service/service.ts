/**
 * `shoal service`: installs, removes and shows the service of this user that runs the daemon.
 *
 * Writes one file, and asks the system's own manager to take notice. Where that is not there, as in a container or before the first login,
 * the file is written all the same and the answer says what to run.
 */
import { spawn } from 'node:child_process'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { JobError } from '../../node/control/api.ts'
import { LAUNCHD_LABEL, launchdAgent, type ServiceCommand, systemdUnit } from './unit-files.ts'

/** What the service depends on; `thisMachine()` for the real one. */
export interface ServiceMachine {
  platform: string
  /** The user's home folder. */
  homeDir: string
  /** XDG_CONFIG_HOME, if it is set. */
  configHome: string | undefined
  uid: number
  user: string
  /** Runs a program; null when there is none of that name. */
  run(argv: readonly string[]): Promise<{ code: number; output: string } | null>
}

export interface ServiceResult {
  /** What the service file is or was. */
  file: string
  installed: boolean
  /** Null: it cannot be told. */
  running: boolean | null
  /** What the manager was asked to do and did. */
  done: string[]
  /** What is left for the user to run, in order. */
  todo: string[]
  /** With --dry-run: the content of the file. */
  content?: string
}

const UNIT = 'shoal.service'

interface Manager {
  file: string
  content(command: Omit<ServiceCommand, 'logToFile'>): string
  /** Commands that end what an earlier installation started, if anything; start it after the file was written; end it before the file
   *  goes; and take notice that it is gone. */
  before: string[][]
  start: string[][]
  stop: string[][]
  after: string[][]
  isRunning: string[]
  /** What its answer holds while the service runs; '' where its exit code tells. */
  runningText: string
  /** Said after an installation. */
  hints: string[]
}

function managerOf(at: ServiceMachine): Manager {
  if (at.platform === 'darwin') {
    const file = join(at.homeDir, 'Library', 'LaunchAgents', `${LAUNCHD_LABEL}.plist`)
    const target = `gui/${at.uid}`
    return {
      file,
      content: (command) => launchdAgent({ ...command, logToFile: true }, join(at.homeDir, 'Library', 'Logs', 'shoal.log')),
      // A loaded agent is not replaced by loading it again.
      before: [['launchctl', 'bootout', `${target}/${LAUNCHD_LABEL}`]],
      start: [['launchctl', 'bootstrap', target, file]],
      stop: [['launchctl', 'bootout', `${target}/${LAUNCHD_LABEL}`]],
      after: [],
      isRunning: ['launchctl', 'print', `${target}/${LAUNCHD_LABEL}`],
      // It answers for every agent that is loaded, whether it runs or not.
      runningText: 'state = running',
      hints: [],
    }
  }
  if (at.platform !== 'linux') throw new JobError('BAD_INPUT', `services are for Linux with systemd and for macOS; here run: shoal daemon`)
  const systemctl = (...argv: string[]): string[] => ['systemctl', '--user', ...argv]
  return {
    file: join(at.configHome ?? join(at.homeDir, '.config'), 'systemd', 'user', UNIT),
    content: (command) => systemdUnit({ ...command, logToFile: false }),
    before: [],
    start: [systemctl('daemon-reload'), systemctl('enable', UNIT), systemctl('restart', UNIT)],
    stop: [systemctl('disable', '--now', UNIT)],
    after: [systemctl('daemon-reload')],
    isRunning: systemctl('is-active', UNIT),
    runningText: '',
    // Without it the service ends with the user's last session, and does not start before the first.
    hints: [`loginctl enable-linger ${at.user}`],
  }
}

/** Writes the file and starts the service; with `dryRun` only shows what would be done. `otherNode`: which node answers for the
 *  home now, in words; throws JobError HOME_LOCKED where it is not the service. */
export async function installService(
  command: Omit<ServiceCommand, 'logToFile'>,
  at: ServiceMachine,
  dryRun: boolean,
  otherNode: string | null = null,
): Promise<ServiceResult> {
  const manager = managerOf(at)
  let content: string
  try {
    content = manager.content(command)
  } catch (cause) {
    throw new JobError('BAD_INPUT', cause instanceof Error ? cause.message : 'the service file cannot be written', { cause })
  }
  const { file } = manager
  if (dryRun) {
    return {
      file,
      installed: await isThere(file),
      running: null,
      done: [],
      todo: [...manager.start.map(shellText), ...manager.hints],
      content,
    }
  }
  if (otherNode !== null && (await isRunning(manager, at)) !== true)
    throw new JobError('HOME_LOCKED', `a node that is no service runs for this home already (${otherNode})`)
  for (const argv of manager.before) await at.run(argv)
  await writeWhole(file, content)
  const { done, todo } = await runAll(manager.start, at)
  const running = todo.length === 0 ? await isRunning(manager, at) : false
  return { file, installed: true, running, done, todo: [...todo, ...manager.hints] }
}

/** Stops the service and removes its file. The home and what it holds stay. */
export async function uninstallService(at: ServiceMachine, dryRun: boolean): Promise<ServiceResult> {
  const manager = managerOf(at)
  const { file } = manager
  const installed = await isThere(file)
  if (dryRun) {
    return {
      file,
      installed,
      running: null,
      done: [],
      todo: [...manager.stop.map(shellText), `rm ${quoted(file)}`, ...manager.after.map(shellText)],
    }
  }
  if (!installed) return { file, installed: false, running: await isRunning(manager, at), done: [], todo: [] }
  const stopped = await runAll(manager.stop, at)
  await rm(file, { force: true })
  const after = await runAll(manager.after, at)
  const done = [...stopped.done, `rm ${quoted(file)}`, ...after.done]
  return { file, installed: false, running: await isRunning(manager, at), done, todo: [...stopped.todo, ...after.todo] }
}

/** Whether it is installed, and runs. */
export async function serviceStatus(at: ServiceMachine): Promise<ServiceResult> {
  const manager = managerOf(at)
  const installed = await isThere(manager.file)
  return { file: manager.file, installed, running: await isRunning(manager, at), done: [], todo: [] }
}

async function isRunning({ isRunning, runningText }: Manager, at: ServiceMachine): Promise<boolean | null> {
  const found = await at.run(isRunning)
  if (found === null) return null
  // systemctl answers 3 for a unit that does not run, and 1 or 4 when it could not ask or knows none.
  if (found.code === 0) return found.output.includes(runningText)
  return isRunning[0] === 'launchctl' || found.code === 3 || found.code === 4 ? false : null
}

/** Runs commands until one fails; that and the others are left to do. */
async function runAll(commands: readonly string[][], at: ServiceMachine): Promise<{ done: string[]; todo: string[] }> {
  const done: string[] = []
  for (const [i, argv] of commands.entries()) {
    const result = await at.run(argv)
    if (result?.code !== 0) return { done, todo: commands.slice(i).map(shellText) }
    done.push(shellText(argv))
  }
  return { done, todo: [] }
}

/** As a shell takes it. */
const shellText = (argv: readonly string[]): string => argv.map(quoted).join(' ')
const quoted = (word: string): string => (/^[A-Za-z0-9_./:=@%+-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)

async function isThere(file: string): Promise<boolean> {
  return await readFile(file).then(
    () => true,
    () => false,
  )
}

async function writeWhole(file: string, content: string): Promise<void> {
  const temporary = `${file}.${process.pid}.tmp`
  try {
    await mkdir(dirname(file), { recursive: true })
    await writeFile(temporary, content, { mode: 0o644, flag: 'w' })
    await rename(temporary, file)
  } catch (cause) {
    await rm(temporary, { force: true })
    throw new JobError('DENIED', `the service file ${file} cannot be written`, { cause })
  }
}

const RUN_MS = 30_000
const OUTPUT_MAX = 64 * 1024

/** Runs one program to its end, for ServiceMachine. */
export async function runProgram(argv: readonly string[]): Promise<{ code: number; output: string } | null> {
  const [command = '', ...rest] = argv
  const { promise, resolve } = Promise.withResolvers<{ code: number; output: string } | null>()
  const child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'pipe'], timeout: RUN_MS })
  let output = ''
  const take = (part: Buffer): void => {
    if (output.length < OUTPUT_MAX) output += part.toString()
  }
  child.stdout.on('data', take)
  child.stderr.on('data', take)
  child.once('error', () => resolve(null))
  child.once('close', (code) => resolve({ code: code ?? 1, output }))
  return await promise
}
