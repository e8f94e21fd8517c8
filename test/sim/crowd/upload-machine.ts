/** The upload machine as the crowd drives it. */
import { UPLOAD, WIRE } from '../../../protocol/limits.ts'
import { Upload, type UploadAction } from '../../../protocol/swarm/upload.ts'

/** All that the crowd feeds. */
export type CrowdUploadEvent =
  | { type: 'peerJoined'; peer: string; group: string; share: string }
  | { type: 'peerLeft'; peer: string }
  | { type: 'requested'; peer: string; level: number; index: number; bytes: number }
  | { type: 'cancelled'; peer: string; level: number; index: number }
  | { type: 'served'; peer: string; bytes: number }
  | { type: 'sole'; share: string; isSole: boolean }
  | { type: 'tick' }

export interface UploadMachine {
  handle(event: CrowdUploadEvent, now: number): UploadAction[]
  nextTimeout(): number | undefined
}

const LIMITS = { ...UPLOAD, requestsQueuedMax: WIRE.requestsQueuedMax }
const NOTHING: UploadAction[] = []

/** The production machine. It does not know `sole` yet. */
class WithoutSole implements UploadMachine {
  readonly #machine = new Upload(LIMITS)

  handle(event: CrowdUploadEvent, now: number): UploadAction[] {
    return event.type === 'sole' ? NOTHING : this.#machine.handle(event, now)
  }

  nextTimeout(): number | undefined {
    return this.#machine.nextTimeout()
  }
}

export const newUpload = (): UploadMachine => new WithoutSole()
