/**
 * `npm run bench -- --only wan`: a get over a line of 50 Mbit/s and 50 ms each way, beside one plain TCP stream on the same line.
 *
 * Shoal's time runs from the WELCOME of its session (the receiver's log says when) to the end of the get, the plain stream's from
 * connected to its last byte. Needs root, Linux and a C compiler; says so and is skipped where one is missing.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, rm } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { GetResult, ShareResult } from '../node/control/api.ts'
import type { Daemon, Sandbox } from '../test/kit/daemons.ts'
import { canMakeNamespaces, type Host, joinHostsFar, type Line } from '../test/kit/namespaces.ts'
import { MIB, makeRandomFile, median, type Say } from './meters.ts'

const PLAIN = fileURLToPath(new URL('plain-stream.ts', import.meta.url))
const LINES: (Line & { wanted: number })[] = [
  { delayMs: 50, lossPercent: 0, mbitPerSecond: 50, wanted: 0.85 },
  { delayMs: 50, lossPercent: 1, mbitPerSecond: 50, wanted: 0.8 },
]

export async function benchWan(sandbox: Sandbox, mib: number, runs: number, say: Say): Promise<void> {
  if (!canMakeNamespaces) {
    say('\nA get over a long line: skipped, network namespaces need root on Linux.')
    return
  }
  const source = sandbox.path('wan.bin')
  await makeRandomFile(source, mib * MIB)
  for (const [i, line] of LINES.entries()) await benchLine(sandbox, { line, source, mib, runs, tag: `wan-${i}`, say })
}

interface Bench {
  line: Line & { wanted: number }
  source: string
  mib: number
  runs: number
  tag: string
  say: Say
}

async function benchLine(sandbox: Sandbox, bench: Bench): Promise<void> {
  const { line, mib, runs, tag, say } = bench
  const { hosts, close } = await joinHostsFar('10.79.0', line, sandbox.dir)
  const [near, far] = hosts
  try {
    say(
      `\n${mib} MiB over ${line.mbitPerSecond} Mbit/s, ${line.delayMs} ms each way, ${line.lossPercent} % loss, ${runs} runs; ` +
        `congestion control ${congestionControl(near)}:`,
    )
    const sender = await sandbox.daemon(`${tag}-sender`, { prefix: near.prefix, listen: `/ip4/${near.address}/tcp/0` })
    const { link } = await sender.json<ShareResult>('share', bench.source)
    const ratios: number[] = []
    for (let run = 0; run < runs; run++) {
      const plain = await plainSeconds(near, far, mib * MIB)
      const { welcomeSeconds, fetchSeconds } = await shoalSeconds(sandbox, `${tag}-receiver-${run}`, far, sender, link)
      ratios.push(plain / fetchSeconds)
      say(
        `  plain ${plain.toFixed(1)} s, Shoal ${fetchSeconds.toFixed(1)} s after ${welcomeSeconds.toFixed(1)} s of finding and hello, ` +
          `ratio ${(plain / fetchSeconds).toFixed(2)}`,
      )
    }
    say(`median ratio ${median(ratios).toFixed(2)} (wanted: ${line.wanted.toFixed(2)})`)
    await sender.kill()
  } finally {
    await close()
  }
}

const congestionControl = ({ prefix: [command = '', ...rest] }: Host): string =>
  execFileSync(command, [...rest, 'cat', '/proc/sys/net/ipv4/tcp_congestion_control'])
    .toString()
    .trim()

async function plainSeconds(near: Host, far: Host, bytes: number): Promise<number> {
  const start = ({ prefix: [command = '', ...rest] }: Host, ...args: string[]): ChildProcess =>
    spawn(command, [...rest, process.execPath, PLAIN, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const server = start(near, 'serve', near.address, String(bytes))
  try {
    const { port } = await lineOf(server)
    const client = start(far, 'fetch', near.address, String(port), String(bytes))
    const ended = once(client, 'exit').then(([code]) => {
      throw new Error(`the plain stream ended with ${String(code)}`)
    })
    ended.catch(() => {}) // its line came first
    return Number((await Promise.race([lineOf(client), ended])).seconds)
  } finally {
    server.kill('SIGKILL')
  }
}

async function lineOf(child: ChildProcess): Promise<Record<string, unknown>> {
  if (child.stdout === null) throw new Error('the process has no standard output')
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string] // readline gives one string an event
  return JSON.parse(line) as Record<string, unknown> // printed by plain-stream.ts
}

async function shoalSeconds(
  sandbox: Sandbox,
  name: string,
  far: Host,
  sender: Daemon,
  link: string,
): Promise<{ welcomeSeconds: number; fetchSeconds: number }> {
  const receiver = await sandbox.daemon(name, {
    prefix: far.prefix,
    listen: `/ip4/${far.address}/tcp/0`,
    bootstrap: sender.addresses,
    args: ['--log-level', 'debug'],
  })
  const out = sandbox.path(`out-${name}`)
  await mkdir(out)
  const since = performance.now()
  let welcomedAt = Number.NaN
  receiver.child.stderr?.on('data', (chunk: Buffer) => {
    if (Number.isNaN(welcomedAt) && chunk.includes('peer joined')) welcomedAt = performance.now()
  })
  await receiver.json<GetResult>('get', link, '-o', out, '--peer', sender.addresses[0] ?? '')
  const endedAt = performance.now()
  await receiver.kill()
  await Promise.all([rm(out, { recursive: true }), rm(receiver.home, { recursive: true })])
  return { welcomeSeconds: (welcomedAt - since) / 1000, fetchSeconds: (endedAt - welcomedAt) / 1000 }
}
