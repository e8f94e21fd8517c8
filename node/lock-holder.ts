/**
 * Says which process holds a home, for the one that came too late: who wins is the kernel's decision (storage/records.ts), this is only
 * the name of the winner.
 *
 * It is asked over its own control socket. While that is not open yet, Linux tells in /proc/locks who holds the lock on the records.
 * No file with a process id is ever written: such files outlive their process.
 */
import { readFile, stat } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { WAITS } from '../protocol/limits.ts'
import { connectControl } from './control/client.ts'

const TRIES = 10
const PAUSE_MS = 50

/** A sentence about the node that holds the lock on `recordsFile`; never rejects. */
export async function describeHolder(socketPath: string, recordsFile: string): Promise<string> {
  for (let tries = 0; tries < TRIES; tries++) {
    const said = (await askHolder(socketPath).catch(() => null)) ?? (await findHolder(recordsFile).catch(() => null))
    if (said !== null) return said
    // The winner may have the lock for a moment only and be gone, or not have got it in full yet.
    await sleep(PAUSE_MS)
  }
  return 'another Shoal runs on this home; it does not answer, so its process is not known'
}

async function askHolder(socketPath: string): Promise<string | null> {
  const api = await connectControl(socketPath)
  if (api === null) return null
  const { pid, uptimeSeconds, stopping } = await api.status(AbortSignal.timeout(WAITS.stopMs / 5))
  const since = new Date(Date.now() - uptimeSeconds * 1_000)
  return `another Shoal runs on this home: process ${pid}, since ${timeText(since)}${stopping ? ', which is about to stop' : ''}`
}

const timeText = (time: Date): string => `${time.toISOString().slice(0, 19).replace('T', ' ')} UTC`

async function findHolder(recordsFile: string): Promise<string | null> {
  const { ino } = await stat(recordsFile)
  const pid = lockHolderOf(await readFile('/proc/locks', 'utf8'), ino)
  if (pid === null || pid === process.pid) return null
  return `another Shoal runs on this home: process ${pid}, which is starting or stopping`
}

/**
 * The process with a POSIX write lock on the file of that inode number, null when there is none or it is in another name space. Lines read
 * "1: POSIX  ADVISORY  WRITE 1234 08:01:5678 0 EOF"; those of waiting processes have "->" after the number. Numbers of devices differ
 * between what stat and the kernel say on some file systems, so only the inode is compared.
 */
export function lockHolderOf(locks: string, inode: number): number | null {
  for (const line of locks.split('\n')) {
    const [, pid, ino] = /^\d+: POSIX\s+\S+\s+WRITE\s+(\d+)\s+[0-9a-f]+:[0-9a-f]+:(\d+)\s/.exec(line) ?? []
    if (Number(ino) === inode && Number(pid) > 0) return Number(pid)
  }
  return null
}
