/** How fast each link is at present: bytes over the last few seconds, from samples that its owner takes once a second. */

/** What is counted of a link. */
export interface Counted {
  readonly stats: { readonly bytesIn: number; readonly bytesOut: number }
}

export interface Rate {
  inBytesPerSecond: number
  outBytesPerSecond: number
}

/** A sample is taken so often, and the rate is that since the oldest of so many. */
export const SAMPLE_MS = 1_000
const SAMPLES = 5

export class Rates {
  readonly #samples = new WeakMap<Counted, { atMs: number; bytesIn: number; bytesOut: number }[]>()

  sample(links: Iterable<Counted>, now: number): void {
    for (const link of links) {
      const { bytesIn, bytesOut } = link.stats
      const list = this.#samples.get(link) ?? []
      list.push({ atMs: now, bytesIn, bytesOut })
      if (list.length > SAMPLES) list.shift()
      this.#samples.set(link, list)
    }
  }

  /** Zero until the first sample is a second old or so. */
  of(link: Counted, now: number): Rate {
    const first = this.#samples.get(link)?.find(({ atMs }) => now - atMs <= SAMPLES * SAMPLE_MS * 1.5)
    if (first === undefined || now - first.atMs < SAMPLE_MS / 2) return { inBytesPerSecond: 0, outBytesPerSecond: 0 }
    const perSecond = (bytes: number): number => Math.round((bytes * 1000) / (now - first.atMs))
    return {
      inBytesPerSecond: perSecond(link.stats.bytesIn - first.bytesIn),
      outBytesPerSecond: perSecond(link.stats.bytesOut - first.bytesOut),
    }
  }
}
