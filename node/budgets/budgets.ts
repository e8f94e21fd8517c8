/**
 * The budgets of a running node: which settings are in force, and what follows from the clock and from what went by.
 *
 * Three layers: what was set on the running node, then the schedule (for the two caps), then the config. The machines are schedule.ts and
 * month.ts; this gives them the time, tells the limiter its caps, and holds payload back while the volume of a month is used up.
 */

import { BUDGETS } from '../../protocol/budget-limits.ts'
import { type Hit, NO_HIT } from '../../protocol/limit-table.ts'
import { type Config, loadConfig } from '../config.ts'
import { JobError } from '../control/api.ts'
import type { Log } from '../log.ts'
import type { RateLimiter } from '../network/rate-limiter.ts'
import { complaintsOf, RUNNING_SETTINGS, type RunningSettings } from '../settings.ts'
import type { Records } from '../storage/records.ts'
import { endOf, localDayOf, Month, type MonthUse, NO_MONTH, parseMonth } from './month.ts'
import { saveSettings } from './save-settings.ts'
import { capsAt, localTimeOf, nextChange, nextLookMs } from './schedule.ts'

/** Whether payload is held back, since the volume of the month is used up. */
export interface Held {
  up: boolean
  down: boolean
}

/** What a caller may ask: values to set, or all that was set forgotten, and whether the config file is to say so too. */
export interface BudgetsRequest {
  set: Partial<RunningSettings>
  reset: boolean
  save: boolean
}

export type CapSource = 'config' | 'schedule' | 'set'

export interface MonthNow extends MonthUse {
  /** By the wall clock. */
  endsMs: number
  held: Held
}

export interface BudgetsParts {
  config: Config
  limiter: RateLimiter
  records: Pick<Records, 'getSetting' | 'setSetting'>
  log: Log
  /** Called when somebody runs into one of the budgets. */
  hit?: Hit
  /** Milliseconds since 1970, as the user's calendar goes by. */
  wallMs?: () => number
}

const SETTING = 'month'
const RUNNING: readonly string[] = RUNNING_SETTINGS

export class Budgets {
  readonly #parts: BudgetsParts
  readonly #wallMs: () => number
  readonly hit: Hit
  #config: Config
  /** What was set on the running node. */
  #set: Partial<RunningSettings> = {}
  #month: Month
  /** Bytes since they were last given to the month. */
  readonly #pending: MonthUse = { up: 0, down: 0 }
  /** What may still go by before it is time to look. */
  readonly #left = { up: Number.POSITIVE_INFINITY, down: Number.POSITIVE_INFINITY, both: Number.POSITIVE_INFINITY, write: 0 }
  #held: Held = { up: false, down: false }
  readonly #listeners = new Set<() => void>()
  readonly #holdListeners = new Set<(held: Held) => void>()
  #timer: NodeJS.Timeout | undefined
  #writeTimer: NodeJS.Timeout | undefined
  #writing: Promise<void> = Promise.resolve()
  #changing: Promise<void> = Promise.resolve()
  #isStopped = false

  private constructor(parts: BudgetsParts, month: Month) {
    this.#parts = parts
    this.#config = parts.config
    this.#month = month
    this.#wallMs = parts.wallMs ?? Date.now
    this.hit = parts.hit ?? NO_HIT
    this.#left.write = BUDGETS.monthWriteBytes
    parts.limiter.onCounted = (way, bytes) => this.#count(way, bytes)
  }

  /** Reads what was counted before, and puts everything into force. */
  static async open(parts: BudgetsParts): Promise<Budgets> {
    const text = await parts.records.getSetting(SETTING)
    const state = text === null ? NO_MONTH : parseMonth(text)
    if (state === null) parts.log.warn('the volume of the month is not readable, it begins anew')
    const budgets = new Budgets(parts, new Month(state ?? NO_MONTH, parts.config.monthStartDay, localDayOf((parts.wallMs ?? Date.now)())))
    budgets.#look()
    return budgets
  }

