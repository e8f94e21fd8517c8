/**
 * Real Shoal processes for the demo, the end-to-end tests and the benchmarks: each with a home of its own, on loopback, on a separate
 * network with a random name, so that no packet leaves the machine.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** The sources as they are, or (SHOAL_CLI, as for benchmarks) the compiled form that users of the package run. */
const CLI = resolve(process.env.SHOAL_CLI ?? fileURLToPath(new URL('../../cli/shoal.js', import.meta.url)))

export interface Run {
  code: number
  stdout: string
  stderr: string
}

export interface Started {
  peerId: string
  addresses: string[]
  home: string
  socket: string
  pid: number
}

export interface CliOptions {
  input?: string
  cwd?: string
  /** Another `shoal` than the one of this checkout. */
  cli?: string
  /** A command that runs it, as ['ip', 'netns', 'exec', NAME]. */
  prefix?: string[]
}

export interface DaemonOptions {
  bootstrap?: string[]
  args?: string[]
  listen?: string
  /** A command that runs the daemon, as ['ip', 'netns', 'exec', NAME]. */
  prefix?: string[]
}

/** A fresh folder and network name, and every process started in it. */
export class Sandbox {
  readonly dir: string
  readonly network: string
  readonly #daemons = new Set<Daemon>()

  private constructor(dir: string) {
    this.dir = dir
    this.network = `test-${randomBytes(5).toString('hex')}`
  }

  static async create(): Promise<Sandbox> {
    return new Sandbox(await mkdtemp(join(tmpdir(), 'shoal-')))
  }

  path(...parts: string[]): string {
    return join(this.dir, ...parts)
  }

  /** Starts a daemon called `name` with a home of that name. */
  async daemon(name: string, options: DaemonOptions = {}): Promise<Daemon> {
    const daemon = await Daemon.start(this, name, options)
    this.#daemons.add(daemon)
    return daemon
  }

  /** Arguments that keep a one-shot node on this sandbox's network. */
  networkArgs(bootstrap: string[] = []): string[] {
    return ['--network', this.network, '--listen', '/ip4/127.0.0.1/tcp/0', ...bootstrap.flatMap((address) => ['--bootstrap', address])]
  }

  async clear(): Promise<void> {
    await Promise.all([...this.#daemons].map((daemon) => daemon.kill('SIGKILL')))
    await rm(this.dir, { recursive: true, force: true })
  }
}

export class Daemon {
  readonly home: string
  readonly started: Started
  readonly child: ChildProcess
  readonly #sandbox: Sandbox
  #stderr = ''

  private constructor(sandbox: Sandbox, home: string, started: Started, child: ChildProcess, stderr: string) {
    this.#sandbox = sandbox
    this.home = home
    this.started = started
    this.child = child
    this.#stderr = stderr
    child.stderr?.on('data', (chunk: Buffer) => {
      this.#stderr += chunk.toString()
    })
  }

  static async start(sandbox: Sandbox, name: string, options: DaemonOptions): Promise<Daemon> {
    const home = sandbox.path(`home-${name}`)
    const listen = options.listen ?? '/ip4/127.0.0.1/tcp/0'
    // Everybody is on loopback here, which caps would not count.
    const args = ['daemon', '--json', '--cap-lan', '--home', home, '--network', sandbox.network, '--listen', listen]
    for (const address of options.bootstrap ?? []) args.push('--bootstrap', address)
    const [command = process.execPath, ...rest] = [...(options.prefix ?? []), process.execPath, CLI, ...args, ...(options.args ?? [])]
    const child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'pipe'], env: cleanEnv() })
    let stderr = ''
    const collect = (chunk: Buffer): void => {
      stderr += chunk.toString()
    }
    child.stderr.on('data', collect)
    const first = createInterface({ input: child.stdout })[Symbol.asyncIterator]().next()
    const ended = once(child, 'exit').then(([code]) => {
      throw new Error(`the daemon ${name} exited with ${code}: ${stderr}`)
    })
    ended.catch(() => {}) // a daemon may end later, when nobody waits for its first line any more
    const line = await Promise.race([first, ended])
    child.stderr.off('data', collect)
    if (String(line.value).startsWith('{"error"')) throw new Error(`the daemon ${name} does not start: ${line.value}`)
    return new Daemon(sandbox, home, JSON.parse(String(line.value)) as Started, child, stderr) // printed by `daemon --json`
  }

  /** Everything it wrote to standard error so far. */
  get log(): string {
    return this.#stderr
  }

  get addresses(): string[] {
    return this.started.addresses
  }

  /** Runs a verb against this daemon and parses its JSON. Throws on another exit code than 0. */
  async json<T>(...args: string[]): Promise<T> {
    const run = await this.run('--json', ...args)
    if (run.code !== 0) throw new Error(`shoal ${args[0]} exited with ${run.code}: ${run.stdout}${run.stderr}`)
    return JSON.parse(run.stdout) as T // the caller names the verb's documented shape
  }

  run(...args: string[]): Promise<Run> {
    // Where the daemon has ended the command may run a node of its own, which must not be one of the public network.
    const isOver = this.child.exitCode !== null || this.child.signalCode !== null
    return runCli(['--home', this.home, ...(isOver ? this.#sandbox.networkArgs() : []), ...args])
  }

  async kill(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const ended = once(this.child, 'exit')
    this.child.kill(signal)
    await ended
  }
}

/** Runs `shoal ARGS` to its end. */
export async function runCli(args: string[], options: CliOptions = {}): Promise<Run> {
  const child = startCli(args, options)
  const [stdout, stderr, [code]] = await Promise.all([collect(child.stdout), collect(child.stderr), once(child, 'exit')])
  return { code: code ?? -1, stdout, stderr }
}

/** Starts `shoal ARGS` and leaves it running. */
export function startCli(args: string[], options: CliOptions = {}): ChildProcess {
  const [command = process.execPath, ...rest] = [...(options.prefix ?? []), process.execPath, options.cli ?? CLI, ...args]
  const child = spawn(command, rest, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: cleanEnv(),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  })
  child.stdin.end(options.input ?? '')
  return child
}

async function collect(stream: NodeJS.ReadableStream | null): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of stream ?? []) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks).toString()
}

/** The environment of a user: no test runner's variables, no home of somebody else. */
function cleanEnv(): NodeJS.ProcessEnv {
  const { SHOAL_HOME: _home, NODE_OPTIONS: _options, VITEST: _vitest, ...rest } = process.env
  return rest
}
