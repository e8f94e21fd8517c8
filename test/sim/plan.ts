/** From a seed to a story: who is there, what each holds and is up to, how fast everything is, and what goes wrong when. */
import { randomFrom } from './clock.ts'

const KIB = 1024

/** The share that everybody wants. */
export interface ShareShape {
  itemCount: number
  blockBytes: number
  /** Bytes of credit that a node promises to all peers together. */
  budgetBytes: number
  /** Bytes of blocks that a node has on their way to peers. */
  leaseBytesMax: number
  bytesOf(level: number, index: number): number
}

/**
 * liar: damaged blocks. mute: takes requests and never answers. drip: one byte in 19 s. absent: says that it has all and then not.
 * boaster: says that it has all and holds half. rude: breaks the wire protocol a while after each hello.
 */
export type Manner = 'honest' | 'liar' | 'mute' | 'drip' | 'absent' | 'boaster' | 'rude'

export interface NodePlan {
  id: string
  group: string
  manner: Manner
  /** Probability that a block is treated in that manner. */
  chance: number
  joinMs: number
  /** Positions on its disk when it first starts. */
  holds: number[]
  wants: { first: number; count: number; priority: number }[]
  /** Peers that it dials. */
  knows: string[]
  uplinkBytesPerMs: number
  verifyMs: number
  /** It never leaves, so what it holds stays within reach. */
  stays: boolean
  /** It has to hold everything in the end. */
  mustFinish: boolean
}

export type Fault =
  | { kind: 'stop' | 'start' | 'pause' | 'resume' | 'diskFull' | 'diskFree' | 'freeze'; atMs: number; node: string }
  | { kind: 'damage' | 'read'; atMs: number; node: string; position: number; priority: number }
  | { kind: 'reset'; atMs: number; pair: [string, string] }
  | { kind: 'cut'; atMs: number; untilMs: number; side: string[] }
  /** It leaves as soon as those that stay hold everything. */
  | { kind: 'leaveWhenSpread'; atMs: number; node: string }

export interface Plan {
  seed: number
  shape: ShareShape
  nodes: NodePlan[]
  faults: Fault[]
  lossRate: number
}

const MANNERS: Manner[] = ['liar', 'liar', 'mute', 'drip', 'absent', 'boaster', 'rude']
const BLOCK_SIZES = [16 * KIB, 60_000, 200_000, 256 * KIB, 600_000, 1024 * KIB]

/** The same seed gives the same plan. */
export function planFrom(seed: number): Plan {
  const draw = new Draw(randomFrom(seed * 7919 + 13))
  const shape = drawShape(draw)
  const nodes = drawNodes(draw, shape.itemCount)
  const faults = draw.chance(0.15) ? [] : drawFaults(draw, nodes, shape.itemCount)
  // What one who stays has lost is to be had from others only, so they have to be within reach.
  if (faults.some(({ kind }) => kind === 'damage')) acquaint(nodes)
  const form = nodes[0]!
  if (!form.stays) faults.push({ kind: 'leaveWhenSpread', atMs: 1_000, node: form.id })
  faults.sort((a, b) => a.atMs - b.atMs)
  return { seed, shape, nodes, faults, lossRate: draw.chance(0.3) ? 0.03 : 0 }
}

class Draw {
  readonly random: () => number

  constructor(random: () => number) {
    this.random = random
  }

  chance(probability: number): boolean {
    return this.random() < probability
  }

  between(low: number, high: number): number {
    return low + this.random() * (high - low)
  }

  whole(low: number, high: number): number {
    return Math.floor(this.between(low, high + 1))
  }

  of<T>(list: readonly T[]): T {
    return list[Math.floor(this.random() * list.length)]!
  }
}

function drawShape(draw: Draw): ShareShape {
  const blockBytes = draw.of(BLOCK_SIZES)
  const itemCount = draw.whole(12, blockBytes > 500_000 ? 24 : 60)
  const lastBytes = draw.whole(1, blockBytes)
  const budgetBytes = draw.of([256 * KIB, 1024 * KIB, 32 * 1024 * KIB])
  const leaseBytesMax = draw.of([2 * blockBytes, 32 * 1024 * KIB])
  const bytesOf = (level: number, index: number): number =>
    level !== 0 ? 40 * itemCount : index === itemCount - 1 ? lastBytes : blockBytes
  return { itemCount, blockBytes, budgetBytes, leaseBytesMax, bytesOf }
}

const everything = (itemCount: number): number[] => Array.from({ length: itemCount }, (_, i) => i)

