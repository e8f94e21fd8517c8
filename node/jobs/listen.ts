/** Listeners that come and go, as a set of them. */

/** Adds a listener; what it returns takes it out again. */
export function listen<T>(listeners: Set<T>, listener: T): () => void {
  listeners.add(listener)
  return () => void listeners.delete(listener)
}
