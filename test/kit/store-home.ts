/** A home without a network, its parts within reach: for what is done with the store and the records alone. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Budgets } from '../../node/budgets/budgets.ts'
import { loadConfig } from '../../node/config.ts'
import { CryptoPool } from '../../node/crypto/pool.ts'
import { Damage } from '../../node/jobs/damage.ts'
import { DiskCache } from '../../node/jobs/disk-cache.ts'
import type { JobEnvironment, StoreEnvironment } from '../../node/jobs/environment.ts'
import { Keeping } from '../../node/jobs/keeping.ts'
import { Pins } from '../../node/jobs/pins.ts'
import { shareJob } from '../../node/jobs/share.ts'
import { Sources } from '../../node/jobs/sources.ts'
import { SwarmHost } from '../../node/jobs/swarm-host.ts'
import { silentLog } from '../../node/log.ts'
import { RateLimiter } from '../../node/network/rate-limiter.ts'
import { openBlockStore } from '../../node/storage/blocks.ts'
import { DeleteLog } from '../../node/storage/delete-log.ts'
import { diskFileSystem, type FileSystem } from '../../node/storage/fs.ts'
import { openRecords } from '../../node/storage/records.ts'
import { SourceStore } from '../../node/storage/source-store.ts'
import { FORMAT } from '../../protocol/limits.ts'
import { nodePrimitives } from '../primitives-node.ts'

const never = new AbortController().signal

export interface StoreHome {
  env: JobEnvironment
  /** Shares `pieces` full pieces of random bytes and a bit; resolves to the content ID. */
  share(name: string, pieces: number, scope?: 'lineage' | 'node'): Promise<string>
  close(): Promise<void>
}

/** Opens the home in `dir`. Close it before it is opened again. `shared` are worker threads of the caller's, for tests with many homes. */
export async function openStoreHome(dir: string, fs: FileSystem = diskFileSystem, shared?: CryptoPool): Promise<StoreHome> {
  const home = join(dir, 'home')
  mkdirSync(home, { recursive: true, mode: 0o700 })
  const records = await openRecords({ file: join(home, 'records.db'), log: silentLog })
  const pool = shared ?? new CryptoPool()
  const blocks = await openBlockStore({
    dir: home,
    fs,
    verify: async (bytes) => ({ digest: await nodePrimitives.sha256(bytes), bytes }),
    allocate: pool.buffers.take,
    log: silentLog,
    signal: never,
  })
  const limiter = new RateLimiter({ uploadBytesPerSecond: null, downloadBytesPerSecond: null })
  const store = await SourceStore.open(fs, home)
  const sources = new Sources({ store, blocks, pool, nodeSecret: new Uint8Array(32), log: silentLog })
  const parts = { blocks, records, pool, sources, log: silentLog }
  const host = new SwarmHost({ ...parts, stack: null, limiter, groupPrivate: false, pex: true, announce: 'share' })
  await host.start()
  const deleteLog = new DeleteLog({ dir: home, fs, log: silentLog })
  const keeping = await Keeping.open(records)
  const budgets = await Budgets.open({ config: await loadConfig({ home, overrides: {} }), limiter, records, log: silentLog })
  const stored: StoreEnvironment = {
    ...parts,
    home,
    peerId: 'self',
    addresses: () => [],
    nodeSecret: new Uint8Array(32),
    host,
    pins: new Pins(),
    keeping,
    budgets,
    deleteLog,
    damage: new Damage({ ...parts, keeping, host }),
    isOneShot: false,
  }
  const env: JobEnvironment = { ...stored, cache: new DiskCache(stored) }
  return {
    env,
    async share(name, pieces, scope = 'lineage') {
      const path = join(dir, name)
      writeFileSync(path, randomBytes(pieces * FORMAT.pieceBytes + 5))
      return (await shareJob(env, { paths: [path], scope, name: null }, () => {}, never)).cid
    },
    async close() {
      await env.damage.stop()
      await host.stop()
      await sources.stop()
      await budgets.stop()
      limiter.stop()
      await blocks.close()
      if (shared === undefined) await pool.close()
      await records.close()
    },
  }
}
