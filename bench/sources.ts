/** `npm run bench -- --only sources`: one getter, three seeders that each give 20 MiB/s: does it take from all of them to the full? */
import { mkdir } from 'node:fs/promises'
import { type GetResult, JUST_SHOW, type ShareResult } from '../node/control/api.ts'
import { connectControl } from '../node/control/client.ts'
import type { Sandbox } from '../test/kit/daemons.ts'
import { CpuMeter, MIB, makeRandomFile, median, type Say, timed } from './meters.ts'

const SEEDERS = 3
const SEEDER_UP_BYTES = 20 * MIB
const WANTED_MIB_PER_SECOND = 55

export async function benchSources(sandbox: Sandbox, mib: number, runs: number, say: Say): Promise<void> {
  const source = sandbox.path('sources.bin')
  await makeRandomFile(source, mib * MIB)
  const first = await sandbox.daemon('source-0')
  const { link, seedLink } = await first.json<ShareResult>('share', source)
  const seeders = [first]
  while (seeders.length < SEEDERS) {
    const seeder = await sandbox.daemon(`source-${seeders.length}`, { bootstrap: first.addresses })
    await seeder.json('seed', seedLink, '--peer', first.addresses[0] ?? '')
    seeders.push(seeder)
  }
  const apis = await Promise.all(
    seeders.map(async ({ started }) => {
      const api = await connectControl(started.socket)
      if (api === null) throw new Error('a seeder does not answer')
      return api
    }),
  )
  const signal = new AbortController().signal
  for (const api of apis) await api.limits({ ...JUST_SHOW, set: { uploadBytesPerSecond: SEEDER_UP_BYTES, lanExempt: false } }, signal)
  say(`\n${mib} MiB from ${SEEDERS} seeders of ${SEEDER_UP_BYTES / MIB} MiB/s each, ${runs} runs:`)
  const rates: number[] = []
  for (let run = 0; run < runs; run++) {
    const getter = await sandbox.daemon(`sources-getter-${run}`, { bootstrap: first.addresses })
    const out = sandbox.path(`sources-out-${run}`)
    await mkdir(out)
    const before = await Promise.all(apis.map(async (api) => (await api.status(signal)).bytesOut))
    const meter = new CpuMeter()
    await meter.start()
    const peers = seeders.flatMap(({ addresses }) => ['--peer', addresses[0] ?? ''])
    const seconds = await timed(() => getter.json<GetResult>('get', link, '-o', out, ...peers))
    const cpuPercent = await meter.percent()
    const after = await Promise.all(apis.map(async (api) => (await api.status(signal)).bytesOut))
    await getter.kill()
    const parts = after.map((bytes, i) => `${((bytes - (before[i] ?? 0)) / MIB).toFixed(0)}`)
    rates.push(mib / seconds)
    say(
      `  ${(mib / seconds).toFixed(1)} MiB/s in ${seconds.toFixed(1)} s, MiB from each: ${parts.join(', ')}, CPU ${cpuPercent.toFixed(0)} %`,
    )
  }
  say(`median ${median(rates).toFixed(1)} MiB/s (wanted: ${WANTED_MIB_PER_SECOND})`)
  await Promise.all(seeders.map((seeder) => seeder.kill()))
}
