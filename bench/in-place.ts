/**
 * `npm run bench -- --only in-place`: sharing without a sealed copy beside reading and hashing the file twice, getting without one beside
 * one raw stream, and what either leaves on disk.
 */
import { lstat, mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { GetResult, ShareResult } from '../node/control/api.ts'
import type { Sandbox } from '../test/kit/daemons.ts'
import { hashFile, MIB, makeRandomFile, median, type Say, timed, usageOf } from './meters.ts'
import { rawTransfer } from './raw-transfer.ts'

const SHARE_TIMES_WANTED = 1.3
const GET_SHARE_WANTED = 0.6

/** Bytes that a folder takes on disk. */
async function bytesOnDisk(path: string): Promise<number> {
  const { blocks } = await lstat(path)
  let bytes = 512 * blocks
  for (const entry of await readdir(path, { withFileTypes: true })) {
    const below = join(path, entry.name)
    bytes += entry.isDirectory() ? await bytesOnDisk(below) : 512 * (await lstat(below)).blocks
  }
  return bytes
}

export async function benchInPlace(sandbox: Sandbox, mib: number, runs: number, say: Say): Promise<void> {
  const source = sandbox.path('in-place.bin')
  const bytes = mib * MIB
  await makeRandomFile(source, bytes)
  const times: Record<'share' | 'sealed' | 'in place', number[]> = { share: [], sealed: [], 'in place': [] }
  say(`${mib} MiB in place, ${runs} runs:`)
  for (let run = 0; run < runs; run++) {
    const twice = (await timed(() => hashFile(source))) + (await timed(() => hashFile(source)))
    const sender = await sandbox.daemon(`in-place-sender-${run}`)
    const before = await bytesOnDisk(sender.home)
    let link = ''
    const shareSeconds = await timed(async () => {
      link = (await sender.json<ShareResult>('share', '--in-place', source)).link
    })
    const added = (await bytesOnDisk(sender.home)) - before
    times.share.push(shareSeconds / twice)
    say(
      `  share: ${shareSeconds.toFixed(2)} s, read and hashed twice: ${twice.toFixed(2)} s, times ${(shareSeconds / twice).toFixed(2)}; ${added} bytes on disk`,
    )
    const raw = await rawTransfer('raw stream', 'raw', sandbox.dir, sandbox.dir, Math.ceil(bytes / MIB))
    for (const kind of ['in place', 'sealed'] as const) {
      if (kind === 'sealed') await sender.json<ShareResult>('share', source)
      const getter = await sandbox.daemon(`in-place-getter-${run}-${kind.replace(' ', '')}`, { bootstrap: sender.addresses })
      const out = sandbox.path(`in-place-out-${run}`)
      await mkdir(out)
      const empty = await bytesOnDisk(getter.home)
      const cpu = [await usageOf(sender.started.pid), await usageOf(getter.started.pid)]
      const seconds = await timed(async () => {
        const got = await getter.json<GetResult>('get', link, '-o', out)
        if (got.sizeBytes !== bytes || !got.inPlace) throw new Error('not what was asked for')
      })
      const used = [await usageOf(sender.started.pid), await usageOf(getter.started.pid)].map(
        ({ cpuSeconds, rssMiB }, i) => `${(cpuSeconds - (cpu[i]?.cpuSeconds ?? 0)).toFixed(1)} s CPU, ${rssMiB.toFixed(0)} MiB`,
      )
      const left = (await bytesOnDisk(getter.home)) - empty + (await bytesOnDisk(out))
      const rate = bytes / 1e6 / seconds
      times[kind].push(rate / raw.mbPerSecond)
      say(
        `  get from a seeder ${kind}: ${rate.toFixed(0)} MB/s of ${raw.mbPerSecond.toFixed(0)} (${(rate / raw.mbPerSecond).toFixed(2)}), ` +
          `seeder ${used[0]}, getter ${used[1]}; ${((100 * left) / bytes).toFixed(2)} % of the file on disk`,
      )
      await getter.kill()
      await rm(out, { recursive: true })
      await rm(getter.home, { recursive: true })
    }
    await sender.kill()
    await rm(sender.home, { recursive: true })
  }
  say(`median: share takes ${median(times.share).toFixed(2)} times reading and hashing twice (wanted: ${SHARE_TIMES_WANTED})`)
  for (const kind of ['in place', 'sealed'] as const)
    say(`median: get from a seeder ${kind} ${median(times[kind]).toFixed(2)} of a raw stream (wanted: ${GET_SHARE_WANTED})`)
}
