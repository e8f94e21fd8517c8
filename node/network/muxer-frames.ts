/**
 * Bounds what one connection may have us keep of a frame that is still coming in.
 *
 * The yamux library hands a data frame on once all of it is there, and compares its length with the window of the stream only then: a header
 * that tells of four gigabytes would have it keep as many, of anybody, before any stream is open. Here such a header ends the connection.
 * A frame may fill a window: this library sends what waited for one in a single frame.
 * Touches the decoder of the library's muxers; a muxer without one (another muxer, a test) is left as it is.
 */
import type { StreamMuxer } from '@libp2p/interface'
import type { Uint8ArrayList } from 'uint8arraylist'
import { NETWORK } from '../../protocol/limits.ts'
import { changeMuxers, type MakeMuxers } from './muxers.ts'
import { NetworkError } from './network-error.ts'

/** What this file uses of the library's insides. */
interface MuxerInsides {
  decoder: {
    buffer: Uint8ArrayList
    readFrame(): unknown
  }
}

/** A yamux header: version, type (0: data), flags (2), stream (4), length (4). */
const HEADER_BYTES = 12
const TYPE_AT = 1
const DATA = 0
const LENGTH_AT = 8

/** The same muxers, with data frames of at most NETWORK.windowBytesMax; `onLong` is called for each that is longer. */
export const boundFrames = (make: MakeMuxers, onLong: () => void): MakeMuxers => changeMuxers(make, (muxer) => bounded(muxer, onLong))

function bounded(muxer: StreamMuxer, onLong: () => void): StreamMuxer {
  const { decoder } = muxer as unknown as Partial<MuxerInsides>
  if (decoder === undefined) return muxer
  const readFrame = decoder.readFrame.bind(decoder)
  decoder.readFrame = () => {
    const { buffer } = decoder
    if (buffer.byteLength >= HEADER_BYTES && buffer.get(TYPE_AT) === DATA) {
      const lengthBytes = buffer.getUint32(LENGTH_AT)
      if (lengthBytes > NETWORK.windowBytesMax) {
        onLong()
        throw new NetworkError('REFUSED', `a muxer frame of ${lengthBytes} bytes, limit ${NETWORK.windowBytesMax}`)
      }
    }
    return readFrame()
  }
  return muxer
}
