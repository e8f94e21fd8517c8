/**
 * Room on disk: what the user lets pinned shares take, and the free space that is always left.
 *
 * Asked before a job begins, where it is known what it needs, and again while blocks are written: others write to the same disk.
 */
import { BUDGETS } from '../../protocol/budget-limits.ts'
import { EXIT } from '../../protocol/errors.ts'
import { JobError } from '../control/api.ts'
import { diskRoom } from '../free-space.ts'
import { FileError } from '../storage/file-error.ts'
import type { JobEnvironment } from './environment.ts'

type Parts = Pick<JobEnvironment, 'home' | 'budgets' | 'records' | 'keeping' | 'cache'>

/** FileError NO_SPACE unless so many bytes fit into the home and leave what is to be left. What is only cached makes room. */
export async function checkFree({ home, budgets, cache }: Pick<Parts, 'home' | 'budgets' | 'cache'>, neededBytes: number): Promise<void> {
  if (neededBytes <= 0) return
  const look = (): ReturnType<typeof diskRoom> => diskRoom(home, budgets.current.freeBytesKept)
  const before = await look()
  const lackingBytes = neededBytes + before.keptBytes - before.freeBytes
  if (lackingBytes <= 0) return
  await cache.makeRoom(lackingBytes)
  const { freeBytes, keptBytes } = await look()
  if (neededBytes + keptBytes <= freeBytes) return
  budgets.hit('freeSpace')
  const [needed, free, kept] = [neededBytes, freeBytes, keptBytes].map((bytes) => Math.ceil(bytes / 2 ** 20))
  throw new FileError(
    'NO_SPACE',
    `disk full: the home folder needs ${needed} MiB for sealed blocks and has ${free} MiB free, of which ${kept} MiB are left free (setting freeBytesKept)`,
    { path: home },
  )
}

/** Bytes of blocks of all that the user shares and seeds, as far as they are kept sealed. */
export async function pinnedBytes({ records, keeping }: Pick<Parts, 'records' | 'keeping'>): Promise<number> {
  const shares = await records.listShares()
  return shares.reduce((sum, { cid, wireBytes, inPlace }) => sum + (keeping.isPinned(cid) && !inPlace ? (wireBytes ?? 0) : 0), 0)
}

/** JobError OVER_BUDGET unless so many more bytes may be pinned. */
export async function checkPinned(parts: Parts, neededBytes: number): Promise<void> {
  const { pinnedBytes: max } = parts.budgets.current
  if (max !== null) refuseAbove(parts, max, await pinnedBytes(parts), neededBytes)
}

function refuseAbove({ budgets }: Pick<Parts, 'budgets'>, max: number, usedBytes: number, neededBytes: number): void {
  if (usedBytes + neededBytes <= max) return
  budgets.hit('pinned')
  throw new JobError(
    'OVER_BUDGET',
    `this needs ${neededBytes} bytes of disk, and of the ${max} for what is shared and seeded ${Math.max(0, max - usedBytes)} are free: ` +
      'set more with `shoal limits --pinned SIZE`, let something go with `shoal unseed`, or share with --in-place',
    { exitCode: EXIT.noSpace },
  )
}

/** Looks after the room while a share is written, whose size on disk nobody knows before: blocks may be there already. */
export class GrowingShare {
  readonly #parts: Parts
  readonly #usedBytes: number
  #newBytes = 0
  #untilLookBytes: number = BUDGETS.diskLookBytes

  private constructor(parts: Parts, usedBytes: number) {
    this.#parts = parts
    this.#usedBytes = usedBytes
  }

  /** `leastBytes`: what it takes at least, 0 where it may be there already. */
  static async begin(parts: Parts, leastBytes: number): Promise<GrowingShare> {
    await checkFree(parts, leastBytes)
    await checkPinned(parts, leastBytes)
    return new GrowingShare(parts, await pinnedBytes(parts))
  }

  /** A block of so many bytes was stored that was not there before. */
  async took(bytes: number): Promise<void> {
    this.#newBytes += bytes
    const { budgets } = this.#parts
    if (budgets.current.pinnedBytes !== null) refuseAbove(this.#parts, budgets.current.pinnedBytes, this.#usedBytes, this.#newBytes)
    this.#untilLookBytes -= bytes
    if (this.#untilLookBytes > 0) return
    this.#untilLookBytes = BUDGETS.diskLookBytes
    await checkFree(this.#parts, 1)
  }
}
