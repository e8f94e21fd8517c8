/**
 * Where the bytes of a part of a file are: in order, as stretches of pieces and of zeros, without looking at any block.
 *
 * A stretch is as long as the extent that it comes from, so a hole of any size is one.
 */
import { type Entry, extentBytes } from './entry.ts'
import { assert } from './errors.ts'
import { FORMAT } from './limits.ts'

/** A part of a file: bytes inside `count` pieces from `position` on, after `skipBytes` of the first; or zeros. */
export type Stretch =
  | { kind: 'pieces'; position: number; count: number; skipBytes: number; lengthBytes: number }
  | { kind: 'zeros'; lengthBytes: number }

/** Bytes of one piece. */
export interface PiecePart {
  position: number
  offsetBytes: number
  lengthBytes: number
}

/** The stretches of bytes `startBytes` (included) to `endBytes` (excluded) of a file; 0 ≤ startBytes ≤ endBytes ≤ its size. */
export function stretchesOf(entry: Pick<Entry, 'extents' | 'sizeBytes'>, startBytes: number, endBytes: number): Stretch[] {
  assert(startBytes >= 0 && startBytes <= endBytes && endBytes <= entry.sizeBytes, `bytes ${startBytes} to ${endBytes}`)
  const stretches: Stretch[] = []
  let extentStart = 0
  for (const extent of entry.extents) {
    const from = Math.max(startBytes, extentStart)
    const to = Math.min(endBytes, extentStart + extentBytes(extent))
    const inExtent = from - extentStart
    extentStart += extentBytes(extent)
    if (from >= to) continue
    const lengthBytes = to - from
    if (extent.kind === 'hole') stretches.push({ kind: 'zeros', lengthBytes })
    else if (extent.kind === 'fragment') {
      stretches.push({ kind: 'pieces', position: extent.position, count: 1, skipBytes: extent.offsetBytes + inExtent, lengthBytes })
    } else {
      const skipBytes = inExtent % FORMAT.pieceBytes
      const position = extent.position + (inExtent - skipBytes) / FORMAT.pieceBytes
      stretches.push({ kind: 'pieces', position, count: Math.ceil((skipBytes + lengthBytes) / FORMAT.pieceBytes), skipBytes, lengthBytes })
    }
  }
  return stretches
}

/** A stretch of pieces, piece by piece. */
export function* partsOf(stretch: Extract<Stretch, { kind: 'pieces' }>): Generator<PiecePart> {
  let restBytes = stretch.lengthBytes
  for (let i = 0; i < stretch.count; i++) {
    const offsetBytes = i === 0 ? stretch.skipBytes : 0
    const lengthBytes = Math.min(restBytes, FORMAT.pieceBytes - offsetBytes)
    restBytes -= lengthBytes
    yield { position: stretch.position + i, offsetBytes, lengthBytes }
  }
}

/** Lengths of at most a piece that sum up to `lengthBytes`. */
export function* zerosOf(lengthBytes: number): Generator<number> {
  for (let rest = lengthBytes; rest > 0; rest -= FORMAT.pieceBytes) yield Math.min(rest, FORMAT.pieceBytes)
}
