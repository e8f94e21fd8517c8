/**
 * `npm run bench:flood`: a daemon among masses of sockets. 200 sockets a second that say nothing while honest peers dial it; 5,000 dials
 * in ten seconds beside a transfer, three times, each beside ten seconds without; 1,000 connections that lie idle.
 *
 * Everything is a process of its own, on loopback. The sockets come from a host each, as from very many computers. The transfer is held to
 * --rate (16MiB a second; 'none': as fast as it goes), so that it is not the processors of this machine that end it; the dials stop after
 * the answer to their first message, which costs the node most of a handshake and them nothing. Options: --only silent|dials|idle, --json.
 */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { parseRate } from '../cli/rate.ts'
import { JUST_SHOW, type ShareResult, type StatusResult } from '../node/control/api.ts'
import { connectControl } from '../node/control/client.ts'
import { type Daemon, Sandbox } from '../test/kit/daemons.ts'
import { CpuMeter, MIB, median, say } from './meters.ts'

const PEER = fileURLToPath(new URL('./flood-peer.ts', import.meta.url))
const SILENT_PER_SECOND = 200
const SILENT_SECONDS = 25
/** The pending places are full by then. */
const SILENT_LEAD_MS = 4_000
const HONEST = 100
const HONEST_SECONDS = 20
const DIALS = 5_000
const DIALS_SECONDS = 10
const PAIRS = 3
const IDLE = 1_000
const IDLE_SETTLE_MS = 20_000
const FULL_RATE = 300 * MIB

interface Worker<T> {
  result: Promise<T>
  kill(): void
}

/** Runs flood-peer.ts; the result is its line. */
function run<T>(kind: string, daemon: Daemon, count: number, seconds: number): Worker<T> {
  const args = [PEER, kind, daemon.addresses[0] ?? '', String(count), String(seconds)]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const first = createInterface({ input: child.stdout })[Symbol.asyncIterator]().next()
  return { result: first.then(({ value }) => JSON.parse(String(value)) as T), kill: () => void child.kill('SIGKILL') } // one line, of the shape of its kind
}

const rssMiB = async (daemon: Daemon): Promise<number> =>
  Number(/VmRSS:\s+(\d+)/.exec(await readFile(`/proc/${daemon.started.pid}/status`, 'utf8'))?.[1]) / 1024

interface Silent {
  dialled: number
  succeeded: number
  medianMs: number
  slowestMs: number
  closed: number
  rssGrownMiB: number
}

async function silent(sandbox: Sandbox): Promise<Silent> {
  const daemon = await sandbox.daemon('silent')
  const before = await rssMiB(daemon)
  const flood = run<{ closed: number }>('silent', daemon, SILENT_PER_SECOND * SILENT_SECONDS, SILENT_SECONDS)
  await delay(SILENT_LEAD_MS)
  const honest = await run<{ dialled: number; succeeded: number; tookMs: number[] }>('honest', daemon, HONEST, HONEST_SECONDS).result
  const rssGrownMiB = (await rssMiB(daemon)) - before
  const { closed } = await flood.result
  await daemon.kill()
  const { dialled, succeeded, tookMs } = honest
  return { dialled, succeeded, medianMs: median(tookMs), slowestMs: Math.max(...tookMs), closed, rssGrownMiB }
}

interface Dials {
  calmBytesPerSecond: number[]
  floodedBytesPerSecond: number[]
  /** Of the pairs, in the middle. */
  lost: number
  answered: number
  sent: number
  lagP99Ms: number
}

