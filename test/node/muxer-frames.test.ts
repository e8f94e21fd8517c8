/** What the muxer keeps of a frame that is still coming in, with the library itself. */
import { yamux } from '@chainsafe/libp2p-yamux'
import type { ComponentLogger, Logger } from '@libp2p/interface'
import { multiaddrConnectionPair } from '@libp2p/utils'
import { describe, expect, it } from 'vitest'
import { boundFrames } from '../../node/network/muxer-frames.ts'
import { NETWORK } from '../../protocol/limits.ts'

const quiet: Logger = Object.assign(() => {}, { error() {}, trace() {}, enabled: false, newScope: () => quiet })
const logger: ComponentLogger = { forComponent: () => quiet }

const WINDOW = { initialStreamWindowSize: NETWORK.windowBytesMax, maxStreamWindowSize: NETWORK.windowBytesMax }

/** A muxer on one end of a connection, and the bare other end. */
function open() {
  const [raw, connection] = multiaddrConnectionPair()
  let long = 0
  const factory = boundFrames(yamux({ streamOptions: WINDOW }), () => long++)({ logger })
  const muxer = factory.createStreamMuxer(connection) as unknown as { decoder: { buffer: { byteLength: number } } }
  return { connection, raw, long: () => long, kept: () => muxer.decoder.buffer.byteLength }
}

/** The header of a data frame that opens a stream. */
function header(lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(12)
  bytes[3] = 1
  new DataView(bytes.buffer).setUint32(4, 1)
  new DataView(bytes.buffer).setUint32(8, lengthBytes)
  return bytes
}

/** The connection was ended. */
const ended = (connection: { addEventListener(type: 'close', listener: (event: { error?: Error }) => void): void }): Promise<string> =>
  new Promise((resolve) => connection.addEventListener('close', ({ error }) => resolve(error?.message ?? '')))

describe('a frame of the muxer', () => {
  it('of more bytes than there may be ends the connection before any of them is kept', async () => {
    for (const lengthBytes of [NETWORK.windowBytesMax + 1, 0xffff_ffff]) {
      const { connection, raw, long } = open()
      const end = ended(connection)
      raw.send(header(lengthBytes))
      expect(await end).toContain(`${lengthBytes} bytes`)
      expect(long()).toBe(1)
    }
  })

  it('as long as it may be is taken, in whatever parts it comes', async () => {
    const { connection, raw, long, kept } = open()
    const whole = new Uint8Array(12 + NETWORK.windowBytesMax)
    whole.set(header(NETWORK.windowBytesMax))
    let received = 0
    const all = new Promise<void>((resolve) =>
      connection.addEventListener('message', ({ data }) => {
        received += data.byteLength
        if (received === whole.byteLength) queueMicrotask(resolve)
      }),
    )
    for (const [from, to] of [
      [0, 5],
      [5, 12],
      [12, 70_000],
      [70_000, whole.byteLength],
    ] as const)
      raw.send(whole.subarray(from, to))
    await all
    expect([connection.status, long(), kept()]).toEqual(['open', 0, 0])
  })
})
