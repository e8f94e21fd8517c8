/**
 * Earlier shares of the same paths, which `share` leaves as they are unless it is told to replace them: their links go on to work.
 *
 * Of one in place that is true only as far as its files are as they were, so whoever shares them anew is told of it.
 */

import { JobError } from '../control/api.ts'
import type { ReplacedShare } from '../control/api-shares.ts'
import type { ShareRecord } from '../storage/records.ts'
import type { JobEnvironment } from './environment.ts'
import { unseedJob } from './gc.ts'

/** What became of the earlier shares, and what is to be said of those that stay. */
export interface Earlier {
  replaced: ReplacedShare[]
  warnings: string[]
}

/** Called when the new share, of this record, is kept. A job that works on an earlier one keeps it from being replaced. */
export async function settleEarlier(env: JobEnvironment, record: ShareRecord, replaces: boolean, signal: AbortSignal): Promise<Earlier> {
  const { scope } = record
  const earlier: Earlier = { replaced: [], warnings: [] }
  if (scope?.kind !== 'lineage') return earlier
  for (const other of await env.records.listShares()) {
    if (other.cid === record.cid || other.scope?.kind !== 'lineage' || other.scope.id !== scope.id) continue
    if (!replaces) {
      if (other.inPlace) earlier.warnings.push(staysWhere(other.cid))
      continue
    }
    try {
      const { freedBytes } = await unseedJob(env, other.cid, signal)
      earlier.replaced.push({ cid: other.cid, freedBytes })
    } catch (error) {
      if (!(error instanceof JobError) || error.code !== 'BUSY') throw error
      earlier.warnings.push(
        `the earlier share ${other.cid} is in use by a job and stays: let go of it later with \`shoal unseed ${other.cid}\``,
      )
    }
  }
  return earlier
}

const staysWhere = (cid: string): string =>
  `the earlier share of the same files, ${cid}, stays as far as they did not change since: \`shoal share --replace\` or \`shoal unseed ${cid}\` lets go of it`
