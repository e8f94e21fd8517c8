/** Proof that nothing can leave a network of namespaces: they hold only devices that were made for them, and none leads to this machine. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)

interface Link {
  ifname: string
  /** Of the namespace that the other end is in, by the count of the one that was asked. */
  link_netnsid?: number
}

const json = async <T>(...args: string[]): Promise<T> => {
  const { stdout } = await run('ip', ['-j', ...args])
  return (stdout.trim() === '' ? [] : JSON.parse(stdout)) as T // as ip writes it
}

/**
 * Throws unless all devices in `namespaces` are among `devices`, no device outside has its other end in one of them, and the namespace in
 * the middle knows no way to addresses that are not its own.
 */
export async function assertClosed(namespaces: readonly string[], middle: string, devices: ReadonlySet<string>): Promise<void> {
  for (const namespace of namespaces) {
    const strange = (await json<Link[]>('-n', namespace, 'link')).find(({ ifname }) => ifname !== 'lo' && !devices.has(ifname))
    if (strange !== undefined) throw new Error(`${namespace} has a device that was not made for it: ${strange.ifname}`)
  }
  for (const { ifname, link_netnsid: id } of await json<Link[]>('link')) {
    if (id === undefined) continue
    const { stdout } = await run('ip', ['netns', 'list-id', 'nsid', String(id)]).catch(() => ({ stdout: '' })) // an end without a name is nobody's here
    const namespace = namespaces.find((name) => stdout.includes(name))
    if (namespace !== undefined) throw new Error(`the device ${ifname} of this machine leads into ${namespace}`)
  }
  for (const family of ['-4', '-6']) {
    const ways = await json<{ dst: string; dev?: string; type?: string }[]>(family, '-n', middle, 'route')
    const out = ways.find(({ dst, type }) => dst === 'default' && type !== 'unreachable')
    if (out !== undefined) throw new Error(`${middle} has a way out by ${out.dev ?? 'a default route'}`)
  }
}
