/** Which leaves of a share have left this node: one bit each, grown as far as anybody asks. Inner nodes are few and do not count. */
import { FORMAT } from '../limits.ts'

export class Copies {
  #sent = new Uint8Array(64)

  has(level: number, index: number): boolean {
    return level === 0 && ((this.#sent[index >>> 3] ?? 0) & (1 << (index & 7))) !== 0
  }

  /** `index` is below FORMAT.blocksMax: the session has checked it against the share. */
  add(level: number, index: number): void {
    if (level !== 0 || index >= FORMAT.blocksMax) return
    const at = index >>> 3
    if (at >= this.#sent.length) {
      const grown = new Uint8Array(Math.max(at + 1, this.#sent.length * 2))
      grown.set(this.#sent)
      this.#sent = grown
    }
    this.#sent[at]! |= 1 << (index & 7)
  }

  takeBack(level: number, index: number): void {
    if (this.has(level, index)) this.#sent[index >>> 3]! &= ~(1 << (index & 7))
  }
}
