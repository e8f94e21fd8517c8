/** What must hold in a simulated node after every event of its engine, counted from the wire and not from the machines. */
import { assert } from '../../protocol/errors.ts'
import { SWARM, UPLOAD } from '../../protocol/limits.ts'
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

/** Caps: requests for each peer and over all that have delivered, copies of an item, one request to a peer that never delivered. */
export function checkCounts(node: Checked): void {
  const copies = new Map<number, number>()
  let total = 0
  for (const [peer, { link, isProven, checking }] of node.claims) {
    if (link.isClosing) continue
    const asked = [...link.asked.values()].filter(({ level }) => level === 0 || !node.knowsShape)
    assert(asked.length <= SWARM.requestsPerPeerMax, `${asked.length} requests to ${peer}`)
    assert(isProven || asked.length <= 1, `${asked.length} requests to ${peer}, which never delivered`)
    const checked = [...checking].filter((item) => !node.leaves.has(item)) // a copy that came too late counts no more
    if (isProven) total += asked.length + checked.length
    for (const item of [...asked.map(({ index }) => index), ...checked]) copies.set(item, (copies.get(item) ?? 0) + 1)
  }
  for (const [item, count] of copies) assert(count <= SWARM.endgameCopiesMax, `${count} copies of item ${item} at ${node.id}`)
  assert(total <= SWARM.requestsTotalMax, `${total} requests of ${node.id}`)
}

/** A block that the upload machine has started. */
export interface Serving {
  sinceMs: number
  bytes: number
}

/** No block holds its slot for less than this. */
const SLOT_MS_MIN = 5_000

/** Memory of blocks on their way, and how many were started lately. */
export function checkServing(id: string, serving: Iterable<Serving>, leaseBytesMax: number, now: number): void {
  let [leased, fresh] = [0, 0]
  for (const { sinceMs, bytes } of serving) {
    leased += bytes
    if (now - sinceMs < SLOT_MS_MIN) fresh++
  }
  assert(leased <= leaseBytesMax, `${leased} bytes of blocks on their way from ${id}`)
  assert(fresh <= UPLOAD.slotsMax, `${fresh} blocks on their way from ${id}`)
}
