/** Changes the muxers that a factory of libp2p makes: what its guards (new-streams.ts, muxer-frames.ts) have in common. */
import type { ComponentLogger, StreamMuxer, StreamMuxerFactory } from '@libp2p/interface'

/** What libp2p takes for a muxer. */
export type MakeMuxers = (components: { logger: ComponentLogger }) => StreamMuxerFactory

/** The same muxers, each passed through `change`. */
export const changeMuxers =
  (make: MakeMuxers, change: (muxer: StreamMuxer) => StreamMuxer): MakeMuxers =>
  (components) => {
    const factory = make(components)
    const create = factory.createStreamMuxer.bind(factory)
    factory.createStreamMuxer = (connection) => change(create(connection))
    return factory
  }
