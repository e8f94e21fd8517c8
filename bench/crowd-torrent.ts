/** The crowd with libtorrent: a process for each peer (libtorrent-peer.py), all told of one another, the same caps and the same clock. */
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Crowd, CrowdFigures } from './crowd-figures.ts'
import { CpuMeter, forEachOf, hashFile, MIB, until, usageOf } from './meters.ts'

const SCRIPT = fileURLToPath(new URL('libtorrent-peer.py', import.meta.url))
/** The distribution's Python first: its packages are not seen by another one. */
const PYTHONS = ['/usr/bin/python3', 'python3']
const CONNECT_MS = 60_000

interface Status {
  peers: number
  bytesOut: number
  bytesIn: number
}

/** A Python that has libtorrent, and libtorrent's version; null when there is none. */
export function findLibtorrent(): { python: string; version: string } | null {
  for (const python of PYTHONS) {
    try {
      const version = execFileSync(python, ['-c', 'import libtorrent; print(libtorrent.__version__)'], {
        stdio: ['ignore', 'pipe', 'ignore'],
      })
      return { python, version: version.toString().trim() }
    } catch {
      // Not installed there.
    }
  }
  return null
}

class Peer {
  readonly child: ChildProcessWithoutNullStreams
  readonly port: Promise<number>
  /** Resolves when it has the whole file. */
  readonly finished: Promise<void>
  readonly #statuses: ((status: Status) => void)[] = []
  readonly #failed: Promise<never>

  constructor(python: string, args: string[]) {
    this.child = spawn(python, [SCRIPT, 'run', ...args])
    const port = Promise.withResolvers<number>()
    const finished = Promise.withResolvers<void>()
    const failed = Promise.withResolvers<never>()
    let complaint = ''
    this.child.stderr.on('data', (chunk: Buffer) => {
      complaint += chunk.toString()
    })
    this.child.once('exit', (code) => failed.reject(new Error(`a libtorrent peer ended with ${code}: ${complaint}`)))
    createInterface({ input: this.child.stdout }).on('line', (line) => {
      const value = JSON.parse(line) as Record<string, unknown> // printed by libtorrent-peer.py
      if (typeof value.port === 'number') port.resolve(value.port)
      else if (value.finished === true) finished.resolve()
      else if (value.status === true)
        this.#statuses.shift()?.(value as unknown as Status) // the fields that the script gives
      else failed.reject(new Error(`a libtorrent peer says ${line}`))
    })
    this.port = port.promise
    this.finished = finished.promise
    this.#failed = failed.promise
    this.#failed.catch(() => {}) // heard of by whoever waits for something
  }

  tell(command: object): void {
    this.child.stdin.write(`${JSON.stringify(command)}\n`)
  }

  status(): Promise<Status> {
    const { promise, resolve } = Promise.withResolvers<Status>()
    this.#statuses.push(resolve)
    this.tell({ status: true })
    return this.orFail(promise)
  }

  orFail<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.#failed])
  }

  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const ended = once(this.child, 'exit')
    this.child.kill('SIGKILL')
    await ended
  }
}

/** Runs the crowd in `dir` with the file `source`, whose SHA-256 is `digest`. */
export async function runTorrentCrowd(python: string, dir: string, crowd: Crowd, source: string, digest: string): Promise<CrowdFigures> {
  const torrent = join(dir, 'crowd.torrent')
  await mkdir(dir, { recursive: true })
  execFileSync(python, [SCRIPT, 'make', source, torrent])
  const caps = [String(crowd.upBytes), String(crowd.downBytes)]
  const folders = Array.from({ length: crowd.getters }, (_, i) => join(dir, `torrent-${i}`))
  const origin = new Peer(python, [torrent, dirname(source), 'seed', ...caps])
  const getters: Peer[] = []
  try {
    for (const folder of folders) {
      await mkdir(folder)
      getters.push(new Peer(python, [torrent, folder, 'get', ...caps]))
    }
    const ports = await Promise.all([origin, ...getters].map((peer) => peer.orFail(peer.port)))
    for (const [i, getter] of getters.entries()) getter.tell({ connect: ports.slice(0, i + 1) })
    let links: number[] = []
    const isMeshed = async (): Promise<boolean> => {
      links = (await Promise.all(getters.map((getter) => getter.status()))).map(({ peers }) => peers)
      return Math.min(...links) >= crowd.getters
    }
    await until('connecting all libtorrent peers', isMeshed, CONNECT_MS, 500)
    const meter = new CpuMeter()
    await meter.start()
    const since = performance.now()
    for (const getter of getters) getter.tell({ begin: true })
    const seconds = await Promise.all(
      getters.map((getter) => getter.orFail(getter.finished.then(() => (performance.now() - since) / 1000))),
    )
    const cpuPercent = await meter.percent()
    const [origins, ...received] = await Promise.all([origin, ...getters].map((peer) => peer.status()))
    const usages = await Promise.all([origin, ...getters].map(({ child }) => usageOf(child.pid ?? 0)))
    const digests = await forEachOf(folders, 2, (folder) => hashFile(join(folder, basename(source))))
    return {
      seconds,
      links,
      originBytes: origins?.bytesOut ?? Number.NaN,
      copyBytes: crowd.mib * MIB,
      receivedBytes: received.reduce((sum, { bytesIn }) => sum + bytesIn, 0),
      cpuPercent,
      rssMiB: Math.max(...usages.map(({ rssMiB }) => rssMiB)),
      identical: digests.filter((got) => got === digest).length,
    }
  } finally {
    await Promise.all([origin, ...getters].map((peer) => peer.kill()))
  }
}
