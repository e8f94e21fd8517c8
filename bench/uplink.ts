/**
 * Four receivers behind one uplink of 5 Mbit/s: all of them finish, nobody is cut off for being slow.
 *
 * The sender and the receivers live in two network namespaces joined by a veth pair with a token bucket on the sender's side. There is no
 * other interface in them, so nothing can leave. Needs root and Linux; says so and is skipped where there is neither.
 */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import type { GetResult, PeerSummary, ShareResult } from '../node/control/api.ts'
import type { Sandbox } from '../test/kit/daemons.ts'

const run = promisify(execFile)
const RECEIVERS = 4
const MEBIBYTES = 8
const RATE = '5mbit'

const ip = (...args: string[]): Promise<unknown> => run('ip', args)

export async function benchUplink(sandbox: Sandbox, say: (text: string) => void): Promise<void> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    say('\nFour receivers on one uplink: skipped, network namespaces need root on Linux.')
    return
  }
  const tag = randomBytes(2).toString('hex')
  const [up, down] = [`shoal-up-${tag}`, `shoal-dn-${tag}`]
  try {
    await joinNamespaces(up, down, tag)
    await transfer(sandbox, up, down, say)
  } finally {
    for (const name of [up, down]) await ip('netns', 'del', name).catch(() => {}) // may not have been made
  }
}

async function joinNamespaces(up: string, down: string, tag: string): Promise<void> {
  await ip('netns', 'add', up)
  await ip('netns', 'add', down)
  await ip('link', 'add', `u${tag}`, 'netns', up, 'type', 'veth', 'peer', 'name', `d${tag}`, 'netns', down)
  for (const [name, device, address] of [
    [up, `u${tag}`, '10.77.0.1/24'],
    [down, `d${tag}`, '10.77.0.2/24'],
  ] as const) {
    await ip('-n', name, 'addr', 'add', address, 'dev', device)
    await ip('-n', name, 'link', 'set', device, 'up')
    await ip('-n', name, 'link', 'set', 'lo', 'up')
  }
  await run('ip', [
    'netns',
    'exec',
    up,
    'tc',
    'qdisc',
    'add',
    'dev',
    `u${tag}`,
    'root',
    'tbf',
    'rate',
    RATE,
    'burst',
    '32kbit',
    'latency',
    '400ms',
  ])
}

async function transfer(sandbox: Sandbox, up: string, down: string, say: (text: string) => void): Promise<void> {
  const source = sandbox.path('uplink.bin')
  await writeFile(source, randomBytes(MEBIBYTES * 1_048_576))
  const sender = await sandbox.daemon('uplink-sender', { prefix: ['ip', 'netns', 'exec', up], listen: '/ip4/10.77.0.1/tcp/0' })
  const { link } = await sender.json<ShareResult>('share', source)
  const since = performance.now()
  const seconds = await Promise.all(
    Array.from({ length: RECEIVERS }, async (_, i) => {
      const receiver = await sandbox.daemon(`uplink-receiver-${i}`, {
        prefix: ['ip', 'netns', 'exec', down],
        listen: '/ip4/10.77.0.2/tcp/0',
        bootstrap: sender.addresses,
      })
      const out = sandbox.path(`uplink-out-${i}`)
      await mkdir(out)
      const got = await receiver.json<GetResult>('get', link, '-o', out)
      if (got.sizeBytes !== MEBIBYTES * 1_048_576) throw new Error(`receiver ${i} got ${got.sizeBytes} bytes`)
      return (performance.now() - since) / 1000
    }),
  )
  const served = (await sender.json<PeerSummary[]>('peers')).flatMap((peer) => peer.shares).reduce((sum, share) => sum + share.bytesOut, 0)
  const fluid = (MEBIBYTES * 8 * 1.048576) / 5
  say(
    `\nFour receivers of ${MEBIBYTES} MiB on one uplink of 5 Mbit/s: all finished, after ${seconds.map((value) => value.toFixed(1)).join(', ')} s.`,
  )
  say(
    `One copy takes ${fluid.toFixed(1)} s on that uplink; the sender gave ${(served / 1_048_576 / MEBIBYTES).toFixed(2)} copies to the peers still connected.`,
  )
}
