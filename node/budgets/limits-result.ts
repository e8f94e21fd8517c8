/** What `shoal limits` and `status` tell of the budgets: the limiter and the budgets in one answer. */
import type { LimitsResult } from '../control/api.ts'
import type { RateLimiter } from '../network/rate-limiter.ts'
import type { Budgets } from './budgets.ts'

/** As things are now. */
export function limitsResult(budgets: Budgets, limiter: RateLimiter): LimitsResult {
  const { current } = budgets
  const { up, down, endsMs, held } = budgets.month()
  const { from, nextChangeMs } = budgets.caps()
  return {
    ...limiter.state(),
    settings: {
      uploadBytesPerSecond: current.uploadBytesPerSecond,
      downloadBytesPerSecond: current.downloadBytesPerSecond,
      lanExempt: current.lanExempt,
      monthlyBytes: current.monthlyBytes,
      monthlyUploadBytes: current.monthlyUploadBytes,
      monthlyDownloadBytes: current.monthlyDownloadBytes,
      monthStartDay: current.monthStartDay,
      connectionsMax: current.connectionsMax,
      memoryBytes: current.memoryBytes,
      pinnedBytes: current.pinnedBytes,
      cachedBytes: current.cachedBytes,
      relayBytesPerDay: current.relayBytesPerDay,
      freeBytesKept: current.freeBytesKept,
    },
    untilStop: budgets.untilStop,
    capsFrom: { ...from, nextChangeMs },
    month: { upBytes: up, downBytes: down, endsMs, isUpHeld: held.up, isDownHeld: held.down },
  }
}
