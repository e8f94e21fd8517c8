/** Two network namespaces joined by a cable or a long line and nothing else: hosts of their own on this machine. Needs root on Linux. */
import { execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)

const LINKEM = fileURLToPath(new URL('../../bench/linkem.c', import.meta.url))
/** The same packets are lost in every run, as far as the same packets are sent. */
const LOSS_SEED = 1

export const canMakeNamespaces = process.platform === 'linux' && process.getuid?.() === 0

export interface Host {
  namespace: string
  device: string
  address: string
  /** Puts a command into the namespace. */
  prefix: string[]
}

const ip = (...args: string[]): Promise<unknown> => run('ip', args)

interface Joined {
  hosts: [Host, Host]
  /** Removes both hosts and what joins them. */
  close: () => Promise<void>
}

/** Two namespaces with the addresses `net`.1 and `net`.2; `join` puts the devices into them. There is no route out of them. */
async function makeHosts(net: string, join: (a: Host, b: Host) => Promise<() => Promise<void>>): Promise<Joined> {
  const tag = randomBytes(3).toString('hex')
  const host = (end: 'a' | 'b', number: number): Host => {
    const namespace = `shoal-${tag}-${end}`
    return { namespace, device: `${end}${tag}`, address: `${net}.${number}`, prefix: ['ip', 'netns', 'exec', namespace] }
  }
  const hosts: [Host, Host] = [host('a', 1), host('b', 2)]
  let part = async (): Promise<void> => {}
  const close = async (): Promise<void> => {
    await part()
    for (const { namespace } of hosts) await ip('netns', 'del', namespace).catch(() => {}) // may not have been made
  }
  try {
    for (const { namespace } of hosts) await ip('netns', 'add', namespace)
    part = await join(...hosts)
    for (const { namespace, device, address } of hosts) {
      await ip('-n', namespace, 'addr', 'add', `${address}/24`, 'dev', device)
      await ip('-n', namespace, 'link', 'set', 'lo', 'up')
      await ip('-n', namespace, 'link', 'set', device, 'up')
    }
    return { hosts, close }
  } catch (error) {
    await close()
    throw error
  }
}

/** Two hosts on one cable. */
export const joinHosts = (net: string): Promise<Joined> =>
  makeHosts(net, async (a, b) => {
    await ip('link', 'add', a.device, 'netns', a.namespace, 'type', 'veth', 'peer', 'name', b.device, 'netns', b.namespace)
    return async () => {} // goes with its namespaces
  })

/** A line between two hosts, the same both ways. */
export interface Line {
  delayMs: number
  lossPercent: number
  mbitPerSecond: number
}

/** Two hosts at the ends of a long line, which bench/linkem.c plays; it is compiled into `folder`, so there must be a C compiler. */
export const joinHostsFar = (net: string, line: Line, folder: string): Promise<Joined> =>
  makeHosts(net, async (a, b) => {
    const program = join(folder, 'linkem')
    await run('cc', ['-O2', '-o', program, LINKEM])
    const ends = [a, b].flatMap(({ namespace, device }) => [namespace, device])
    const numbers = [line.delayMs, 0, line.lossPercent * 10_000, line.mbitPerSecond, LOSS_SEED].map(String)
    const child = spawn(program, [...ends, ...numbers], { stdio: ['ignore', 'pipe', 'inherit'] })
    const ended = once(child, 'exit')
    const outcome = await Promise.race([once(child.stdout, 'data').then(() => null), ended])
    if (outcome !== null) throw new Error(`linkem ended with ${String(outcome[0])}`)
    return async () => {
      child.kill('SIGKILL')
      await ended
    }
  })

/** Limits what a host can send, as a home line's uplink does. */
export async function limitUplink({ namespace, device }: Host, rate: string): Promise<void> {
  await run('ip', [
    'netns',
    'exec',
    namespace,
    'tc',
    'qdisc',
    'add',
    'dev',
    device,
    'root',
    'tbf',
    'rate',
    rate,
    'burst',
    '32kbit',
    'latency',
    '400ms',
  ])
}

/** Lets multicast out of the one device there is, as a default route would. */
export async function routeMulticast({ namespace, device }: Host): Promise<void> {
  await ip('-n', namespace, 'route', 'add', '224.0.0.0/4', 'dev', device)
}
