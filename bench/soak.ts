/**
 * `npm run bench:soak`: an hour of one node in a swarm of 20 with churn and steady transfers: memory, descriptors, timers and threads of
 * that node each few seconds, the slope of its memory after the first ten minutes, and what its log complains of.
 *
 * The node under watch shares, and fetches and lets go of, shares of its neighbours without end. Of those, one is killed and started
 * anew every so often. Options: --minutes N (60), --peers N (20), --warm-up N (10 minutes), --json FILE for all samples.
 */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import type { GetResult, ShareResult, StatusResult } from '../node/control/api.ts'
import { type Daemon, Sandbox } from '../test/kit/daemons.ts'
import { MIB, makeRandomFile, say } from './meters.ts'

const SAMPLE_MS = 10_000
const CHURN_MS = 15_000
const SHARE_MIB = 8
const START_TRIES = 120
/** Bytes a second that each node sends at most, so that the machine is not the limit. */
const CAP = '512KiB'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    peers: { type: 'string', default: '20' },
    'warm-up': { type: 'string', default: '10' },
    json: { type: 'string' },
  },
})

interface Sample {
  minutes: number
  rssMiB: number
  descriptors: number
  threads: number
  connections: number
  lagP99Ms: number
  gets: number
}

interface Peer {
  name: string
  daemon: Daemon
  link: string
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** A command that was meant for a daemon just killed runs by itself, and holds the home for a while. */
async function startPeer(sandbox: Sandbox, name: string, bootstrap: string[]): Promise<Daemon> {
  for (let tries = 0; ; tries++) {
    try {
      return await sandbox.daemon(name, { bootstrap, args: ['--up', CAP, '--log-level', 'warn'] })
    } catch (error) {
      if (tries >= START_TRIES || !(error instanceof Error && error.message.includes('HOME_LOCKED'))) throw error
      await sleep(1_000)
    }
  }
}

async function sampleOf(watched: Daemon, sinceMs: number, gets: number): Promise<Sample> {
  const { pid } = watched.started
  const [status, descriptors, text] = await Promise.all([
    watched.json<StatusResult>('status'),
    readdir(`/proc/${pid}/fd`),
    readFile(`/proc/${pid}/status`, 'utf8'),
  ])
  return {
    minutes: (performance.now() - sinceMs) / 60_000,
    rssMiB: Number(/VmRSS:\s+(\d+)/.exec(text)?.[1]) / 1024,
    descriptors: descriptors.length,
    threads: Number(/Threads:\s+(\d+)/.exec(text)?.[1]),
    connections: status.connections,
    lagP99Ms: status.lagP99Ms,
    gets,
  }
}

/** Least squares, in units a minute. */
function slopeOf(samples: Sample[], of: (sample: Sample) => number): number {
  const mean = (numbers: number[]): number => numbers.reduce((sum, number) => sum + number, 0) / numbers.length
  const [x, y] = [mean(samples.map(({ minutes }) => minutes)), mean(samples.map(of))]
  const above = samples.reduce((sum, sample) => sum + (sample.minutes - x) * (of(sample) - y), 0)
  const below = samples.reduce((sum, sample) => sum + (sample.minutes - x) ** 2, 0)
  return above / below
}

async function main(): Promise<void> {
  const [minutes, count, warmUp] = [Number(values.minutes), Number(values.peers), Number(values['warm-up'])]
  const sandbox = await Sandbox.create()
  const ending = new AbortController()
  try {
    const watched = await startPeer(sandbox, 'watched', [])
    const bootstrap = watched.addresses
    const own = sandbox.path('own.bin')
    await makeRandomFile(own, SHARE_MIB * MIB)
    const { link: ownLink, cid: ownCid } = await watched.json<ShareResult>('share', own)
    const peers: Peer[] = []
    for (let i = 0; i < count; i++) {
      const source = sandbox.path(`source-${i}.bin`)
      await makeRandomFile(source, SHARE_MIB * MIB)
      const daemon = await startPeer(sandbox, `peer-${i}`, bootstrap)
      peers.push({ name: `peer-${i}`, daemon, link: (await daemon.json<ShareResult>('share', source)).link })
    }
    say(
      `${count} peers, ${minutes} minutes, shares of ${SHARE_MIB} MiB, ${CAP}/s up each; one peer killed and started every ${CHURN_MS / 1000} s.`,
    )
    let gets = 0
    let failures = 0
    const since = performance.now()
    const isOver = (): boolean => ending.signal.aborted || performance.now() - since > minutes * 60_000
    const fetch = async (daemon: Daemon, link: string, out: string): Promise<void> => {
      await mkdir(out, { recursive: true })
      try {
        const { cid } = await daemon.json<GetResult>('get', link, '-o', out)
        await daemon.json('unseed', cid)
        gets++
      } catch {
        failures++ // its peer, or it, was just killed
        await sleep(1_000)
      }
      await rm(out, { recursive: true, force: true })
    }
    // The watched node fetches one share after another, and the others fetch its own in turn.
    const fetching = (async () => {
      for (let turn = 0; !isOver(); turn++) await fetch(watched, peers[turn % count]!.link, sandbox.path('out-watched'))
    })()
    const serving = (async () => {
      for (let turn = 0; !isOver(); turn++) await fetch(peers[turn % count]!.daemon, ownLink, sandbox.path('out-peer'))
    })()
    const churning = (async () => {
      for (let turn = 0; !isOver(); turn++) {
        await sleep(CHURN_MS)
        const peer = peers[(turn * 7) % count]!
        await peer.daemon.kill(turn % 2 === 0 ? 'SIGKILL' : 'SIGTERM')
        peer.daemon = await startPeer(sandbox, peer.name, bootstrap)
      }
    })()
    const samples: Sample[] = []
    while (!isOver()) {
      samples.push(await sampleOf(watched, since, gets))
      const last = samples.at(-1)!
      if (samples.length % 30 === 1) say(JSON.stringify(last))
      await sleep(SAMPLE_MS)
    }
    await Promise.allSettled([fetching, serving, churning])
    if (values.json !== undefined) await writeFile(values.json, JSON.stringify(samples))
    const warm = samples.filter((sample) => sample.minutes >= warmUp)
    const range = (of: (sample: Sample) => number): string => `${Math.min(...warm.map(of))} to ${Math.max(...warm.map(of))}`
    say(
      `memory: ${(60 * slopeOf(warm, ({ rssMiB }) => rssMiB)).toFixed(2)} MiB an hour after ${warmUp} minutes, ${range(({ rssMiB }) => Math.round(rssMiB))} MiB`,
    )
    say(
      `descriptors ${range(({ descriptors }) => descriptors)}, slope ${(60 * slopeOf(warm, ({ descriptors }) => descriptors)).toFixed(1)} an hour`,
    )
    say(
      `threads ${range(({ threads }) => threads)}; connections ${range(({ connections }) => connections)}; lag p99 at most ${Math.max(...warm.map(({ lagP99Ms }) => lagP99Ms))} ms`,
    )
    say(`${gets} gets, ${failures} cut off by a kill; share ${ownCid.slice(-8)} served to the end`)
    const complaints = watched.log.split('\n').filter((line) => line.includes('nobody listened') || line.includes('"level":"error"'))
    say(`${complaints.length} errors in the log${complaints.length > 0 ? `, the first: ${complaints[0]}` : ''}`)
  } finally {
    ending.abort()
    await sandbox.clear()
  }
}

await main()
