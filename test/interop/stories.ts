/** What Shoal and kubo make of each other: the DHT of go-libp2p as rendezvous, and shares that pass through kubo as CAR files. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { PeerSummary, ShareSummary, StatusResult } from '../../node/control/api.ts'
import type { CarExportResult, CarImportResult } from '../../node/control/api-car.ts'
import { concat } from '../../protocol/bytes.ts'
import { formatCid, multihashOf, parseCid, RAW, rendezvousDigest } from '../../protocol/cid.ts'
import { label } from '../../protocol/keys.ts'
import { parseLink } from '../../protocol/link.ts'
import type { Stage } from '../net/stage.ts'
import { nodePrimitives } from '../primitives-node.ts'
import { Kubo } from './kubo.ts'

const run = promisify(execFile)
const FIND = fileURLToPath(new URL('./find.ts', import.meta.url))
const KUBOS = ['kuboa', 'kubob', 'kuboc', 'kubod'] as const
const BYTES = 24_000_000
const READY_MS = 120_000
const LOOK_MS = 250

export const TABLE = `
  # name   on        address
  kuboa    internet  5.9.0.2
  kubob    internet  62.4.0.2
  kuboc    internet  81.200.0.2
  kubod    internet  133.1.0.2
  a        internet  91.7.0.2
  b        internet  77.1.0.2
  looker   internet  109.9.0.2
`

export async function tell(stage: Stage, program: string): Promise<void> {
  const kubos: Kubo[] = []
  try {
    for (const machine of KUBOS) kubos.push(await Kubo.start(stage, machine, program, kubos[0] === undefined ? [] : [kubos[0].address]))
    const [first, second, third, fourth] = kubos as [Kubo, Kubo, Kubo, Kubo]
    await until('the kubo nodes to know each other', async () => (await first.ask('swarm', 'peers')).split('\n').length >= KUBOS.length - 1)
    stage.say(`kubo: ${await first.ask('version', '--all').then((text) => text.split('\n')[0])}, ${KUBOS.length} DHT servers`)
    await startShoal(stage, 'a', second)
    await startShoal(stage, 'b', third)
    await meet(stage, 'a', 'b', fourth)
    await meet(stage, 'b', 'a', first)
    await provideByKubo(stage, fourth, second)
    await passThrough(stage, first, third)
  } finally {
    for (const kubo of kubos) await kubo.stop()
  }
}

async function startShoal(stage: Stage, machine: string, entrance: Kubo): Promise<void> {
  const home = stage.sandbox.path(`home-${machine}`)
  await mkdir(home, { mode: 0o700 })
  await writeFile(`${home}/config.json`, JSON.stringify({ ipfsDht: true }))
  await stage.start(machine, { bootstrap: [entrance.address] })
  const knows = async (): Promise<boolean> =>
    ((await statusOf(stage, machine)).dht.find(({ name }) => name === 'ipfs')?.peers ?? 0) >= KUBOS.length - 1
  const seconds = await until(`${machine} to know the DHT`, knows)
  const { mode } = (await statusOf(stage, machine)).dht.find(({ name }) => name === 'ipfs') ?? { mode: 'none' }
  if (mode !== 'client') throw new Error(`${machine} is ${mode} on the DHT of others`)
  stage.say(`${machine}: knows the DHT of the kubo nodes after ${seconds.toFixed(1)} s, as a client`)
}

/** One shares and announces, a kubo node sees the record, the other finds it there and gets. */
async function meet(stage: Stage, from: string, to: string, witness: Kubo): Promise<void> {
  const shared = await stage.share(from, BYTES)
  const { cid } = await parseLink(nodePrimitives, shared.link)
  const announced = async (): Promise<boolean> =>
    (await stage.node(from).json<ShareSummary[]>('ls')).some((share) => share.cid === cid.text && share.announcedMs !== null)
  const tookSeconds = await until(`${from} to announce`, announced)
  const key = formatCid(RAW, await rendezvousDigest(nodePrimitives, cid)).text
  const { peerId } = stage.node(from).started
  const providers = (await witness.ask('routing', 'findprovs', '-n', '2', key)).split('\n')
  if (!providers.includes(peerId)) throw new Error(`kubo finds ${JSON.stringify(providers)} for the share of ${from}, not ${peerId}`)
  const seconds = await stage.get(to, shared)
  const peers = await stage.node(to).json<PeerSummary[]>('peers')
  const sources = peers
    .filter((peer) => peer.peerId === peerId)
    .flatMap((peer) => peer.shares.filter((share) => share.cid === cid.text).map(({ source }) => source))
  if (!sources.includes('dht')) throw new Error(`${to} heard of ${from} from ${sources.join(', ')}, not from the DHT`)
  stage.say(
    `${from} to ${to}: announced after ${tookSeconds.toFixed(1)} s, kubo finds the provider, got in ${seconds.toFixed(1)} s (${sources.join(', ')})`,
  )
}

