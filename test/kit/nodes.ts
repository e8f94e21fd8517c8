/**
 * Nodes inside the test's own process, composed as main.ts composes them: on loopback, on a network of their own, all logging to one list.
 */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MemoryDatastore } from 'datastore-core'
import { loadConfig } from '../../node/config.ts'
import type { GetRequest, GetResult } from '../../node/control/api.ts'
import { createLog, type LeveledLog, silentLog } from '../../node/log.ts'
import { openNode, type ShoalNode } from '../../node/main.ts'
import { createIdentity, createStack, type Stack } from '../../node/network/stack.ts'

const LISTEN = ['/ip4/127.0.0.1/tcp/0']

/** A signal that ends a wait of a test. */
export const patience = (): AbortSignal => AbortSignal.timeout(15_000)

export const ignore = (): void => {}

/** A temporary folder, a network name, and all that was started on it. */
export class Nodes {
  readonly dir: string
  readonly network = `test-${randomBytes(5).toString('hex')}`
  /** Every line that any of the nodes logged, at level debug. */
  readonly lines: string[] = []
  readonly log: LeveledLog = createLog('debug', (line) => void this.lines.push(line))
  readonly #endings: (() => Promise<unknown>)[] = []

  private constructor(dir: string) {
    this.dir = dir
  }

  static async create(): Promise<Nodes> {
    return new Nodes(await mkdtemp(join(tmpdir(), 'shoal-jobs-')))
  }

  path(...parts: string[]): string {
    return join(this.dir, ...parts)
  }

  homeOf(name: string): string {
    return this.path(`home-${name}`)
  }

  async node(name: string, oneShot = false): Promise<ShoalNode> {
    const overrides = { network: this.network, listen: LISTEN, mdns: false, logLevel: 'debug' as const }
    const config = await loadConfig({ home: this.homeOf(name), overrides })
    const node = await openNode(config, { oneShot, log: this.log })
    this.#endings.push(() => node.stop())
    return node
  }

  /** A bare network stack, for peers that do not behave. */
  async stack(): Promise<Stack> {
    const stack = await createStack({
      identity: await createIdentity(),
      network: this.network,
      listen: LISTEN,
      bootstrap: [],
      mdns: false,
      datastore: new MemoryDatastore(),
      log: silentLog,
      groupPrivate: false,
    })
    this.#endings.push(() => stack.stop())
    return stack
  }

  async clear(): Promise<void> {
    await Promise.all(this.#endings.map((end) => end()))
    await rm(this.dir, { recursive: true, force: true })
  }
}

/** Gets `link` into `outputDir`, by default from `peers` alone. */
export function get(
  node: ShoalNode,
  link: string,
  outputDir: string,
  request: Partial<GetRequest> = {},
  signal: AbortSignal = patience(),
): Promise<GetResult> {
  const whole = { link, outputDir, path: null, force: false, consent: false, wait: false, peers: [], keep: false, ...request }
  return node.api.get(whole, ignore, signal)
}
