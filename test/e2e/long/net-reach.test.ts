/** Real nodes behind real NAT, the short form of `npm run net`: through a relay, directly where one side is public, and by a hint alone. */
import { describe, expect, it } from 'vitest'
import type { PeerSummary, StatusResult } from '../../../node/control/api.ts'
import { whyNoBed } from '../../net/bed.ts'
import { Stage } from '../../net/stage.ts'

const TABLE = `
  # name   on        address       nat
  east     internet  5.9.0.2
  west     internet  62.4.0.2
  homea    internet  91.7.0.2      symmetric
  homeb    internet  77.1.0.2      cone
  a        homea     192.168.1.2
  b        homeb     192.168.2.2
`
const BYTES = 3_000_000
const WAIT = { timeout: 60_000, interval: 100 }
const why = await whyNoBed()

const reachOf = async (stage: Stage, name: string): Promise<StatusResult['reach']> =>
  (await stage.node(name).json<StatusResult>('status')).reach

async function addressesOf(stage: Stage, name: string, other: string): Promise<string[]> {
  const peers = await stage.node(name).json<PeerSummary[]>('peers')
  const found = peers.filter(({ peerId, shares }) => peerId === stage.node(other).started.peerId && shares.length > 0)
  return found.map(({ address }) => address)
}

describe.skipIf(why !== null)(`nodes behind NAT${why === null ? '' : ` (${why})`}`, () => {
  it('get from each other through an ordinary public node, directly from and by public ones, and by a hint alone', async () => {
    await Stage.play(
      {
        table: TABLE,
        async tell(stage) {
          await stage.start('east')
          const bootstrap = [stage.entrance('east')]
          for (const name of ['west', 'a']) await stage.start(name, { bootstrap })
          await expect.poll(async () => (await reachOf(stage, 'west'))?.kind, WAIT).toBe('open')
          await expect.poll(async () => (await reachOf(stage, 'a'))?.relays.length, WAIT).toBe(2)
          const shared = await stage.share('a', BYTES, '--hint')
          expect(shared.link).toContain('p2p-circuit')
          // Nobody told this one of any peer: the link is all that it has.
          await stage.get('b', shared)
          await stage.start('b', { bootstrap })
          await expect.poll(async () => (await reachOf(stage, 'b'))?.kind, WAIT).toBe('relayed')
          await stage.get('b', await stage.share('a', BYTES), '--wait')
          const ways = await addressesOf(stage, 'b', 'a')
          expect(ways.length).toBeGreaterThan(0)
          expect(ways.filter((address) => !address.includes('/p2p-circuit'))).toEqual([])
          expect((await stage.node('a').run('status')).stdout).toMatch(/reach +anybody, through 2 relays/)
          expect((await stage.node('east').run('status')).stdout).toMatch(/relaying +\d peers?, /)
          await stage.get('west', await stage.share('a', BYTES), '--wait')
          const direct = await addressesOf(stage, 'west', 'a')
          expect(direct.length).toBeGreaterThan(0)
          expect(direct.filter((address) => address.includes('/p2p-circuit'))).toEqual([])
        },
      },
      () => {},
    )
  })
})
