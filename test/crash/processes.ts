/** Starts one-shot nodes, under strace or without, and collects what they said before they ended, however they ended. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Order, Said } from './one-shot.ts'

const ONE_SHOT = fileURLToPath(new URL('one-shot.ts', import.meta.url))

/** Every system call by which a node changes what lies on the disk. */
const CHANGES = 'pwrite64,pwritev,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,ftruncate,mkdir,mkdirat'

export interface Ended {
  said: Said[]
  stderr: string
  signal: string | null
  code: number | null
  /** Until it said its first word. */
  firstMs: number | null
}

export const hasStrace = (): boolean => spawnSync('strace', ['-V']).status === 0

/** Which calls count: of all threads, or of the records' files alone. The worker of the records makes few among many of the others. */
export type Scope = 'files' | 'records'

/** Runs an order to its end. `killMs` kills it so many milliseconds after its start. */
export async function runOrder(order: Order, options: { prefix?: string[]; killMs?: number } = {}): Promise<Ended> {
  return await ended(startOrder(order, options.prefix ?? []), options.killMs ?? null)
}

/** Starts an order; `prefix` is a command that runs it. */
export function startOrder(order: Order, prefix: string[]): ChildProcess {
  const [command = process.execPath, ...args] = [...prefix, process.execPath, ONE_SHOT, JSON.stringify(order)]
  // One thread for files, so that the same run makes the same calls in the same order.
  const env = { ...process.env, UV_THREADPOOL_SIZE: '1', NODE_OPTIONS: '' }
  return spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env })
}

async function ended(child: ChildProcess, killMs: number | null): Promise<Ended> {
  const collected = ['', '']
  const beganMs = performance.now()
  let firstMs: number | null = null
  for (const [i, stream] of [child.stdout, child.stderr].entries()) {
    stream?.on('data', (chunk: Buffer) => {
      if (i === 0) firstMs ??= performance.now() - beganMs
      collected[i] += chunk.toString()
    })
  }
  const timer = killMs === null ? null : setTimeout(() => child.kill('SIGKILL'), killMs)
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null]
  if (timer !== null) clearTimeout(timer)
  const [stdout = '', stderr = ''] = collected
  // Each line went out in one call, so only the last can be cut short, and then it was not said.
  const said = stdout.split('\n').flatMap((line) => (line.startsWith('{') && line.endsWith('}') ? [JSON.parse(line) as Said] : []))
  return { said, stderr, signal, code, firstMs }
}

const straceArgs = (scope: Scope, home: string): string[] => {
  const paths = ['records.db', 'records.db-wal', 'records.db-journal'].flatMap((name) => ['-P', join(home, name)])
  return ['-f', '-q', ...(scope === 'records' ? paths : []), '-e', 'signal=none', '-e', `trace=${CHANGES}`]
}

/** Before the `nth` time that one of the threads makes this call. */
export interface Point {
  call: string
  nth: number
}

/** Every point at which an order can be killed, call by call: strace counts each call of each thread by itself. */
export async function listPoints(order: Order, scope: Scope): Promise<{ points: Point[]; ended: Ended }> {
  const dir = mkdtempSync(join(tmpdir(), 'shoal-strace-'))
  try {
    const prefix = ['strace', '--seccomp-bpf', ...straceArgs(scope, order.home), '-o', join(dir, 'log')]
    const run = await runOrder(order, { prefix })
    const counts = new Map<string, number>()
    for (const line of readFileSync(join(dir, 'log'), 'utf8').split('\n')) {
      const [, thread, call] = /^(\d+) +([a-z]\w*)\(/.exec(line) ?? []
      if (thread !== undefined) counts.set(`${call} ${thread}`, (counts.get(`${call} ${thread}`) ?? 0) + 1)
    }
    const most = new Map<string, number>()
    for (const [key, count] of counts) {
      const call = key.split(' ')[0] ?? ''
      most.set(call, Math.max(most.get(call) ?? 0, count))
    }
    const points = [...most].flatMap(([call, count]) => Array.from({ length: count }, (_, i) => ({ call, nth: i + 1 })))
    return { points, ended: run }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

// With --seccomp-bpf strace is quicker and injects no signals.
/** Runs an order that is killed at a point. */
export async function runUntil(order: Order, scope: Scope, { call, nth }: Point): Promise<Ended> {
  const inject = `inject=${call}:signal=SIGKILL:when=${nth}`
  return await runOrder(order, { prefix: ['strace', ...straceArgs(scope, order.home), '-o', '/dev/null', '-e', inject] })
}
