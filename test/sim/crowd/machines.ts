/** The machines as the crowd runs them: those of production, with its limits. */
import { SWARM, UPLOAD, WAITS, WIRE } from '../../../protocol/limits.ts'
import { Swarm } from '../../../protocol/swarm/swarm.ts'
import { Upload } from '../../../protocol/swarm/upload.ts'
import { BLOCK_BYTES } from './members.ts'

export const newUpload = (): Upload => new Upload({ ...UPLOAD, requestsQueuedMax: WIRE.requestsQueuedMax })

export const newSwarm = (blockCount: number, random: () => number): Swarm =>
  new Swarm(blockCount, { ...SWARM, blockMs: WAITS.blockMs, itemBytes: BLOCK_BYTES }, random)
