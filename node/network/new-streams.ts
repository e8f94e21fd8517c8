/**
 * A stream that is opened while the connection below it ends must fail, and nothing else.
 *
 * The yamux library tells the peer of a new stream in a microtask, where nobody hears of a failure: when the socket has ended since, which
 * Node says before microtasks run, the exception would end the process. Here it ends the stream, and whoever opened that hears of it.
 * Touches a method of the library's muxers that is theirs alone; one without it (another muxer, a test) is left as it is.
 */
import type { StreamMuxer } from '@libp2p/interface'
import { changeMuxers, type MakeMuxers } from './muxers.ts'
import { asError } from './network-error.ts'

/** What this file uses of the library's insides. */
interface MuxerInsides {
  onCreateStream(options: unknown): OpeningStream
}

interface OpeningStream {
  abort(error: Error): void
  sendWindowUpdate(): void
}

/** The same muxers, whose new streams fail by themselves. */
export const guardNewStreams = (make: MakeMuxers): MakeMuxers => changeMuxers(make, guarded)

function guarded(muxer: StreamMuxer): StreamMuxer {
  const inside = muxer as unknown as Partial<MuxerInsides>
  const { onCreateStream } = inside
  if (onCreateStream === undefined) return muxer
  inside.onCreateStream = function (this: MuxerInsides, options) {
    const stream = onCreateStream.call(this, options)
    const { sendWindowUpdate } = stream
    stream.sendWindowUpdate = function (this: OpeningStream) {
      try {
        sendWindowUpdate.call(this)
      } catch (thrown) {
        this.abort(asError(thrown))
      }
    }
    return stream
  }
  return muxer
}
