/**
 * Whoever is behind whatever router gets from everybody else: each kind of place shares, each gets, over direct connections or a relay. The
 * relays are the public nodes themselves: no node of this network is anything but an ordinary one.
 */
import type { PeerSummary, StatusResult } from '../../node/control/api.ts'
import type { Stage, Story } from './stage.ts'

const BYTES = 8_000_000
const READY_MS = 60_000
const LOOK_MS = 250
/** Public ones first: the others begin with them. */
const PUBLIC = ['east', 'west', 'north']
const PLACES: [kind: string, sharer: string, getter: string][] = [
  ['public', 'west', 'north'],
  ['cone', 'conea', 'coneb'],
  ['symmetric', 'syma', 'symb'],
  ['same NAT', 'homea', 'homeb'],
]

async function tell(stage: Stage): Promise<void> {
  await stage.start('east')
  const bootstrap = [stage.entrance('east')]
  for (const name of PUBLIC.slice(1)) await stage.start(name, { bootstrap })
  for (const [, ...names] of PLACES.slice(1)) for (const name of names) await stage.start(name, { bootstrap })
  for (const name of PUBLIC) await settled(stage, name, 'open')
  for (const [, ...names] of PLACES.slice(1)) for (const name of names) await settled(stage, name, 'relayed')
  const rows: string[] = []
  let failed = 0
  for (const [from, sharer] of PLACES) {
    const cells: string[] = []
    for (const [to, , getter] of PLACES) {
      const shared = await stage.share(sharer, BYTES)
      try {
        const seconds = await stage.get(getter, shared, '--wait')
        cells.push(`${((BYTES * 8) / 1e6 / seconds).toFixed(0)} Mbit/s ${await wayOf(stage, getter, sharer)}`)
      } catch (error) {
        failed++
        cells.push('nothing')
        stage.say(`${from} to ${to}: ${error instanceof Error ? error.message : String(error)}`)
      }
    }
    rows.push(`| ${from} | ${cells.join(' | ')} |`)
  }
  stage.say(`| shared from, got at | ${PLACES.map(([kind]) => kind).join(' | ')} |`)
  stage.say(`|---|${PLACES.map(() => '---|').join('')}`)
  for (const row of rows) stage.say(row)
  if (failed > 0) throw new Error(`${failed} of ${PLACES.length ** 2} pairs did not come together`)
}

/** Waits until a node knows who reaches it. */
async function settled(stage: Stage, name: string, kind: string): Promise<void> {
  const since = performance.now()
  for (;;) {
    const { reach } = await stage.node(name).json<StatusResult>('status')
    const tookMs = performance.now() - since
    if (reach?.kind === kind) return stage.say(`${name}: ${kind} after ${(tookMs / 1000).toFixed(1)} s`)
    if (tookMs > READY_MS) throw new Error(`${name} is ${JSON.stringify(reach)}, not ${kind}`)
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
  }
}

async function wayOf(stage: Stage, getter: string, sharer: string): Promise<string> {
  const { peerId } = stage.node(sharer).started
  const peers = await stage.node(getter).json<PeerSummary[]>('peers')
  const ways = peers.filter((peer) => peer.peerId === peerId && peer.shares.length > 0).map(({ address }) => address)
  return ways.length === 0 ? '(gone)' : ways.every((address) => address.includes('/p2p-circuit')) ? 'relayed' : 'direct'
}

export const matrix: Story = {
  name: 'matrix',
  about: 'every kind of router gets from every other',
  table: `
    # name   on        address       nat        line
    east     internet  5.9.0.2       -          5ms-100mbit
    west     internet  62.4.0.2      -          5ms-100mbit
    north    internet  81.200.0.2    -          5ms-100mbit
    nata     internet  91.7.0.2      cone       5ms-100mbit
    natb     internet  77.1.0.2      cone       5ms-100mbit
    natc     internet  88.6.0.2      symmetric  5ms-100mbit
    natd     internet  93.2.0.2      symmetric  5ms-100mbit
    nate     internet  109.9.0.2     cone       5ms-100mbit
    conea    nata      192.168.1.2
    coneb    natb      192.168.2.2
    syma     natc      192.168.3.2
    symb     natd      192.168.4.2
    homea    nate      192.168.5.2
    homeb    nate      192.168.5.3
  `,
  tell,
}
