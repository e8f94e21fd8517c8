/** Where the figures of `status --limits` are read: the parts of a running node, each limit by its name. Called by main.ts alone. */
import type { LimitName } from '../../protocol/limit-table.ts'
import type { JobEnvironment } from '../jobs/environment.ts'
import { dhtRefusals } from '../network/dht-decode.ts'
import type { RateLimiter } from '../network/rate-limiter.ts'
import type { Stack } from '../network/stack.ts'
import type { Budgets } from './budgets.ts'
import type { Gauge } from './limit-registry.ts'
import { memoryShares } from './memory.ts'

/** What is read where. `stack` is null without a network. */
export function gaugesOf(parts: {
  env: Pick<JobEnvironment, 'host' | 'cache'>
  stack: Stack | null
  limiter: RateLimiter
  budgets: Budgets
  jobs: () => number
  disk: { pinnedBytes: number; freeBytes: number; keptBytes: number }
}): Partial<Record<LimitName, Gauge>> {
  const { env, stack, limiter, budgets, disk } = parts
  const { current } = budgets
  const memory = memoryShares(current.memoryBytes)
  const { uploads, credit } = env.host.memory.use()
  const rates = limiter.state()
  const month = budgets.month()
  return {
    connections: { used: () => stack?.connections().length ?? 0, value: () => stack?.connectionUse().max ?? current.connectionsMax },
    pendingInbound: { used: () => stack?.connectionUse().pending ?? 0 },
    peersPerShare: { used: () => Math.max(0, ...env.host.holdings().map(({ live }) => live?.links.length ?? 0)) },
    creditTotal: { used: () => credit.usedBytes, value: () => memory.creditBytes, hits: () => credit.timesFull },
    leases: { used: () => uploads.usedBytes, value: () => memory.uploadBytes, hits: () => uploads.waits },
    uploadRate: { used: () => rates.up.bytesPerSecond, value: () => rates.up.capBytesPerSecond, hits: () => limiter.waits.up },
    downloadRate: { used: () => rates.down.bytesPerSecond, value: () => rates.down.capBytesPerSecond, hits: () => limiter.waits.down },
    monthVolume: { used: () => month.up + month.down, value: () => current.monthlyBytes },
    monthUpload: { used: () => month.up, value: () => current.monthlyUploadBytes },
    monthDownload: { used: () => month.down, value: () => current.monthlyDownloadBytes },
    dhtMessageBytes: { hits: () => dhtRefusals.tooLong },
    dhtEntries: { hits: () => dhtRefusals.tooManyEntries },
    providersTotal: { used: () => stack?.recordCount() ?? 0 },
    jobs: { used: parts.jobs },
    memory: { value: () => current.memoryBytes, used: () => uploads.usedBytes + credit.usedBytes },
    pinned: { value: () => current.pinnedBytes, used: () => disk.pinnedBytes },
    cached: { value: () => current.cachedBytes ?? null, used: () => env.cache.use().bytes },
    relayedPeers: { used: () => stack?.reach().relaying?.peers ?? 0 },
    circuits: { used: () => stack?.reach().relaying?.circuits ?? 0 },
    relayedBytes: { value: () => current.relayBytesPerDay, used: () => stack?.reach().relaying?.bytesToday ?? 0 },
    freeSpace: { value: () => disk.keptBytes, used: () => disk.freeBytes },
  }
}
