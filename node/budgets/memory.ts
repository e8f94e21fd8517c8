/** How the memory budget is divided: what goes out, what may come in, what is kept for the next reader. */

export interface MemoryShares {
  /** Blocks in memory on their way to peers. */
  uploadBytes: number
  /** Bytes that peers may send ahead of what we took in. */
  creditBytes: number
  /** Blocks that are kept because they may be asked for again. */
  cacheBytes: number
}

/** Two fifths, two fifths, one fifth. */
export function memoryShares(memoryBytes: number): MemoryShares {
  const fifth = Math.floor(memoryBytes / 5)
  return { uploadBytes: 2 * fifth, creditBytes: 2 * fifth, cacheBytes: fifth }
}
