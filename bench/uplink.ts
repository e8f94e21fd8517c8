/**
 * Four receivers behind one uplink of 5 Mbit/s: all of them finish, nobody is cut off for being slow.
 *
 * The sender and the receivers live in two network namespaces joined by a veth pair with a token bucket on the sender's side. There is no
 * other interface in them, so nothing can leave. Needs root and Linux; says so and is skipped where there is neither.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import type { GetResult, PeerSummary, ShareResult } from '../node/control/api.ts'
import type { Sandbox } from '../test/kit/daemons.ts'
import { canMakeNamespaces, type Host, joinHosts, limitUplink } from '../test/kit/namespaces.ts'

const RECEIVERS = 4
const MEBIBYTES = 8
const RATE = '5mbit'

export async function benchUplink(sandbox: Sandbox, say: (text: string) => void): Promise<void> {
  if (!canMakeNamespaces) {
    say('\nFour receivers on one uplink: skipped, network namespaces need root on Linux.')
    return
  }
  const { hosts, close } = await joinHosts('10.77.0')
  const [up, down] = hosts
  try {
    await limitUplink(up, RATE)
    await transfer(sandbox, up, down, say)
  } finally {
    await close()
  }
}

async function transfer(sandbox: Sandbox, up: Host, down: Host, say: (text: string) => void): Promise<void> {
  const source = sandbox.path('uplink.bin')
  await writeFile(source, randomBytes(MEBIBYTES * 1_048_576))
  const sender = await sandbox.daemon('uplink-sender', { prefix: up.prefix, listen: `/ip4/${up.address}/tcp/0` })
  const { link } = await sender.json<ShareResult>('share', source)
  const since = performance.now()
  const seconds = await Promise.all(
    Array.from({ length: RECEIVERS }, async (_, i) => {
      const receiver = await sandbox.daemon(`uplink-receiver-${i}`, {
        prefix: down.prefix,
        listen: `/ip4/${down.address}/tcp/0`,
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
