/** How many connections the limit on open files leaves room for: each takes one, and storage needs some for itself. */
import { readFile } from 'node:fs/promises'
import { BUDGETS } from '../../protocol/budget-limits.ts'

/** The soft limit on open files of this process; null where the system does not tell, or has none. */
export async function openFilesMax(path = '/proc/self/limits'): Promise<number | null> {
  try {
    const [, soft] = /^Max open files\s+(\d+)/m.exec(await readFile(path, 'utf8')) ?? []
    return soft === undefined ? null : Number(soft)
  } catch {
    return null // not Linux
  }
}

/** Connections that may be had at once: as many as the user wants, where there are descriptors for them. */
export function connectionsFor(wanted: number, filesMax: number | null): number {
  if (filesMax === null) return wanted
  return Math.max(
    BUDGETS.connectionsMin,
    Math.min(wanted, Math.floor((filesMax - BUDGETS.descriptorsKept) / BUDGETS.descriptorsPerConnection)),
  )
}

/** Sockets that may come in at once, those that are not connections yet included: one that is too many is closed as it is accepted, before
 *  it takes what files need. Null: no limit is known. */
export const socketsFor = (filesMax: number | null): number | null =>
  filesMax === null ? null : Math.max(BUDGETS.connectionsMin, filesMax - BUDGETS.descriptorsKept)
