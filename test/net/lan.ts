/** Two computers at home, the line to the internet is dead: they share and get by mDNS alone. */
import type { Stage, Story } from './stage.ts'

const SECONDS_MAX = 5
const BYTES = 3_000_000

async function tell(stage: Stage): Promise<void> {
  await stage.bed.cut('home')
  await stage.start('desk', { args: ['--mdns'] })
  const shared = await stage.share('desk', BYTES)
  const alone = await stage.get('laptop', shared)
  await stage.start('laptop', { args: ['--mdns'] })
  const running = await stage.get('laptop', await stage.share('desk', BYTES))
  stage.say(
    `get by a node that runs: ${running.toFixed(1)} s; by one that is started for it: ${alone.toFixed(1)} s; both may take ${SECONDS_MAX} s`,
  )
  if (Math.max(alone, running) > SECONDS_MAX) throw new Error(`it took longer than ${SECONDS_MAX} s`)
}

export const lan: Story = {
  name: 'lan',
  about: 'two nodes on one local network, no bootstrap peers, no internet',
  table: `
    # name    on        address       nat
    home      internet  91.7.0.2      cone
    desk      home      192.168.1.2
    laptop    home      192.168.1.3
  `,
  tell,
}
