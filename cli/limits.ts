/** `shoal limits`: its options, and what it says. */
import { type Command, Option } from 'commander'
import { JobError, type LimitSettings, type LimitsRequest, type LimitsResult, type MonthVolume } from '../node/control/api.ts'
import { formatBytes, formatFields } from './format.ts'
import { formatCap, parseBytes } from './rate.ts'

/** Caps as the options give them: null is none, undefined is not given. */
export interface GivenCaps {
  up: number | null | undefined
  down: number | null | undefined
  capLan: boolean | null
}

interface Options {
  month?: { bytes: number | null }
  monthUp?: { bytes: number | null }
  monthDown?: { bytes: number | null }
  monthStart?: number
  connections?: number
  memory?: { bytes: number | null }
  pinned?: { bytes: number | null }
  cached?: { bytes: number | null }
  free?: { bytes: number | null }
  relay?: { bytes: number | null }
  reset?: true
  save?: true
}

// In a box, because commander makes something of a bare null.
const size = (flags: string, what: string, none = 'none'): Option =>
  new Option(flags, what).argParser((text) => ({ bytes: parseBytes(text, none) }))
const whole = (flags: string, what: string): Option =>
  new Option(flags, what).argParser((text) => {
    if (/^\d{1,9}$/.test(text)) return Number(text)
    throw new JobError('USAGE', `"${text}" is no whole number`)
  })

/** Adds the verb. `found` gets what it asks for, the caps of the general options left out. */
export function addLimits(program: Command, found: (request: LimitsRequest) => void): void {
  program
    .command('limits')
    .description('show the limits of the running node, and change them: until it stops, or with --save for good')
    .addOption(size('--month <size>', 'volume of a month, both ways together, as 200GB; "none": no end'))
    .addOption(size('--month-up <size>', 'volume of a month that goes out'))
    .addOption(size('--month-down <size>', 'volume of a month that comes in'))
    .addOption(whole('--month-start <day>', 'day on which the month begins, 1 to 31'))
    .addOption(whole('--connections <number>', 'connections at most'))
    .addOption(size('--memory <size>', 'memory for blocks on their way'))
    .addOption(size('--pinned <size>', 'disk for what is shared and seeded; "none": no end'))
    .addOption(size('--cached <size>', 'disk for blocks that are kept as long as there is room'))
    .addOption(size('--free <size>', 'free space that is always left; "auto": the larger of 1 GiB and 2 %', 'auto'))
    .addOption(size('--relay <size>', 'passed on for others in a day, as 4GiB; "none": nothing'))
    .option('--reset', 'forget what was changed, and read the config file again')
    .option('--save', 'write it into the config file; with --reset, take all limits but the schedule out of it')
    .addHelpText(
      'after',
      '\nExamples: shoal limits' +
        '\n          shoal limits --up 500KiB --down none            until the node stops' +
        '\n          shoal limits --month 200GB --month-start 15 --save' +
        '\n          shoal limits --reset',
    )
    .action((options: Options) => found({ set: settingsOf(options), reset: options.reset ?? false, save: options.save ?? false }))
}

function settingsOf(options: Options): Partial<LimitSettings> {
  const { memory } = options
  if (memory?.bytes === null) throw new JobError('USAGE', '--memory cannot be "none"')
  return {
    ...(options.month && { monthlyBytes: options.month.bytes }),
    ...(options.monthUp && { monthlyUploadBytes: options.monthUp.bytes }),
    ...(options.monthDown && { monthlyDownloadBytes: options.monthDown.bytes }),
    ...(options.monthStart !== undefined && { monthStartDay: options.monthStart }),
    ...(options.connections !== undefined && { connectionsMax: options.connections }),
    ...(memory?.bytes !== undefined && { memoryBytes: memory.bytes }),
    ...(options.pinned && { pinnedBytes: options.pinned.bytes }),
    ...(options.cached && { cachedBytes: options.cached.bytes }),
    ...(options.relay && { relayBytesPerDay: options.relay.bytes ?? 0 }),
    ...(options.free && { freeBytesKept: options.free.bytes }),
  }
}

