/** What a node does for the memory of its process. */
import { execFile } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { tuneHeap } from '../../node/heap.ts'

/** The heap is tuned, and AbortSignal as it was afterwards. */
function tuned(): void {
  const native = AbortSignal.timeout
  onTestFinished(() => {
    AbortSignal.timeout = native
  })
  tuneHeap()
}

/** A deadline as a job gives it to a library, which adds one of its own: nobody holds it. */
function compose(stopping: AbortSignal): WeakRef<AbortSignal> {
  const ours = AbortSignal.any([stopping, AbortSignal.timeout(10)])
  AbortSignal.any([ours, stopping]).throwIfAborted()
  return new WeakRef(ours)
}

/** Whether the process stands on glibc, whose way with freed memory is known. */
const isGlibc = 'glibcVersionRuntime' in (process.report.getReport() as { header: object }).header

describe('the memory of a process', () => {
  // A block that is made in new memory is written to 256 new pages.
  it.runIf(isGlibc)('is used again for the next blocks', async () => {
    const script = fileURLToPath(new URL('sealing-process.ts', import.meta.url))
    const { stdout } = await promisify(execFile)(process.execPath, [script])
    expect(Number(stdout)).toBeLessThan(64)
  })

  it('is not held by deadlines that are over', async () => {
    tuned()
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void // with the flag above it is there
    const stopping = new AbortController()
    const deadlines = Array.from({ length: 20 }, () => compose(stopping.signal))
    const held = async (): Promise<number> => {
      await sleep(20)
      collect()
      return deadlines.filter((deadline) => deadline.deref() !== undefined).length
    }
    await vi.waitFor(async () => expect(await held()).toBe(0), { timeout: 10_000 })
  })

  it('has deadlines that end as those of the platform do', async () => {
    tuned()
    const signal = AbortSignal.any([new AbortController().signal, AbortSignal.timeout(1)])
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    expect(signal.reason).toMatchObject({ name: 'TimeoutError' })
    expect(() => AbortSignal.timeout(-1)).toThrow(RangeError)
  })
})
