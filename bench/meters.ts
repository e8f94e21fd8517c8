/** What the benchmarks measure with: medians, elapsed time, processor and memory from /proc (Linux), random files and their hashes. */
import { createHash, randomFillSync } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, readdir, readFile } from 'node:fs/promises'

export const MIB = 1_048_576

/** A tick of /proc is 10 ms (USER_HZ of every Linux that Node runs on). */
const TICKS_PER_SECOND = 100

export type Say = (text: string) => void

export const say: Say = (text) => void process.stdout.write(`${text}\n`)

/** The upper of the two in the middle for an even count; NaN for none. */
export const median = (values: number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN

/** Seconds that some work takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const since = performance.now()
  await work()
  return (performance.now() - since) / 1000
}

/** The numbers of a line of /proc/…/stat after the name in brackets, which may hold spaces. */
const statFields = (stat: string): string[] => stat.slice(stat.lastIndexOf(')') + 2).split(' ')
const cpuSecondsIn = (stat: string): number => (Number(statFields(stat)[11]) + Number(statFields(stat)[12])) / TICKS_PER_SECOND

/** CPU seconds so far and peak resident memory of a process. */
export async function usageOf(pid: number): Promise<{ cpuSeconds: number; rssMiB: number }> {
  const [stat, status] = await Promise.all([readFile(`/proc/${pid}/stat`, 'utf8'), readFile(`/proc/${pid}/status`, 'utf8')])
  return { cpuSeconds: cpuSecondsIn(stat), rssMiB: Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024 }
}

/** CPU seconds so far of each thread of a process that still lives. */
export async function threadsOf(pid: number): Promise<{ id: number; name: string; cpuSeconds: number }[]> {
  const ids = await readdir(`/proc/${pid}/task`)
  return Promise.all(
    ids.map(async (id) => {
      const stat = await readFile(`/proc/${pid}/task/${id}/stat`, 'utf8')
      return { id: Number(id), name: stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')')), cpuSeconds: cpuSecondsIn(stat) }
    }),
  )
}

/** How busy all cores of the machine were, whoever used them. */
export class CpuMeter {
  #since = { busy: 0, all: 0 }

  async start(): Promise<void> {
    this.#since = await this.#read()
  }

  /** Percent since `start`, 100 = every core all the time. */
  async percent(): Promise<number> {
    const now = await this.#read()
    return (100 * (now.busy - this.#since.busy)) / Math.max(1, now.all - this.#since.all)
  }

  async #read(): Promise<{ busy: number; all: number }> {
    const line = (await readFile('/proc/stat', 'utf8')).split('\n', 1)[0] ?? ''
    const [user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, softirq = 0, steal = 0] = line.split(/\s+/).slice(1).map(Number)
    const busy = user + nice + system + irq + softirq + steal
    return { busy, all: busy + idle + wait }
  }
}

export async function makeRandomFile(path: string, bytes: number): Promise<void> {
  const file = await open(path, 'w')
  const chunk = Buffer.alloc(8 * MIB)
  for (let at = 0; at < bytes; at += chunk.byteLength) await file.write(randomFillSync(chunk), 0, Math.min(chunk.byteLength, bytes - at))
  await file.sync()
  await file.close()
}

/** SHA-256 of a file, in hex. */
export async function hashFile(path: string): Promise<string> {
  const digest = createHash('sha256')
  for await (const bytes of createReadStream(path, { highWaterMark: MIB })) digest.update(bytes as Buffer) // no encoding: Buffers
  return digest.digest('hex')
}

/** Waits until `isSo` holds, asking again after `everyMs`; throws when it does not within `withinMs`. */
export async function until(what: string, isSo: () => Promise<boolean>, withinMs: number, everyMs = 250): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${withinMs / 1000} s`)
    await new Promise((resolve) => setTimeout(resolve, everyMs))
  }
}

/** Does `work` for each, at most `atOnce` at a time; results in the order of the items. */
export async function forEachOf<T, R>(items: readonly T[], atOnce: number, work: (item: T, index: number) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const index = next++
      results[index] = await work(items[index] as T, index) // within the length, just compared
    }
  }
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker))
  return results
}
