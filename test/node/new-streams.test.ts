/** A stream that is opened while the connection below it ends. */
import type { StreamMuxerFactory } from '@libp2p/interface'
import { describe, expect, it } from 'vitest'
import { guardNewStreams } from '../../node/network/new-streams.ts'

/** A muxer that tells its peer of a new stream in a microtask, as yamux does. */
function muxers(sendWindowUpdate: () => void) {
  const aborted: Error[] = []
  const stream = { sendWindowUpdate, abort: (error: Error) => void aborted.push(error) }
  const muxer = {
    onCreateStream() {
      queueMicrotask(() => stream.sendWindowUpdate())
      return stream
    },
  }
  const factory = guardNewStreams(() => ({ protocol: '/test', createStreamMuxer: () => muxer }) as unknown as StreamMuxerFactory)
  return { muxer: factory({} as never).createStreamMuxer({} as never) as unknown as typeof muxer, aborted }
}

describe('a new stream', () => {
  it('ends, and the process does not, when its peer cannot be told of it any more', async () => {
    const { muxer, aborted } = muxers(() => {
      throw new Error('Cannot write to a stream that is closed')
    })
    muxer.onCreateStream()
    await Promise.resolve()
    expect(aborted.map(({ message }) => message)).toEqual(['Cannot write to a stream that is closed'])
  })

  it('is left as it is otherwise', async () => {
    let told = 0
    const { muxer, aborted } = muxers(() => {
      told++
    })
    muxer.onCreateStream()
    await Promise.resolve()
    expect([told, aborted]).toEqual([1, []])
  })
})