/** The settings that the general options make. */
export const capsOf = ({ up, down, capLan }: GivenCaps): Partial<LimitSettings> => ({
  ...(up !== undefined && { uploadBytesPerSecond: up }),
  ...(down !== undefined && { downloadBytesPerSecond: down }),
  ...(capLan !== null && { lanExempt: !capLan }),
})

/** The two lines of what goes over the wire now. */
export function rateFields({ up, down, capsFrom }: LimitsResult): [string, string][] {
  const from = { config: '', schedule: ' by the schedule', set: '' }
  return [
    ['up', `${formatBytes(up.bytesPerSecond)}/s, ${formatCap(up.capBytesPerSecond)}${from[capsFrom.up]}`],
    ['down', `${formatBytes(down.bytesPerSecond)}/s, ${formatCap(down.capBytesPerSecond)}${from[capsFrom.down]}`],
  ]
}

/** What went by this month, and what follows from it; nothing where no volume is set. */
export function monthFields({ settings, month }: LimitsResult): [string, string][] {
  const { monthlyBytes, monthlyUploadBytes, monthlyDownloadBytes } = settings
  if (monthlyBytes === null && monthlyUploadBytes === null && monthlyDownloadBytes === null) return []
  const of = (bytes: number, max: number | null): string => `${formatBytes(bytes)}${max === null ? '' : ` of ${formatBytes(max)}`}`
  const both = monthlyBytes === null ? '' : `, together ${of(month.upBytes + month.downBytes, monthlyBytes)}`
  const used = `${of(month.upBytes, monthlyUploadBytes)} up, ${of(month.downBytes, monthlyDownloadBytes)} down${both}`
  return [['month', `${used}, until ${formatMoment(month.endsMs)}`], ...heldFields(month)]
}

function heldFields({ isUpHeld, isDownHeld, endsMs }: MonthVolume): [string, string][] {
  if (!isUpHeld && !isDownHeld) return []
  const what = isUpHeld && isDownHeld ? 'served or fetched' : isUpHeld ? 'served' : 'fetched'
  return [['', `used up: nothing is ${what} until ${formatMoment(endsMs)}, or until \`shoal limits\` sets more`]]
}

/** The whole answer. */
export function sayLimits(result: LimitsResult): string {
  const { settings, capsFrom, untilStop } = result
  const bytes = (value: number | null, none: string): string => (value === null ? none : formatBytes(value))
  const months = monthFields(result)
  return formatFields([
    ...rateFields(result),
    ...(capsFrom.nextChangeMs === null
      ? []
      : [['schedule', `other caps from ${formatMoment(capsFrom.nextChangeMs)} on`] as [string, string]]),
    ['local network', settings.lanExempt ? 'does not count' : 'counts like the rest'],
    ...(months.length > 0
      ? months
      : ([['month', `${formatBytes(result.month.upBytes)} up, ${formatBytes(result.month.downBytes)} down, no end`]] as [
          string,
          string,
        ][])),
    ['connections', `at most ${settings.connectionsMax}`],
    ['memory', `${formatBytes(settings.memoryBytes)} for blocks on their way`],
    ['pinned', bytes(settings.pinnedBytes, 'no end')],
    ['cached', bytes(settings.cachedBytes, 'no end')],
    ['relayed', settings.relayBytesPerDay === 0 ? 'nothing' : `at most ${formatBytes(settings.relayBytesPerDay)} a day for others`],
    ['left free', bytes(settings.freeBytesKept, 'the larger of 1 GiB and 2 % of the disk')],
    ...(untilStop.length > 0 ? [['until it stops', untilStop.join(', ')] as [string, string]] : []),
  ])
}

/** "2026-12-01 00:00", by the clock of this machine. */
export function formatMoment(wallMs: number): string {
  const date = new Date(wallMs)
  const two = (value: number): string => String(value).padStart(2, '0')
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}`
}
