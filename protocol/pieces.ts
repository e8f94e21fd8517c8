/**
 * Cuts a stream of bytes into pieces: whole ones of exactly the piece length, then one shorter tail unless nothing is left.
 */
import { FORMAT } from './limits.ts'

/** Memory that is used again from file to file, so that a small file does not cost a piece of fresh memory. */
export interface Scratch {
  piece: Uint8Array | null
}

/** Takes the chunks. A chunk that is a whole piece, alone in its memory and at a piece boundary, is passed on without a copy; a tail is a view
 *  of the scratch memory that holds until the next step. */
export async function* cutPieces(chunks: AsyncIterable<Uint8Array>, scratch: Scratch): AsyncGenerator<Uint8Array> {
  let used = 0
  for await (const chunk of chunks) {
    if (used === 0 && chunk.length === FORMAT.pieceBytes && chunk.buffer.byteLength === FORMAT.pieceBytes) {
      yield chunk
      continue
    }
    for (let from = 0; from < chunk.length; ) {
      scratch.piece ??= new Uint8Array(FORMAT.pieceBytes)
      const length = Math.min(chunk.length - from, FORMAT.pieceBytes - used)
      scratch.piece.set(chunk.subarray(from, from + length), used)
      used += length
      from += length
      if (used === FORMAT.pieceBytes) {
        const piece = scratch.piece
        scratch.piece = null
        used = 0
        yield piece
      }
    }
  }
  if (scratch.piece !== null && used > 0) yield scratch.piece.subarray(0, used)
}
