/**
 * What the tests against hostile peers share: stacks under test that limit loopback too, attackers in processes of their own (their
 * processor time must not count as ours), sinks that count who connects, and a meter of how long our event loop was kept busy.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { createServer, type Server } from 'node:net'
import { MemoryDatastore } from 'datastore-core'
import { silentLog } from '../../node/log.ts'
import { createIdentity, createStack, type Stack, type StackOptions } from '../../node/network/stack.ts'

export const NETWORK_NAME = 'test-hostile'
export const DHT_PROTOCOL = `/shoal/net/${NETWORK_NAME}/kad/1.0.0`
export const SWARM_PROTOCOL = `/shoal/net/${NETWORK_NAME}/swarm/1`

/** Our processor time without a pause, at most: far below what a single message cost without limits (seconds). */
export const BUSY_MS_MAX = 50

/** A signal that ends a wait of a test. */
export const patience = (ms = 20_000): AbortSignal => AbortSignal.timeout(ms)

const endings: (() => unknown)[] = []

/** Ends everything that the kit started, last first. */
export async function endAll(): Promise<void> {
  for (const end of endings.splice(0).reverse()) await end()
}

/** A stack under test. Loopback addresses count per IP group, as public ones do in the field. */
export async function startStack(options: Partial<StackOptions> = {}): Promise<Stack> {
  const stack = await createStack({
    identity: await createIdentity(),
    network: NETWORK_NAME,
    listen: ['/ip4/127.0.1.1/tcp/0'],
    bootstrap: [],
    mdns: false,
    datastore: new MemoryDatastore(),
    log: silentLog,
    groupPrivate: true,
    ...options,
  })
  endings.push(() => stack.stop())
  return stack
}

/** What an attacker is told to do; one shape for all, see attacker.ts. */
export interface Attack {
  kind: 'closerBomb' | 'addressBomb' | 'recordFlood' | 'announceAndLeave' | 'silentSockets' | 'unreadStreams' | 'surround' | 'fakeSeeders'
  /** Address (with peer id) of the stack under test, for attacks that dial. */
  target?: string
  /** How many fake peers, addresses, messages, sockets or connections. */
  count: number
  perSecond?: number
  streams?: number
  /** host:port that fake peers claim as their address. */
  sink?: { host: string; port: number }
  /** Hexadecimal digest of the DHT key. */
  key?: string
  /** Nodes of the network, for attacks on all of them. */
  targets?: string[]
  /** Name of the network, when it is another. */
  network?: string
}

export interface Attacker {
  /** Resolves with what the attacker reports first: its address when it listens. */
  ready: Promise<Report>
  /** Resolves with its last report. */
  done: Promise<Report>
}

export type Report = { type: 'ready'; address: string } | { type: 'done'; sent: number; refused: number }

/** Starts an attacker in its own process. */
export function startAttacker(attack: Attack): Attacker {
  const child: ChildProcess = fork(new URL('./attacker.ts', import.meta.url), [JSON.stringify(attack)], { execArgv: [] })
  const report = (type: Report['type']): Promise<Report> =>
    new Promise((resolve, reject) => {
      child.on('message', (message: Report) => {
        if (message.type === type) resolve(message)
      })
      child.on('exit', (code) => reject(new Error(`attacker ended with ${code}`)))
    })
  const attacker = { ready: report('ready'), done: report('done') }
  attacker.ready.catch(() => {}) // awaited by the tests that need it
  attacker.done.catch(() => {})
  endings.push(() => child.kill('SIGKILL'))
  return attacker
}

/** A victim: counts connections and says nothing. */
export async function startSink(host: string): Promise<{ host: string; port: number; connections(): number }> {
  let count = 0
  const server: Server = createServer((socket) => {
    count++
    socket.on('error', () => {})
    setTimeout(() => socket.destroy(), 200)
  })
  await new Promise<void>((resolve) => server.listen(0, host, resolve))
  endings.push(() => server.close())
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the sink has no port')
  return { host, port: address.port, connections: () => count }
}

/**
 * Measures the longest stretch of processor time that this thread used between two turns of a 2 ms timer. Processor time, not wall time:
 * a busy machine that gives us no processor must not look like a peer that takes ours.
 */
export function startBusyMeter(): { stop(): number } {
  let last = process.threadCpuUsage()
  let mostUs = 0
  const turn = (): void => {
    const now = process.threadCpuUsage()
    mostUs = Math.max(mostUs, now.user + now.system - last.user - last.system)
    last = now
  }
  const timer = setInterval(turn, 2)
  return {
    stop: () => {
      turn()
      clearInterval(timer)
      return mostUs / 1000
    },
  }
}
