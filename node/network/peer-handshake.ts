/**
 * The hello on a fresh stream, both directions: proves to each side that the other knows the share, or ends the stream.
 *
 * Refusing says the same and does the same work whether the share is unknown or the proof wrong. Whatever happens, a stream that did not
 * become a session is closed here.
 */
import { RemoteError } from '../../protocol/errors.ts'
import { WAITS, WIRE } from '../../protocol/limits.ts'
import type { Primitives } from '../../protocol/primitives.ts'
import { helloProof, NO_SHARE_MULTIHASH, proofsEqual } from '../../protocol/wire/hello.ts'
import { decodeMessage, encodeMessage, GOODBYE_UNKNOWN_SHARE, type Message } from '../../protocol/wire/messages.ts'
import { endStream, type FrameChannel, writeGoodbye } from './frame-channel.ts'
import { NetworkError } from './network-error.ts'
import type { Remote } from './remote.ts'

interface Ends {
  frames: FrameChannel
  remote: Remote
  /** Our peer-id multihash. */
  self: Uint8Array
  primitives: Primitives
  /** Ask the peer to tell nobody of us. */
  isDiscreet?: boolean
}

/** Says HELLO and checks the WELCOME. Throws NetworkError UNKNOWN_SHARE, REFUSED, TIMEOUT or CLOSED. */
export async function sayHello(
  ends: Ends & { rootMultihash: Uint8Array; rendezvous: Uint8Array; knowsShape: boolean },
  signal: AbortSignal,
): Promise<{ peerKnowsShape: boolean; peerIsDiscreet: boolean }> {
  const { frames, remote, self, primitives, rootMultihash, knowsShape, isDiscreet = false } = ends
  try {
    return await withDeadline(signal, async (deadline) => {
      frames.setBufferLimit?.(() => WIRE.helloBytesMax + WIRE.unreadSlackBytes) // the first frames of the session may follow at once
      const proof = await helloProof(primitives, rootMultihash, 'request', self, remote.peerIdBytes)
      await frames.write(encodeMessage({ type: 'hello', rendezvous: ends.rendezvous, proof, knowsShape, isDiscreet }), deadline)
      const expected = await helloProof(primitives, rootMultihash, 'response', remote.peerIdBytes, self)
      const answer = await readFirst(frames, deadline)
      if (answer.type === 'goodbye') {
        if (answer.code === GOODBYE_UNKNOWN_SHARE) throw new NetworkError('UNKNOWN_SHARE', 'the peer does not know this share')
        throw new NetworkError('REFUSED', `the peer refused with code ${answer.code}`)
      }
      if (answer.type !== 'welcome') throw new RemoteError('BAD_HELLO', `${answer.type} instead of welcome`)
      if (!proofsEqual(answer.proof, expected)) throw new RemoteError('BAD_HELLO', 'welcome with a wrong proof')
      return { peerKnowsShape: answer.knowsShape, peerIsDiscreet: answer.isDiscreet === true }
    })
  } catch (error) {
    await endStream(frames)
    signal.throwIfAborted()
    throw asNetworkError(error)
  }
}

/** Waits for HELLO and answers. Null when it was refused, RemoteError when the peer broke the protocol or said nothing in time. */
export async function answerHello<T extends { rootMultihash: Uint8Array; knowsShape: boolean }>(
  ends: Ends & { lookup: (rendezvous: Uint8Array) => T | null },
  signal: AbortSignal,
): Promise<{ share: T; saidShape: boolean; peerKnowsShape: boolean; peerIsDiscreet: boolean } | null> {
  const { frames, remote, self, primitives, isDiscreet = false } = ends
  try {
    return await withDeadline(signal, async (deadline) => {
      frames.setBufferLimit?.(() => WIRE.helloBytesMax)
      const hello = await readFirst(frames, deadline)
      if (hello.type !== 'hello') throw new RemoteError('BAD_HELLO', `${hello.type} instead of hello`)
      const share = ends.lookup(hello.rendezvous)
      const root = share?.rootMultihash ?? NO_SHARE_MULTIHASH
      const isProved = proofsEqual(hello.proof, await helloProof(primitives, root, 'request', remote.peerIdBytes, self))
      if (share === null || !isProved) {
        await writeGoodbye(frames, GOODBYE_UNKNOWN_SHARE)
        await endStream(frames)
        return null
      }
      const proof = await helloProof(primitives, root, 'response', self, remote.peerIdBytes)
      const saidShape = share.knowsShape // `share` may learn it while we write
      await frames.write(encodeMessage({ type: 'welcome', proof, knowsShape: saidShape, isDiscreet }), deadline)
      return { share, saidShape, peerKnowsShape: hello.knowsShape, peerIsDiscreet: hello.isDiscreet === true }
    })
  } catch (error) {
    if (error instanceof RemoteError && !signal.aborted) await writeGoodbye(frames, error.code)
    await endStream(frames)
    signal.throwIfAborted()
    throw error
  }
}

async function readFirst(frames: FrameChannel, signal: AbortSignal): Promise<Message> {
  const frame = await frames.read(signal)
  if (frame === null) throw new NetworkError('CLOSED', 'the peer closed the stream before hello')
  if (frame.byteLength > WIRE.helloBytesMax)
    throw new RemoteError('BAD_HELLO', `hello of ${frame.byteLength} bytes`, { limit: 'helloBytes' })
  return decodeMessage(frame)
}

/** Runs `work` with a signal that also fires at the hello deadline; then the error is RemoteError TIMEOUT. Leaves no timer behind. */
async function withDeadline<T>(signal: AbortSignal, work: (deadline: AbortSignal) => Promise<T>): Promise<T> {
  signal.throwIfAborted()
  const controller = new AbortController()
  const late = new RemoteError('TIMEOUT', `no hello within ${WAITS.helloMs} ms`)
  const timer = setTimeout(() => controller.abort(late), WAITS.helloMs)
  const onAbort = (): void => controller.abort(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await work(controller.signal)
  } catch (error) {
    if (controller.signal.aborted) throw controller.signal.reason
    throw error
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
  }
}

function asNetworkError(error: unknown): NetworkError {
  if (error instanceof NetworkError) return error
  const message = error instanceof Error ? error.message : String(error)
  if (!(error instanceof RemoteError)) return new NetworkError('CLOSED', message, { cause: error })
  return new NetworkError(error.code === 'TIMEOUT' ? 'TIMEOUT' : 'REFUSED', message, { cause: error })
}
