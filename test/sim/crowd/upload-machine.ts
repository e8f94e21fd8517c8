/** The upload machine as the crowd drives it. */
import { UPLOAD, WIRE } from '../../../protocol/limits.ts'
import { Upload } from '../../../protocol/swarm/upload.ts'

export const newUpload = (): Upload => new Upload({ ...UPLOAD, requestsQueuedMax: WIRE.requestsQueuedMax })
