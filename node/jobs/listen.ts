/** Listeners that come and go, as a set of them. */

/** Takes a block's bytes when it is verified and stored, and gives them back. */
export type LeafListener = (position: number, bytes: Uint8Array) => Promise<Uint8Array>

/** Adds a listener; what it returns takes it out again. */
export function listen<T>(listeners: Set<T>, listener: T): () => void {
  listeners.add(listener)
  return () => void listeners.delete(listener)
}
