/**
 * The verbs, each one call of the API and its answer in words or JSON. What they do is done by the node.
 */
import { resolve } from 'node:path'
import {
  type CatRequest,
  type GetRequest,
  type GetResult,
  JobError,
  type ListedEntry,
  type PeerShare,
  type PeerSummary,
  type ShareResult,
  type ShareSummary,
  type ShoalApi,
  type StatusResult,
  type VerifyResult,
} from '../node/control/api.ts'
import { EXIT } from '../protocol/errors.ts'
import { escapeText } from './escape.ts'
import { count, formatBytes, formatFields, formatSeconds, formatTable } from './format.ts'
import type { Io } from './io.ts'
import { sayLimitTable } from './limit-table.ts'
import { monthFields, rateFields, sayLimits } from './limits.ts'
import { cidOf, readLink } from './link-source.ts'
import type { VerbCall } from './program.ts'
import { reachFields } from './reach.ts'
import type { Report } from './report.ts'
import { runExportCar, runImportCar } from './transfer/car.ts'
import { runExport } from './transfer/verbs.ts'

/** What a verb runs with. */
export interface Setting {
  api: ShoalApi
  io: Io
  report: Report
  signal: AbortSignal
}

/** The verbs that a node answers. */
export type SessionCall = Exclude<VerbCall, { verb: 'daemon' | 'service' | 'import' | 'doctor' }>

/** Runs a verb against the API; resolves to the exit code, throws JobError or the abort reason. `daemon` is not among them. */
export async function runVerb(call: SessionCall, at: Setting): Promise<number> {
  if (call.verb === 'share') return await share(call, at)
  if (call.verb === 'get') return call.output === '-' ? await cat(call, at) : await get(call, at)
  if (call.verb === 'seed') return await seed(call, at)
  if (call.verb === 'unseed') return await unseed(call, at)
  if (call.verb === 'verify') return await verify(call, at)
  if (call.verb === 'gc') return await gc(call, at)
  if (call.verb === 'ls') return call.link === null ? await listKept(at) : await listShare(call, at)
  if (call.verb === 'limits') return await limits(call, at)
  if (call.verb === 'log-level') return await logLevel(call, at)
  if (call.verb === 'export') return await runExport(call, at)
  if (call.verb === 'export-car') return await runExportCar(call, at)
  if (call.verb === 'import-car') return await runImportCar(call, at)
  if (call.verb === 'metrics') return await metrics(at)
  if (call.verb === 'status') return await status(call, at)
  return await inspect(call.verb, at)
}

type Of<V extends VerbCall['verb']> = Extract<VerbCall, { verb: V }>

async function share(call: Of<'share'>, { api, io, report, signal }: Setting): Promise<number> {
  const paths = call.paths.map((path) => resolve(io.cwd, path))
  const { scope, name, inPlace, replaces, hints } = call
  const request = { paths, scope, name, inPlace, replaces, ...(hints.length > 0 ? { hints } : {}) }
  const result = await api.share(request, report.onEvent, signal)
  for (const warning of result.warnings) report.warn(warning)
  await report.answer(result, `${result.link}\n`)
  sayShared(result, report)
  return EXIT.ok
}

function sayShared(result: ShareResult, report: Report): void {
  report.note(`${count(result.files, 'file')}, ${formatBytes(result.sizeBytes)}; ${formatBytes(result.wireBytes)} sealed`)
  if (result.inPlace) report.note('Served from the files where they are: when one changes, share it again with --replace.')
  else report.note(`${count(result.newBlocks, 'new block')}, ${result.reusedBlocks} used again`)
  for (const { cid, freedBytes } of result.replaced)
    report.note(`In place of ${cid}, whose link is dead here now: ${formatBytes(freedBytes)} freed`)
  report.note(`Who may host it without reading it gets: ${result.seedLink}`)
  if (result.scope === 'public') report.note('This is a public share: whoever has the same file can tell that you have it.')
}

