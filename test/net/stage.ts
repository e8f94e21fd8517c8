/** What the stories of the test bed are told on: a bed, Shoal on its machines, and files to pass on. */
import { randomBytes } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { GetResult, ShareResult } from '../../node/control/api.ts'
import { type Daemon, type Run, runCli, Sandbox } from '../kit/daemons.ts'
import { compareTrees } from '../kit/trees.ts'
import { Bed } from './bed.ts'

/** The port that every node of the bed listens on. */
export const PORT = 4801

/** One story: a network, and what happens on it. */
export interface Story {
  name: string
  /** One sentence: what it shows. */
  about: string
  table: string
  /** Says what it measures, throws when it did not come out as it should. */
  tell(stage: Stage, telling: Telling): Promise<void>
}

/** How a story is told. */
export interface Telling {
  /** With what takes many minutes. */
  isLong: boolean
  /** Only the parts whose name holds this. */
  only: string | null
}

const SHORT: Telling = { isLong: false, only: null }

export class Stage {
  readonly bed: Bed
  readonly sandbox: Sandbox
  readonly say: (text: string) => void
  readonly #daemons = new Map<string, Daemon>()
  #files = 0

  private constructor(bed: Bed, sandbox: Sandbox, say: (text: string) => void) {
    this.bed = bed
    this.sandbox = sandbox
    this.say = say
  }

  /** Builds the network of a story, tells it there, and takes everything down again. */
  static async play(story: Pick<Story, 'table' | 'tell'>, say: (text: string) => void, telling: Telling = SHORT): Promise<void> {
    const sandbox = await Sandbox.create()
    let bed: Bed | null = null
    try {
      bed = await Bed.build(story.table, sandbox.dir)
      await story.tell(new Stage(bed, sandbox, say), telling)
    } finally {
      await sandbox.clear()
      await bed?.close()
    }
  }

  /** The node of a machine. */
  node(machine: string): Daemon {
    const daemon = this.#daemons.get(machine)
    if (daemon === undefined) throw new Error(`no node was started on ${machine}`)
    return daemon
  }

  /** Where the node of a machine on the internet is dialled. */
  entrance(machine: string): string {
    return `/ip4/${this.bed.addressOf(machine)}/tcp/${PORT}/p2p/${this.node(machine).started.peerId}`
  }

  /** Starts a node on a machine. */
  async start(machine: string, options: { bootstrap?: string[]; args?: string[] } = {}): Promise<Daemon> {
    const prefix = this.bed.prefix(machine)
    const daemon = await this.sandbox.daemon(machine, { ...options, prefix, listen: `/ip4/0.0.0.0/tcp/${PORT}` })
    this.#daemons.set(machine, daemon)
    return daemon
  }

  /** Shares a file of so many random bytes. */
  async share(machine: string, bytes: number, ...args: string[]): Promise<{ link: string; file: string }> {
    const file = this.sandbox.path(`file-${this.#files++}`)
    await writeFile(file, randomBytes(bytes))
    const { link } = await this.node(machine).json<ShareResult>('share', file, ...args)
    return { link, file }
  }

  /** Gets it on another machine, compares, and gives the seconds that the command took. Without a node there it runs one of its own. */
  async get(machine: string, { link, file }: { link: string; file: string }, ...args: string[]): Promise<number> {
    const out = this.sandbox.path(`out-${this.#files++}`)
    await mkdir(out)
    const command = ['get', link, '-o', out, ...args]
    const since = performance.now()
    const daemon = this.#daemons.get(machine)
    if (daemon === undefined) await this.#alone(machine, command)
    else await daemon.json<GetResult>(...command)
    const seconds = (performance.now() - since) / 1000
    const { differences } = await compareTrees(file, join(out, file.slice(file.lastIndexOf('/') + 1)))
    if (differences.length > 0) throw new Error(`what ${machine} got is not what was shared: ${differences.join(', ')}`)
    await rm(out, { recursive: true })
    return seconds
  }

  async #alone(machine: string, command: string[]): Promise<void> {
    const home = this.sandbox.path(`home-alone-${this.#files++}`)
    const node = ['--home', home, '--network', this.sandbox.network, '--listen', `/ip4/0.0.0.0/tcp/${PORT}`, '--mdns']
    const run: Run = await runCli([...node, ...command], { prefix: this.bed.prefix(machine) })
    if (run.code !== 0) throw new Error(`shoal ${command[0]} on ${machine} exited with ${run.code}: ${run.stderr}`)
  }
}
