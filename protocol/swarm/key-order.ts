/** Shares in the order in which their keys lie beside each other in the DHT: a sorted list with a place to go on from. */

interface Entry {
  place: number
  cid: string
}

const isBefore = (a: Entry, b: Entry): boolean => a.place < b.place || (a.place === b.place && a.cid < b.cid)

/** Each share once. A share whose place is not known stands at the beginning. */
export class KeyOrder {
  readonly #entries: Entry[] = []

  add(cid: string, place: number | null): void {
    const entry = { cid, place: place ?? -1 }
    const at = this.#find(entry)
    if (this.#entries[at]?.cid !== cid) this.#entries.splice(at, 0, entry)
  }

  remove(cid: string, place: number | null): void {
    const at = this.#find({ cid, place: place ?? -1 })
    if (this.#entries[at]?.cid === cid) this.#entries.splice(at, 1)
  }

  /** Everything that comes after this share, then what stands before it, itself last; from the beginning without one. */
  *after(from: Entry | null): Generator<string> {
    const at = from === null ? 0 : this.#find(from)
    const start = from !== null && this.#entries[at]?.cid === from.cid ? at + 1 : at
    for (let i = 0; i < this.#entries.length; i++) {
      const entry = this.#entries[(start + i) % this.#entries.length]
      if (entry !== undefined) yield entry.cid
    }
  }

  /** Where it is, or where it belongs. */
  #find(entry: Entry): number {
    let [low, high] = [0, this.#entries.length]
    while (low < high) {
      const middle = (low + high) >> 1
      const other = this.#entries[middle]
      if (other !== undefined && isBefore(other, entry)) low = middle + 1
      else high = middle
    }
    return low
  }
}
