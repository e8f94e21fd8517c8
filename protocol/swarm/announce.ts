/**
 * MACHINE: when to announce each share, and when to look for peers of it (states in README.md beside this file).
 *
 * A seeder announces at once unless it did so less than 20 h ago, then every 22 h. A downloader does so only where it found fewer than 20
 * live seeders, or after an hour. Failures are tried again, at growing intervals. At most a few provides and finds run at a time. What was
 * never announced goes first, the rest is a sweep in key order: neighbours in the DHT are told to the same peers, so one look-up serves
 * several of them. `now` is the monotonic clock; the wall clock comes in with what the records say about the last announcement, and with the
 * time that a computer slept, in which the monotonic clock stands still.
 */
import { assert } from '../errors.ts'
import { KeyOrder, type Placed } from './key-order.ts'

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
  /** A share may be announced so long before its time, when its neighbour is. */
  aheadMs: number
  /** Neighbours that go along with one announcement. */
  alsoMax: number
}

export type AnnounceRole = 'seeder' | 'downloader'

/** What is announced: the share alone, or each of its blocks as well. */
export type AnnounceKeys = 'share' | 'blocks'

export type AnnounceEvent =
  /** Also when the role changes. `announcedMs` and `wallNow` are wall-clock times. `place`: of its key in the DHT, 0 to 1; left out where
   *  that is not known: then it is announced by itself. */
  | {
      type: 'shareAdded'
      cid: string
      announcedMs: number | null
      role: AnnounceRole
      wallNow: number
      blockCount?: number | null
      place?: number | null
    }
  | { type: 'shareRemoved'; cid: string }
  /** `also`: those of the neighbours that went along which the same peers were told of; the others keep their turn. */
  | { type: 'provideDone'; cid: string; ok: boolean; also?: readonly string[] }
  /** A look-up is over; `live` peers of the share could be reached. */
  | { type: 'findDone'; cid: string; live: number }
  | { type: 'wantPeers'; cid: string }
  | { type: 'enoughPeers'; cid: string }
  /** Our public addresses are others now, so the records out there are wrong. */
  | { type: 'addressesChanged' }
  /** So much time has gone by that `now` does not know of. */
  | { type: 'slept'; ms: number }
  | { type: 'tick' }