async function dials(sandbox: Sandbox, rate: string): Promise<Dials> {
  const source = sandbox.path('source.bin')
  const cap = rate === 'none' ? null : parseRate(rate)
  const secondsMax = 2 * PAIRS * (DIALS_SECONDS + 1) + 15
  await writeRandom(source, Math.ceil((cap ?? FULL_RATE) * secondsMax))
  const seeder = await sandbox.daemon('seeder', { args: cap === null ? [] : ['--up', rate] })
  const { link } = await seeder.json<ShareResult>('share', '--in-place', source)
  const receiver = await sandbox.daemon('receiver', { bootstrap: seeder.addresses })
  await mkdir(sandbox.path('out'))
  receiver.json('get', link, '-o', sandbox.path('out')).catch(() => {}) // ended with its daemon
  const api = await connectControl(receiver.started.socket)
  if (api === null) throw new Error('nobody answers')
  const received = async (): Promise<number> => (await api.limits(JUST_SHOW, AbortSignal.timeout(10_000))).down.bytes
  while ((await received()) < 16 * MIB) await delay(100)
  const measure = async (): Promise<number> => {
    const [bytes, sinceMs] = [await received(), performance.now()]
    await delay(DIALS_SECONDS * 1000)
    return (((await received()) - bytes) * 1000) / (performance.now() - sinceMs)
  }
  const result: Dials = { calmBytesPerSecond: [], floodedBytesPerSecond: [], lost: 0, answered: 0, sent: 0, lagP99Ms: 0 }
  for (let pair = 0; pair < PAIRS; pair++) {
    result.calmBytesPerSecond.push(await measure())
    const flood = run<{ answered: number; sent: number }>('dials', seeder, DIALS, DIALS_SECONDS)
    await delay(500) // until it is there
    result.floodedBytesPerSecond.push(await measure())
    const { answered, sent } = await flood.result
    result.answered += answered
    result.sent += sent
  }
  result.lost = 1 - median(result.floodedBytesPerSecond.map((value, i) => value / (result.calmBytesPerSecond[i] ?? Number.NaN)))
  result.lagP99Ms = (await seeder.json<StatusResult>('status')).lagP99Ms
  await Promise.all([seeder.kill('SIGKILL'), receiver.kill('SIGKILL')])
  return result
}

async function writeRandom(path: string, bytes: number): Promise<void> {
  for (let at = 0; at < bytes; at += 16 * MIB) await writeFile(path, randomBytes(Math.min(16 * MIB, bytes - at)), { flag: 'a' })
}

interface Idle {
  connections: number
  rssMiB: number
  beforeMiB: number
}

async function idle(sandbox: Sandbox): Promise<Idle> {
  const daemon = await sandbox.daemon('idle')
  await daemon.run('limits', '--connections', String(2 * IDLE)) // a part of the places is for those that it dials itself
  const beforeMiB = await rssMiB(daemon)
  const peers = run<{ open: number }>('idle', daemon, IDLE, 0)
  try {
    await peers.result
    await delay(IDLE_SETTLE_MS)
    const { connections } = await daemon.json<StatusResult>('status')
    return { connections, rssMiB: await rssMiB(daemon), beforeMiB }
  } finally {
    peers.kill()
    await daemon.kill()
  }
}

const rates = (values: number[]): string => values.map((value) => (value / MIB).toFixed(1)).join(', ')

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { only: { type: 'string' }, rate: { type: 'string', default: '16MiB' }, json: { type: 'boolean', default: false } },
  })
  const isWanted = (name: string): boolean => values.only === undefined || values.only === name
  const sandbox = await Sandbox.create()
  const meter = new CpuMeter()
  await meter.start()
  const result: { silent?: Silent; dials?: Dials; idle?: Idle } = {}
  const tell = (text: string): void => {
    if (!values.json) say(text)
  }
  try {
    if (isWanted('silent')) {
      const it = await silent(sandbox)
      result.silent = it
      tell(
        `${SILENT_PER_SECOND} silent sockets a second: ${it.succeeded} of ${it.dialled} honest dials succeeded, median ${it.medianMs.toFixed(0)} ms, ` +
          `slowest ${it.slowestMs.toFixed(0)} ms (start of the dialling node included); ${it.rssGrownMiB.toFixed(0)} MiB more memory`,
      )
    }
    if (isWanted('dials')) {
      const it = await dials(sandbox, values.rate)
      result.dials = it
      tell(
        `${DIALS} dials in ${DIALS_SECONDS} s beside a transfer: ${rates(it.calmBytesPerSecond)} MiB/s without, ${rates(it.floodedBytesPerSecond)} with; ` +
          `it lost ${(100 * it.lost).toFixed(1)} %; ${it.answered} of ${it.sent} dials got an answer; lag p99 ${it.lagP99Ms.toFixed(0)} ms`,
      )
    }
    if (isWanted('idle')) {
      const it = await idle(sandbox)
      result.idle = it
      tell(`${it.connections} idle connections: ${it.rssMiB.toFixed(0)} MiB, ${it.beforeMiB.toFixed(0)} before them`)
    }
    const cpuPercent = await meter.percent()
    if (values.json) say(JSON.stringify({ ...result, cpuPercent }))
    else say(`Processors busy to ${cpuPercent.toFixed(0)} % over all of it.`)
  } finally {
    await sandbox.clear()
  }
}

await main()
