/**
 * Twenty daemons in one swarm, and kill -9 of any of them at any moment, the seeder included: whoever was killed starts again and runs
 * its get again. In the end all have the right bytes, nothing wrong is stored, and nothing that was stored was fetched twice.
 *
 * KILLS says how many in all (default 10), at most ten to a share.
 */
import { randomBytes, randomInt } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { ShoalApi } from '../../../node/control/api.ts'
import { connectControl } from '../../../node/control/client.ts'
import { SWARM } from '../../../protocol/limits.ts'
import { type Daemon, Sandbox } from '../../kit/daemons.ts'
import { corruptFiles } from '../../kit/stored.ts'
import { compareTrees } from '../../kit/trees.ts'

const PARTIES = 20
const SHARE_BYTES = 24 * 1_048_576
const KILLS = Number(process.env.KILLS ?? 10)
const KILLS_PER_SHARE = 10
const KILL_PAUSE_MS_MAX = 1_500
const ROUND_MS = 180_000
const START_AT_ONCE = 4

const pick = <T>(list: T[]): T => list[randomInt(list.length)]!

/** One party: the same home all along, another process after each kill. */
class Party {
  readonly name: string
  readonly #sandbox: Sandbox
  #daemon: Daemon | null = null
  #api: Promise<ShoalApi> = Promise.reject(new Error('not started'))
  deaths = 0
  /** What it had of the share when it was killed last. */
  heldAtDeath = 0

  constructor(sandbox: Sandbox, name: string) {
    this.#sandbox = sandbox
    this.name = name
    this.#api.catch(() => {})
  }

  get address(): string | null {
    return this.#daemon?.addresses[0] ?? null
  }

  get home(): string {
    return this.#sandbox.path(`home-${this.name}`)
  }

  get log(): string {
    return this.#daemon?.log ?? ''
  }

  /** The process that lives, or the one that is being started. */
  get api(): Promise<ShoalApi> {
    return this.#api
  }

