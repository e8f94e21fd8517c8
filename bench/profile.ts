/**
 * CPU profiles of Node, taken apart by what Shoal was doing: which step of a transfer each sample belongs to.
 *
 * Samples are counted, not seconds: a profile's clock runs on while a thread waits for a core. steps.ts multiplies the shares with the time
 * that the thread really had.
 */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** In the order of the table. */
export const STEPS = [
  'Noise (ChaCha20-Poly1305)',
  'TCP, Yamux, frames, session',
  'swarm, jobs, control',
  'hash (SHA-256)',
  'open (AES-256-GCM)',
  'handing blocks to threads and back',
  'storing and reading blocks, main thread',
  'extracting, main thread',
  'file calls, main thread',
  'file calls, thread pool',
  'records (SQLite)',
  'garbage collection',
  'rest',
] as const
export type Step = (typeof STEPS)[number]

/** The first rule that matches a frame or, going outwards, one of its callers, says the step. */
const RULES: [RegExp, Step][] = [
  [/^\(garbage collector\)/, 'garbage collection'],
  [/^(sha256|hash) .*(crypto|primitives)/, 'hash (SHA-256)'],
  [/^\S*(gcm|seal|open)\S* .*(primitives|seal)\.js/i, 'open (AES-256-GCM)'],
  [/libp2p-noise/, 'Noise (ChaCha20-Poly1305)'],
  [/libp2p-yamux|@libp2p|\/libp2p\/|uint8arraylist|node\/network\/|protocol\/wire\//, 'TCP, Yamux, frames, session'],
  [/node\/crypto\/(pool|worker)|block-buffers/, 'handing blocks to threads and back'],
  [/storage\/extract/, 'extracting, main thread'],
  [/storage\/(blocks|group-sync|digest-set)/, 'storing and reading blocks, main thread'],
  [/storage\/fs\./, 'file calls, main thread'],
  [/storage\/records/, 'records (SQLite)'],
  [/\/(protocol|node|cli)\/(?!crypto\/primitives)/, 'swarm, jobs, control'],
  [/node:net$|stream_base_commons|internal\/streams/, 'TCP, Yamux, frames, session'],
  [/^writev /, 'TCP, Yamux, frames, session'],
]

/** What Node writes: the tree of calls, and which of them each sample found, at intervals in microseconds of the monotonic clock. */
export interface Profile {
  nodes: { id: number; callFrame: { functionName: string; url: string }; children?: number[] }[]
  startTime: number
  samples: number[]
  timeDeltas: number[]
}

/** Of the monotonic clock. */
export interface Window {
  fromUs: number
  toUs: number
}

/** Numbers by step: shares of one, or seconds. */
export type BySteps = Map<Step, number>

/** The profiles of one process. The files are called CPU.date.time.process.thread.number.cpuprofile, and the main thread is number 0. */
export async function readProfiles(dir: string): Promise<{ main: Profile; workers: Profile[] }> {
  const workers: Profile[] = []
  let main: Profile | undefined
  for (const name of await readdir(dir)) {
    const profile = JSON.parse(await readFile(join(dir, name), 'utf8')) as Profile // written by Node
    if (name.split('.').at(-3) === '0') main = profile
    else workers.push(profile)
  }
  if (main === undefined) throw new Error('the daemon wrote no profile')
  return { main, workers }
}

/** Each step's share of what these threads did in the window; waiting does not count. */
export function sharesOf(profiles: Profile[], window: Window): BySteps {
  const sums: BySteps = new Map()
  let all = 0
  for (const { nodes, samples, timeDeltas, startTime } of profiles) {
    const steps = stepsOf(nodes)
    let at = startTime
    for (const [i, id] of samples.entries()) {
      const delta = timeDeltas[i] ?? 0
      at += delta
      const step = steps.get(id)
      if (at < window.fromUs || at > window.toUs || step === undefined) continue
      sums.set(step, (sums.get(step) ?? 0) + delta)
      all += delta
    }
  }
  return new Map([...sums].map(([step, sum]) => [step, sum / all]))
}

/** The step of each node of the tree of calls; none for waiting. */
function stepsOf(nodes: Profile['nodes']): Map<number, Step> {
  const byId = new Map(nodes.map((node) => [node.id, node]))
  const parents = new Map(nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id])))
  const steps = new Map<number, Step>()
  for (const { id, callFrame } of nodes) {
    if (callFrame.functionName === '(idle)') continue
    let step: Step | undefined
    for (let at: number | undefined = id; at !== undefined && step === undefined; at = parents.get(at)) {
      const frame = byId.get(at)?.callFrame
      const text = `${frame?.functionName} ${frame?.url}`
      step = RULES.find(([rule]) => rule.test(text))?.[1]
    }
    steps.set(id, step ?? 'rest')
  }
  return steps
}
