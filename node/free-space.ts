/** The free space of a disk, and how much of it is left alone. */
import { statfs } from 'node:fs/promises'
import { BUDGETS } from '../protocol/budget-limits.ts'

/** Free space that is left on a disk of so many bytes: what the user says, or the larger of 1 GiB and 2 %, but never more than 10 %. */
export function freeBytesKept(setting: number | null, diskBytes: number): number {
  if (setting !== null) return setting
  return Math.floor(Math.min(diskBytes * BUDGETS.freePartKeptMax, Math.max(BUDGETS.freeBytesKept, diskBytes * BUDGETS.freePartKept)))
}

/** Of the file system that holds `path`: what is free for us, and how much of that is to be left. */
export async function diskRoom(path: string, setting: number | null): Promise<{ freeBytes: number; keptBytes: number }> {
  const { bavail, blocks, bsize } = await statfs(path)
  return { freeBytes: bavail * bsize, keptBytes: freeBytesKept(setting, blocks * bsize) }
}
