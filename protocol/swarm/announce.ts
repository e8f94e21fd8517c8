/**
 * MACHINE: when to announce each share, and when to look for peers of it (states in README.md beside this file).
 *
 * A seeder announces at once unless it did so less than 20 h ago, then every 22 h. A downloader does so only where it found fewer than 20
 * live seeders, or after an hour. Failures are tried again, at growing intervals. At most a few provides and finds run at a time, oldest
 * due first. `now` is the monotonic clock; the wall clock comes in once, with what the records say about the last announcement.
 */
import { assert } from '../errors.ts'

/** ANNOUNCE of the limits. */
export interface AnnounceLimits {
  intervalMs: number
  freshMs: number
  retryMinMs: number
  retryMaxMs: number
  seedersEnough: number
  downloaderAfterMs: number
  findIntervalMinMs: number
  findIntervalMaxMs: number
  sharesAtOnceMax: number
  blockRecordsMax: number
}

export type AnnounceRole = 'seeder' | 'downloader'

/** What is announced: the share alone, or each of its blocks as well. */
export type AnnounceKeys = 'share' | 'blocks'

export type AnnounceEvent =
  /** Also when the role changes. `announcedMs` and `wallNow` are wall-clock times. */
  | { type: 'shareAdded'; cid: string; announcedMs: number | null; role: AnnounceRole; wallNow: number; blockCount?: number | null }
  | { type: 'shareRemoved'; cid: string }
  | { type: 'provideDone'; cid: string; ok: boolean }
  /** A look-up is over; `live` peers of the share could be reached. */
  | { type: 'findDone'; cid: string; live: number }
  | { type: 'wantPeers'; cid: string }
  | { type: 'enoughPeers'; cid: string }
  /** Our public addresses are others now, so the records out there are wrong. */
  | { type: 'addressesChanged' }
  | { type: 'tick' }

export type AnnounceAction = { type: 'find' | 'stopProviding'; cid: string } | { type: 'provide'; cid: string; keys: AnnounceKeys }

/** One recurring job of a share. */
interface Job {
  /** Null: not planned. */
  dueMs: number | null
  isRunning: boolean
  startedMs: number
  /** What the next interval starts from after a failure (provide) or an empty look-up (find). */
  backoffMs: number
}

interface Share {
  role: AnnounceRole
  keys: AnnounceKeys
  provide: Job
  find: Job
  /** There may be a record of ours out there. */
  wasProvided: boolean
  /** Addresses changed while a provide was under way. */
  isStale: boolean
}

/** The announcements and look-ups of all shares of a node. */
export class Announce {
  readonly #limits: AnnounceLimits
  readonly #random: () => number
  readonly #keys: AnnounceKeys
  readonly #shares = new Map<string, Share>()
  #providing = 0
  #finding = 0

  /** `random` returns a number in [0, 1): it spreads what would otherwise come due together. */
  constructor(limits: AnnounceLimits, random: () => number, keys: AnnounceKeys = 'share') {
    this.#limits = limits
    this.#random = random
    this.#keys = keys
  }

  /** Feed one event; perform all actions before the next. */
  handle(event: AnnounceEvent, now: number): AnnounceAction[] {
    const actions: AnnounceAction[] = []
    if (event.type === 'shareAdded') this.#add(event, now)
    else if (event.type === 'addressesChanged') this.#readdress(now)
    else if (event.type !== 'tick') this.#apply(event, now, actions)
    this.#start('provide', now, actions)
    this.#start('find', now, actions)
    return actions
  }

