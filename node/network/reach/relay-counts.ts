/** What a relay passes on: connections now, and bytes of the day; in all, by peer, and by machine, since names of peers cost nothing. */
import { RELAY } from '../../../protocol/limits.ts'

const DAY_MS = 86_400_000

/** One end of a circuit. */
export interface End {
  peer: string
  /** The machine, see `hostGroup`; null: not known. */
  host: string | null
}

export class RelayCounts {
  readonly #now: () => number
  /** By peer and by machine, at either end. */
  readonly #circuits = new Map<string, number>()
  #count = 0
  #passed = 0
  #day = { sinceMs: 0, bytes: 0, byName: new Map<string, number>() }
  bytesPerDay: number = RELAY.bytesPerDay

  constructor(now: () => number) {
    this.#now = now
  }

  get circuits(): number {
    return this.#count
  }

  get bytesToday(): number {
    this.#turnDay()
    return this.#day.bytes
  }

  /** Passed on since the relay was made. */
  get bytesPassed(): number {
    return this.#passed
  }

  isFull(ends: readonly End[]): boolean {
    const isBusy = ({ name, isPeer }: Name): boolean =>
      (this.#circuits.get(name) ?? 0) >= (isPeer ? RELAY.circuitsPerPeerMax : RELAY.circuitsPerHostMax)
    return this.#count >= RELAY.circuitsMax || namesOf(ends).some(isBusy)
  }

  /** Counts one more circuit until it is let go of. */
  take(ends: readonly End[]): () => void {
    const names = namesOf(ends)
    this.#count++
    for (const { name } of names) this.#circuits.set(name, (this.#circuits.get(name) ?? 0) + 1)
    let isHeld = true
    return () => {
      if (!isHeld) return
      isHeld = false
      this.#count--
      for (const { name } of names) {
        const left = (this.#circuits.get(name) ?? 1) - 1
        if (left === 0) this.#circuits.delete(name)
        else this.#circuits.set(name, left)
      }
    }
  }

  pass(ends: readonly End[], bytes: number): void {
    this.#turnDay()
    this.#passed += bytes
    this.#day.bytes += bytes
    const { byName } = this.#day
    for (const { name } of namesOf(ends)) {
      if (!byName.has(name) && byName.size >= RELAY.dayNamesMax) forgetSmallest(byName)
      byName.set(name, (byName.get(name) ?? 0) + bytes)
    }
  }

  /** Whether the day has no more bytes for these. */
  isDayOver(ends: readonly End[]): boolean {
    this.#turnDay()
    const isOver = ({ name, isPeer }: Name): boolean =>
      (this.#day.byName.get(name) ?? 0) >= (isPeer ? RELAY.bytesPerPeerPerDayMax : RELAY.bytesPerHostPerDayMax)
    return this.#day.bytes >= this.bytesPerDay || namesOf(ends).some(isOver)
  }

  #turnDay(): void {
    const now = this.#now()
    if (now - this.#day.sinceMs >= DAY_MS || this.#day.sinceMs === 0) this.#day = { sinceMs: now, bytes: 0, byName: new Map() }
  }
}

interface Name {
  name: string
  isPeer: boolean
}

/** Each once: both ends may be on one machine. */
function namesOf(ends: readonly End[]): Name[] {
  const peers = new Set(ends.map(({ peer }) => peer))
  const hosts = new Set(ends.flatMap(({ host }) => (host === null ? [] : [`at ${host}`])))
  return [...[...peers].map((name) => ({ name, isPeer: true })), ...[...hosts].map((name) => ({ name, isPeer: false }))]
}

function forgetSmallest(byName: Map<string, number>): void {
  let [smallest, bytes] = ['', Number.POSITIVE_INFINITY]
  for (const [name, count] of byName) if (count < bytes) [smallest, bytes] = [name, count]
  byName.delete(smallest)
}
