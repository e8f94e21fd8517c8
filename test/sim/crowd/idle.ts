/**
 * Why uplinks are idle: some of the crowd is looked at every few seconds, from outside, with all that the simulator knows.
 *
 * Nothing of this reaches a machine.
 */
import { SWARM } from '../../../protocol/limits.ts'
import type { Half, Member } from './members.ts'
import type { Random } from './random.ts'

const SAMPLES = 200

/** What an uplink was seen doing. */
export const REASONS = [
  'busy',
  /** Requests wait, and the upload machine serves none. */
  'unserved',
  /** A request for it is on its way. */
  'just asked',
  /** A neighbour misses a block that this one has, asks nobody for it, and has asked for less than the machine always may. */
  'unasked',
  /** It has asked for as much as that elsewhere. */
  'neighbours full',
  /** A neighbour misses one and has it asked of others already. */
  'asked elsewhere',
  /** No neighbour misses a block that this one has. */
  'nothing to give',
] as const

export type Reason = (typeof REASONS)[number]

interface Sample {
  atMs: number
  counts: Record<Reason, number>
}

export class IdleWatch {
  readonly #samples: Sample[] = []
  readonly #random: Random

  /** `random` is its own: watching changes no history. */
  constructor(random: Random) {
    this.#random = random
  }

  look(members: readonly (Member | undefined)[], now: number): void {
    const counts = emptyCounts()
    for (let i = 0; i < SAMPLES; i++) {
      const member = members[this.#random.below(members.length)]
      if (member !== undefined && member.swarm !== null) counts[reasonOf(member)]++
    }
    this.#samples.push({ atMs: now, counts })
  }

  /** Shares of the samples between two times, in percent. */
  between(fromMs: number, untilMs: number): Record<Reason, number> {
    const sums = emptyCounts()
    let total = 0
    for (const { atMs, counts } of this.#samples) {
      if (atMs < fromMs || atMs >= untilMs) continue
      for (const reason of REASONS) {
        sums[reason] += counts[reason]
        total += counts[reason]
      }
    }
    for (const reason of REASONS) sums[reason] = total === 0 ? 0 : (sums[reason] * 100) / total
    return sums
  }
}

const emptyCounts = (): Record<Reason, number> => Object.fromEntries(REASONS.map((reason) => [reason, 0])) as Record<Reason, number>

/** The first in the order of REASONS that holds for a neighbour. */
function reasonOf(member: Member): Reason {
  if (member.sending !== null) return 'busy'
  const found = new Set<Reason>()
  for (const { peer, wished, reverse } of member.halves) {
    if (wished.length > 0) return 'unserved'
    const need = needOf(peer, member)
    if (reverse.asked.length > 0) found.add('just asked')
    else if (need === 'asked') found.add('asked elsewhere')
    else if (need === 'open') found.add(asksOf(peer.halves) < SWARM.requestsTotalMin ? 'unasked' : 'neighbours full')
  }
  return REASONS.find((reason) => found.has(reason)) ?? 'nothing to give'
}

/** Whether `peer` misses something that `giver` has, and whether some of it is asked of nobody. */
function needOf(peer: Member, giver: Member): 'none' | 'asked' | 'open' {
  let isMissing = false
  const asked = askedWords(peer)
  for (let i = 0; i < giver.have.length; i++) {
    const missing = giver.have[i]! & ~peer.have[i]!
    if ((missing & ~asked[i]!) !== 0) return 'open'
    isMissing ||= missing !== 0
  }
  return isMissing ? 'asked' : 'none'
}

function askedWords(member: Member): Uint32Array {
  const words = new Uint32Array(member.have.length)
  for (const { asked } of member.halves) for (const { block } of asked) words[block >>> 5]! |= 1 << (block & 31)
  return words
}

const asksOf = (halves: readonly Half[]): number => halves.reduce((sum, { asked }) => sum + asked.length, 0)
