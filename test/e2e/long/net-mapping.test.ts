/** Nodes behind routers that pass ports on when they are asked: by UPnP, by NAT-PMP, and one that lies about its address. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { StatusResult } from '../../../node/control/api.ts'
import { whyNoBed } from '../../net/bed.ts'
import { PORT, Stage } from '../../net/stage.ts'

const ROUTER = fileURLToPath(new URL('../../net/router.ts', import.meta.url))
const TABLE = `
  # name   on        address       nat
  east     internet  5.9.0.2
  west     internet  62.4.0.2
  upnp     internet  91.7.0.2      cone
  pmp      internet  77.1.0.2      cone
  liar     internet  88.6.0.2      cone
  a        upnp      192.168.1.2
  b        pmp       192.168.2.2
  c        liar      192.168.3.2
`
const WAIT = { timeout: 60_000, interval: 100 }
const why = await whyNoBed()

const reachOf = async (stage: Stage, name: string): Promise<StatusResult['reach']> =>
  (await stage.node(name).json<StatusResult>('status')).reach

/** Runs the router's service; gives the lines that it says. */
async function startRouter(
  stage: Stage,
  name: string,
  home: string,
  ...options: string[]
): Promise<{ child: ChildProcess; lines: string[] }> {
  const [command = '', ...rest] = [
    ...stage.bed.prefix(name),
    process.execPath,
    ROUTER,
    home,
    stage.bed.deviceOf(name),
    stage.bed.addressOf(name),
  ]
  const child = spawn(command, [...rest, ...options], { stdio: ['ignore', 'pipe', 'inherit'] })
  const lines: string[] = []
  const reader = createInterface({ input: child.stdout })
  reader.on('line', (line) => void lines.push(line))
  await once(reader, 'line')
  return { child, lines }
}

/** Starts a node that asks its router. */
async function startMapping(stage: Stage, name: string): Promise<void> {
  const home = stage.sandbox.path(`home-${name}`)
  await mkdir(home, { mode: 0o700 })
  await writeFile(`${home}/config.json`, JSON.stringify({ portMapping: true }))
  await stage.start(name, { bootstrap: [stage.entrance('east')] })
}

describe.skipIf(why !== null)(`nodes whose routers pass ports on${why === null ? '' : ` (${why})`}`, () => {
  it('are reached by anybody once peers have dialled the port; a router that lies is not believed', async () => {
    await Stage.play(
      {
        table: TABLE,
        async tell(stage) {
          const routers = [
            await startRouter(stage, 'upnp', '192.168.1.1', '--only', 'upnp'),
            await startRouter(stage, 'pmp', '192.168.2.1', '--only', 'pmp'),
            await startRouter(stage, 'liar', '192.168.3.1', '--lies', '62.4.0.2'),
          ]
          try {
            await stage.start('east')
            await stage.start('west', { bootstrap: [stage.entrance('east')] })
            for (const name of ['a', 'b', 'c']) await startMapping(stage, name)
            for (const name of ['a', 'b']) await expect.poll(async () => (await reachOf(stage, name))?.kind, WAIT).toBe('open')
            const open = (await reachOf(stage, 'a'))?.addresses.filter(({ verdict }) => verdict === 'open')
            expect(open).toEqual([{ address: `/ip4/91.7.0.2/tcp/${PORT}`, verdict: 'open', reachedBy: 2, failedBy: 0 }])
            // The port of somebody else answers there, and it is not this node.
            await expect
              .poll(async () => (await reachOf(stage, 'c'))?.addresses.map(({ address }) => address), WAIT)
              .toContain(`/ip4/62.4.0.2/tcp/${PORT}`)
            const lie = (await reachOf(stage, 'c'))?.addresses.find(({ address }) => address.startsWith('/ip4/62.4.0.2'))
            expect(lie?.verdict).not.toBe('open')
            await stage.get('b', await stage.share('a', 3_000_000), '--wait')
            await stage.node('a').kill()
            await expect.poll(() => routers[0]?.lines, WAIT).toContain(`closed ${PORT} 192.168.1.2`)
          } finally {
            for (const { child } of routers) child.kill('SIGKILL')
          }
        },
      },
      () => {},
    )
  })
})
