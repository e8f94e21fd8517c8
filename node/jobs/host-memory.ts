/** The memory that the swarm takes: blocks on their way out, and credit promised to peers. */
import type { CreditBudget } from '../../protocol/wire/credit.ts'
import type { MemoryShares } from '../budgets/memory.ts'
import type { Uploads } from './uploads.ts'

export class HostMemory {
  readonly #uploads: Uploads
  readonly #budget: CreditBudget

  constructor(uploads: Uploads, budget: CreditBudget) {
    this.#uploads = uploads
    this.#budget = budget
  }

  set({ uploadBytes, creditBytes }: MemoryShares): void {
    this.#uploads.setLeaseBytesMax(uploadBytes)
    this.#budget.bytesMax = creditBytes
  }

  /** What is taken now, and how often there was no more. */
  use(): { uploads: Uploads['memory']; credit: { usedBytes: number; timesFull: number } } {
    return { uploads: this.#uploads.memory, credit: { usedBytes: this.#budget.used, timesFull: this.#budget.timesFull } }
  }
}
