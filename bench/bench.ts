/**
 * `npm run bench`: share and get of 1 GiB beside the same bytes moved in simpler ways, in one run, so that only ratios count.
 *
 * (a) a plain copy, (b) one raw libp2p stream, (c) the same work without Shoal (raw-peer.ts). Then four receivers on one uplink of
 * 5 Mbit/s, and the time to the first byte of a stream. Options: --mib N (default 1024), --runs N (default 3), --only
 * transfer|in-place|uplink|first-byte, and the parts that run only when asked for: --only steps (where the processor time of a get goes),
 * sources (three seeders), wan (a long line).
 */
import { createCipheriv, randomFillSync } from 'node:crypto'
import { copyFile, mkdir, open, rm, writeFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import type { GetResult, ShareResult } from '../node/control/api.ts'
import { type Daemon, Sandbox } from '../test/kit/daemons.ts'
import { benchFirstByte } from './first-byte.ts'
import { benchInPlace } from './in-place.ts'
import { MIB, makeRandomFile, median, say, timed, usageOf } from './meters.ts'
import { type Figure, rawTransfer } from './raw-transfer.ts'
import { benchSources } from './sources.ts'
import { benchSteps } from './steps.ts'
import { benchUplink } from './uplink.ts'
import { benchWan } from './wan.ts'

const PIECE_BYTES = MIB - 16

/** The block files that the sender of (c) reads: sealed like Shoal's, under one key. */
async function makeBlocks(dir: string, count: number): Promise<void> {
  await mkdir(dir, { recursive: true })
  const piece = randomFillSync(Buffer.alloc(PIECE_BYTES))
  for (let i = 0; i < count; i++) {
    piece.writeUInt32BE(i)
    const cipher = createCipheriv('aes-256-gcm', new Uint8Array(32).fill(7), new Uint8Array(12))
    await writeFile(`${dir}/${i}.block`, Buffer.concat([cipher.update(piece), cipher.final(), cipher.getAuthTag()]))
  }
}

async function copyFigure(sandbox: Sandbox, source: string, bytes: number): Promise<Figure> {
  const target = sandbox.path('copy.bin')
  const before = process.cpuUsage()
  const elapsed = await timed(async () => {
    await copyFile(source, target)
    const file = await open(target, 'r+')
    await file.datasync()
    await file.close()
  })
  const { user, system } = process.cpuUsage(before)
  await rm(target)
  return {
    name: '(a) copy',
    mbPerSecond: bytes / 1e6 / elapsed,
    processes: [{ name: 'cp', cpuSeconds: (user + system) / 1e6, rssMiB: process.memoryUsage.rss() / MIB }],
  }
}

async function shoalFigures(sandbox: Sandbox, run: number, source: string, bytes: number): Promise<Figure[]> {
  const sender = await sandbox.daemon(`sender-${run}`)
  const receiver = await sandbox.daemon(`receiver-${run}`, { bootstrap: sender.addresses })
  const usage = async (daemon: Daemon, name: string): Promise<Figure['processes'][number]> => ({
    name,
    ...(await usageOf(daemon.started.pid)),
  })
  let link = ''
  const shareSeconds = await timed(async () => {
    link = (await sender.json<ShareResult>('share', source)).link
  })
  const share: Figure = { name: 'shoal share', mbPerSecond: bytes / 1e6 / shareSeconds, processes: [await usage(sender, 'daemon')] }
  const before = { sender: await usage(sender, ''), receiver: await usage(receiver, '') }
  const out = sandbox.path(`out-${run}`)
  await mkdir(out)
  const getSeconds = await timed(async () => {
    const got = await receiver.json<GetResult>('get', link, '-o', out)
    if (got.sizeBytes !== bytes) throw new Error(`got ${got.sizeBytes} bytes of ${bytes}`)
  })
  const after = { sender: await usage(sender, 'sender daemon'), receiver: await usage(receiver, 'receiver daemon') }
  after.sender.cpuSeconds -= before.sender.cpuSeconds
  after.receiver.cpuSeconds -= before.receiver.cpuSeconds
  await Promise.all([sender.kill(), receiver.kill()])
  await rm(out, { recursive: true })
  await Promise.all([rm(sender.home, { recursive: true }), rm(receiver.home, { recursive: true })])
  return [share, { name: 'shoal get', mbPerSecond: bytes / 1e6 / getSeconds, processes: [after.sender, after.receiver] }]
}

async function benchTransfer(sandbox: Sandbox, mib: number, runs: number): Promise<void> {
  const source = sandbox.path('source.bin')
  const bytes = mib * MIB
  const blocks = Math.ceil(bytes / MIB)
  await makeRandomFile(source, bytes)
  await makeBlocks(sandbox.path('blocks'), blocks)
  const all = new Map<string, Figure[]>()
  for (let run = 0; run < runs; run++) {
    const got = sandbox.path('got')
    const figures = [
      await copyFigure(sandbox, source, bytes),
      await rawTransfer('(b) raw stream', 'raw', sandbox.dir, sandbox.dir, blocks),
      await rawTransfer('(c) same work', 'work', sandbox.path('blocks'), got, blocks),
    ]
    await rm(got, { recursive: true })
    figures.push(...(await shoalFigures(sandbox, run, source, bytes)))
    for (const figure of figures) all.set(figure.name, [...(all.get(figure.name) ?? []), figure])
  }
  report(all, mib, runs)
}

function report(all: Map<string, Figure[]>, mib: number, runs: number): void {
  say(`\n${mib} MiB, ${runs} runs, ${cpus().length} cores, Node ${process.version}. Medians; every process on this machine.\n`)
  say('                    MB/s   min-max      processes (CPU s, peak RSS MiB)')
  for (const [name, figures] of all) {
    const rates = figures.map((figure) => figure.mbPerSecond)
    const processes = (figures[0]?.processes ?? []).map(
      ({ name: process }, i) =>
        `${process} ${median(figures.map((figure) => figure.processes[i]?.cpuSeconds ?? 0)).toFixed(1)} s ${Math.max(...figures.map((figure) => figure.processes[i]?.rssMiB ?? 0)).toFixed(0)} MiB`,
    )
    say(
      `${name.padEnd(16)} ${median(rates).toFixed(0).padStart(7)}   ${Math.min(...rates).toFixed(0)}-${Math.max(...rates).toFixed(0)}`.padEnd(
        42,
      ) + processes.join(', '),
    )
  }
  const ratio = (name: string, to: string): string => {
    const pairs = (all.get(name) ?? []).map((figure, i) => figure.mbPerSecond / (all.get(to)?.[i]?.mbPerSecond ?? Number.NaN))
    return `${name} / ${to} = ${median(pairs).toFixed(2)} (${pairs.map((value) => value.toFixed(2)).join(', ')})`
  }
  say('')
  for (const to of ['(a) copy', '(b) raw stream', '(c) same work']) say(ratio('shoal get', to))
  say(ratio('shoal share', '(a) copy'))
}

const { values } = parseArgs({
  options: { mib: { type: 'string' }, runs: { type: 'string', default: '3' }, only: { type: 'string' } },
})
const runs = Number(values.runs)
const mibOr = (otherwise: number): number => Number(values.mib ?? otherwise)
const PARTS: Record<string, (sandbox: Sandbox) => Promise<void>> = {
  transfer: (sandbox) => benchTransfer(sandbox, mibOr(1024), runs),
  steps: (sandbox) => benchSteps(sandbox, mibOr(1024), say),
  sources: (sandbox) => benchSources(sandbox, mibOr(512), runs, say),
  'in-place': (sandbox) => benchInPlace(sandbox, mibOr(1024), runs, say),
  uplink: (sandbox) => benchUplink(sandbox, say),
  'first-byte': async (sandbox) => {
    const source = sandbox.path('first-byte.bin')
    await makeRandomFile(source, mibOr(1024) * MIB)
    await benchFirstByte(sandbox, source, say)
  },
  wan: (sandbox) => benchWan(sandbox, mibOr(256), runs, say),
}
const chosen = values.only === undefined ? ['transfer', 'in-place', 'uplink', 'first-byte'] : [values.only]
for (const name of chosen) {
  const part = PARTS[name]
  if (part === undefined) throw new Error(`--only takes one of ${Object.keys(PARTS).join(', ')}`)
  const sandbox = await Sandbox.create()
  try {
    await part(sandbox)
  } finally {
    await sandbox.clear()
  }
}
