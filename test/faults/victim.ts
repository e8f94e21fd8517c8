/**
 * The daemon that everything goes wrong for, what it is asked to do, and what must hold of it afterwards.
 *
 * It keeps one share all the time. Each act is done under a fault, then, when the fault is gone, done again by the same daemon.
 */
import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { OnEvent, ShareResult, ShoalApi } from '../../node/control/api.ts'
import { connectControl } from '../../node/control/client.ts'
import { blockNames, faultsOf, treeOf } from '../crash/oracle.ts'
import { makeSource } from '../crash/stage.ts'
import { type Daemon, runCli, type Sandbox } from '../kit/daemons.ts'
import { LAG_MS_MAX, type Row } from './table.ts'

const BLOCKS = 8
const ACT_MS_MAX = 120_000
const SETTLE_MS = 2_000
const ignore = (): void => {}

/** Something that a daemon is asked for. */
export interface Act {
  name: 'share' | 'get' | 'unseed'
  prepare(victim: Victim): Promise<void>
  run(victim: Victim, onEvent?: OnEvent): Promise<void>
  /** Codes of a repetition that say that it was done already. */
  doneCodes: string[]
  /** What is wrong though it was done. */
  judge(victim: Victim): Promise<string | null>
}

/** What the trials share: the folders, and a daemon that has them. */
export interface Scene {
  sandbox: Sandbox
  origin: Daemon
  /** To share and to get; the victim keeps another one always. */
  source: string
  kept: string
  link: string
}

export async function makeScene(sandbox: Sandbox): Promise<Scene> {
  const source = makeSource(sandbox.path('source'), 1, BLOCKS)
  const kept = makeSource(sandbox.path('kept'), 2, BLOCKS)
  const origin = await sandbox.daemon('origin')
  const { link } = await origin.json<ShareResult>('share', source)
  return { sandbox, origin, source, kept, link }
}

export class Victim {
  readonly scene: Scene
  readonly daemon: Daemon
  readonly api: ShoalApi
  /** Where a `get` writes to. */
  readonly out: string
  readonly #keptLink: string
  #base = 0
  #guests = 0
  #heard = 0

  private constructor(scene: Scene, daemon: Daemon, api: ShoalApi, keptLink: string, out: string) {
    this.scene = scene
    this.daemon = daemon
    this.api = api
    this.out = out
    this.#keptLink = keptLink
  }

  static async start(scene: Scene, name: string, options: { prefix?: string[]; args?: string[]; out?: string } = {}): Promise<Victim> {
    const daemon = await scene.sandbox.daemon(name, options)
    const api = await connectControl(daemon.started.socket)
    if (api === null) throw new Error('the daemon does not answer')
    const { link } = await api.share({ paths: [scene.kept], scope: 'node', name: null }, ignore, AbortSignal.timeout(ACT_MS_MAX))
    const victim = new Victim(scene, daemon, api, link, options.out ?? scene.sandbox.path(`out-${name}`))
    victim.#base = (await blockNames(daemon.home)).length
    // Everything once in order: what is compiled and loaded on the way says nothing of the disk.
    for (const act of ACTS) {
      await act.prepare(victim)
      await act.run(victim)
      for (const fault of await victim.clean()) throw new Error(`${act.name} on a disk in order: ${fault}`)
    }
    return victim
  }

  get pid(): number {
    return this.daemon.started.pid
  }

  get isAlive(): boolean {
    return this.daemon.child.exitCode === null && this.daemon.child.signalCode === null
  }

  share(onEvent: OnEvent = ignore): Promise<ShareResult> {
    return this.api.share({ paths: [this.scene.source], scope: 'node', name: null }, onEvent, AbortSignal.timeout(ACT_MS_MAX))
  }

  async get(onEvent: OnEvent = ignore, wait = false): Promise<void> {
    const { link, origin } = this.scene
    const request = { link, outputDir: this.out, path: null, force: false, consent: false, wait, keep: true, peers: origin.addresses }
    await this.api.get(request, onEvent, AbortSignal.timeout(ACT_MS_MAX))
  }

  /** Does something, and gives its code when it fails. */
  async attempt(work: () => Promise<unknown>): Promise<string> {
    try {
      await work()
      return 'done'
    } catch (error) {
      return error instanceof Error && 'code' in error ? String(error.code) : `none (${String(error)})`
    }
  }

  /** Somebody else gets what this daemon keeps; what is wrong with what came. */
  async serves(): Promise<string | null> {
    const { sandbox, kept } = this.scene
    const [home, out] = ['guest', 'served'].map((name) => sandbox.path(`${name}-${this.#guests}-${this.pid}`)) as [string, string]
    this.#guests++
    mkdirSync(out)
    const args = ['get', this.#keptLink, '-o', out, '--peer', this.daemon.addresses[0] ?? '', '--home', home, '--json']
    const run = await runCli([...args, ...sandbox.networkArgs()])
    const isRight = run.code === 0 && treeOf(join(out, 'kept')) === treeOf(kept)
    for (const path of [home, out]) rmSync(path, { recursive: true, force: true })
    return isRight ? null : `a peer is not served: ${run.stdout}${run.stderr}`
  }

  /** What is wrong with the home; a block that came in with the last breath of a get may still be on its way into the store. */
  async #settled(): Promise<string[]> {
    const sinceMs = performance.now()
    for (;;) {
      const faults = await faultsOf(this.daemon.home, true)
      if (faults.length === 0 || performance.now() - sinceMs > SETTLE_MS) return faults
      await sleep(SETTLE_MS / 40)
    }
  }

