/** One share in memory without a node around it: what a test leaves out does nothing, and nobody may be blamed. */
import { expect } from 'vitest'
import type { CryptoPool } from '../../node/crypto/pool.ts'
import { LiveShare } from '../../node/jobs/live-share.ts'
import { SealedCache } from '../../node/jobs/sealed-cache.ts'
import { silentLog } from '../../node/log.ts'
import type { BlockStore } from '../../node/storage/blocks.ts'
import type { ShareCid } from '../../protocol/cid.ts'

/** `blocks`: as much of a store as the test needs. */
export function bareLiveShare(cid: ShareCid, pool: CryptoPool, blocks: Partial<BlockStore>): LiveShare {
  return new LiveShare(cid, {
    blocks: blocks as BlockStore, // nothing else is used
    cache: new SealedCache(pool.buffers.take),
    pool,
    log: silentLog,
    now: () => performance.now(),
    random: () => 0.5,
    onRequest: () => {},
    onCancel: () => {},
    onSole: () => {},
    onPeers: () => {},
    onBadBlock: () => expect.unreachable('an honest peer was blamed'),
  })
}