async function get(call: Of<'get'>, at: Setting): Promise<number> {
  const { api, io, report, signal } = at
  const request: GetRequest = {
    link: await readLink(call.link, io),
    outputDir: resolve(io.cwd, call.output),
    path: call.path,
    force: call.force,
    consent: call.yes,
    wait: call.wait,
    peers: call.peers,
    keep: call.keep,
    keepSealed: call.keepSealed,
  }
  const result = await withConsent(call, at, (consent) => api.get({ ...request, consent }, report.onEvent, signal))
  await report.answer(result, sayGot(result))
  if (result.keptBytes > 0) {
    report.note(`${formatBytes(result.keptBytes)} of sealed blocks stay on this disk to be served, until \`shoal unseed ${result.cid}\`.`)
  }
  if (result.inPlace) report.note(`Served from the files that were written, until \`shoal unseed ${result.cid}\`.`)
  for (const file of result.damaged) report.warn(`${file.path}: ${file.cause}`)
  return result.damaged.length === 0 ? EXIT.ok : EXIT.damagedShare
}

const sayGot = (result: GetResult): string =>
  `${result.written.map((path) => `${escapeText(path)}\n`).join('')}` +
  `${count(result.files, 'file')}, ${formatBytes(result.sizeBytes)}; ` +
  `fetched ${count(result.fetchedBlocks, 'block')} (${formatBytes(result.fetchedBytes)}), ${result.reusedBlocks} already here\n`

async function cat(call: Of<'get'>, at: Setting): Promise<number> {
  const { api, io, report, signal } = at
  const link = await readLink(call.link, io)
  const request: CatRequest = { link, path: call.path, range: call.range, consent: call.yes, wait: call.wait, peers: call.peers }
  await withConsent(call, at, (consent) => report.stream(api.cat({ ...request, consent }, report.onEvent, signal)))
  return EXIT.ok
}

/** Runs a job; when it asks for consent and there is a person to ask, asks and runs it again. */
async function withConsent<T>(call: Of<'get'>, { report, signal }: Setting, run: (consent: boolean) => Promise<T>): Promise<T> {
  try {
    return await run(call.yes)
  } catch (error) {
    const isQuestion = error instanceof JobError && error.exitCode === EXIT.needsConsent
    if (!isQuestion || call.yes || call.link.from === 'stdin' || !report.canAsk()) throw error
    if (!(await report.ask(`${error.message}. Go on?`, signal))) {
      signal.throwIfAborted()
      throw error
    }
  }
  return await run(true)
}

async function seed(call: Of<'seed'>, { api, io, report, signal }: Setting): Promise<number> {
  const link = await readLink(call.link, io)
  const result = await api.seed({ link, wait: call.wait, peers: call.peers, keepForMs: call.keepForMs }, report.onEvent, signal)
  const fetched = `fetched ${count(result.fetchedBlocks, 'block')} (${formatBytes(result.fetchedBytes)})`
  await report.answer(result, `${result.cid}\n${count(result.blockCount, 'block')}, ${formatBytes(result.wireBytes)}; ${fetched}\n`)
  return EXIT.ok
}

async function unseed(call: Of<'unseed'>, { api, io, report, signal }: Setting): Promise<number> {
  const cid = cidOf(await readLink(call.link, io))
  const result = await api.unseed({ cid }, signal)
  const human = result.removed ? `${cid}\n${formatBytes(result.freedBytes)} freed\n` : `${cid} was not kept here\n`
  await report.answer(result, human)
  if (result.heldBackBy !== null) {
    const other = result.heldBackBy
    report.warn(
      `its blocks stay for now: the share ${other} may need them and cannot be read. Mend that with \`shoal verify --repair ${other}\`, or let go of it with \`shoal unseed ${other}\`; then run \`shoal gc\``,
    )
  }
  return EXIT.ok
}

