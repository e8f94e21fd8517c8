/**
 * `npm run bench -- --only steps`: the processor time of one get, in seconds for each GiB, by step and by side.
 *
 * Each thread's time comes from /proc. What the main thread and the crypto threads did in theirs comes from CPU profiles that Node writes
 * as the daemons end: the share of the samples of a step is its share of the thread's time. File calls run in Node's thread pool, where no
 * profile sees them: a seed, which stores but extracts nothing, tells the two apart.
 */
import { mkdir } from 'node:fs/promises'
import type { GetResult, SeedResult, ShareResult } from '../node/control/api.ts'
import type { Daemon, Sandbox } from '../test/kit/daemons.ts'
import { MIB, makeRandomFile, type Say, threadsOf, timed } from './meters.ts'
import { type BySteps, type Profile, readProfiles, STEPS, type Step, sharesOf, type Window } from './profile.ts'

const monotonicUs = (): number => Number(process.hrtime.bigint() / 1000n)

export async function benchSteps(sandbox: Sandbox, mib: number, say: Say): Promise<void> {
  const source = sandbox.path('steps.bin')
  await makeRandomFile(source, mib * MIB)
  const profiled = async (name: string, bootstrap: string[]): Promise<Daemon> => {
    await mkdir(sandbox.path(`profile-${name}`))
    return sandbox.daemon(name, {
      bootstrap,
      prefix: ['env', `NODE_OPTIONS=--cpu-prof --cpu-prof-dir=${sandbox.path(`profile-${name}`)}`],
    })
  }
  const plainSender = await sandbox.daemon('steps-seeder')
  const { link, seedLink } = await plainSender.json<ShareResult>('share', source)
  const sender = await profiled('steps-sender', plainSender.addresses)
  const seeding = await threadSeconds(sender, async () => {
    await sender.json<SeedResult>('seed', seedLink, '--peer', plainSender.addresses[0] ?? '')
  })
  await plainSender.kill()
  const receiver = await profiled('steps-receiver', sender.addresses)
  const out = sandbox.path('steps-out')
  await mkdir(out)
  const window: Window = { fromUs: monotonicUs(), toUs: 0 }
  let seconds = Number.NaN
  let receiving: Threads = new Map()
  const sending = await threadSeconds(sender, async () => {
    receiving = await threadSeconds(receiver, async () => {
      seconds = await timed(() => receiver.json<GetResult>('get', link, '-o', out, '--peer', sender.addresses[0] ?? ''))
    })
  })
  window.toUs = monotonicUs()
  await Promise.all([receiver.kill(), sender.kill()]) // SIGTERM: the profiles are written as they end
  const sides = {
    receiver: await attribute(receiving, sandbox.path('profile-steps-receiver'), window),
    sender: await attribute(sending, sandbox.path('profile-steps-sender'), window),
  }
  say(`\nProcessor time of a get of ${mib} MiB, profiled, in ${seconds.toFixed(1)} s: seconds for each GiB, and percent of the side`)
  say(`${''.padEnd(42)}receiver        sender`)
  const totals = Object.values(sides).map((side) => [...side.values()].reduce((sum, value) => sum + value, 0))
  const cell = (value: number, total: number): string =>
    `${((value * 1024) / mib).toFixed(2).padStart(6)} ${((100 * value) / total).toFixed(0).padStart(4)} %   `
  const line = (name: string, values: number[]): void =>
    say(name.padEnd(40) + values.map((value, i) => cell(value, totals[i] ?? 0)).join(''))
  for (const step of STEPS) line(step, [sides.receiver.get(step) ?? 0, sides.sender.get(step) ?? 0])
  line('all', totals)
  const storing = seeding.get(POOL_THREAD) ?? 0
  const files = receiving.get(POOL_THREAD) ?? 0
  say(
    `Of the file calls in the receiver's thread pool, storing blocks took ${((storing * 1024) / mib).toFixed(2)} s for each GiB in a seed of the same share; ` +
      `the other ${(((files - storing) * 1024) / mib).toFixed(2)} s are writing the extracted file.`,
  )
}

/** CPU seconds by the name of the thread. */
type Threads = Map<string, number>

const MAIN_THREAD = 'MainThread'
const CRYPTO_THREAD = 'WorkerThread'
const POOL_THREAD = 'libuv-worker'
const RECORDS_THREAD = 'records'
const COLLECTOR_THREAD = 'V8Worker'
/** Threads that are there because of the profile. */
const PROFILER = /^(v8:ProfEvntProc|SignalInspector)$/

/** What each kind of thread of a daemon spent during some work; threads that it ended or began are counted as far as they are seen. */
async function threadSeconds(daemon: Daemon, work: () => Promise<void>): Promise<Threads> {
  const before = new Map((await threadsOf(daemon.started.pid)).map(({ id, cpuSeconds }) => [id, cpuSeconds]))
  await work()
  const spent: Threads = new Map()
  for (const { id, name, cpuSeconds } of await threadsOf(daemon.started.pid)) {
    if (PROFILER.test(name)) continue
    spent.set(name, (spent.get(name) ?? 0) + cpuSeconds - (before.get(id) ?? 0))
  }
  return spent
}

async function attribute(threads: Threads, profileDir: string, window: Window): Promise<BySteps> {
  const seconds: BySteps = new Map()
  const add = (step: Step, value: number): void => void seconds.set(step, (seconds.get(step) ?? 0) + value)
  const profiles = await readProfiles(profileDir)
  const isCrypto = ({ nodes }: Profile): boolean => nodes.some(({ callFrame }) => /node\/crypto\/worker/.test(callFrame.url))
  for (const [name, spent] of threads) {
    if (name === POOL_THREAD) add('file calls, thread pool', spent)
    else if (name === RECORDS_THREAD) add('records (SQLite)', spent)
    else if (name === COLLECTOR_THREAD) add('garbage collection', spent)
    else if (name === MAIN_THREAD) for (const [step, share] of sharesOf([profiles.main], window)) add(step, share * spent)
    else if (name === CRYPTO_THREAD)
      for (const [step, share] of sharesOf(profiles.workers.filter(isCrypto), window)) add(step, share * spent)
    else add('rest', spent)
  }
  return seconds
}