  async start(bootstrap: string[], listen: string): Promise<void> {
    this.#api = (async () => {
      this.#daemon = await this.#sandbox.daemon(this.name, { bootstrap, listen })
      const api = await connectControl(this.#daemon.started.socket)
      if (api === null) throw new Error(`${this.name} does not answer`)
      return api
    })()
    await this.#api
  }

  /** kill -9, and up again at once: at the same address, or one time in four at another. */
  async killAndRestart(bootstrap: string[]): Promise<void> {
    const port = randomInt(4) === 0 ? '0' : /\/tcp\/(\d+)/.exec(this.address ?? '')?.[1]
    const dead = Promise.withResolvers<ShoalApi>()
    dead.promise.catch(() => {})
    this.#api = dead.promise // whoever needs this party waits for the new process
    this.deaths++
    await this.#daemon?.kill('SIGKILL')
    const starting = this.start(bootstrap, `/ip4/127.0.0.1/tcp/${port}`)
    dead.resolve(this.#api)
    await starting
  }

  async blocks(): Promise<number> {
    return (await (await this.#api).status(AbortSignal.timeout(20_000))).blocks
  }

  /** Blocks that it has of the share, wherever they are. */
  async held(cid: string): Promise<number> {
    const shares = await (await this.#api).shares(AbortSignal.timeout(20_000))
    return shares.find((share) => share.cid === cid)?.haveBlocks ?? 0
  }
}

let sandbox: Sandbox
let parties: Party[]

const othersOf = (party: Party): string[] => {
  const addresses = parties.flatMap((other) => (other === party || other.address === null ? [] : [other.address]))
  return Array.from({ length: Math.min(3, addresses.length) }, () => addresses.splice(randomInt(addresses.length), 1)[0]!)
}

beforeAll(async () => {
  sandbox = await Sandbox.create()
  parties = Array.from({ length: PARTIES }, (_, i) => new Party(sandbox, `p${i}`))
  for (let i = 0; i < PARTIES; i += START_AT_ONCE)
    await Promise.all(parties.slice(i, i + START_AT_ONCE).map((party) => party.start(othersOf(party), '/ip4/127.0.0.1/tcp/0')))
}, 120_000)

afterAll(async () => {
  await sandbox.clear()
})

interface Fetched {
  fetchedBlocks: number
  reusedBlocks: number
  /** What was there when the last run was broken off; 0 when none was. */
  heldBlocks: number
}

/** Runs get until it ends well; a run that its own death broke off is begun again. */
async function fetchUntilDone(party: Party, link: string, outputDir: string, signal: AbortSignal): Promise<Fetched> {
  for (let heldBlocks = 0; ; ) {
    const deaths = party.deaths
    try {
      const api = await party.api
      // Killed between the last file and its answer: then the file is there already.
      const request = { link, outputDir, path: null, force: true, consent: false, wait: true, peers: othersOf(party), keep: true }
      const got = await api.get(request, () => {}, signal)
      return { fetchedBlocks: got.fetchedBlocks, reusedBlocks: got.reusedBlocks, heldBlocks }
    } catch (error) {
      if (party.deaths === deaths || signal.aborted) throw error
      heldBlocks = party.heldAtDeath
    }
  }
}

/** Kills a random party, whether its get is done or not. */
async function killOne(cid: string): Promise<void> {
  const party = pick(parties)
  party.heldAtDeath = await party.held(cid)
  await party.killAndRestart(othersOf(party))
}

async function round(number: number, kills: number): Promise<void> {
  const signal = AbortSignal.timeout(ROUND_MS)
  const file = sandbox.path(`file-${number}.bin`)
  await writeFile(file, randomBytes(SHARE_BYTES))
  const seeder = pick(parties)
  const { link, cid } = await (await seeder.api).share({ paths: [file], scope: 'lineage', name: null }, () => {}, signal)
  const total = await seeder.blocks()
  const getters = parties.filter((party) => party !== seeder)
  const outOf = (party: Party): string => sandbox.path(`out-${number}-${party.name}`)
  for (const party of getters) await mkdir(outOf(party))
  const since = performance.now()
  const fetching = Promise.all(getters.map((party) => fetchUntilDone(party, link, outOf(party), signal)))
  fetching.catch(() => {}) // awaited below
  for (let i = 0; i < kills; i++) {
    await delay(randomInt(KILL_PAUSE_MS_MAX))
    await killOne(cid)
  }
  const fetched = await fetching
  const seconds = (performance.now() - since) / 1000
  let most = 0
  for (const [i, { fetchedBlocks, reusedBlocks, heldBlocks }] of fetched.entries()) {
    // Second copies of what hung at a slow or dead peer are all that may come twice: no more than can be on its way.
    const twice = fetchedBlocks - (total - reusedBlocks)
    expect(twice, `blocks that came to ${getters[i]?.name} twice`).toBeLessThanOrEqual(SWARM.requestsTotalMax)
    // What it had is there for good, but for the root of the index, which is no piece.
    expect(reusedBlocks, `pieces of ${getters[i]?.name} after its death`).toBeGreaterThanOrEqual(heldBlocks - 1)
    most = Math.max(most, twice)
  }
  console.info(`share ${number + 1}: ${seconds.toFixed(1)} s, ${kills} kills, at most ${most} blocks came twice`)
  for (const party of getters) {
    expect((await compareTrees(file, join(outOf(party), `file-${number}.bin`))).differences).toEqual([])
    await rm(outOf(party), { recursive: true })
  }
  for (const party of parties) {
    expect(await corruptFiles(party.home), party.name).toEqual([])
    expect(party.log).not.toContain('nobody listened')
    expect(party.log).not.toContain('broke the rules')
    await (await party.api).unseed({ cid }, AbortSignal.timeout(20_000))
    expect(await party.blocks()).toBe(0)
  }
  await rm(file)
}

for (let number = 0, left = KILLS; left > 0; number++, left -= KILLS_PER_SHARE) {
  const kills = Math.min(left, KILLS_PER_SHARE)
  it(`share ${number + 1}: all have it after ${kills} kills`, () => round(number, kills))
}