async function gc(call: Of<'gc'>, { api, report, signal }: Setting): Promise<number> {
  const result = await api.gc({ dryRun: call.dryRun, consent: call.yes }, report.onEvent, signal)
  const what = `${count(result.blocks, 'block')}, ${formatBytes(result.bytes)}`
  await report.answer(result, result.isDryRun ? `${what} would be freed\n` : `${what} freed\n`)
  return EXIT.ok
}

async function verify(call: Of<'verify'>, { api, io, report, signal }: Setting): Promise<number> {
  const cids: string[] = []
  for (const link of call.links) cids.push(cidOf(await readLink(link, io)))
  const result = await api.verify({ cids, repair: call.repair, wait: call.wait, peers: call.peers }, report.onEvent, signal)
  await report.answer(result, sayVerified(result, call.repair))
  return result.isSound ? EXIT.ok : EXIT.damagedShare
}

async function listKept({ api, report, signal }: Setting): Promise<number> {
  const shares = await api.shares(signal)
  const human = shares.length === 0 ? 'This node keeps no shares.\n' : sharesTable(shares)
  await report.answer(shares, human)
  return EXIT.ok
}

const untilOf = ({ keepUntilMs }: ShareSummary): string[] =>
  keepUntilMs === null ? [] : [`until ${new Date(keepUntilMs).toISOString().slice(0, 10)}`]

function sharesTable(shares: ShareSummary[]): string {
  const unknown = '-'
  const done = (share: ShareSummary): string =>
    share.cachedBytes !== null
      ? 'cache'
      : share.faultyFiles > 0
        ? `${count(share.faultyFiles, 'file')} changed: see \`shoal status\``
        : share.state === 'complete'
          ? 'complete'
          : `${share.haveBlocks}/${share.blockCount ?? '?'} blocks`
  return formatTable(
    [
      { title: 'SHARE' },
      { title: 'ROLE' },
      { title: 'FILES', align: 'right' },
      { title: 'SIZE', align: 'right' },
      { title: 'ON DISK', align: 'right' },
      { title: 'STATE' },
      { title: 'PEERS', align: 'right' },
      { title: 'NAME' },
    ],
    shares.map((share) => [
      share.cid,
      share.role,
      share.files === null ? unknown : String(share.files),
      share.sizeBytes === null ? unknown : formatBytes(share.sizeBytes),
      onDisk(share, unknown),
      [done(share), ...(share.seeding ? ['served'] : []), ...untilOf(share)].join(', '),
      String(share.peers),
      share.label ?? '',
    ]),
  )
}

function onDisk({ cachedBytes, inPlace, wireBytes }: ShareSummary, unknown: string): string {
  if (cachedBytes !== null) return formatBytes(cachedBytes)
  if (inPlace) return 'in place'
  return wireBytes === null ? unknown : formatBytes(wireBytes)
}

async function listShare(call: Of<'ls'>, { api, io, report, signal }: Setting): Promise<number> {
  if (call.link === null) return EXIT.usage
  const link = await readLink(call.link, io)
  const entries = api.list({ link, path: call.path, wait: call.wait, peers: call.peers }, report.onEvent, signal)
  await report.answerEach(entries, sayEntry)
  return EXIT.ok
}

// Not a table: a share may hold millions of files, and the first line should not wait for the last.
const sayEntry = (entry: ListedEntry): string => {
  const size = entry.isDirectory ? '' : formatBytes(entry.sizeBytes)
  return `${size.padStart(9)} ${entry.executable ? 'x' : ' '} ${escapeText(entry.path)}${entry.isDirectory ? '/' : ''}\n`
}

async function limits(call: Of<'limits'>, { api, report, signal }: Setting): Promise<number> {
  const result = await api.limits(call.request, signal)
  await report.answer(result, sayLimits(result))
  return EXIT.ok
}