function drawNodes(draw: Draw, itemCount: number): NodePlan[] {
  const count = draw.whole(4, draw.chance(0.3) ? 12 : 7)
  const form = draw.of(['seeder', 'seeder', 'parts', 'leaver'] as const)
  const nodes: NodePlan[] = []
  for (let i = 0; i < count; i++) {
    const manner = i > 2 && draw.chance(0.35) ? draw.of(MANNERS) : 'honest'
    nodes.push({
      id: `${manner === 'honest' ? 'n' : manner}${i}`,
      group: manner === 'honest' ? (draw.chance(0.3) ? 'home' : `group${i}`) : draw.chance(0.3) ? 'den' : `group${i}`,
      manner,
      chance: draw.of([0.3, 1]),
      joinMs: draw.chance(0.3) ? 0 : draw.between(0, 8_000),
      holds: manner === 'honest' ? [] : everything(itemCount).filter(() => manner !== 'boaster' || draw.chance(0.5)),
      wants: drawWants(draw, itemCount),
      knows: [],
      uplinkBytesPerMs: 100 + draw.random() ** 3 * 20_000,
      verifyMs: draw.between(1, 60),
      stays: true,
      mustFinish: manner === 'honest',
    })
  }
  const honest = nodes.filter(({ manner }) => manner === 'honest')
  const core = form === 'parts' ? honest.slice(0, 2) : honest.slice(0, 1)
  for (const node of core) node.joinMs = draw.between(0, 1_000)
  if (form === 'parts') for (const position of everything(itemCount)) draw.of(core).holds.push(position)
  else core[0]!.holds = everything(itemCount)
  if (form === 'leaver') {
    core[0]!.stays = false
    core[0]!.mustFinish = false
  }
  for (const node of honest)
    if (!core.includes(node) && draw.chance(0.25)) node.holds = everything(itemCount).filter(() => draw.chance(0.4))
  for (const node of nodes) {
    const others = nodes.filter((other) => other !== node)
    node.knows = others
      .filter((other) => (form === 'leaver' || core.includes(other) ? node.manner === 'honest' : draw.chance(0.6)))
      .map(({ id }) => id)
  }
  return nodes
}

function acquaint(nodes: NodePlan[]): void {
  const honest = nodes.filter(({ manner }) => manner === 'honest')
  for (const node of honest) node.knows = [...new Set([...node.knows, ...honest.map(({ id }) => id)])].filter((id) => id !== node.id)
}

function drawWants(draw: Draw, itemCount: number): NodePlan['wants'] {
  const all = { first: 0, count: itemCount, priority: draw.of([1, 2, 2, 2, 3]) }
  if (draw.chance(0.5)) return [all]
  const first = draw.whole(0, itemCount - 3)
  return [all, { first, count: 3, priority: 0 }]
}

function drawFaults(draw: Draw, nodes: NodePlan[], itemCount: number): Fault[] {
  const faults: Fault[] = []
  const movable = nodes.slice(2).filter(({ manner }) => manner === 'honest')
  const when = (): number => draw.between(500, draw.chance(0.5) ? 8_000 : 40_000)
  for (let rounds = draw.whole(1, 8); rounds > 0; rounds--) {
    const atMs = when()
    const node = draw.of(nodes)
    const other = draw.of(nodes)
    const mover = movable.length > 0 ? draw.of(movable) : undefined
    switch (draw.whole(0, 8)) {
      case 0:
        if (mover === undefined) break
        mover.stays = false
        faults.push({ kind: 'stop', atMs, node: mover.id }, { kind: 'start', atMs: atMs + draw.between(100, 20_000), node: mover.id })
        break
      case 1:
        if (mover === undefined || movable.length < 2 || draw.chance(0.5)) break
        mover.stays = false
        mover.mustFinish = false
        faults.push({ kind: draw.chance(0.5) ? 'stop' : 'freeze', atMs, node: mover.id })
        break
      case 2:
      case 3:
        if (node !== other) faults.push({ kind: 'reset', atMs, pair: [node.id, other.id] })
        break
      case 4: {
        const side = nodes.filter(() => draw.chance(0.4)).map(({ id }) => id)
        faults.push({ kind: 'cut', atMs, untilMs: atMs + draw.between(100, draw.chance(0.7) ? 15_000 : 150_000), side })
        break
      }
      case 5:
        faults.push({ kind: 'diskFull', atMs, node: node.id }, { kind: 'diskFree', atMs: atMs + draw.between(100, 4_000), node: node.id })
        break
      case 6:
        for (let i = 0; i < 3; i++)
          faults.push({ kind: 'damage', atMs, node: node.id, position: draw.whole(0, itemCount - 1), priority: 0 })
        break
      case 7:
        faults.push({ kind: 'pause', atMs, node: node.id }, { kind: 'resume', atMs: atMs + draw.between(10, 10_000), node: node.id })
        break
      case 8:
        faults.push({ kind: 'read', atMs, node: node.id, position: draw.whole(0, itemCount - 1), priority: draw.whole(0, 3) })
    }
  }
  return faults
}
