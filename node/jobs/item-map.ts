/**
 * How a share's blocks are numbered for the swarm machine: leaves first, then the inner nodes level by level.
 *
 * Before the shape is known there is one item, the root. The root node itself is never an item afterwards: it is what gave the shape.
 */
import { nodeCount, type ShareDag } from '../../protocol/dag.ts'

export interface Place {
  level: number
  index: number
}

export class ItemMap {
  readonly leafCount: number
  readonly nodeCount: number
  readonly #nodesOfLevel: number[] = []
  readonly #root: Place

  constructor(codec: number, dag: ShareDag | null) {
    this.#root = codec === 0x55 ? { level: 0, index: 0 } : { level: 255, index: 0 }
    this.leafCount = dag?.shape.blockCount ?? 0
    if (dag !== null) for (let level = 1; level < dag.shape.depth; level++) this.#nodesOfLevel.push(nodeCount(dag.shape, level))
    this.nodeCount = this.#nodesOfLevel.reduce((sum, count) => sum + count, 0)
  }

  get isShapeKnown(): boolean {
    return this.leafCount > 0
  }

  get itemCount(): number {
    return this.isShapeKnown ? this.leafCount + this.nodeCount : 1
  }

  itemOf(level: number, index: number): number {
    if (!this.isShapeKnown || level === 255) return 0
    if (level === 0) return index
    let item = this.leafCount
    for (let below = 1; below < level; below++) item += this.#nodesOfLevel[below - 1] ?? 0
    return item + index
  }

  placeOf(item: number): Place {
    if (!this.isShapeKnown) return this.#root
    if (item < this.leafCount) return { level: 0, index: item }
    let rest = item - this.leafCount
    for (const [i, count] of this.#nodesOfLevel.entries()) {
      if (rest < count) return { level: i + 1, index: rest }
      rest -= count
    }
    throw new RangeError(`item ${item} of ${this.itemCount}`)
  }
}
