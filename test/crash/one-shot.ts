/**
 * The process that gets killed: a node on a home folder that does one list of things and ends. Started by processes.ts.
 *
 * argv[2] is an Order as JSON; each thing done is one line of JSON on standard output, written before anything else happens: from that
 * moment on it is promised. Without peers the node opens its home only, which is what makes hundreds of trials cheap.
 */
import { writeSync } from 'node:fs'
import { loadConfig } from '../../node/config.ts'
import { silentLog } from '../../node/log.ts'
import { openNode } from '../../node/main.ts'

export type Step =
  | { do: 'share'; path: string }
  | { do: 'get'; link: string; outputDir: string }
  | { do: 'unseed'; cid: string }
  | { do: 'list' }

export interface Order {
  home: string
  network: string
  /** Addresses to get from; none: no network at all. */
  peers: string[]
  steps: Step[]
}

export type Said =
  | { said: 'started'; peerId: string; startMs: number }
  | { said: 'shared'; path: string; link: string; cid: string }
  | { said: 'got'; outputDir: string; fetchedBlocks: number; reusedBlocks: number }
  | { said: 'unseeded'; cid: string }
  | { said: 'listed'; shares: { cid: string; state: string }[] }
  | { said: 'failed'; step: Step['do']; code: string; message: string }
  | { said: 'stopped' }

const say = (said: Said): void => void writeSync(1, `${JSON.stringify(said)}\n`)

async function run(order: Order): Promise<void> {
  const { home, network, peers } = order
  const overrides = { network, listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap: [], mdns: false, groupPrivate: false }
  const startedMs = performance.now()
  const node = await openNode(await loadConfig({ home, overrides }), { oneShot: true, offline: peers.length === 0, log: silentLog })
  say({ said: 'started', peerId: node.peerId, startMs: performance.now() - startedMs })
  const signal = AbortSignal.timeout(60_000)
  const ignore = (): void => {}
  for (const step of order.steps) {
    try {
      if (step.do === 'share') {
        const { link, cid } = await node.api.share({ paths: [step.path], scope: 'node', name: null }, ignore, signal)
        say({ said: 'shared', path: step.path, link, cid })
      } else if (step.do === 'get') {
        const request = { link: step.link, outputDir: step.outputDir, path: null, force: false, consent: false, wait: false, keep: true }
        const { fetchedBlocks, reusedBlocks } = await node.api.get({ ...request, peers }, ignore, signal)
        say({ said: 'got', outputDir: step.outputDir, fetchedBlocks, reusedBlocks })
      } else if (step.do === 'unseed') {
        await node.api.unseed({ cid: step.cid }, signal)
        say({ said: 'unseeded', cid: step.cid })
      } else say({ said: 'listed', shares: (await node.api.shares(signal)).map(({ cid, state }) => ({ cid, state })) })
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : 'none'
      say({ said: 'failed', step: step.do, code, message: error instanceof Error ? error.message : String(error) })
    }
  }
  await node.stop()
  say({ said: 'stopped' })
}

if (import.meta.main) {
  await run(JSON.parse(process.argv[2] ?? '') as Order) // written by processes.ts
  process.exit(0)
}
