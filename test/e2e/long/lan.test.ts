/** Two hosts on one local network, with no bootstrap and no way out: they find each other by mDNS alone. Needs root on Linux. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { GetResult, ShareResult } from '../../../node/control/api.ts'
import { Sandbox } from '../../kit/daemons.ts'
import { canMakeNamespaces, joinHosts, routeMulticast } from '../../kit/namespaces.ts'
import { compareTrees } from '../../kit/trees.ts'

describe.skipIf(!canMakeNamespaces)('a local network without internet', () => {
  it('is enough to share on one host and get on the other', async () => {
    const { hosts, close } = await joinHosts('10.78.0')
    const sandbox = await Sandbox.create()
    try {
      const daemons = []
      for (const host of hosts) {
        await routeMulticast(host)
        const options = { prefix: host.prefix, listen: `/ip4/${host.address}/tcp/0`, args: ['--mdns'] }
        daemons.push(await sandbox.daemon(host.namespace, options))
      }
      const [a, b] = daemons
      const file = sandbox.path('note.txt')
      await writeFile(file, 'found without any server')
      const shared = await a!.json<ShareResult>('share', file)
      const out = sandbox.path('out')
      await mkdir(out)
      await b!.json<GetResult>('get', shared.link, '-o', out, '--wait')
      expect((await compareTrees(file, join(out, 'note.txt'))).differences).toEqual([])
    } finally {
      await sandbox.clear()
      await close()
    }
  })
})
