/**
 * A channel of frames, as the drivers of the peer protocol see it: FrameStream over libp2p in the daemon, a pair in memory in tests.
 */
import { REMOTE_CODES, type RemoteCode } from '../../protocol/errors.ts'
import { encodeMessage } from '../../protocol/wire/messages.ts'

/** Whole frames, both ways, in order. */
export interface FrameChannel {
  /** The next frame, null when the peer finished. A large one (DATA) may hold until the next read only. */
  read(signal: AbortSignal): Promise<Uint8Array | null>
  /** Several parts are one frame. Resolves once the transport can take more; parts are borrowed until then. */
  write(frame: Uint8Array | Uint8Array[], signal: AbortSignal): Promise<void>
  /** Several frames at once, where the channel has a way to make that cheaper. */
  writeMany?(frames: readonly (Uint8Array | Uint8Array[])[], signal: AbortSignal): Promise<void>
  close(signal: AbortSignal): Promise<void>
  abort(reason: Error): void
  /** Installs the bound on unread bytes; a peer that goes beyond is cut off. */
  setBufferLimit?(limitBytes: () => number): void
}

/** How long a last word and an orderly close may take. */
export const FAREWELL_MS = 2_000

/** Frames read and thrown away while we wait for the peer to finish. */
const FRAMES_DISCARDED_MAX = 64

/** Tells the peer why we go, as far as it listens: it may be gone, or stuck. */
export async function writeGoodbye(frames: FrameChannel, code: RemoteCode | number): Promise<void> {
  const wire = typeof code === 'number' ? code : REMOTE_CODES[code].wire
  try {
    await frames.write(encodeMessage({ type: 'goodbye', code: wire }), AbortSignal.timeout(FAREWELL_MS))
  } catch {
    // A last word that nobody hears changes nothing: the stream is ended next.
  }
}

/** Closes the stream in good order: finishes our side, waits a moment for the peer to finish its own, else resets. Never throws. */
export async function endStream(frames: FrameChannel): Promise<void> {
  const signal = AbortSignal.timeout(FAREWELL_MS)
  try {
    await frames.close(signal)
    for (let i = 0; i < FRAMES_DISCARDED_MAX; i++) if ((await frames.read(signal)) === null) break
  } catch {
    // Reset, closed or too slow: all the same now.
  }
  frames.abort(new Error('stream over'))
}