/** kubo has the block whose CID is the name of a share on the DHT, provides it, and Shoal finds kubo. */
async function provideByKubo(stage: Stage, provider: Kubo, entrance: Kubo): Promise<void> {
  const { digest } = formatCid(RAW, createHash('sha256').update('a share that nobody made').digest())
  const cid = formatCid(RAW, digest)
  const preimage = concat(label('dht'), Uint8Array.of(0), multihashOf(cid))
  const key = formatCid(RAW, await rendezvousDigest(nodePrimitives, cid)).text
  const put = (await provider.bytes(['block', 'put', '--cid-codec', 'raw'], preimage)).toString().trim()
  if (put !== key) throw new Error(`kubo calls the block ${put}, not ${key}`)
  await provider.ask('routing', 'provide', key)
  const [command = '', ...rest] = [...stage.bed.prefix('looker'), process.execPath, FIND, stage.sandbox.network, entrance.address, cid.text]
  const { stdout } = await run(command, rest)
  const found = JSON.parse(stdout) as string[] // printed by find.ts
  if (!found.includes(provider.peerId)) throw new Error(`Shoal finds ${stdout}, not ${provider.peerId}`)
  stage.say('kubo provides: Shoal finds it')
}

/** Shoal, CAR, kubo, another kubo over bitswap, CAR, Shoal. */
async function passThrough(stage: Stage, kubo: Kubo, other: Kubo): Promise<void> {
  const shared = await stage.share('a', BYTES)
  const { cid } = await parseLink(nodePrimitives, shared.link)
  const [out, back] = [stage.sandbox.path('out.car'), stage.sandbox.path('back.car')]
  const { fileBytes } = await stage.node('a').json<CarExportResult>('export', shared.link, '--car', out)
  const bytes = await readFile(out)
  const said = await kubo.ask('dag', 'import', '--pin-roots', out)
  if (!said.includes(cid.text)) throw new Error(`kubo calls it ${said}, not ${cid.text}`)
  if (!(await kubo.ask('pin', 'ls', '--type', 'recursive')).includes(cid.text)) throw new Error('kubo did not pin it')
  // Over the network: the other node has nothing of it.
  await other.ask('swarm', 'connect', kubo.address)
  const again = await other.bytes(['dag', 'export', cid.text])
  if (Buffer.compare(again, bytes) !== 0) throw new Error('the CAR of kubo differs from that of Shoal')
  await writeFile(back, again)
  const whole = await other.bytes(['cat', cid.text])
  const added = await other.bytes(
    ['add', '-Q', '--only-hash', '--cid-version=1', '--raw-leaves', '--chunker=size-1048576', '--max-file-links=1024'],
    whole,
  )
  if (added.toString().trim() !== cid.text) throw new Error(`kubo adds its bytes as ${added.toString()}`)
  const taken = await stage.node('b').json<CarImportResult>('import', '--car', back)
  if (taken.cid !== cid.text || taken.newBlocks + taken.reusedBlocks !== taken.blockCount + 1)
    throw new Error(`taken back: ${JSON.stringify(taken)}`)
  await stage.node('a').kill('SIGKILL')
  await stage.get('b', shared)
  stage.say(
    `CAR of ${fileBytes} bytes: kubo has root ${parseCid(taken.cid).text}, pins it, passes it on to another kubo, whose CAR is the same`,
  )
  stage.say('CAR back in another Shoal node: the same root, and the files byte for byte, with the first node gone')
}

const statusOf = (stage: Stage, machine: string): Promise<StatusResult> => stage.node(machine).json<StatusResult>('status')

/** Waits; how many seconds that took. */
async function until(what: string, isSo: () => Promise<boolean>): Promise<number> {
  const since = performance.now()
  while (!(await isSo())) {
    if (performance.now() - since > READY_MS) throw new Error(`waited in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
  }
  return (performance.now() - since) / 1000
}
