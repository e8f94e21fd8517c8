/**
 * `npm run bench:hostile`: one honest seeder behind a line of 40 Mbit/s among 40 peers, of which half and then nine in ten are hostile,
 * in all kinds; how much longer a download takes than with the same honest ones alone, and what it costs.
 *
 * All are processes of their own and find each other through the DHT, where the hostile announce themselves like seeders. The seeder
 * lives in one network namespace with a token bucket on its device, all others in another; nothing leaves them. The honest others
 * hold two blocks in a hundred or so each. Needs root on Linux. Options: --mib N (default 64), --runs N (default 3), --hostile N,M;
 * --apart gives the downloader one processor and everybody else another, as if they were on computers of their own: what it is late then
 * it is by its own doing.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { GetResult, ShareResult, StatusResult } from '../node/control/api.ts'
import { type HostilePeerHandle, HostileProcess } from '../test/hostile/hostile-process.ts'
import { KINDS, type Kind } from '../test/hostile/orders.ts'
import { type Daemon, Sandbox } from '../test/kit/daemons.ts'
import { canMakeNamespaces, type Host, joinHosts, limitUplink } from '../test/kit/namespaces.ts'
import { compareTrees } from '../test/kit/trees.ts'

const MIB = 1_048_576
const PEERS = 40
const RATE = '40mbit'
const FILES_HELD = 2
const WAIT_MS = 180_000

/** Those that make sense against somebody who downloads; the probing ones take nothing but an answer. */
const MIXED = KINDS.filter((kind) => kind !== 'probe' && kind !== 'half-hello')

const say = (text: string): void => void process.stdout.write(`${text}\n`)
const median = (values: number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN

interface Figure {
  seconds: number
  wastedMiB: number
  rssMiB: number
  lagMs: number
  seederRssMiB: number
  seederLagMs: number
}

interface Size {
  mebibytes: number
  runs: number
  isApart: boolean
}

interface Swarm {
  sandbox: Sandbox
  seeder: Daemon
  honest: Daemon[]
  down: Host
  link: string
  cid: string
  folder: string
  isApart: boolean
}

const listenAt = (host: Host): { prefix: string[]; listen: string } => ({ prefix: [...host.prefix], listen: `/ip4/${host.address}/tcp/0` })

async function makeShare(folder: string, mebibytes: number): Promise<void> {
  await mkdir(folder)
  for (let i = 0; i < mebibytes; i++) await writeFile(join(folder, `${i}.bin`), randomBytes(MIB - 16))
}

/** Brings up the seeder and the honest others, each with a small part of the share. */
async function makeSwarm(sandbox: Sandbox, [up, down]: [Host, Host], honestCount: number, { mebibytes, isApart }: Size): Promise<Swarm> {
  const folder = sandbox.path('folder')
  await makeShare(folder, mebibytes)
  const seeder = await sandbox.daemon('seeder', listenAt(up))
  const { link, cid } = await seeder.json<ShareResult>('share', folder)
  const honest: Daemon[] = []
  for (let i = 0; i < honestCount; i++) {
    const daemon = await sandbox.daemon(`honest-${i}`, { ...listenAt(down), bootstrap: seeder.addresses })
    for (let j = 0; j < FILES_HELD; j++) {
      const out = sandbox.path(`part-${i}-${j}`)
      await mkdir(out)
      await daemon.json<GetResult>(
        'get',
        link,
        '-o',
        out,
        '--wait',
        '--peer',
        seeder.addresses[0]!,
        '--path',
        `folder/${(i * FILES_HELD + j) % mebibytes}.bin`,
      )
      await rm(out, { recursive: true })
    }
    honest.push(daemon)
  }
  return { sandbox, seeder, honest, down, link, cid, folder, isApart }
}

async function startHostile(swarm: Swarm, count: number): Promise<{ processes: HostileProcess[]; peers: HostilePeerHandle[] }> {
  const processes: HostileProcess[] = []
  const peers: HostilePeerHandle[] = []
  const announceTo = [swarm.seeder, ...swarm.honest].map(({ addresses }) => addresses[0]!)
  for (let i = 0; i < count; i++) {
    const child = new HostileProcess(swarm.down.prefix)
    const kind: Kind = MIXED[i % MIXED.length]!
    const peer = child.start({
      kind,
      network: swarm.sandbox.network,
      cid: swarm.cid,
      home: swarm.seeder.home,
      targets: kind.startsWith('request-') ? [swarm.seeder.addresses[0]!] : [],
      listen: `/ip4/${swarm.down.address}/tcp/0`,
      announceTo,
    })
    await peer.until('ready', 60_000)
    processes.push(child)
    peers.push(peer)
  }
  return { processes, peers }
}

/** One download by a newcomer that nobody has met before. */
async function download(swarm: Swarm, run: string, hostile: HostilePeerHandle[]): Promise<Figure> {
  const { sandbox, seeder, honest, down, link, folder, isApart } = swarm
  const bootstrap = [honest[0] ?? seeder].flatMap(({ addresses }) => addresses)
  const place = listenAt(down)
  if (isApart) place.prefix.push('taskset', '-c', '1')
  const victim = await sandbox.daemon(`victim-${run}`, { ...place, bootstrap, args: ['--log-level', 'debug'] })
  const out = sandbox.path(`out-${run}`)
  await mkdir(out)
  for (const peer of hostile) peer.visit(victim.addresses[0]!)
  const since = performance.now()
  const { promise: late, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error(`nothing after ${WAIT_MS} ms`)), WAIT_MS)
  const got = await Promise.race([victim.json<GetResult>('get', link, '-o', out), late]).catch((cause: unknown) => {
    throw new Error(`run ${run} failed; ended by ${victim.child.signalCode ?? victim.child.exitCode}: ${victim.log.slice(-4_000)}`, {
      cause,
    })
  })
  const seconds = (performance.now() - since) / 1000
  clearTimeout(timer)
  const { differences } = await compareTrees(folder, join(out, 'folder'))
  if (differences.length > 0) throw new Error(`run ${run}: ${differences[0]}`)
  const [own, other] = await Promise.all([victim.json<StatusResult>('status'), seeder.json<StatusResult>('status')])
  const banned = new Set([...victim.log.matchAll(/"a peer broke the rules","peer":"(\w+)"/g)].map(([, peer]) => peer))
  for (const { started } of [seeder, ...honest]) if (banned.has(started.peerId)) throw new Error('an honest peer was blamed')
  await victim.kill()
  await rm(out, { recursive: true })
  await rm(victim.home, { recursive: true })
  return {
    seconds,
    wastedMiB: (own.bytesIn - got.fetchedBytes) / MIB,
    rssMiB: own.rssBytes / MIB,
    lagMs: own.lagP99Ms,
    seederRssMiB: other.rssBytes / MIB,
    seederLagMs: other.lagP99Ms,
  }
}

