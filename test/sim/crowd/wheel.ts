/**
 * What is due when: a wheel of one list for each millisecond, with its records in typed arrays that are used again.
 *
 * Adding and taking cost the same however much is planned, which a heap's do not. Events of the same millisecond come in the order they
 * were added (one planned more than two minutes ahead may come behind others), so a history can be replayed. What is further away than one
 * turn waits in a slot and is put in anew when that comes up.
 */

const SLOTS = 2 ** 17

/** The planned events. `next()` moves on to the earliest; `kind`, `a` and `b` are its. */
export class Wheel {
  /** Milliseconds, whole. */
  now = 0
  kind = 0
  a = 0
  b = 0
  /** Planned and not taken yet. */
  count = 0
  readonly #heads = new Int32Array(SLOTS).fill(-1)
  readonly #tails = new Int32Array(SLOTS).fill(-1)
  #at = new Float64Array(1024)
  /** Four numbers a record: next in the list, kind, a, b. */
  #records = new Int32Array(4096)
  #used = 0
  #free = -1

  /** `atMs` may have a fraction: the event comes at the next whole millisecond, never before now. */
  add(atMs: number, kind: number, a: number, b: number): void {
    let record = this.#free
    if (record >= 0) this.#free = this.#records[record * 4]!
    else record = this.#fresh()
    this.#at[record] = Math.max(Math.ceil(atMs), this.now)
    const base = record * 4
    this.#records[base + 1] = kind
    this.#records[base + 2] = a
    this.#records[base + 3] = b
    this.count++
    this.#link(record)
  }

  /** False when nothing is planned any more. */
  next(): boolean {
    if (this.count === 0) return false
    for (;;) {
      const slot = this.now & (SLOTS - 1)
      const record = this.#heads[slot]!
      if (record < 0) {
        this.now++
        continue
      }
      const base = record * 4
      this.#heads[slot] = this.#records[base]!
      if (this.#heads[slot]! < 0) this.#tails[slot] = -1
      if (this.#at[record]! > this.now) {
        this.#link(record)
        continue
      }
      this.kind = this.#records[base + 1]!
      this.a = this.#records[base + 2]!
      this.b = this.#records[base + 3]!
      this.#records[base] = this.#free
      this.#free = record
      this.count--
      return true
    }
  }

  /** Within one turn: into its own slot. Further away: into the last slot of this turn, to be looked at again. */
  #link(record: number): void {
    const at = this.#at[record]!
    const slot = (at - this.now < SLOTS ? at : this.now + SLOTS - 1) % SLOTS
    const tail = this.#tails[slot]!
    this.#records[record * 4] = -1
    if (tail < 0) this.#heads[slot] = record
    else this.#records[tail * 4] = record
    this.#tails[slot] = record
  }

  #fresh(): number {
    if (this.#used === this.#at.length) {
      const [at, records] = [this.#at, this.#records]
      this.#at = new Float64Array(at.length * 2)
      this.#at.set(at)
      this.#records = new Int32Array(records.length * 2)
      this.#records.set(records)
    }
    return this.#used++
  }
}
