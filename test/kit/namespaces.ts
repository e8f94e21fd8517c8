/** Two network namespaces joined by a cable and nothing else: hosts of their own on this machine. Needs root on Linux. */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { promisify } from 'node:util'

const run = promisify(execFile)

export const canMakeNamespaces = process.platform === 'linux' && process.getuid?.() === 0

export interface Host {
  namespace: string
  device: string
  address: string
  /** Puts a command into the namespace. */
  prefix: string[]
}

const ip = (...args: string[]): Promise<unknown> => run('ip', args)

/** Two hosts on one network, `net`.1 and `net`.2; `close` removes them. There is no route out of them. */
export async function joinHosts(net: string): Promise<{ hosts: [Host, Host]; close: () => Promise<void> }> {
  const tag = randomBytes(3).toString('hex')
  const host = (end: 'a' | 'b', number: number): Host => {
    const namespace = `shoal-${tag}-${end}`
    return { namespace, device: `${end}${tag}`, address: `${net}.${number}`, prefix: ['ip', 'netns', 'exec', namespace] }
  }
  const hosts: [Host, Host] = [host('a', 1), host('b', 2)]
  const [a, b] = hosts
  const close = async (): Promise<void> => {
    for (const { namespace } of hosts) await ip('netns', 'del', namespace).catch(() => {}) // may not have been made
  }
  try {
    for (const { namespace } of hosts) await ip('netns', 'add', namespace)
    await ip('link', 'add', a.device, 'netns', a.namespace, 'type', 'veth', 'peer', 'name', b.device, 'netns', b.namespace)
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