function sayFigures(name: string, figures: Figure[]): void {
  const of = (key: keyof Figure): number[] => figures.map((figure) => figure[key])
  const most = (key: keyof Figure): string => Math.max(...of(key)).toFixed(key === 'wastedMiB' ? 1 : 0)
  say(
    `| ${name} | ${figures.length} of ${figures.length} | ${of('seconds')
      .map((value) => value.toFixed(1))
      .join(', ')} | ${most('wastedMiB')} | ${most('rssMiB')}, ${most('seederRssMiB')} | ${most('lagMs')}, ${most('seederLagMs')} |`,
  )
}

async function compare(hostileCount: number, size: Size): Promise<void> {
  const { runs } = size
  const sandbox = await Sandbox.create()
  const { hosts, close } = await joinHosts('10.79.0')
  let processes: HostileProcess[] = []
  try {
    const swarm = await makeSwarm(sandbox, hosts, PEERS - 1 - hostileCount, size)
    await limitUplink(hosts[0], RATE)
    const clean: Figure[] = []
    for (let run = 0; run < runs; run++) clean.push(await download(swarm, `clean-${run}`, []))
    sayFigures(`${swarm.honest.length + 1} honest`, clean)
    const hostile = await startHostile(swarm, hostileCount)
    processes = hostile.processes
    const mixed: Figure[] = []
    for (let run = 0; run < runs; run++) mixed.push(await download(swarm, `mixed-${run}`, hostile.peers))
    sayFigures(`and ${hostileCount} hostile`, mixed)
    const ratio = median(mixed.map(({ seconds }) => seconds)) / median(clean.map(({ seconds }) => seconds))
    const waste = Math.max(...mixed.map(({ wastedMiB }) => wastedMiB)) / hostileCount
    say(
      `With ${hostileCount} of ${PEERS} hostile: ${ratio.toFixed(2)} times the clean time, ${waste.toFixed(2)} MiB wasted for each of them.\n`,
    )
  } finally {
    for (const child of processes) child.kill()
    await sandbox.clear()
    await close()
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { mib: { type: 'string' }, runs: { type: 'string' }, hostile: { type: 'string' }, apart: { type: 'boolean' } },
  })
  if (!canMakeNamespaces) {
    say('Skipped: network namespaces need root on Linux.')
    return
  }
  const size: Size = { mebibytes: Number(values.mib ?? 64), runs: Number(values.runs ?? 3), isApart: values.apart === true }
  if (size.isApart) execFileSync('taskset', ['-acp', '0', String(process.pid)])
  say(
    `${size.mebibytes} MiB from one seeder behind ${RATE.replace('mbit', ' Mbit/s')}, ${PEERS} peers beside the one that downloads${size.isApart ? ', which has a processor of its own' : ''}.\n`,
  )
  say('| peers | succeeded | seconds | MiB in vain | MiB of memory: downloader, seeder | lag p99 ms |')
  say('|---|---|---|---|---|---|')
  for (const count of (values.hostile ?? '20,36').split(',')) await compare(Number(count), size)
}

await main()
