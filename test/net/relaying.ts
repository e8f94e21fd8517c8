/** A relay on a home line of 50 Mbit/s: what it passes on for two others takes little from what it sends itself. */
import type { StatusResult } from '../../node/control/api.ts'
import type { Stage, Story } from './stage.ts'

const OWN_BYTES = 100_000_000
const RELAYED_BYTES = 60_000_000
const SHARE_MIN = 0.8
const READY_MS = 60_000

async function tell(stage: Stage): Promise<void> {
  await stage.start('relay')
  const bootstrap = [stage.entrance('relay')]
  for (const name of ['getter', 'a', 'b']) await stage.start(name, { bootstrap })
  await relayed(stage, 'a')
  await relayed(stage, 'b')
  const rate = async (): Promise<number> => {
    const shared = await stage.share('relay', OWN_BYTES)
    return (OWN_BYTES * 8) / 1e6 / (await stage.get('getter', shared, '--wait'))
  }
  const alone = await rate()
  const other = await stage.share('a', RELAYED_BYTES)
  const beside = stage.get('b', other, '--wait').then((seconds) => (RELAYED_BYTES * 8) / 1e6 / seconds)
  // The other transfer is to be under way before.
  await until(async () => ((await statusOf(stage, 'relay')).reach?.relaying?.bytesToday ?? 0) > 1_000_000)
  const shared = await rate()
  const passed = await beside
  const part = shared / alone
  stage.say(
    `own transfer alone ${alone.toFixed(1)} Mbit/s, while relaying ${shared.toFixed(1)} (${(part * 100).toFixed(0)} %); relayed ${passed.toFixed(1)}`,
  )
  if (part < SHARE_MIN) throw new Error(`less than ${SHARE_MIN * 100} % was left`)
}

const statusOf = (stage: Stage, name: string): Promise<StatusResult> => stage.node(name).json<StatusResult>('status')
const relayed = (stage: Stage, name: string): Promise<void> => until(async () => (await statusOf(stage, name)).reach?.kind === 'relayed')

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const since = performance.now()
  while (!(await isSo())) {
    if (performance.now() - since > READY_MS) throw new Error('it took too long')
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}

export const relaying: Story = {
  name: 'relaying',
  about: 'a relay within its budget keeps four fifths of its line for itself',
  table: `
    # name   on        address       nat        line
    relay    internet  5.9.0.2       -          5ms-50mbit
    getter   internet  62.4.0.2      -          5ms-100mbit
    nata     internet  91.7.0.2      cone       5ms-100mbit
    natb     internet  88.6.0.2      symmetric  5ms-100mbit
    a        nata      192.168.1.2
    b        natb      192.168.3.2
  `,
  tell,
}
