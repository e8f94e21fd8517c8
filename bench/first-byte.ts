/**
 * How long `shoal get LINK -o -` takes to its first byte: from the start of the process, with a daemon running, none of the share's blocks
 * here, and a seeder that the daemon is connected to.
 */
import { once } from 'node:events'
import { open } from 'node:fs/promises'
import type { ShareResult, StatusResult } from '../node/control/api.ts'
import { type Daemon, type Sandbox, startCli } from '../test/kit/daemons.ts'

const RUNS = 5

export async function benchFirstByte(sandbox: Sandbox, source: string, say: (text: string) => void): Promise<void> {
  const sender = await sandbox.daemon('first-byte-sender')
  const receiver = await sandbox.daemon('first-byte-receiver', { bootstrap: sender.addresses })
  await receiver.json('limits', '--cached', '0') // nothing that was read stays for the next run
  const { link, wireBytes } = await sender.json<ShareResult>('share', source)
  const file = await open(source)
  const { bytesRead, buffer } = await file.read(Buffer.alloc(65_536), 0, 65_536, 0)
  await file.close()
  const start = buffer.subarray(0, bytesRead)
  const starts: number[] = []
  const middles: number[] = []
  const version = await timeToFirst(receiver, ['--version'], null)
  for (let run = 0; run < RUNS; run++) {
    starts.push(await timeToFirst(receiver, ['get', link, '-o', '-'], start))
    const range = `${Math.floor(wireBytes / 2)}-`
    middles.push(await timeToFirst(receiver, ['get', link, '-o', '-', '--range', range], null))
  }
  await Promise.all([sender.kill(), receiver.kill()])
  const show = (values: number[]): string => {
    const sorted = [...values].sort((a, b) => a - b).map((ms) => Math.round(ms))
    return `median ${sorted[Math.floor(RUNS / 2)]} ms (${sorted.join(', ')})`
  }
  say(`\nFirst byte of \`get -o -\`, share of ${Math.round(wireBytes / 1_048_576)} MiB that is not here, seeder connected, ${RUNS} runs:`)
  say(`from the start ${show(starts)}; from the middle ${show(middles)}; \`--version\` alone takes ${Math.round(version)} ms.`)
}

/** Milliseconds from the start of the process to its first byte on standard output, which must be as expected; nothing is left of it. */
async function timeToFirst(daemon: Daemon, args: string[], expected: Uint8Array | null): Promise<number> {
  const since = performance.now()
  const child = startCli(['--home', daemon.home, ...args])
  const ended = once(child, 'exit')
  if (child.stdout === null) throw new Error('the process has no standard output')
  const [chunk] = (await once(child.stdout, 'data')) as [Buffer] // no encoding is set
  const elapsedMs = performance.now() - since
  if (
    expected !== null &&
    chunk.compare(expected, 0, Math.min(chunk.length, expected.length), 0, Math.min(chunk.length, expected.length)) !== 0
  )
    throw new Error('the first bytes are wrong')
  child.stdout.destroy()
  await ended
  // Its blocks are dropped before the next run, which has to fetch them again.
  for (let left = 1; left > 0; ) {
    const { jobs, blocks } = await daemon.json<StatusResult>('status')
    left = jobs + blocks
  }
  return elapsedMs
}
