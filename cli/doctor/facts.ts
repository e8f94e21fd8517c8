/**
 * Gathers what the doctor looks at, with a running node and without. Nothing is changed: the one file that is written to time the disk has
 * no name any more when it is written.
 */
import { randomBytes } from 'node:crypto'
import { open, readFile, stat, unlink } from 'node:fs/promises'
import { createServer } from 'node:net'
import { totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import type { Config } from '../../node/config.ts'
import { JobError, type PeerSummary, type StatusResult } from '../../node/control/api.ts'
import { connectControl, socketPathFor } from '../../node/control/client.ts'
import { diskRoom } from '../../node/free-space.ts'
import type { Facts } from './checks.ts'

/** Files with secrets, or with what only their owner should see, as the node makes them. */
const PRIVATE_FILES = ['identity', 'node-secret', 'records.db', 'http-token', 'daemon.log']

/** Looks at `home`; `config` are its settings, or what is wrong with them. */
export async function gatherFacts(home: string, config: Config | JobError, signal: AbortSignal): Promise<Facts> {
  const node = await askNode(home, signal)
  return {
    nodeVersion: process.versions.node,
    platform: process.platform,
    home: await lookAtHome(home),
    disk: await lookAtDisk(home, config instanceof JobError ? null : config.freeBytesKept),
    clock: { year: new Date().getUTCFullYear(), gainedMs: Date.now() - (performance.timeOrigin + performance.now()) },
    openFilesMax: await openFilesMax(),
    memoryBytes: Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY),
    complaint: config instanceof JobError ? config.message : null,
    takenPorts: config instanceof JobError || node !== 'none' ? [] : await takenPorts(config),
    status: typeof node === 'string' ? null : node.status,
    peers: typeof node === 'string' ? [] : node.peers,
    isOtherVersion: node === 'other version',
  }
}

async function askNode(
  home: string,
  signal: AbortSignal,
): Promise<{ status: StatusResult; peers: PeerSummary[] } | 'none' | 'other version'> {
  try {
    const api = await connectControl(socketPathFor(home))
    return api === null ? 'none' : { status: await api.status(signal), peers: await api.peers(signal) }
  } catch (error) {
    // A folder that is open to others is found by itself; the node behind its socket is not asked.
    if (error instanceof JobError) return error.code === 'OTHER_VERSION' ? 'other version' : 'none'
    throw error
  }
}

async function lookAtHome(path: string): Promise<Facts['home']> {
  const found = await stat(path).catch(() => null)
  if (found === null) return { path, exists: false, isOpen: false, openFiles: [], version: null }
  const hasModes = process.platform !== 'win32'
  const isOpen = hasModes && ((found.mode & 0o077) !== 0 || found.uid !== process.geteuid?.())
  const openFiles: string[] = []
  for (const name of hasModes ? PRIVATE_FILES : []) {
    const file = await stat(join(path, name)).catch(() => null)
    if (file !== null && (file.mode & 0o077) !== 0) openFiles.push(name)
  }
  const version = await readFile(join(path, 'version'), 'utf8').catch(() => null)
  return { path, exists: true, isOpen, openFiles, version: version?.trim() ?? null }
}

async function lookAtDisk(home: string, freeBytesKept: number | null): Promise<Facts['disk']> {
  for (let path = home; ; path = dirname(path)) {
    const room = await diskRoom(path, freeBytesKept).catch(() => null)
    // A home that is not there yet will be on the disk of the first folder above it that is.
    if (room !== null) return { ...room, syncMs: path === home ? await timeSync(home) : null }
    if (dirname(path) === path) return null
  }
}

/** How long one small write takes to be on disk; null where nothing can be written. */
async function timeSync(folder: string): Promise<number | null> {
  const path = join(folder, `.doctor.${randomBytes(8).toString('hex')}.tmp`)
  try {
    const file = await open(path, 'wx', 0o600)
    try {
      await unlink(path)
      await file.write(new Uint8Array(4096))
      const startedMs = performance.now()
      await file.sync()
      return performance.now() - startedMs
    } finally {
      await file.close()
    }
  } catch {
    // Read-only or full: the free space tells, and so does the node.
    return null
  }
}

async function openFilesMax(): Promise<number | null> {
  const text = await readFile('/proc/self/limits', 'utf8').catch(() => '')
  const [, soft] = /^Max open files\s+(\d+)/m.exec(text) ?? []
  return soft === undefined ? null : Number(soft)
}

/** Fixed ports of the settings on which nobody can listen now. */
async function takenPorts({ listen, http }: Config): Promise<string[]> {
  const wanted = listen.flatMap((address) => {
    const [, host, port] = /^\/ip[46]\/([^/]+)\/tcp\/(\d+)/.exec(address) ?? []
    return host === undefined ? [] : [{ host, port: Number(port), name: address }]
  })
  if (http !== null) wanted.push({ host: '127.0.0.1', port: http, name: `the port ${http} of "http"` })
  const taken: string[] = []
  for (const { host, port, name } of wanted) if (port !== 0 && (await isTaken(host, port))) taken.push(name)
  return taken
}

function isTaken(host: string, port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const server = createServer()
  server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'EADDRINUSE' || error.code === 'EACCES'))
  server.listen({ host, port, exclusive: true, ipv6Only: host.includes(':') }, () => server.close(() => resolve(false)))
  return promise
}
