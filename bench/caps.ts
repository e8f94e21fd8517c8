/**
 * `npm run bench:caps`: how near a node keeps to its caps while there is always something to send, by its own counters.
 *
 * On loopback: two receivers at a seeder with an upload cap; one receiver with a download cap; a seeder whose schedule halves its cap in the
 * middle of the transfer; and a seeder that exempts the local network. Options: --rate RATE (default 4MiB), --seconds N (default 30).
 */
import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { parseRate } from '../cli/rate.ts'
import { JUST_SHOW, type LimitsResult, type ShareResult } from '../node/control/api.ts'
import { connectControl } from '../node/control/client.ts'
import { type Daemon, Sandbox } from '../test/kit/daemons.ts'

const SAMPLE_MS = 100
const WINDOW_MS = 1_000

const say = (text: string): void => void process.stdout.write(`${text}\n`)

/** What a daemon counts, again and again for so long, from its first block on. */
async function watch(daemon: Daemon, way: 'up' | 'down', seconds: number): Promise<LimitsResult[]> {
  const api = await connectControl(daemon.started.socket)
  if (api === null) throw new Error('nobody answers')
  const look = (): Promise<LimitsResult> => api.limits(JUST_SHOW, AbortSignal.timeout(10_000))
  while ((await look())[way].bytes < 1_048_576) await delay(SAMPLE_MS)
  const samples = [await look()]
  while (samples.at(-1)!.atMs - samples[0]!.atMs < seconds * 1000) {
    await delay(SAMPLE_MS)
    samples.push(await look())
  }
  return samples
}

/** The average over everything, and the most of any window, as parts of the cap. */
function tell(name: string, cap: number, way: 'up' | 'down', samples: LimitsResult[]): void {
  const partOf = (from: LimitsResult, to: LimitsResult): number => ((to[way].bytes - from[way].bytes) * 1000) / (to.atMs - from.atMs) / cap
  const windows = samples.flatMap((from) => {
    const to = samples.find(({ atMs }) => atMs - from.atMs >= WINDOW_MS)
    return to === undefined ? [] : [partOf(from, to)]
  })
  const average = partOf(samples[0]!, samples.at(-1)!)
  const [least, most] = [Math.min(...windows), Math.max(...windows)]
  say(`${name}: ${average.toFixed(3)} of the cap on average, ${least.toFixed(2)} to ${most.toFixed(2)} in windows of a second`)
}

async function run(sandbox: Sandbox, rate: string, seconds: number): Promise<void> {
  const cap = parseRate(rate)
  if (cap === null) throw new Error('--rate needs a number')
  const source = sandbox.path('source.bin')
  // Equal blocks would travel once.
  await writeFile(source, randomBytes(Math.ceil(cap * (seconds + 20))))
  const seeder = await sandbox.daemon('seeder', { args: ['--up', rate] })
  const { link } = await seeder.json<ShareResult>('share', source)
  const get = async (name: string, args: string[]): Promise<Daemon> => {
    const reader = await sandbox.daemon(name, { bootstrap: seeder.addresses, args })
    await mkdir(sandbox.path(`out-${name}`))
    reader.json('get', link, '-o', sandbox.path(`out-${name}`)).catch(() => {}) // ended with its daemon
    return reader
  }
  const readers = [await get('a', ['--up', '1KiB']), await get('b', ['--up', '1KiB'])]
  tell(`up, two receivers, ${rate}`, cap, 'up', await watch(seeder, 'up', seconds))
  await Promise.all(readers.map((reader) => reader.kill()))
  await seeder.json('limits', '--up', 'none')
  const reader = await get('c', ['--down', rate])
  tell(`down, one sender, ${rate}`, cap, 'down', await watch(reader, 'down', seconds))
  await reader.kill()
  await seeder.kill()
}

const MINUTE_MS = 60_000

/** "HH:MM" of a moment, as a schedule has it. */
function timeOf(wallMs: number): string {
  const date = new Date(wallMs)
  return [date.getHours(), date.getMinutes()].map((part) => String(part).padStart(2, '0')).join(':')
}

/** From a full minute on the schedule says half of the cap, while a block is on its way. */
async function runSchedule(sandbox: Sandbox, rate: string, seconds: number): Promise<void> {
  const cap = parseRate(rate)
  if (cap === null) throw new Error('--rate needs a number')
  // Long enough for the start of three daemons and the first stretch.
  const switchMs = (Math.floor((Date.now() + (seconds + 15) * 1000) / MINUTE_MS) + 1) * MINUTE_MS
  const entry = { from: timeOf(switchMs), to: timeOf(switchMs + 10 * MINUTE_MS), uploadBytesPerSecond: Math.floor(cap / 2) }
  await mkdir(sandbox.path('home-planned'), { mode: 0o700 })
  await writeFile(sandbox.path('home-planned', 'config.json'), JSON.stringify({ uploadBytesPerSecond: cap, schedule: [entry] }))
  await writeFile(sandbox.path('planned.bin'), randomBytes(Math.ceil(cap * (seconds * 2 + 90))))
  const seeder = await sandbox.daemon('planned')
  const { link } = await seeder.json<ShareResult>('share', sandbox.path('planned.bin'))
  const reader = await sandbox.daemon('d', { bootstrap: seeder.addresses, args: ['--up', '1KiB'] })
  await mkdir(sandbox.path('out-d'))
  reader.json('get', link, '-o', sandbox.path('out-d')).catch(() => {}) // ended with its daemon
  await delay(Math.max(0, switchMs - Date.now() - seconds * 1000 - 1_000))
  tell('up, before the schedule', cap, 'up', await watch(seeder, 'up', Math.min(seconds, (switchMs - Date.now()) / 1000 - 0.5)))
  await delay(Math.max(0, switchMs - Date.now() + WINDOW_MS))
  tell('up, by the schedule, half of it', cap / 2, 'up', await watch(seeder, 'up', seconds))
  await Promise.all([reader.kill(), seeder.kill()])
}

/** A cap that the local network is exempt from holds nothing back. */
async function runLan(sandbox: Sandbox, rate: string): Promise<void> {
  const cap = parseRate(rate)
  if (cap === null) throw new Error('--rate needs a number')
  const sizeBytes = 256 * 1_048_576
  await writeFile(sandbox.path('lan.bin'), randomBytes(sizeBytes))
  const seeder = await sandbox.daemon('lan', { args: ['--up', rate, '--no-cap-lan'] })
  const { link } = await seeder.json<ShareResult>('share', sandbox.path('lan.bin'))
  const reader = await sandbox.daemon('e', { bootstrap: seeder.addresses, args: ['--down', rate, '--no-cap-lan'] })
  await mkdir(sandbox.path('out-e'))
  const startMs = performance.now()
  await reader.json('get', link, '-o', sandbox.path('out-e'))
  const rateNow = (sizeBytes * 1000) / (performance.now() - startMs)
  const { month } = await seeder.json<LimitsResult>('limits')
  say(`exempt: ${(rateNow / cap).toFixed(1)} times the cap; ${month.upBytes} bytes of it count`)
}

const { values } = parseArgs({ options: { rate: { type: 'string', default: '4MiB' }, seconds: { type: 'string', default: '30' } } })
const sandbox = await Sandbox.create()
try {
  await run(sandbox, values.rate, Number(values.seconds))
  await runSchedule(sandbox, values.rate, Number(values.seconds))
  await runLan(sandbox, values.rate)
} finally {
  await sandbox.clear()
}
