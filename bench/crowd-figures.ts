/** What a crowd is, the least time that any crowd needs, and how its figures are printed: the same for Shoal and for libtorrent. */
import { MIB, median, type Say } from './meters.ts'

/** One origin and `getters` peers that all want its file, on lines of `upBytes` and `downBytes` a second each. */
export interface Crowd {
  getters: number
  mib: number
  upBytes: number
  downBytes: number
}

export interface CrowdFigures {
  /** Of each getter, from the barrier to its complete file. */
  seconds: number[]
  /** Peers that each getter was connected to at the barrier. */
  links: number[]
  /** Bytes that the origin sent, framing included. */
  originBytes: number
  /** What has to travel for one copy: the file, or all blocks of its share. */
  copyBytes: number
  /** Bytes that all getters received, framing and what they threw away included. */
  receivedBytes: number
  cpuPercent: number
  /** Peak of the largest process, the origin among them. */
  rssMiB: number
  /** Getters whose output is the origin's file, byte for byte. */
  identical: number
}

const NAME_WIDTH = 18

/** Above this the machine was the limit and not the lines: such a run proves nothing. */
const CPU_PERCENT_MAX = 70

/** The last finish in an ideal fluid: the origin must send one copy, each getter receive one, all together send one for each getter. */
export function fluidSeconds({ getters, mib, upBytes, downBytes }: Crowd): number {
  const bytes = mib * MIB
  return Math.max(bytes / upBytes, bytes / downBytes, (getters * bytes) / (upBytes + getters * upBytes))
}

export const describeCrowd = ({ getters, mib, upBytes, downBytes }: Crowd): string =>
  `1 origin, ${getters} getters, ${mib} MiB, ${upBytes / MIB} MiB/s up, ${downBytes / MIB} MiB/s down`

export function printCrowd(name: string, crowd: Crowd, figures: CrowdFigures, say: Say): void {
  const { seconds, links } = figures
  const bytes = crowd.mib * MIB
  const last = Math.max(...seconds)
  const fluid = fluidSeconds(crowd)
  const surplus = figures.receivedBytes / (figures.copyBytes * crowd.getters) - 1
  say(
    `${name.padEnd(NAME_WIDTH)} last ${last.toFixed(1)} s, median ${median(seconds).toFixed(1)} s, bound ${fluid.toFixed(1)} s, ` +
      `ratio ${(last / fluid).toFixed(2)} (median ${(median(seconds) / fluid).toFixed(2)})`,
  )
  say(
    `${' '.repeat(NAME_WIDTH)} origin sent ${(figures.originBytes / bytes).toFixed(2)} copies, a copy is ${(figures.copyBytes / bytes).toFixed(2)} of the file, ` +
      `received beyond one copy each ${(100 * surplus).toFixed(1)} %, links at the start ${Math.min(...links)} to ${Math.max(...links)}`,
  )
  say(
    `${' '.repeat(NAME_WIDTH)} CPU ${figures.cpuPercent.toFixed(0)} %, RSS up to ${figures.rssMiB.toFixed(0)} MiB, ` +
      `${figures.identical} of ${crowd.getters} identical`,
  )
  if (figures.identical !== crowd.getters) throw new Error(`${name}: ${crowd.getters - figures.identical} outputs differ from the origin`)
  if (figures.cpuPercent > CPU_PERCENT_MAX)
    say(`${' '.repeat(NAME_WIDTH)} VOID: the machine was busy to ${figures.cpuPercent.toFixed(0)} %, more than ${CPU_PERCENT_MAX} %`)
}
