/**
 * The crowd with real Shoal daemons on loopback. Each caps its own line; getters know the origin's address and find the rest themselves.
 *
 * All start held, at 1 KiB/s. When the sessions stand, the real caps are set over the control sockets and the clock starts.
 */
import { mkdir, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { JUST_SHOW, type ShareResult, type ShoalApi } from '../node/control/api.ts'
import { connectControl } from '../node/control/client.ts'
import type { Daemon, Sandbox } from '../test/kit/daemons.ts'
import type { Crowd, CrowdFigures } from './crowd-figures.ts'
import { CpuMeter, forEachOf, hashFile, until, usageOf } from './meters.ts'

const HELD = ['--up', '1KiB', '--down', '1KiB']
const STARTS_AT_ONCE = 4
const BARRIER_MS = 180_000
/** Beyond this many getters the origin does not take them all: then each must have this many sessions with anybody. */
const ALL_AT_ORIGIN_MAX = 40
const SESSIONS_ENOUGH = 8

interface Node {
  daemon: Daemon
  api: ShoalApi
}

/**
 * Runs the crowd with the file `source`, whose SHA-256 is `digest`. Everything it starts has ended when it returns. Each getter is also told
 * of `introduced` other getters, as `get --peer` does.
 */
export async function runShoalCrowd(
  sandbox: Sandbox,
  crowd: Crowd,
  source: string,
  digest: string,
  introduced: number,
): Promise<CrowdFigures> {
  const stop = new AbortController()
  const nodes: Node[] = []
  const outs = Array.from({ length: crowd.getters }, (_, i) => sandbox.path(`crowd-out-${i}`))
  try {
    const origin = await startNode(sandbox, 'crowd-origin', [])
    nodes.push(origin)
    const { link, wireBytes } = await origin.daemon.json<ShareResult>('share', source)
    const getters = await forEachOf(outs, STARTS_AT_ONCE, async (out, i) => {
      await mkdir(out)
      const getter = await startNode(sandbox, `crowd-${i}`, origin.daemon.addresses)
      nodes.push(getter)
      return getter
    })
    const addressOf = (i: number): string => getters[i % getters.length]?.daemon.addresses[0] ?? ''
    const clock = { since: Number.NaN }
    const gets = getters.map(async ({ api }, i) => {
      const others = Array.from({ length: Math.min(introduced, getters.length - 1) }, (_, k) => addressOf(i + k + 1))
      await getShare(api, link, outs[i] ?? '', [...origin.daemon.addresses, ...others], stop.signal)
      return (performance.now() - clock.since) / 1000
    })
    const finished = Promise.all(gets)
    finished.catch(() => {}) // heard of below, or nobody waits any more
    const links = await Promise.race([atBarrier(origin, getters, stop.signal), finished.then(() => [])])
    if (links.length === 0) throw new Error('the gets ended while they were held')
    const meter = new CpuMeter()
    await meter.start()
    clock.since = performance.now()
    const caps = { uploadBytesPerSecond: crowd.upBytes, downloadBytesPerSecond: crowd.downBytes }
    await Promise.all(nodes.map(({ api }) => api.limits({ ...JUST_SHOW, set: { ...caps, lanExempt: false } }, stop.signal)))
    const seconds = await finished
    const cpuPercent = await meter.percent()
    const sent = await origin.api.status(stop.signal)
    const received = await Promise.all(getters.map(async ({ api }) => (await api.status(stop.signal)).bytesIn))
    const usages = await Promise.all(nodes.map(({ daemon }) => usageOf(daemon.started.pid)))
    const digests = await forEachOf(outs, 2, (out) => hashFile(join(out, basename(source))))
    return {
      seconds,
      links,
      originBytes: sent.bytesOut,
      copyBytes: wireBytes,
      receivedBytes: received.reduce((sum, bytes) => sum + bytes, 0),
      cpuPercent,
      rssMiB: Math.max(...usages.map(({ rssMiB }) => rssMiB)),
      identical: digests.filter((got) => got === digest).length,
    }
  } finally {
    stop.abort(new Error('the crowd is over'))
    await Promise.all(nodes.map(({ daemon }) => daemon.kill('SIGKILL')))
    const homes = nodes.map(({ daemon }) => daemon.home)
    await forEachOf([...homes, ...outs], 2, (path) => rm(path, { recursive: true, force: true }))
  }
}

async function startNode(sandbox: Sandbox, name: string, bootstrap: string[]): Promise<Node> {
  const daemon = await sandbox.daemon(name, { bootstrap, args: HELD })
  const api = await connectControl(daemon.started.socket)
  if (api === null) throw new Error(`the daemon ${name} does not answer`)
  return { daemon, api }
}

async function getShare(api: ShoalApi, link: string, outputDir: string, peers: string[], signal: AbortSignal): Promise<void> {
  const request = { link, outputDir, path: null, force: false, consent: false, wait: true, peers, keep: false }
  await api.get(request, () => {}, signal)
}

/** Waits until everybody has said hello; gives the number of sessions of each getter. */
async function atBarrier(origin: Node, getters: Node[], signal: AbortSignal): Promise<number[]> {
  let links: number[] = []
  const hasAll = async (): Promise<boolean> => {
    if (getters.length <= ALL_AT_ORIGIN_MAX) {
      const sessions = (await origin.api.peers(signal)).filter(({ shares }) => shares.length > 0)
      if (sessions.length < getters.length) return false
    }
    links = await forEachOf(getters, 4, async ({ api }) => (await api.status(signal)).swarmPeers)
    return getters.length <= ALL_AT_ORIGIN_MAX || Math.min(...links) >= SESSIONS_ENOUGH
  }
  try {
    await until('sessions of all', hasAll, BARRIER_MS, 500)
  } catch (error) {
    throw new Error(`the crowd did not come together: ${links.join(', ')} sessions`, { cause: error })
  }
  return links
}