async function logLevel(call: Of<'log-level'>, { api, report, signal }: Setting): Promise<number> {
  const result = await api.logLevel({ level: call.level ?? 'same' }, signal)
  await report.answer(result, `${result.level}\n`)
  return EXIT.ok
}

async function metrics({ api, report, signal }: Setting): Promise<number> {
  const page = await api.metrics(signal)
  await report.answer({ metrics: page }, page)
  return EXIT.ok
}

async function status({ isLimits }: Of<'status'>, { api, report, signal }: Setting): Promise<number> {
  if (isLimits) {
    const rows = await api.limitTable(signal)
    await report.answer(rows, sayLimitTable(rows))
  } else {
    const answer = await api.status(signal)
    await report.answer(answer, sayStatus(answer))
  }
  return EXIT.ok
}

async function inspect(verb: 'peers' | 'id' | 'stop', { api, report, signal }: Setting): Promise<number> {
  if (verb === 'peers') {
    const peers = await api.peers(signal)
    await report.answer(peers, peers.length === 0 ? 'No peers are connected.\n' : peersTable(peers))
  } else if (verb === 'id') {
    const identity = await api.identity(signal)
    await report.answer(identity, [identity.peerId, ...identity.addresses].map((line) => `${escapeText(line)}\n`).join(''))
  } else {
    await api.stop(signal)
  }
  return EXIT.ok
}

function sayVerified({ shares, checkedBlocks, checkedBytes, isSound }: VerifyResult, isRepair: boolean): string {
  const checked = `${count(shares.length, 'share')}, ${count(checkedBlocks, 'block')}, ${formatBytes(checkedBytes)} checked`
  const odd = shares.filter((share) => !share.isSound || share.repairedBlocks > 0)
  const lines = odd.map(({ cid, damagedBlocks, missingBlocks, changedBlocks, repairedBlocks, isSound: isWell, failure }) => {
    const changed = changedBlocks > 0 ? `, ${changedBlocks} of files that changed: share them again` : ''
    const what = `${damagedBlocks} damaged, ${missingBlocks} missing${changed}`
    return `${cid}: ${what}; ${isWell ? `${repairedBlocks} fetched anew` : escapeText(failure ?? 'not repaired')}\n`
  })
  const advice = isRepair ? 'Try again when a seeder is online, or share the files again.' : 'Mend it with `shoal verify --repair`.'
  return `${lines.join('')}${checked}: ${isSound ? 'all is well' : `there is damage. ${advice}`}\n`
}

const sayStatus = (status: StatusResult): string =>
  formatFields([
    ['peer id', status.peerId],
    ['version', status.version],
    ['home', status.home],
    ...(status.stopping ? [['state', 'stopping'] as [string, string]] : []),
    ...(status.httpPort === null ? [] : [['http', `http://127.0.0.1:${status.httpPort}`] as [string, string]]),
    ['process', `${status.pid}, up ${formatSeconds(status.uptimeSeconds)}, ${formatBytes(status.rssBytes)} of memory`],
    ['network', status.network ?? 'public'],
    ...status.addresses.map((address, i): [string, string] => [i === 0 ? 'addresses' : '', address]),
    ['shares', `${status.shares}, ${count(status.blocks, 'block')}`],
    ...sayCached(status),
    ...sayUnfinished(status.unfinished),
    ...sayFaulty(status.faultyFiles),
    ['jobs', String(status.jobs)],
    ['connections', String(status.connections)],
    ...status.dht.map((dht, i): [string, string] => [i === 0 ? 'dht' : '', `${dht.name}: ${count(dht.peers, 'peer')}, ${dht.mode}`]),
    ...reachFields(status.reach),
    ['traffic', `${formatBytes(status.bytesIn)} in, ${formatBytes(status.bytesOut)} out`],
    ...rateFields(status.rates),
    ...monthFields(status.rates),
    ...sayKeeping(status.keeping),
  ])