export type AnnounceAction =
  | { type: 'find' | 'stopProviding'; cid: string }
  /** `also`: neighbours in key order that may go along, nearest first. */
  | { type: 'provide'; cid: string; keys: AnnounceKeys; also: string[] }

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
  place: number | null
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
  readonly #order = new KeyOrder<Share>()
  /** Who goes along with each announcement that is under way. */
  readonly #along = new Map<string, string[]>()
  readonly #phase: number
  /** Where the sweep stands. */
  #swept: Placed<Share> | null = null
  /** Of the wall clock over ours. */
  #offsetMs: number | null = null
  #providing = 0
  #finding = 0

  /** `random` returns a number in [0, 1): it spreads what would otherwise come due together. `phase`, in [0, 1), is this node's own: it
   *  keeps all seeders of a share from announcing it at the same time of day. */
  constructor(limits: AnnounceLimits, random: () => number, keys: AnnounceKeys = 'share', phase = 0) {
    this.#limits = limits
    this.#random = random
    this.#keys = keys
    this.#phase = phase
  }

  /** Feed one event; perform all actions before the next. */
  handle(event: AnnounceEvent, now: number): AnnounceAction[] {
    const actions: AnnounceAction[] = []
    if (event.type === 'shareAdded') this.#add(event, now)
    else if (event.type === 'addressesChanged') this.#readdress(now)
    else if (event.type === 'slept') this.#sleep(event.ms)
    else if (event.type !== 'tick') this.#apply(event, now, actions)
    // One share more makes no other one due: a node with very many of them starts in good time.
    if (event.type !== 'shareAdded' || this.#isDueNow(event.cid, now)) this.#start('provide', now, actions)
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
    const along = [...this.#along.values()].reduce((sum, cids) => sum + cids.length, 0)
    assert(this.#providing + along >= shares.filter(({ provide }) => provide.isRunning).length, 'providing')
    assert(this.#along.size <= this.#providing, 'neighbours of nobody')
    assert(this.#finding >= shares.filter(({ find }) => find.isRunning).length, 'finding')
    assert(this.#providing <= this.#limits.sharesAtOnceMax && this.#finding <= this.#limits.sharesAtOnceMax, 'too much at once')
    for (const { role, provide } of shares)
      assert(role === 'downloader' || provide.isRunning || provide.dueMs !== null, 'a seeder without a plan')
  }

  #add(event: Extract<AnnounceEvent, { type: 'shareAdded' }>, now: number): void {
    const { cid, announcedMs, role, wallNow, blockCount = null, place = null } = event
    const { freshMs, downloaderAfterMs, findIntervalMinMs, retryMinMs } = this.#limits
    this.#offsetMs ??= wallNow - now
    const known = this.#shares.get(cid)
    const keys = blockCount !== null && blockCount <= this.#limits.blockRecordsMax ? this.#keys : 'share'
    // A clock that was set back makes the last time look like one to come: then we do not trust it.
    const ageMs = announcedMs === null || announcedMs > wallNow ? Number.POSITIVE_INFINITY : wallNow - announcedMs
    const isFresh = ageMs < freshMs
    const dueMs = isFresh ? this.#nextTurn(place, now - ageMs, now) : role === 'seeder' ? now : now + downloaderAfterMs
    if (known !== undefined) {
      if (known.role === 'downloader' && role === 'seeder' && !known.wasProvided) known.provide.dueMs = now
      known.role = role
      known.keys = keys
      return
    }
    const share: Share = {
      role,
      keys,
      place,
      provide: { dueMs, isRunning: false, startedMs: Number.NEGATIVE_INFINITY, backoffMs: retryMinMs },
      find: { dueMs: null, isRunning: false, startedMs: Number.NEGATIVE_INFINITY, backoffMs: findIntervalMinMs },
      wasProvided: announcedMs !== null,
      isStale: false,
    }
    this.#shares.set(cid, share)
    this.#order.add({ cid, place: place ?? -1, share })
  }

  #isDueNow(cid: string, now: number): boolean {
    const share = this.#shares.get(cid)
    return share !== undefined && isDue(share.provide, now)
  }

  #readdress(now: number): void {
    for (const share of this.#shares.values()) {
      if (share.provide.isRunning) share.isStale = true
      else if (share.wasProvided) share.provide.dueMs = now
    }
  }

  /** The records out there are so much older. */
  #sleep(ms: number): void {
    if (this.#offsetMs !== null) this.#offsetMs += ms
    for (const { provide } of this.#shares.values()) if (provide.dueMs !== null) provide.dueMs -= ms
  }

  #apply(
    event: Exclude<AnnounceEvent, { type: 'shareAdded' | 'addressesChanged' | 'slept' | 'tick' }>,
    now: number,
    actions: AnnounceAction[],
  ): void {
    const share = this.#shares.get(event.cid)
    // Even for a share that is gone: its job held a place.
    if (event.type === 'provideDone') {
      this.#providing--
      if (share !== undefined) this.#provided(share, event.ok, now)
      this.#settleAlong(event, now, actions)
    }
    if (event.type === 'findDone') this.#finding--
    if (share === undefined) {
      // A provide that was under way when the share was removed may have left a record.
      if (event.type === 'provideDone') actions.push({ type: 'stopProviding', cid: event.cid })
      return
    }
    switch (event.type) {
      case 'shareRemoved':
        this.#shares.delete(event.cid)
        this.#order.remove({ cid: event.cid, place: share.place ?? -1 })
        if (share.wasProvided) actions.push({ type: 'stopProviding', cid: event.cid })
        return
      case 'provideDone':
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

  /** The neighbours that went along: announced as well, or left where they were, or as late again as the one that failed. */
  #settleAlong({ cid, ok, also = [] }: Extract<AnnounceEvent, { type: 'provideDone' }>, now: number, actions: AnnounceAction[]): void {
    const leader = this.#shares.get(cid)
    for (const name of this.#along.get(cid) ?? []) {
      const isTold = ok && also.includes(name)
      const share = this.#shares.get(name)
      if (share === undefined) {
        if (isTold) actions.push({ type: 'stopProviding', cid: name })
        continue
      }
      if (isTold) {
        share.wasProvided = true
        this.#provided(share, true, now)
        continue
      }
      share.provide.isRunning = false
      if (share.isStale) share.provide.dueMs = now
      else if (!ok && leader !== undefined) share.provide.dueMs = leader.provide.dueMs
      share.isStale = false
    }
    this.#along.delete(cid)
  }

  #provided(share: Share, ok: boolean, now: number): void {
    const { retryMinMs, retryMaxMs } = this.#limits
    const job = share.provide
    job.isRunning = false
    if (ok && !share.isStale) {
      job.backoffMs = retryMinMs
      job.dueMs = this.#nextTurn(share.place, now, now)
      return
    }
    job.dueMs = share.isStale ? now : now + job.backoffMs * (0.5 + 0.5 * this.#random())
    if (!share.isStale) job.backoffMs = Math.min(job.backoffMs * 2, retryMaxMs)
    share.isStale = false
  }

  /** When the sweep comes to a share that was announced then: each key has its time of the day, which is a little shorter than a day. */
  #nextTurn(place: number | null, announcedMs: number, now: number): number {
    const { intervalMs, aheadMs } = this.#limits
    if (place === null) return announcedMs + intervalMs * (announcedMs === now ? 0.95 + 0.05 * this.#random() : 1)
    const dayMs = intervalMs - aheadMs
    const turnMs = ((place + this.#phase) % 1) * dayMs - (this.#offsetMs ?? 0)
    const earliestMs = announcedMs + aheadMs
    const dueMs = turnMs + (Math.floor((earliestMs - turnMs) / dayMs) + 1) * dayMs
    // Its time has gone by while this node was away: the last moment that is early enough.
    return dueMs < now ? announcedMs + intervalMs : dueMs
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
      const next = kind === 'provide' ? this.#nextProvide(now) : this.#nextFind(now)
      if (next === null) return
      const [cid, share] = next
      share[kind].isRunning = true
      share[kind].startedMs = now
      if (kind === 'provide') {
        this.#providing++
        share.wasProvided = true
        actions.push({ type: kind, cid, keys: share.keys, also: this.#gather(cid, share, now) })
      } else {
        this.#finding++
        actions.push({ type: kind, cid })
      }
    }
  }

  /** What was never announced, the longest due first; else the next one of the sweep. */
  #nextProvide(now: number): [cid: string, share: Share] | null {
    const due: { fresh: Placed<Share> | null; next: Placed<Share> | null } = { fresh: null, next: null }
    this.#order.from(this.#swept, (entry) => {
      const { provide, wasProvided } = entry.share
      if (!isDue(provide, now)) return false
      if (wasProvided) due.next ??= entry
      else if (due.fresh === null || (provide.dueMs ?? now) < (due.fresh.share.provide.dueMs ?? now)) due.fresh = entry
      return false
    })
    if (due.fresh === null) this.#swept = due.next ?? this.#swept
    const found = due.fresh ?? due.next
    return found === null ? null : [found.cid, found.share]
  }

  /** Neighbours that are due as well, or soon. */
  #gather(cid: string, { keys, place }: Share, now: number): string[] {
    const along: string[] = []
    if (keys === 'blocks' || place === null) return along
    this.#order.from({ cid, place }, ({ cid: name, share }) => {
      if (share.keys === 'blocks' || share.place === null) return false
      if (!isDue(share.provide, share.wasProvided ? now + this.#limits.aheadMs : now)) return false
      share.provide.isRunning = true
      return along.push(name) === this.#limits.alsoMax
    })
    // A share that came back while its first announcement is still under way has those of both.
    if (along.length > 0) this.#along.set(cid, [...(this.#along.get(cid) ?? []), ...along])
    return along
  }

  #nextFind(now: number): [cid: string, share: Share] | null {
    let best: [cid: string, share: Share] | null = null
    for (const entry of this.#shares) {
      const { find } = entry[1]
      if (!isDue(find, now)) continue
      if (best === null || (find.dueMs ?? now) < (best[1].find.dueMs ?? now)) best = entry
    }
    return best
  }
}

const isDue = ({ dueMs, isRunning }: Job, byMs: number): boolean => !isRunning && dueMs !== null && dueMs <= byMs
