/** A block that its publisher broke, and gets of the same share at once that all hear of it. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it, vi } from 'vitest'
import { getJob } from '../../node/jobs/get.ts'
import type { PeerLink } from '../../node/network/peer-link.ts'
import { ShareWriter } from '../../protocol/layout.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { formatLink } from '../../protocol/link.ts'
import { BrokenSealer } from '../kit/broken-sealer.ts'
import { ignore } from '../kit/nodes.ts'
import { openStoreHome } from '../kit/store-home.ts'
import { nodePrimitives } from '../primitives-node.ts'
import { freshFolder, never } from './storage-fakes.ts'

it('costs its file in both of two sealed gets that wait for it', async () => {
  const dir = freshFolder()
  const home = await openStoreHome(dir)
  const { blocks, host } = home.env
  const sealer = new BrokenSealer()
  const writer = new ShareWriter({
    primitives: nodePrimitives,
    sealer,
    // All but the broken one lie in the store.
    put: async (digest, bytes, kind) => {
      if (kind !== 'data' || Buffer.compare(bytes, sealer.broken!) !== 0) await blocks.put(digest, bytes, never)
    },
    concurrency: 1,
  })
  for (const name of ['bad-apple.bin', 'good-apple.bin']) {
    await writer.addFile(
      { dir: '', name, executable: false },
      (async function* () {
        yield new Uint8Array(randomBytes(FORMAT.pieceBytes))
      })(),
    )
  }
  const { cid, readKey } = await writer.finish()
  const link = await formatLink(nodePrimitives, { cid, readKey, peers: [], vias: [] })
  const { live, release } = await host.hold(cid, never)
  const listening = vi.spyOn(live, 'onLeaf')
  const gets = ['one', 'two'].map((name) => {
    mkdirSync(join(dir, name))
    const request = { link, outputDir: join(dir, name), path: null, force: false, consent: false, peers: [], keep: true, keepSealed: true }
    return getJob(home.env, { ...request, wait: true }, ignore, never)
  })
  await vi.waitFor(() => expect([listening.mock.calls.length, live.isWanting]).toEqual([2, true]), { timeout: 20_000 })
  const peer = { remote: { peerId: 'somebody' }, stats: { verifiedBlocks: 0 } } as unknown as PeerLink // all that is looked at of it
  const bad = Array.from({ length: live.leaves.count }, (_, i) => i).find((position) => !live.has(0, position))!
  await live.onBlock(peer, 0, bad, sealer.broken!)
  for (const got of await Promise.all(gets))
    expect(got).toMatchObject({ files: 1, damaged: [{ path: 'bad-apple.bin', cause: expect.stringMatching(/^B2/) }] })
  expect(['one', 'two'].map((name) => readdirSync(join(dir, name)))).toEqual([['good-apple.bin'], ['good-apple.bin']])
  release()
  await home.close()
}, 60_000)
