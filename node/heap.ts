/**
 * Tells the garbage collector what kind of program this is: megabytes of short-lived buffers pass through a small heap.
 *
 * V8 sees only the small heap. Left alone it marks all of it every seven megabytes of a transfer (147 times for 1 GiB, a third of the
 * receiver's processor time), and meanwhile keeps tens of megabytes of dead buffers in each thread. Collecting the young generation at a
 * steady pace frees nearly all of them for a millisecond each time.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { FORMAT, WORKERS } from '../protocol/limits.ts'

/** Once, before a node starts; holds for the whole process, its worker threads included. */
export function tuneHeap(): void {
  if (AbortSignal.timeout !== plainTimeout) AbortSignal.timeout = plainTimeout
  setFlagsFromString('--heap-growing-percent=80')
  setFlagsFromString('--semi-space-growth-factor=1')
  keepFreedMemory()
}

/**
 * Makes the C library keep what is freed between two collections, for the next blocks. glibc gives the end of a heap back to the system once
 * more is free there than twice the largest block that it ever mapped apart and unmapped: some 2 MiB. So nearly every page that a
 * cipher wrote to was a new one, 260,000 page faults and a second of processor time for 1 GiB. A larger block that comes and goes,
 * never written to, moves that bound; not far beyond what is needed, for blocks up to its size are not mapped apart any more.
 */
function keepFreedMemory(): void {
  Buffer.allocUnsafeSlow(WORKERS.collectEveryBytes / 2 + FORMAT.blockBytes)
  collector()({ type: 'minor' })
}

/** V8's own collection, which the global scope does not have. */
function collector(): (options: { type: 'minor' }) => void {
  setFlagsFromString('--expose-gc')
  return runInNewContext('gc') as (options: object) => void // with the flag it is there
}

const nativeTimeout = AbortSignal.timeout

/**
 * In place of AbortSignal.timeout, for our deadlines and those of the libraries alike. Node 24 keeps a signal that was composed of others and of
 * a timeout for ever when it becomes part of a second composition (nodejs/node issue 54614), which happens to every dial and every request
 * of the DHT. A timeout that Node does not take for one is not kept.
 */
function plainTimeout(delayMs: number): AbortSignal {
  if (!(delayMs >= 0)) return nativeTimeout.call(AbortSignal, delayMs) // which throws
  const controller = new AbortController()
  const expire = (): void => controller.abort(new DOMException('The operation was aborted due to timeout', 'TimeoutError'))
  setTimeout(expire, delayMs).unref()
  return controller.signal
}

/** To be told of every block that passes through this thread; collects the young generation at a steady pace. */
export function createCollector(): (bytes: number) => void {
  const collect = collector()
  let passedBytes = 0
  return (bytes) => {
    passedBytes += bytes
    if (passedBytes < WORKERS.collectEveryBytes) return
    passedBytes = 0
    collect({ type: 'minor' })
  }
}
