/** A publisher who seals wrongly: the first data block has the right name for what it is, and does not open. */
import { randomBytes } from 'node:crypto'
import { randomScope } from '../../protocol/keys.ts'
import { type BlockSealer, createSealer } from '../../protocol/seal.ts'
import { nodePrimitives } from '../primitives-node.ts'

export class BrokenSealer implements BlockSealer {
  readonly #honest = createSealer(nodePrimitives, randomScope(new Uint8Array(randomBytes(32))))
  /** The block that does not open; null before it was sealed. */
  broken: Uint8Array | null = null

  sealRoot: BlockSealer['sealRoot'] = (plain) => this.#honest.sealRoot(plain)

  name: BlockSealer['name'] = (kind, plaintext) => this.seal(kind, plaintext)

  seal: BlockSealer['seal'] = async (kind, plaintext) => {
    const { key, block } = await this.#honest.seal(kind, plaintext)
    if (kind === 'data' && this.broken === null) {
      block[block.length - 1]! ^= 1
      this.broken = block.slice()
    }
    return { key, block, digest: await nodePrimitives.sha256(block) }
  }
}
