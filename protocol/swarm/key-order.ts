/** Shares in the order in which their keys lie beside each other in the DHT: a sorted list with a place to go on from. */

export interface Placed<T> {
  cid: string
  /** −1 where it is not known. */
  place: number
  share: T
}

type Position = Pick<Placed<unknown>, 'cid' | 'place'>

const isBefore = (a: Position, b: Position): boolean => a.place < b.place || (a.place === b.place && a.cid < b.cid)

/** Each share once, with what is kept of it. A share whose place is not known stands at the beginning. */
export class KeyOrder<T> {
  readonly #entries: Placed<T>[] = []

  add(entry: Placed<T>): void {
    const at = this.#find(entry)
    if (this.#entries[at]?.cid !== entry.cid) this.#entries.splice(at, 0, entry)
  }

  remove(position: Position): void {
    const at = this.#find(position)
    if (this.#entries[at]?.cid === position.cid) this.#entries.splice(at, 1)
  }

  /** Visits everything that comes after this share, then what stands before it, itself last, until `visit` returns true. */
  from(position: Position | null, visit: (entry: Placed<T>) => boolean): void {
    const at = position === null ? 0 : this.#find(position)
    const start = position !== null && this.#entries[at]?.cid === position.cid ? at + 1 : at
    const count = this.#entries.length
    for (let i = 0; i < count; i++) {
      const entry = this.#entries[(start + i) % count]
      if (entry !== undefined && visit(entry)) return
    }
  }

  /** Where it is, or where it belongs. */
  #find(position: Position): number {
    let [low, high] = [0, this.#entries.length]
    while (low < high) {
      const middle = (low + high) >> 1
      const other = this.#entries[middle]
      if (other !== undefined && isBefore(other, position)) low = middle + 1
      else high = middle
    }
    return low
  }
}
