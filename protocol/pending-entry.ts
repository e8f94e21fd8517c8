/**
 * An entry while it is being written: its last bytes may lie in a fragment block that has no position yet.
 */
import { type Entry, encodeEntry } from './entry.ts'
import { assert, InputError } from './errors.ts'
import type { TailPart } from './fragments.ts'
import { FORMAT } from './limits.ts'
import { joinPath } from './names.ts'

/** An entry whose extents are not all known yet; those of `tail` come last. */
export interface PendingEntry {
  entry: Entry
  tail: TailPart[]
  /** Whether all whole pieces have their positions. */
  isSettled: boolean
}

/** Whether every extent of an entry is known. */
export function isPlaced({ tail, isSettled }: PendingEntry): boolean {
  return isSettled && tail.every((part) => part.block.position !== null)
}

/** The CBOR of an entry; null for an empty directory, which has none. `restPosition` is the place to assume for a block that has none yet. */
export function encodePending({ entry, tail }: PendingEntry, restPosition?: number): Uint8Array | null {
  if (entry.name === '') return null
  const extents = [...entry.extents]
  for (const { block, offsetBytes, lengthBytes } of tail) {
    const position = block.position ?? restPosition
    assert(position !== undefined, 'a fragment without a place')
    extents.push({ kind: 'fragment', position, offsetBytes, lengthBytes })
  }
  const placed = { ...entry, extents }
  checkExtentCount(placed)
  return encodeEntry(placed)
}

/** Throws InputError TOO_LARGE when an entry has more extents than a reader takes. */
export function checkExtentCount(entry: Entry): void {
  if (entry.extents.length <= FORMAT.extentsMax) return
  const path = JSON.stringify(joinPath(entry.dir, entry.name))
  throw new InputError('TOO_LARGE', `${path} lies in more than ${FORMAT.extentsMax} stretches`)
}
