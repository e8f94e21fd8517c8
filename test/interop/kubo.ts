/**
 * kubo, the IPFS node in Go: built once into a cache folder outside of the repository, and run on the machines of the test bed.
 *
 * Its configuration leaves it no way out but the peers that it is told: no bootstrap list, no remote configuration, no delegated routing,
 * no telemetry, TCP alone. The namespaces of the bed have no route out besides.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import type { Stage } from '../net/stage.ts'

const run = promisify(execFile)

const VERSION = 'v0.43.1'
/**
 * kubo's own go.mod replaces go-libp2p by a fork for the sake of a newer QUIC, which the module proxy need not have: QUIC stays as old as the
 * released go-libp2p takes it. It is switched off here anyway.
 */
const GO_MOD = `module shoal-interop

go 1.26

require github.com/ipfs/kubo ${VERSION}

replace github.com/quic-go/quic-go => github.com/quic-go/quic-go v0.60.0

replace github.com/quic-go/webtransport-go => github.com/quic-go/webtransport-go v0.11.1
`
const IMPORTS = '//go:build tools\n\npackage interop\n\nimport _ "github.com/ipfs/kubo/cmd/ipfs"\n'
const OUTPUT_BYTES_MAX = 256 * 2 ** 20
export const KUBO_PORT = 4001

const cacheFolder = (): string =>
  process.env.SHOAL_INTEROP_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'shoal-interop')

/** Why kubo cannot be had here, in words; null when it can. */
export async function whyNoKubo(): Promise<string | null> {
  if (await isThere(programPath())) return null
  return await run('go', ['version']).then(
    () => null,
    () => 'there is no Go to build kubo with',
  )
}

/** The program `ipfs`; built the first time, which takes some minutes. */
export async function kuboProgram(say: (text: string) => void): Promise<string> {
  const program = programPath()
  if (await isThere(program)) return program
  say(`building kubo ${VERSION}; this takes some minutes, once`)
  const folder = join(cacheFolder(), `kubo-${VERSION}`, 'build')
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'go.mod'), GO_MOD)
  await writeFile(join(folder, 'imports.go'), IMPORTS)
  const env = { ...process.env, CGO_ENABLED: '0' }
  await run('go', ['mod', 'tidy'], { cwd: folder, env, maxBuffer: OUTPUT_BYTES_MAX })
  const made = join(folder, 'ipfs')
  await run('go', ['build', '-trimpath', '-o', made, 'github.com/ipfs/kubo/cmd/ipfs'], { cwd: folder, env, maxBuffer: OUTPUT_BYTES_MAX })
  await run('mv', [made, program])
  return program
}

const programPath = (): string => join(cacheFolder(), `kubo-${VERSION}`, 'ipfs')

const isThere = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )

/** The parts of a kubo configuration that are changed here. */
interface KuboConfig {
  Identity: { PeerID: string }
  [part: string]: unknown
}

/** One kubo node. */
export class Kubo {
  readonly peerId: string
  /** Where it is dialled. */
  readonly address: string
  readonly #program: string
  readonly #prefix: string[]
  readonly #env: NodeJS.ProcessEnv
  readonly #child: ChildProcess

  private constructor(parts: {
    peerId: string
    address: string
    program: string
    prefix: string[]
    env: NodeJS.ProcessEnv
    child: ChildProcess
  }) {
    this.peerId = parts.peerId
    this.address = parts.address
    this.#program = parts.program
    this.#prefix = parts.prefix
    this.#env = parts.env
    this.#child = parts.child
  }

  /** Starts one on a machine of the bed. */
  static async start(stage: Stage, machine: string, program: string, bootstrap: string[]): Promise<Kubo> {
    const repository = stage.sandbox.path(`kubo-${machine}`)
    const { PATH } = process.env
    const env = { PATH, HOME: stage.sandbox.dir, IPFS_PATH: repository, IPFS_TELEMETRY: 'off' }
    await run(program, ['init', '--empty-repo'], { env })
    const file = join(repository, 'config')
    const config = JSON.parse(await readFile(file, 'utf8')) as KuboConfig // as kubo wrote it
    await writeFile(file, JSON.stringify(configured(config, bootstrap)))
    const prefix = stage.bed.prefix(machine)
    const [command = program, ...rest] = [...prefix, program, 'daemon']
    const child = spawn(command, rest, { env, stdio: ['ignore', 'pipe', 'pipe'] })
    let said = ''
    child.stderr.on('data', (part: Buffer) => {
      said = `${said}${part.toString()}`.slice(-4096)
    })
    const { PeerID: peerId } = config.Identity
    const address = `/ip4/${stage.bed.addressOf(machine)}/tcp/${KUBO_PORT}/p2p/${peerId}`
    await Promise.race([
      ready(child),
      once(child, 'exit').then(([code]) => {
        throw new Error(`kubo on ${machine} ended with ${code}: ${said}`)
      }),
    ])
    return new Kubo({ peerId, address, program, prefix, env, child })
  }

  /** `ipfs ARGS` against this node: its standard output. */
  async ask(...args: string[]): Promise<string> {
    return (await this.bytes(args)).toString().trim()
  }

  /** The same with bytes, and with `input` on standard input. */
  async bytes(args: string[], input?: Uint8Array): Promise<Buffer> {
    const [command = this.#program, ...rest] = [...this.#prefix, this.#program, ...args]
    const asked = run(command, rest, { env: this.#env, encoding: 'buffer', maxBuffer: OUTPUT_BYTES_MAX, timeout: 120_000 })
    asked.child.stdin?.end(input ?? '')
    return (await asked).stdout
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await ended
  }
}

async function ready(child: ChildProcess): Promise<void> {
  if (child.stdout === null) return
  for await (const line of createInterface({ input: child.stdout })) if (line.includes('Daemon is ready')) break
  child.stdout.resume()
}

function configured(config: KuboConfig, bootstrap: string[]): KuboConfig {
  return {
    ...config,
    Bootstrap: bootstrap,
    Addresses: {
      Swarm: [`/ip4/0.0.0.0/tcp/${KUBO_PORT}`],
      API: '/ip4/127.0.0.1/tcp/5001',
      Gateway: '/ip4/127.0.0.1/tcp/8080',
      Announce: [],
      AppendAnnounce: [],
      NoAnnounce: [],
    },
    AutoConf: { Enabled: false },
    AutoTLS: { Enabled: false },
    DNS: { Resolvers: {} },
    Discovery: { MDNS: { Enabled: false } },
    Ipns: { ...(config.Ipns as object), DelegatedPublishers: [] },
    Plugins: { Plugins: { telemetry: { Config: { Mode: 'off' } } } },
    Routing: { Type: 'dhtserver', DelegatedRouters: [] },
    Swarm: {
      AddrFilters: null,
      ConnMgr: {},
      DisableNatPortMap: true,
      RelayClient: { Enabled: false },
      RelayService: { Enabled: false },
      ResourceMgr: {},
      Transports: {
        Multiplexers: {},
        Network: { QUIC: false, WebTransport: false, WebRTCDirect: false, Websocket: false, Relay: false },
        Security: {},
      },
    },
  }
}
