/**
 * Under which hosts others see this node. What a peer says is no more than that: it counts once, as the voice of its neighbourhood, and a
 * host is looked at when several neighbourhoods name it, so that no single peer can have a third party dialled or push out what is known.
 */
import { REACH } from '../../../protocol/limits.ts'
import { MinuteWindows } from './windows.ts'

export class ObservedHosts {
  /** What each peer said last, the oldest first. */
  readonly #claims = new Map<string, { group: string; host: string }>()
  readonly #newcomers = new MinuteWindows(REACH.observedPerMinuteMax, REACH.observedPerMinuteMax)
  #hosts: string[] = []

  /** A peer of this neighbourhood sees us at `host`; what it said before is void. */
  tell(peer: string, group: string, host: string): void {
    this.#claims.delete(peer)
    const neighbours = [...this.#claims].filter(([, claim]) => claim.group === group)
    const oldest = neighbours.length >= REACH.claimsPerGroupMax ? neighbours[0] : [...this.#claims].slice(0, 1)[0]
    const isFull = neighbours.length >= REACH.claimsPerGroupMax || this.#claims.size >= REACH.claimsMax
    if (isFull && oldest !== undefined) this.#claims.delete(oldest[0])
    this.#claims.set(peer, { group, host })
  }

  /** The peer has gone, and what it said with it. A host that is looked at stays until there is a better one. */
  forget(peer: string): void {
    this.#claims.delete(peer)
  }

  /** The hosts to look at, brought up to date. One that is open stays; of the others the one that the fewest neighbourhoods name goes. */
  hosts(isOpen: (host: string) => boolean, now: number): readonly string[] {
    const counts = this.#counts()
    const countOf = (host: string): number => counts.get(host) ?? 0
    const candidates = [...counts.keys()].filter((host) => countOf(host) >= REACH.observersMin && !this.#hosts.includes(host))
    for (const host of candidates.sort((a, b) => countOf(b) - countOf(a))) {
      const weakest = this.#hosts.filter((kept) => !isOpen(kept)).sort((a, b) => countOf(a) - countOf(b))[0]
      const hasRoom = this.#hosts.length < REACH.observedMax
      if (!hasRoom && (weakest === undefined || countOf(weakest) >= countOf(host))) break
      if (!this.#newcomers.take('', now)) break
      this.#hosts = [...this.#hosts.filter((kept) => hasRoom || kept !== weakest), host]
    }
    return this.#hosts
  }

  /** How many neighbourhoods name each host. */
  #counts(): Map<string, number> {
    const groups = new Map<string, Set<string>>()
    for (const { group, host } of this.#claims.values()) groups.set(host, (groups.get(host) ?? new Set()).add(group))
    return new Map([...groups].map(([host, { size }]) => [host, size]))
  }
}
