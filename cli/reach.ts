/** Who can reach a node, and why, in words: the lines of `status`. */
import type { ReachResult } from '../node/control/reach-result.ts'
import { count, formatBytes } from './format.ts'

/** Two lines at most: whoever reaches this node, and for whom it relays. */
export function reachFields(reach: ReachResult | null): [string, string][] {
  if (reach === null) return []
  const { relaying } = reach
  const fields: [string, string][] = [['reach', sayReach(reach)]]
  if (relaying !== null) {
    const passed = `${formatBytes(relaying.bytesToday)} of ${formatBytes(relaying.bytesPerDay)} passed on today`
    fields.push(['relaying', `${count(relaying.peers, 'peer')}, ${count(relaying.circuits, 'connection')}; ${passed}`])
  }
  return fields
}

function sayReach({ kind, addresses, relays }: ReachResult): string {
  const open = addresses.filter(({ verdict }) => verdict === 'open')
  const told = Math.max(0, ...addresses.map(({ failedBy }) => failedBy))
  const isAsked = addresses.some(({ verdict }) => verdict === 'unknown')
  const closed =
    told > 0
      ? `${count(told, 'peer')} outside tried to dial this node, in vain`
      : isAsked
        ? 'whether others can dial this node is being found out'
        : 'no address of this node is known that could be dialled from outside'
  switch (kind) {
    case 'open':
      return `anybody: peers outside have dialled ${open.map(({ address }) => address).join(', ')}`
    case 'relayed':
      return `anybody, through ${count(relays.length, 'relay')}; directly whom this node dials, and the local network: ${closed}`
    case 'closed':
      return `only whom this node dials, and the local network: ${closed}, and no relay has been found yet`
    case 'checking':
      return 'not known yet: peers outside are asked to dial this node'
    case 'local':
      return 'the local network at least; nobody outside is connected who could tell of more'
  }
}
