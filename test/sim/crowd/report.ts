/** What both forms say in the end about the machines, the lines and this process. */
import type { Crowd } from './crowd.ts'
import type { IdleWatch, Reason } from './idle.ts'
import type { Cost } from './meter.ts'

export interface Common {
  peers: number
  blocks: number
  seed: number
  finished: number
  /** Copies of the whole, sent by the origin. */
  originCopies: number
  /** Until every block had been verified by somebody else; null when that never was. */
  originCopiesToAll: number | null
  allElsewhereSeconds: number | null
  duplicatesPercent: number
  requestsPerBlock: number
  cancelsPerBlock: number
  events: number
  eventsPerPeerAndBlock: number
  microsecondsPerEvent: number
  machinesSeconds: number
  timeoutsSeconds: number
  wallSeconds: number
  cpuSeconds: number
  rssPeakMib: number
  digest: string
  costs: Cost[]
}

/** Where a run began, on the clock and in processor time of this thread. */
export interface Start {
  wallMs: number
  cpuMs: number
}

export const startNow = (): Start => ({ wallMs: performance.now(), cpuMs: cpuMs() })

function cpuMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}

export function commonOf(crowd: Crowd, run: { peers: number; seed: number; start: Start }): Common {
  const { tally, meter, blockCount } = crowd
  const fileBytes = blockCount * 1024 * 1024
  const wallMs = performance.now() - run.start.wallMs
  const usedMs = cpuMs() - run.start.cpuMs
  const costs = meter.costs().filter(({ count }) => count > 0)
  const events = costs.reduce((sum, { count }) => sum + count, 0)
  const machinesSeconds = costs.reduce((sum, { count, microseconds }) => sum + count * microseconds, 0) / 1e6
  const timeouts = meter.timeouts()
  return {
    peers: run.peers,
    blocks: blockCount,
    seed: run.seed,
    finished: tally.finished,
    originCopies: tally.originBytes / fileBytes,
    originCopiesToAll: tally.originBytesToAll < 0 ? null : tally.originBytesToAll / fileBytes,
    allElsewhereSeconds: tally.allElsewhereMs < 0 ? null : tally.allElsewhereMs / 1000,
    duplicatesPercent: (tally.wastedBytes * 100) / Math.max(1, tally.receivedBytes),
    requestsPerBlock: tally.requests / Math.max(1, tally.blocks),
    cancelsPerBlock: tally.cancels / Math.max(1, tally.blocks),
    events,
    eventsPerPeerAndBlock: events / Math.max(1, tally.blocks),
    microsecondsPerEvent: (machinesSeconds * 1e6) / Math.max(1, events),
    machinesSeconds,
    timeoutsSeconds: (timeouts.count * timeouts.microseconds) / 1e6,
    wallSeconds: wallMs / 1000,
    cpuSeconds: usedMs / 1000,
    rssPeakMib: process.resourceUsage().maxRSS / 1024,
    digest: tally.digest(),
    costs,
  }
}

/** One phase of a run: how much of what the uplinks could send they sent, and what the idle ones lacked. */
export interface Phase {
  name: string
  uplinkPercent: number
  seen: Record<Reason, number>
}

/** The first tenth, the middle and the last tenth up to `endMs`. `aliveMs(from, until)` is what the uplinks had to give. */
export function phasesOf(crowd: Crowd, idle: IdleWatch, endMs: number, aliveMs: (fromMs: number, untilMs: number) => number): Phase[] {
  const phase = (name: string, from: number, until: number): Phase => {
    const [fromMs, untilMs] = [Math.floor((endMs * from) / 1000) * 1000, Math.ceil((endMs * until) / 1000) * 1000]
    let busyMs = 0
    for (let second = fromMs / 1000; second < untilMs / 1000; second++) busyMs += crowd.tally.busyMs[second] ?? 0
    return { name, uplinkPercent: (busyMs * 100) / aliveMs(fromMs, Math.min(untilMs, endMs)), seen: idle.between(fromMs, untilMs) }
  }
  return [phase('all', 0, 1), phase('first tenth', 0, 0.1), phase('middle', 0.1, 0.9), phase('last tenth', 0.9, 1)]
}

const number = (value: number | null, digits = 1): string => (value === null ? '-' : value.toFixed(digits))

/** Lines of text for both forms. */
export function printCommon(common: Common, phases: Phase[]): string[] {
  const toAll = `${number(common.originCopiesToAll, 2)} until all is elsewhere at ${number(common.allElsewhereSeconds)} s`
  return [
    `  origin sent    ${number(common.originCopies, 2)} copies, ${toAll}`,
    `  duplicates     ${number(common.duplicatesPercent, 2)} %, ${number(common.requestsPerBlock, 2)} requests and ${number(common.cancelsPerBlock, 2)} cancels a block`,
    ...phases.map(({ name, uplinkPercent, seen }) => {
      const idle = Object.entries(seen).filter(([reason, percent]) => reason !== 'busy' && percent >= 0.1)
      return `  uplinks        ${name}: ${number(uplinkPercent)} % used; idle: ${idle.map(([reason, percent]) => `${reason} ${number(percent)}`).join(', ') || '-'}`
    }),
    `  machines       ${number(common.eventsPerPeerAndBlock)} events a peer and block, ${number(common.microsecondsPerEvent, 2)} us each: ${number(common.machinesSeconds)} s, and ${number(common.timeoutsSeconds)} s in nextTimeout`,
    ...common.costs
      .filter(({ count, microseconds }) => (count * microseconds) / 1e6 >= 0.02 * common.machinesSeconds)
      .map(({ name, count, microseconds }) => `                 ${name}: ${count} of ${number(microseconds, 2)} us`),
    `  this process   ${number(common.wallSeconds)} s, ${number(common.cpuSeconds)} s of processor time, peak ${number(common.rssPeakMib, 0)} MiB, trace ${common.digest}`,
  ]
}
