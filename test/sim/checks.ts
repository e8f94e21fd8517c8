/** What must hold in a simulated node after every event of its engine, counted from the wire and not from the machines. */
import { assert } from '../../protocol/errors.ts'
import { SWARM } from '../../protocol/limits.ts'
import type { Swarm } from '../../protocol/swarm/swarm.ts'
import { ROOT_LEVEL } from '../../protocol/wire/messages.ts'
import type { Link } from './link.ts'

/** The node as the checks see it. */
export interface Checked {
  readonly id: string
  readonly knowsShape: boolean
  readonly leaves: { has(position: number): boolean }
  readonly claims: ReadonlyMap<string, { readonly link: Link; readonly isProven: boolean; readonly checking: ReadonlySet<number> }>
}

/** The engine believes to be asked what the sessions have asked. A link that is about to go is left out: its requests come back soon. */
export function checkWire(node: Checked, engine: Swarm): void {
  const wire: string[] = []
  const closing: string[] = []
  for (const [peer, { link }] of node.claims) {
    if (link.isClosing) closing.push(`${peer}/`)
    else for (const { level, index } of link.asked.values()) if (level !== ROOT_LEVEL || !node.knowsShape) wire.push(`${peer}/${index}`)
  }
  let machine = engine.inFlight()
  if (closing.length > 0) machine = machine.filter((request) => !closing.some((prefix) => request.startsWith(prefix)))
  const [theirs, ours] = [wire.sort().join(), machine.join()]
  assert(theirs === ours, `${node.id}: the wire has ${theirs}, the machine ${ours}`)
}

/** Caps: requests for each peer and over all, copies of an item, trials of peers that never delivered. */
export function checkCounts(node: Checked): void {
  const copies = new Map<number, number>()
  for (const [peer, { link, isProven, checking }] of node.claims) {
    if (link.isClosing) continue
    const asked = node.knowsShape ? [...link.asked.values()].filter(({ level }) => level === 0) : [...link.asked.values()]
    assert(asked.length <= SWARM.requestsPerPeerMax, `${asked.length} requests to ${peer}`)
    assert(isProven || asked.length <= 1, `${asked.length} requests to ${peer}, which never delivered`)
    for (const { index } of asked) copies.set(index, (copies.get(index) ?? 0) + 1)
    for (const item of checking) if (!node.leaves.has(item)) copies.set(item, (copies.get(item) ?? 0) + 1)
  }
  let total = 0
  for (const [item, count] of copies) {
    total += count
    assert(count <= SWARM.endgameCopiesMax, `${count} copies of item ${item} at ${node.id}`)
  }
  assert(total <= SWARM.requestsTotalMax, `${total} requests of ${node.id}`)
}
