/** A process of its own that names blocks as a share in place does, and tells on standard output how often each touched a new page of memory. */

import { CryptoPool } from '../../node/crypto/pool.ts'
import { tuneHeap } from '../../node/heap.ts'
import { randomScope } from '../../protocol/keys.ts'
import { FORMAT, SHARING } from '../../protocol/limits.ts'

const WARM_UP_BLOCKS = 64
const BLOCKS = 256

tuneHeap()
const pool = new CryptoPool(1, 1)
const staying = setInterval(() => {}, 60_000) // workers alone keep no process
await pool.withSealer(randomScope(new Uint8Array(32)), async (sealer) => {
  const name = (): Promise<unknown> => sealer.name('data', pool.buffers.take(FORMAT.pieceBytes))
  const nameAll = async (count: number): Promise<void> => {
    for (let done = 0; done < count; done += SHARING.sealsAtOnceMax) await Promise.all(Array.from({ length: SHARING.sealsAtOnceMax }, name))
  }
  await nameAll(WARM_UP_BLOCKS)
  const before = process.resourceUsage().minorPageFault
  await nameAll(BLOCKS)
  console.log((process.resourceUsage().minorPageFault - before) / BLOCKS)
})
clearInterval(staying)
await pool.close()