  /** Everything that must hold when nothing is under way. */
  async faults(): Promise<string[]> {
    if (!this.isAlive) return ['the daemon is dead']
    const faults = await this.#settled()
    const { pid, jobs } = await this.api.status(AbortSignal.timeout(ACT_MS_MAX))
    if (pid !== this.pid || jobs !== 0) faults.push(`pid ${pid}, ${jobs} jobs`)
    const { isSound } = await this.api.verify({ cids: [], repair: false, wait: false, peers: [] }, ignore, AbortSignal.timeout(ACT_MS_MAX))
    if (!isSound) faults.push('verify finds damage')
    // What it has said since it was asked last.
    const said = /.*(nobody listened|a fault in Shoal).*/.exec(this.daemon.log.slice(this.#heard))?.[0]
    this.#heard = this.daemon.log.length
    if (said !== undefined) faults.push(`it says: ${said.slice(0, 300)}`)
    return faults
  }

  /** Back to the one share that is kept always; what could not be taken away. */
  async clean(): Promise<string[]> {
    const signal = AbortSignal.timeout(ACT_MS_MAX)
    rmSync(this.out, { recursive: true, force: true })
    for (const { cid, label } of await this.api.shares(signal)) if (label !== 'kept') await this.api.unseed({ cid }, signal)
    await this.api.gc({ dryRun: false, consent: false }, ignore, signal)
    const found = (await blockNames(this.daemon.home)).length
    return found === this.#base ? [] : [`${found - this.#base} blocks more than those of the share that is kept`]
  }

  async stop(): Promise<void> {
    await this.daemon.kill()
  }
}

export const ACTS: readonly Act[] = [
  {
    name: 'share',
    doneCodes: [],
    prepare: async () => {},
    run: async (victim, onEvent) => void (await victim.share(onEvent)),
    judge: async (victim) => {
      // From the store alone, under another name.
      const copy = `${victim.out}-copy`
      const { link } = await victim.share()
      const request = { link, outputDir: copy, path: null, force: false, consent: false, wait: false, keep: true, peers: [] }
      const outcome = await victim.attempt(() => victim.api.get(request, ignore, AbortSignal.timeout(ACT_MS_MAX)))
      const isSame = treeOf(join(copy, 'source')) === treeOf(victim.scene.source)
      rmSync(copy, { recursive: true, force: true })
      return outcome === 'done' && isSame ? null : `what was shared cannot be read: ${outcome}`
    },
  },
  {
    name: 'get',
    doneCodes: ['EXISTS'],
    prepare: async () => {},
    run: (victim, onEvent) => victim.get(onEvent),
    judge: async ({ out, scene }) => {
      if (treeOf(join(out, 'source')) !== treeOf(scene.source)) return 'the files are not what was shared'
      const left = (treeOf(out) ?? '').split('\n').filter((line) => line !== '' && !line.startsWith('source'))
      return left.length > 0 && existsSync(out) ? `leftover beside the files: ${left[0]}` : null
    },
  },
  {
    name: 'unseed',
    doneCodes: ['NOT_KEPT'],
    prepare: async (victim) => void (await victim.share()),
    run: async (victim) => {
      const signal = AbortSignal.timeout(ACT_MS_MAX)
      const found = (await victim.api.shares(signal)).find(({ label }) => label === 'source')
      if (found === undefined) throw Object.assign(new Error('let go of already'), { code: 'NOT_KEPT' })
      await victim.api.unseed({ cid: found.cid }, signal)
    },
    judge: async () => null,
  },
]

/** Does an act under a fault and again without it; everything that does not hold goes into the row. */
export async function tryAct(row: Row, victim: Victim, act: Act, arm: () => Promise<{ mend(): Promise<boolean> }>): Promise<boolean> {
  row.trials++
  await act.prepare(victim)
  await noteLag(row, victim)
  const armed = await arm()
  const outcome = await victim.attempt(() => act.run(victim))
  const isStruck = await armed.mend()
  if (isStruck) row.struck++
  if (outcome === 'done') row.passed++
  else row.refuse(outcome)
  await settle(row, victim, act, outcome)
  return isStruck
}

/** After the fault: alive, in order, and the same again succeeds. */
export async function settle(row: Row, victim: Victim, act: Act, outcome: string): Promise<void> {
  if (!victim.isAlive) {
    row.died++
    row.fault(`the daemon is dead: ${victim.daemon.log.slice(-300)}`)
    return
  }
  const wrong = await victim.faults()
  const again = outcome === 'done' ? 'done' : await victim.attempt(() => act.run(victim))
  if (again === 'done' || act.doneCodes.includes(again)) row.resumed++
  else row.fault(`it does not go on: ${again}`)
  const judged = await act.judge(victim)
  if (judged !== null) wrong.push(judged)
  wrong.push(...(await victim.faults()), ...(await victim.clean()))
  for (const fault of wrong) row.fault(fault)
  if (wrong.length > 0) row.wrong++
  await noteLag(row, victim)
}

/** How late the loop was in the last minute or two: of a young daemon that is its start, too. */
export async function noteLag(row: Row, { api }: Victim): Promise<void> {
  const { lagP99Ms } = await api.status(AbortSignal.timeout(ACT_MS_MAX))
  row.lagBeforeMs ??= lagP99Ms
  row.lagMs = Math.max(row.lagMs, lagP99Ms)
}

export function judgeLag(row: Row): void {
  row.at('at its end')
  if (row.lagMs > Math.max(LAG_MS_MAX, row.lagBeforeMs ?? 0)) row.fault(`the loop was ${row.lagMs} ms late, limit ${LAG_MS_MAX} ms`)
}
