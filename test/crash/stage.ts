/** What the trials share: a temporary folder, sources to share, homes to copy, and one node that serves. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadConfig } from '../../node/config.ts'
import { silentLog } from '../../node/log.ts'
import { openNode, type ShoalNode } from '../../node/main.ts'
import { Random } from '../sim/crowd/random.ts'
import type { Order, Step } from './one-shot.ts'

export class Stage {
  readonly dir = mkdtempSync(join(tmpdir(), 'shoal-crash-'))
  readonly network = `crash-${process.pid}`
  readonly #nodes: ShoalNode[] = []
  #copies = 0

  path(...parts: string[]): string {
    return join(this.dir, ...parts)
  }

  /** A folder of files, `blocks` blocks in all; equal seeds give equal bytes. */
  source(name: string, seed: number, blocks: number): string {
    return makeSource(this.path(name), seed, blocks)
  }

  order(home: string, steps: Step[], peers: string[] = []): Order {
    return { home, network: this.network, peers, steps }
  }

  /** A fresh place, with a copy of a folder where one is given. */
  copy(of: string | null): string {
    const path = this.path(`copy-${this.#copies++}`)
    if (of !== null) execFileSync('cp', ['-a', of, path]) // with its modes: a home is its user's alone
    return path
  }

  drop(path: string): void {
    rmSync(path, { recursive: true, force: true })
  }

  /** A node in this process that serves shares of these folders. */
  async seeder(folders: string[]): Promise<{ addresses: string[]; links: string[] }> {
    const overrides = { network: this.network, listen: ['/ip4/127.0.0.1/tcp/0'], bootstrap: [], mdns: false }
    const node = await openNode(await loadConfig({ home: this.path(`seeder-${this.#nodes.length}`), overrides }), {
      oneShot: false,
      log: silentLog,
    })
    this.#nodes.push(node)
    const links: string[] = []
    for (const folder of folders) {
      const request = { paths: [folder], scope: 'node' as const, name: null }
      links.push((await node.api.share(request, () => {}, AbortSignal.timeout(60_000))).link)
    }
    return { addresses: node.addresses(), links }
  }

  async clear(): Promise<void> {
    for (const node of this.#nodes) await node.stop()
    rmSync(this.dir, { recursive: true, force: true })
  }
}

/** Makes a folder of files, `blocks` blocks in all; equal seeds give equal bytes. */
export function makeSource(folder: string, seed: number, blocks: number): string {
  const random = new Random(seed)
  mkdirSync(join(folder, 'below'), { recursive: true })
  for (let left = blocks, i = 0; left > 0; i++) {
    const blocksHere = Math.min(left, 1 + random.below(6))
    const bytes = Buffer.allocUnsafe(blocksHere * 2 ** 20 - random.below(1_000))
    for (let at = 0; at + 4 <= bytes.length; at += 4) bytes.writeUInt32LE(random.below(2 ** 32), at)
    writeFileSync(join(folder, i % 2 === 0 ? '' : 'below', `file-${i}`), bytes)
    left -= blocksHere
  }
  return folder
}
