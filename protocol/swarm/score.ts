/**
 * MACHINE: strikes and bans. A fatal fault bans the peer for a day at once; three protocol faults within ten minutes for an hour; and an
 * IP group whose peers collect nine strikes within ten minutes (a fatal fault counts three) is banned for an hour.
 *
 * A driver asks isBanned before it talks to anybody. Nothing is kept on disk; all maps are bounded, the oldest entry makes room.
 */
import { assert } from '../errors.ts'

/** SCORE of the limits. */
export interface ScoreLimits {
  strikesMax: number
  strikeWindowMs: number
  banMs: number
  banFatalMs: number
  ipStrikesMax: number
  ipFatalStrikes: number
  entriesMax: number
}

/** Whom a ban hits: one peer id or a whole IP group. */
export interface Ban {
  kind: 'peer' | 'group'
  name: string
  untilMs: number
}

/** Who misbehaved, and who is therefore not talked to. */
export class Score {
  readonly #limits: ScoreLimits
  /** By `kind name`: when each strike fell, oldest first; oldest touched entry first. */
  readonly #strikes = new Map<string, number[]>()
  readonly #bans = new Map<string, Ban>()

  constructor(limits: ScoreLimits) {
    this.#limits = limits
  }

  /** Counts a fault; returns the bans that follow from it. A group of '' is nobody's. */
  strike(peer: string, group: string, kind: 'protocol' | 'fatal', now: number): Ban[] {
    const { strikesMax, banMs, banFatalMs, ipStrikesMax, ipFatalStrikes } = this.#limits
    const bans: Ban[] = []
    if (kind === 'fatal') bans.push({ kind: 'peer', name: peer, untilMs: now + banFatalMs })
    else if (this.#count(`peer ${peer}`, 1, strikesMax, now)) bans.push({ kind: 'peer', name: peer, untilMs: now + banMs })
    const weight = kind === 'fatal' ? ipFatalStrikes : 1
    if (group !== '' && this.#count(`group ${group}`, weight, ipStrikesMax, now))
      bans.push({ kind: 'group', name: group, untilMs: now + banMs })
    for (const ban of bans) this.#ban(ban)
    return bans
  }

  isBanned(peer: string, group: string, now: number): boolean {
    return this.#isHit(`peer ${peer}`, now) || (group !== '' && this.#isHit(`group ${group}`, now))
  }

  /** Those in force, for the user to see. */
  bans(now: number): Ban[] {
    return [...this.#bans.values()].filter(({ untilMs }) => untilMs > now)
  }

  /** The user forgives; false when there was nothing to forgive. */
  lift(kind: Ban['kind'], name: string): boolean {
    this.#strikes.delete(`${kind} ${name}`)
    return this.#bans.delete(`${kind} ${name}`)
  }

  checkInvariants(): void {
    const { entriesMax, strikesMax, ipStrikesMax } = this.#limits
    assert(this.#strikes.size <= entriesMax && this.#bans.size <= entriesMax, 'too many entries')
    for (const [name, times] of this.#strikes)
      assert(times.length > 0 && times.length < Math.max(strikesMax, ipStrikesMax), `strikes of ${name}`)
  }

  /** True when that was one too many: then the count starts anew. */
  #count(name: string, weight: number, max: number, now: number): boolean {
    const recent = (this.#strikes.get(name) ?? []).filter((at) => now - at < this.#limits.strikeWindowMs)
    for (let i = 0; i < weight; i++) recent.push(now)
    this.#strikes.delete(name) // and back at the end, as the youngest
    if (recent.length >= max) return true
    this.#strikes.set(name, recent)
    makeRoom(this.#strikes, this.#limits.entriesMax)
    return false
  }

  #ban(ban: Ban): void {
    const name = `${ban.kind} ${ban.name}`
    const untilMs = Math.max(ban.untilMs, this.#bans.get(name)?.untilMs ?? 0)
    this.#bans.delete(name)
    this.#bans.set(name, { ...ban, untilMs })
    makeRoom(this.#bans, this.#limits.entriesMax)
  }

  #isHit(name: string, now: number): boolean {
    const ban = this.#bans.get(name)
    if (ban === undefined) return false
    if (ban.untilMs > now) return true
    this.#bans.delete(name)
    return false
  }
}

function makeRoom(map: Map<string, unknown>, max: number): void {
  for (const oldest of map.keys()) {
    if (map.size <= max) return
    map.delete(oldest)
  }
}
