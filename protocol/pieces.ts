/**
 * Cuts a stream of bytes into pieces: whole ones of exactly the piece length, then one shorter tail unless nothing is left.
 */
import { FORMAT } from './limits.ts'

/** Takes the chunks. A chunk that is a whole piece, alone in its memory and at a piece boundary, is passed on without a copy; a tail is a view
 *  that holds until the next step. */
export async function* cutPieces(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let piece: Uint8Array | null = null
  let used = 0
  for await (const chunk of chunks) {
    if (used === 0 && chunk.length === FORMAT.pieceBytes && chunk.buffer.byteLength === FORMAT.pieceBytes) {
      yield chunk
      continue
    }
    for (let from = 0; from < chunk.length; ) {
      piece ??= new Uint8Array(FORMAT.pieceBytes)
      const length = Math.min(chunk.length - from, FORMAT.pieceBytes - used)
      piece.set(chunk.subarray(from, from + length), used)
      used += length
      from += length
      if (used === FORMAT.pieceBytes) {
        yield piece
        piece = null
        used = 0
      }
    }
  }
  if (piece !== null && used > 0) yield piece.subarray(0, used)
}