  /** The settings in force, but for what the schedule says of the caps. */
  get current(): RunningSettings {
    return { ...this.#config, ...this.#set }
  }

  /** Names of settings that hold until the node stops, and no longer. */
  get untilStop(): string[] {
    return Object.keys(this.#set)
  }

  /** Whether payload is held back from peers that the volume counts for. */
  get held(): Held {
    return this.#held
  }

  /** Calls `listener` after each change of a setting. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener)
  }

  /** Calls `listener` when payload is held back from now on, or not any more. */
  onHold(listener: (held: Held) => void): void {
    this.#holdListeners.add(listener)
  }

  /** The caps in force, and where each comes from. */
  caps(): { up: number | null; down: number | null; from: { up: CapSource; down: CapSource }; nextChangeMs: number | null } {
    const { schedule, uploadBytesPerSecond, downloadBytesPerSecond } = this.current
    const scheduled = capsAt(schedule, localTimeOf(this.#wallMs()))
    const [isUpSet, isDownSet] = [this.#set.uploadBytesPerSecond !== undefined, this.#set.downloadBytesPerSecond !== undefined]
    const up = isUpSet || scheduled.upload === undefined ? uploadBytesPerSecond : scheduled.upload
    const down = isDownSet || scheduled.download === undefined ? downloadBytesPerSecond : scheduled.download
    const sourceOf = (isSet: boolean, cap: number | null | undefined): CapSource =>
      isSet ? 'set' : cap === undefined ? 'config' : 'schedule'
    const from = { up: sourceOf(isUpSet, scheduled.upload), down: sourceOf(isDownSet, scheduled.download) }
    return { up, down, from, nextChangeMs: nextChange(schedule, this.#wallMs()) }
  }

  /** Bytes that were passed on for others: they came in, and went out. */
  countRelayed(bytes: number): void {
    this.#count('down', bytes)
    this.#count('up', bytes)
  }

  /** The volume of this month. */
  month(): MonthNow {
    this.#flush()
    const today = localDayOf(this.#wallMs())
    return { ...this.#month.use(today), endsMs: endOf(today, this.current.monthStartDay), held: this.#held }
  }

  /** Sets, forgets and saves as asked, one request after another. Throws JobError BAD_INPUT with all that is wrong; then nothing changed. */
  async change(request: BudgetsRequest): Promise<void> {
    const changing = this.#changing.then(() => this.#change(request))
    this.#changing = changing.catch(() => {}) // whoever asked hears of it
    await changing
  }

  async #change(request: BudgetsRequest): Promise<void> {
    const strange = Object.keys(request.set).filter((name) => !RUNNING.includes(name))
    const complaints = [...complaintsOf(request.set), ...strange.map((name) => `${name} is no limit of a running node`)]
    if (complaints.length > 0) throw new JobError('BAD_INPUT', complaints.join('; '))
    if (request.save) {
      // The schedule is written by hand, so nothing but a hand takes it away.
      const forgotten = request.reset ? RUNNING_SETTINGS.filter((name) => name !== 'schedule').map((name) => [name, undefined]) : []
      await saveSettings(this.#config.home, { ...Object.fromEntries(forgotten), ...request.set })
    }
    if (request.reset || request.save) this.#config = await this.#load()
    const set = { ...(request.reset ? {} : this.#set), ...request.set }
    // What the file says now holds by itself, but where the command line says something else.
    const isKept = (name: string): boolean => !request.save || !Object.hasOwn(request.set, name) || Object.hasOwn(this.#config.given, name)
    this.#set = Object.fromEntries(Object.entries(set).filter(([name]) => isKept(name)))
    this.#changed()
  }

  /** Reads the config file again. One that is not sound changes nothing: JobError BAD_CONFIG with all that is wrong. */
  async reload(): Promise<void> {
    this.#config = await this.#load()
    this.#changed()
  }

  /** Writes the volume of the month down. */
  async stop(): Promise<void> {
    if (this.#isStopped) return
    this.#isStopped = true
    clearTimeout(this.#timer)
    clearTimeout(this.#writeTimer)
    this.#writeNow()
    await this.#writing
  }

  async #load(): Promise<Config> {
    const config = await loadConfig({ home: this.#config.home, overrides: this.#config.given })
    const idle = Object.keys(config).filter((name) => {
      const [now, before] = [config, this.#config].map((one) => JSON.stringify(Object.getOwnPropertyDescriptor(one, name)?.value))
      return !RUNNING.includes(name) && name !== 'given' && now !== before
    })
    if (idle.length > 0)
      this.#parts.log.warn('settings that a running node does not change; they hold from its next start on', { settings: idle })
    // They stay as they are, so that a later look compares with what is in force.
    const stays = Object.fromEntries(Object.entries(this.#config).filter(([name]) => !RUNNING.includes(name)))
    return { ...config, ...stays }
  }

  #changed(): void {
    this.#month.setStartDay(this.current.monthStartDay, localDayOf(this.#wallMs()))
    this.#look()
    for (const listener of this.#listeners) listener()
  }

  /** Puts what holds now into force, and comes back when the next minute begins. */
  #look(): void {
    clearTimeout(this.#timer)
    if (this.#isStopped) return
    const { up, down } = this.caps()
    this.#parts.limiter.isLanExempt = this.current.lanExempt
    this.#parts.limiter.setCaps({ uploadBytesPerSecond: up, downloadBytesPerSecond: down })
    this.#settle()
    this.#timer = setTimeout(() => this.#look(), nextLookMs(this.#wallMs())).unref()
  }

  #count(way: 'up' | 'down', bytes: number): void {
    const left = this.#left
    this.#pending[way] += bytes
    left[way] -= bytes
    left.both -= bytes
    left.write -= bytes
    if (left[way] <= 0 || left.both <= 0) this.#settle()
    if (left.write <= 0 && !this.#isStopped) this.#writeNow()
    else if (!this.#isStopped) this.#writeTimer ??= setTimeout(() => this.#writeNow(), BUDGETS.monthWriteMs).unref()
  }

  #flush(): void {
    const today = localDayOf(this.#wallMs())
    for (const way of ['up', 'down'] as const) {
      if (this.#pending[way] > 0) this.#month.count(way, this.#pending[way], today)
      this.#pending[way] = 0
    }
  }

  /** Compares what went by with what may, and tells when that changes anything. */
  #settle(): void {
    this.#flush()
    const use = this.#month.use(localDayOf(this.#wallMs()))
    const { monthlyBytes, monthlyUploadBytes, monthlyDownloadBytes } = this.current
    const leftOf = (max: number | null, used: number): number => (max === null ? Number.POSITIVE_INFINITY : max - used)
    const both = leftOf(monthlyBytes, use.up + use.down)
    const up = leftOf(monthlyUploadBytes, use.up)
    const down = leftOf(monthlyDownloadBytes, use.down)
    const held = { up: up <= 0 || both <= 0, down: down <= 0 || both <= 0 }
    // While it is held back nothing but what is on its way comes by: no need to look at each frame.
    const or = (left: number): number => (left <= 0 ? Number.POSITIVE_INFINITY : left)
    Object.assign(this.#left, { up: or(up), down: or(down), both: or(both) })
    if (held.up === this.#held.up && held.down === this.#held.down) return
    if (both <= 0) this.hit('monthVolume')
    if (up <= 0 && !this.#held.up) this.hit('monthUpload')
    if (down <= 0 && !this.#held.down) this.hit('monthDownload')
    this.#held = held
    this.#parts.log.info(held.up || held.down ? 'the volume of this month is used up' : 'there is volume again', { ...held })
    this.#writeNow()
    for (const listener of this.#holdListeners) listener(held)
  }

  #writeNow(): void {
    clearTimeout(this.#writeTimer)
    this.#writeTimer = undefined
    this.#left.write = BUDGETS.monthWriteBytes
    this.#flush()
    this.#writing = this.#writing.then(() => this.#write())
  }

  async #write(): Promise<void> {
    try {
      await this.#parts.records.setSetting(SETTING, JSON.stringify(this.#month.state))
    } catch (error) {
      this.#parts.log.warn('the volume of the month could not be written down; it is tried again', { error })
    }
  }
}
