/** Promises that wait for something with a number (a block, say) to happen, each with a signal of its own. */
interface Waiter {
  resolve(): void
  reject(error: Error): void
}

export class Waiters {
  readonly #waiting = new Map<number, Set<Waiter>>()

  /** Resolves at the next `wake(key)`. */
  wait(key: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    return new Promise((resolve, reject) => {
      const stop = (): void => {
        signal.removeEventListener('abort', onAbort)
        const others = this.#waiting.get(key)
        others?.delete(waiter)
        if (others?.size === 0) this.#waiting.delete(key)
      }
      const onAbort = (): void => waiter.reject(signal.reason instanceof Error ? signal.reason : new Error('aborted'))
      const waiter: Waiter = {
        resolve: () => {
          stop()
          resolve()
        },
        reject: (error) => {
          stop()
          reject(error)
        },
      }
      signal.addEventListener('abort', onAbort, { once: true })
      const others = this.#waiting.get(key) ?? new Set()
      others.add(waiter)
      this.#waiting.set(key, others)
    })
  }

  wake(key: number): void {
    for (const waiter of [...(this.#waiting.get(key) ?? [])]) waiter.resolve()
  }

  wakeAll(): void {
    for (const key of [...this.#waiting.keys()]) this.wake(key)
  }

  failAll(error: Error): void {
    for (const waiters of [...this.#waiting.values()]) for (const waiter of [...waiters]) waiter.reject(error)
  }
}