function sayKeeping({ damagedShares, scrub }: StatusResult['keeping']): [string, string][] {
  const rows: [string, string][] = []
  if (damagedShares > 0)
    rows.push(['damage', `${count(damagedShares, 'share')} with lost blocks, being fetched again; see \`shoal verify\``])
  if (scrub?.last) {
    const { endedMs, checkedBlocks, damagedBlocks } = scrub.last
    rows.push([
      'checked',
      `all ${count(checkedBlocks, 'block')} until ${new Date(endedMs).toISOString().slice(0, 10)}, ${damagedBlocks} damaged`,
    ])
  }
  return rows
}

function sayCached({ cached, rates }: StatusResult): [string, string][] {
  if (cached.shares === 0) return []
  const max = rates.settings.cachedBytes
  const of = max === null ? '' : ` of ${formatBytes(max)}`
  return [['cache', `${count(cached.shares, 'share')} that were read, ${formatBytes(cached.bytes)}${of}; the oldest go first`]]
}

function sayUnfinished({ running, waiting, gets }: StatusResult['unfinished']): [string, string][] {
  const parts = [
    ...(running > 0 ? [`${count(running, 'share')} being fetched`] : []),
    ...(waiting > 0 ? [`${count(waiting, 'share')} served as far as fetched: \`shoal get\` with the same link goes on`] : []),
    ...gets.map(
      ({ cid, path, outputDir, haveBlocks, blockCount }) =>
        `${cid}: ${haveBlocks}/${blockCount ?? '?'} blocks; get it again into ${outputDir}${path === '' ? '' : ` with --path ${path}`}`,
    ),
  ]
  return parts.map((part, i) => [i === 0 ? 'unfinished' : '', part])
}

const FAULTS: Record<StatusResult['faultyFiles']['first'][number]['fault'], string> = {
  changed: 'has changed',
  missing: 'is gone',
  'not-a-file': 'is no file any more',
  unreadable: 'cannot be read',
}

/** What became of files that are served from where they are, and what to do. */
function sayFaulty({ count: all, first }: StatusResult['faultyFiles']): [string, string][] {
  const lines = first.map(
    ({ path, fault, isOwn }) =>
      `${path} ${FAULTS[fault]} and is not served: put it back, or ${isOwn ? 'share it again with --replace for a new link' : 'get it again'}`,
  )
  if (all > first.length) lines.push(`and ${count(all - first.length, 'more file')}`)
  return lines.map((line, i) => [i === 0 ? 'files' : '', line])
}

/** A line for each share of each peer, one for a peer without. */
const peersTable = (peers: PeerSummary[]): string =>
  formatTable(
    [
      { title: 'PEER' },
      { title: 'WAY' },
      { title: 'FOR', align: 'right' },
      { title: 'SHARE' },
      { title: 'FROM' },
      { title: 'HAS', align: 'right' },
      { title: 'GAVE', align: 'right' },
      { title: 'IN', align: 'right' },
      { title: 'IN/S', align: 'right' },
      { title: 'OUT', align: 'right' },
      { title: 'OUT/S', align: 'right' },
      { title: 'ADDRESS' },
    ],
    peers.flatMap((peer) => {
      const rows = peer.shares.length === 0 ? [['-', '-', '-', '-', '-', '-', '-', '-']] : peer.shares.map(shareCells)
      return rows.map((cells) => [peer.peerId, peer.direction, formatSeconds(peer.connectedSeconds), ...cells, peer.address])
    }),
  )

const shareCells = (share: PeerShare): string[] => [
  `…${share.cid.slice(-CID_SHOWN)}`,
  share.source,
  share.hasAll ? 'all' : count(share.haveBlocks, 'block'),
  count(share.verifiedBlocks, 'block'),
  formatBytes(share.bytesIn),
  formatBytes(share.inBytesPerSecond),
  formatBytes(share.bytesOut),
  formatBytes(share.outBytesPerSecond),
]

/** Enough of a content ID to tell the shares of one node apart. */
const CID_SHOWN = 8
