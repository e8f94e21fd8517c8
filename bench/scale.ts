/**
 * `npm run bench:scale`: a node with very much in it. A store of 1,000,000 blocks (of 1 KiB, standing in for 1 MiB) in 10,000 shares: how
 * long a start takes, how much memory the node then has, how long a block is looked for. A folder of 100,000 files of 1 KiB: how long
 * `share` and `get` take, and the most memory of either node.
 *
 * Options: --blocks N, --shares N, --files N, --only store|files.
 */
import { createHash } from 'node:crypto'
import { mkdir, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { GetResult, ShareResult, StatusResult } from '../node/control/api.ts'
import { nodePrimitives } from '../node/crypto/primitives.ts'
import { silentLog } from '../node/log.ts'
import { openBlockStore } from '../node/storage/blocks.ts'
import { diskFileSystem } from '../node/storage/fs.ts'
import { prepareHome } from '../node/storage/home.ts'
import { openRecords, type ShareRecord } from '../node/storage/records.ts'
import { buildDag } from '../protocol/dag.ts'
import { FORMAT } from '../protocol/limits.ts'
import { Sandbox } from '../test/kit/daemons.ts'
import { compareTrees } from '../test/kit/trees.ts'
import { forEachOf, median, say, timed, usageOf } from './meters.ts'

const STAND_IN_BYTES = 1024
const FILES_PER_FOLDER = 1000
const WRITES_AT_ONCE = 16
const LOOKUPS = 10_000
const STARTS = 3
const NEVER = new AbortController().signal

const { values } = parseArgs({
  options: {
    blocks: { type: 'string', default: '1000000' },
    shares: { type: 'string', default: '10000' },
    files: { type: 'string', default: '100000' },
    only: { type: 'string' },
  },
})

/** Bytes that differ for each number. */
function standIn(number: number): Uint8Array {
  const bytes = Buffer.alloc(STAND_IN_BYTES, number & 0xff)
  bytes.writeUInt32BE(number)
  return bytes
}

const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest()

/** A home with that many blocks and shares, made without going through a node; resolves to the digests of the blocks. */
async function makeHome(home: string, shares: number, blocks: number): Promise<Uint8Array> {
  const paths = await prepareHome(home)
  const digests = new Uint8Array(32 * blocks)
  for (let i = 0; i < 256; i++) await mkdir(join(home, 'blocks', i.toString(16).padStart(2, '0')), { recursive: true, mode: 0o700 })
  const put = async (digest: Uint8Array, bytes: Uint8Array): Promise<void> => {
    const hex = Buffer.from(digest).toString('hex')
    await writeFile(join(home, 'blocks', hex.slice(0, 2), hex), bytes, { mode: 0o600 })
  }
  const slices = Array.from({ length: WRITES_AT_ONCE }, (_, i) => i)
  await forEachOf(slices, WRITES_AT_ONCE, async (slice) => {
    for (let i = slice; i < blocks; i += WRITES_AT_ONCE) {
      const bytes = standIn(i)
      const digest = sha256(bytes)
      digests.set(digest, 32 * i)
      await put(digest, bytes)
    }
  })
  const records = await openRecords({ file: paths.recordsFile, log: silentLog })
  const each = Math.floor(blocks / shares)
  const numbers = Array.from({ length: shares }, (_, i) => i)
  await forEachOf(numbers, WRITES_AT_ONCE, async (number) => {
    const leaves = digests.subarray(32 * number * each, 32 * (number + 1) * each)
    const totalBytes = each * FORMAT.blockBytes
    const cid = await buildDag(nodePrimitives, leaves, totalBytes, (_level, _index, digest, bytes) => put(digest, bytes))
    const record: ShareRecord = {
      cid: cid.text,
      role: 'blind',
      readKey: null,
      scope: null,
      label: null,
      files: null,
      sizeBytes: null,
      wireBytes: totalBytes,
      blockCount: each,
      state: 'complete',
      inPlace: false,
      addedMs: Date.now(),
      announcedMs: Date.now(),
    }
    await records.saveShare(record)
  })
  await records.close()
  return digests
}

async function benchStore(sandbox: Sandbox, shares: number, blocks: number): Promise<void> {
  const home = sandbox.path('home-large')
  let digests = new Uint8Array(0)
  const seconds = await timed(async () => {
    digests = new Uint8Array(await makeHome(home, shares, blocks))
  })
  say(`\n${shares} shares, ${blocks} blocks of ${STAND_IN_BYTES} bytes, made in ${seconds.toFixed(0)} s.`)
  for (let start = 0; start < STARTS; start++) {
    const since = performance.now()
    const daemon = await sandbox.daemon('large')
    const startedSeconds = (performance.now() - since) / 1000
    const status = await daemon.json<StatusResult>('status')
    const listSeconds = await timed(() => daemon.json('ls'))
    const { rssMiB } = await usageOf(daemon.started.pid)
    if (status.shares !== shares) throw new Error(`the node knows ${status.shares} shares`)
    const stopSeconds = await timed(() => daemon.kill())
    say(
      `start ${startedSeconds.toFixed(1)} s, ${status.blocks} blocks; memory ${(status.rssBytes / 2 ** 20).toFixed(0)} MiB, at most ` +
        `${rssMiB.toFixed(0)} MiB; ls ${listSeconds.toFixed(1)} s; stop ${stopSeconds.toFixed(1)} s`,
    )
  }
  await benchLookups(home, digests)
}

/** Blocks picked all over the store: whether they are here, and their bytes, checked. */
async function benchLookups(home: string, digests: Uint8Array): Promise<void> {
  const store = await openBlockStore({
    dir: home,
    fs: diskFileSystem,
    verify: async (bytes) => ({ digest: await nodePrimitives.sha256(bytes), bytes }),
    allocate: (size) => new Uint8Array(size),
    log: silentLog,
    signal: NEVER,
  })
  const count = digests.length / 32
  const times: number[] = []
  let known = 0
  const hasSeconds = await timed(async () => {
    for (let i = 0; i < LOOKUPS; i++) if (store.has(digestAt(digests, (i * 7919) % count))) known++
  })
  for (let i = 0; i < LOOKUPS; i++) {
    const digest = digestAt(digests, (i * 104_729) % count)
    const since = performance.now()
    if ((await store.get(digest, NEVER)) === null) throw new Error('a block is not there')
    times.push(performance.now() - since)
  }
  await store.close()
  if (known !== LOOKUPS) throw new Error(`${LOOKUPS - known} blocks are not known`)
  times.sort((a, b) => a - b)
  say(
    `whether a block is here: ${((hasSeconds * 1e6) / LOOKUPS).toFixed(1)} µs; its bytes, read and checked: median ` +
      `${median(times).toFixed(2)} ms, p99 ${(times[Math.floor(LOOKUPS * 0.99)] ?? Number.NaN).toFixed(2)} ms`,
  )
}

const digestAt = (digests: Uint8Array, index: number): Uint8Array => digests.subarray(32 * index, 32 * (index + 1))

async function makeFolder(folder: string, files: number): Promise<void> {
  for (let dir = 0; dir * FILES_PER_FOLDER < files; dir++) {
    const path = join(folder, `folder-${dir}`)
    await mkdir(path, { recursive: true })
    const here = Array.from({ length: Math.min(FILES_PER_FOLDER, files - dir * FILES_PER_FOLDER) }, (_, i) => i)
    await forEachOf(here, WRITES_AT_ONCE, (i) => writeFile(join(path, `file-${i}.txt`), standIn(dir * FILES_PER_FOLDER + i)))
  }
  const handle = await open(folder)
  await handle.sync()
  await handle.close()
}

async function benchFiles(sandbox: Sandbox, files: number): Promise<void> {
  const folder = sandbox.path('many')
  say(`\n${files} files of ${STAND_IN_BYTES} bytes, made in ${(await timed(() => makeFolder(folder, files))).toFixed(1)} s.`)
  for (const args of [[], ['--in-place']]) {
    const name = args.length === 0 ? 'stored' : 'in-place'
    const sender = await sandbox.daemon(`sender-${name}`)
    const receiver = await sandbox.daemon(`receiver-${name}`, { bootstrap: sender.addresses })
    let link = ''
    const shareSeconds = await timed(async () => {
      link = (await sender.json<ShareResult>('share', folder, ...args)).link
    })
    const shareRss = (await usageOf(sender.started.pid)).rssMiB
    const out = sandbox.path(`out-${name}`)
    await mkdir(out)
    const getSeconds = await timed(() => receiver.json<GetResult>('get', link, '-o', out))
    const [senderRss, receiverRss] = [await usageOf(sender.started.pid), await usageOf(receiver.started.pid)]
    const { differences } = await compareTrees(folder, join(out, 'many'))
    if (differences.length > 0) throw new Error(`${differences.length} differences: ${differences[0]}`)
    say(
      `share ${args.join(' ')} ${shareSeconds.toFixed(1)} s, at most ${shareRss.toFixed(0)} MiB; get ${getSeconds.toFixed(1)} s, at most ` +
        `${receiverRss.rssMiB.toFixed(0)} MiB receiving, ${senderRss.rssMiB.toFixed(0)} MiB serving; all files are the same`,
    )
    await Promise.all([sender.kill(), receiver.kill()])
  }
}

async function main(): Promise<void> {
  const sandbox = await Sandbox.create()
  try {
    if (values.only !== 'files') await benchStore(sandbox, Number(values.shares), Number(values.blocks))
    if (values.only !== 'store') await benchFiles(sandbox, Number(values.files))
  } finally {
    await sandbox.clear()
  }
}

await main()
