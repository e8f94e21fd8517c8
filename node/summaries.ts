/** What a node says of its shares and of its peers: one line of `ls`, one of `peers`. */
import type { PeerSummary, ShareSummary, StatusResult } from './control/api.ts'
import type { JobEnvironment } from './jobs/environment.ts'
import type { SwarmHost } from './jobs/swarm-host.ts'
import type { Stack } from './network/stack.ts'
import type { ShareRecord } from './storage/records.ts'

/** One kept share; `isServed`: this node has a network. */
export function shareSummary(env: JobEnvironment, isServed: boolean, record: ShareRecord): ShareSummary {
  const holding = env.host.holding(record.cid)
  const live = holding?.live
  const isComplete = record.state === 'complete'
  return {
    cid: record.cid,
    role: record.role,
    label: record.label,
    files: record.files,
    sizeBytes: record.sizeBytes,
    wireBytes: record.wireBytes,
    state: env.sources.faultsOf(record.cid) > 0 ? 'partial' : record.state,
    inPlace: record.inPlace,
    faultyFiles: env.sources.faultsOf(record.cid),
    seeding: isServed,
    peers: live?.links.length ?? 0,
    haveBlocks: live?.heldBlocks ?? (isComplete ? (record.blockCount ?? 0) : 0),
    blockCount: record.blockCount,
    announcedMs: holding?.record?.announcedMs ?? record.announcedMs,
    keepUntilMs: env.keeping.of(record.cid).keepUntilMs,
    cachedBytes: env.keeping.isPinned(record.cid) ? null : env.keeping.of(record.cid).cachedBytes,
  }
}

/** The files of shares in place that are not as they were. */
export function faultyFiles({ sources, host }: JobEnvironment): StatusResult['faultyFiles'] {
  const { count, first } = sources.faults()
  const isOwn = (cid: string): boolean => host.holding(cid)?.record?.role === 'owner'
  return { count, first: first.map((file) => ({ ...file, isOwn: isOwn(file.cid) })) }
}

/** Every connected peer, with the shares that it has a session for. */
export function peerSummaries(host: SwarmHost, stack: Stack | null): PeerSummary[] {
  const shares = new Map<string, PeerSummary['shares']>()
  for (const { cid, live, dialling } of host.holdings()) {
    for (const link of live?.links ?? []) {
      const { peerId } = link.remote
      const { bytesIn, bytesOut, verifiedBlocks } = link.stats
      const blocks = live?.blocksOf(peerId) ?? null
      const row = {
        cid: cid.text,
        bytesIn,
        bytesOut,
        ...host.rateOf(link),
        hasAll: blocks === null,
        haveBlocks: blocks ?? live?.leaves.count ?? 0,
        verifiedBlocks,
        source: dialling?.sourceOf(peerId) ?? 'itself',
      }
      shares.set(peerId, [...(shares.get(peerId) ?? []), row])
    }
  }
  return (stack?.connections() ?? []).map(({ peerId, address, direction, openedMs }) => ({
    peerId,
    address,
    direction,
    shares: shares.get(peerId) ?? [],
    connectedSeconds: Math.max(0, Math.floor((Date.now() - openedMs) / 1000)),
  }))
}