  nextTimeout(): number | undefined {
    let earliest: number | undefined
    const look = ({ dueMs, isRunning }: Job): void => {
      if (dueMs !== null && !isRunning) earliest = Math.min(earliest ?? dueMs, dueMs)
    }
    for (const share of this.#shares.values()) {
      if (this.#providing < this.#limits.sharesAtOnceMax) look(share.provide)
      if (this.#finding < this.#limits.sharesAtOnceMax) look(share.find)
    }
    return earliest
  }

  checkInvariants(): void {
    const shares = [...this.#shares.values()]
    assert(this.#providing >= shares.filter(({ provide }) => provide.isRunning).length, 'providing')
    assert(this.#finding >= shares.filter(({ find }) => find.isRunning).length, 'finding')
    assert(this.#providing <= this.#limits.sharesAtOnceMax && this.#finding <= this.#limits.sharesAtOnceMax, 'too much at once')
    for (const { role, provide } of shares)
      assert(role === 'downloader' || provide.isRunning || provide.dueMs !== null, 'a seeder without a plan')
  }

  #add({ cid, announcedMs, role, wallNow, blockCount = null }: Extract<AnnounceEvent, { type: 'shareAdded' }>, now: number): void {
    const { freshMs, intervalMs, downloaderAfterMs, findIntervalMinMs, retryMinMs } = this.#limits
    const known = this.#shares.get(cid)
    const keys = blockCount !== null && blockCount <= this.#limits.blockRecordsMax ? this.#keys : 'share'
    // A clock that was set back makes the last time look like one to come: then we do not trust it.
    const ageMs = announcedMs === null || announcedMs > wallNow ? Number.POSITIVE_INFINITY : wallNow - announcedMs
    const isFresh = ageMs < freshMs
    const dueMs = isFresh ? now + intervalMs - ageMs : role === 'seeder' ? now : now + downloaderAfterMs
    if (known !== undefined) {
      if (known.role === 'downloader' && role === 'seeder' && !known.wasProvided) known.provide.dueMs = now
      known.role = role
      known.keys = keys
      return
    }
    this.#shares.set(cid, {
      role,
      keys,
      provide: { dueMs, isRunning: false, startedMs: Number.NEGATIVE_INFINITY, backoffMs: retryMinMs },
      find: { dueMs: null, isRunning: false, startedMs: Number.NEGATIVE_INFINITY, backoffMs: findIntervalMinMs },
      wasProvided: announcedMs !== null,
      isStale: false,
    })
  }

  #readdress(now: number): void {
    for (const share of this.#shares.values()) {
      if (share.provide.isRunning) share.isStale = true
      else if (share.wasProvided) share.provide.dueMs = now
    }
  }

  #apply(
    event: Exclude<AnnounceEvent, { type: 'shareAdded' | 'addressesChanged' | 'tick' }>,
    now: number,
    actions: AnnounceAction[],
  ): void {
    const share = this.#shares.get(event.cid)
    // Even for a share that is gone: its job held a place.
    if (event.type === 'provideDone') this.#providing--
    if (event.type === 'findDone') this.#finding--
    if (share === undefined) {
      // A provide that was under way when the share was removed may have left a record.
      if (event.type === 'provideDone') actions.push({ type: 'stopProviding', cid: event.cid })
      return
    }
    switch (event.type) {
      case 'shareRemoved':
        this.#shares.delete(event.cid)
        if (share.wasProvided) actions.push({ type: 'stopProviding', cid: event.cid })
        return
      case 'provideDone':
        this.#provided(share, event.ok, now)
        return
      case 'findDone':
        this.#found(share, event.live, now)
        return
      case 'wantPeers':
        // Wanting on and off is no way around the shortest interval; wanting more than before shortens a longer one.
        share.find.dueMs = Math.min(
          share.find.dueMs ?? Number.POSITIVE_INFINITY,
          Math.max(now, share.find.startedMs + this.#limits.findIntervalMinMs),
        )
        share.find.backoffMs = this.#limits.findIntervalMinMs
        return
      case 'enoughPeers':
        share.find.dueMs = null
    }
  }

  #provided(share: Share, ok: boolean, now: number): void {
    const { intervalMs, retryMinMs, retryMaxMs } = this.#limits
    const job = share.provide
    job.isRunning = false
    if (ok && !share.isStale) {
      job.backoffMs = retryMinMs
      job.dueMs = now + intervalMs * (0.95 + 0.05 * this.#random())
      return
    }
    job.dueMs = share.isStale ? now : now + job.backoffMs * (0.5 + 0.5 * this.#random())
    if (!share.isStale) job.backoffMs = Math.min(job.backoffMs * 2, retryMaxMs)
    share.isStale = false
  }

  #found(share: Share, live: number, now: number): void {
    const job = share.find
    job.isRunning = false
    if (job.dueMs !== null) {
      job.dueMs = now + job.backoffMs * (0.75 + 0.25 * this.#random())
      job.backoffMs = Math.min(job.backoffMs * 2, this.#limits.findIntervalMaxMs)
    }
    const isNeeded = share.role === 'downloader' && !share.wasProvided && live < this.#limits.seedersEnough
    if (isNeeded && !share.provide.isRunning) share.provide.dueMs = now
  }

  #start(kind: 'provide' | 'find', now: number, actions: AnnounceAction[]): void {
    for (;;) {
      if ((kind === 'provide' ? this.#providing : this.#finding) >= this.#limits.sharesAtOnceMax) return
      const next = this.#longestDue(kind, now)
      if (next === null) return
      const [cid, share] = next
      share[kind].isRunning = true
      share[kind].startedMs = now
      if (kind === 'provide') {
        this.#providing++
        share.wasProvided = true
        actions.push({ type: kind, cid, keys: share.keys })
      } else {
        this.#finding++
        actions.push({ type: kind, cid })
      }
    }
  }

  #longestDue(kind: 'provide' | 'find', now: number): [cid: string, share: Share] | null {
    let best: [cid: string, share: Share] | null = null
    for (const entry of this.#shares) {
      const { dueMs, isRunning } = entry[1][kind]
      if (isRunning || dueMs === null || dueMs > now) continue
      if (best === null || dueMs < (best[1][kind].dueMs ?? now)) best = entry
    }
    return best
  }
}
