/** The long form, `npm run e2e`: real input of every kind that people have, between real daemons. Takes minutes and some 20 GiB of disk. */
import { randomBytes } from 'node:crypto'
import { mkdir, open, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { GetResult, SeedResult, ShareResult, StatusResult } from '../../../node/control/api.ts'
import { EXIT } from '../../../protocol/errors.ts'
import { type Daemon, Sandbox } from '../../kit/daemons.ts'
import { portOf, RecordingProxy } from '../../kit/proxy.ts'
import { findPlaintext } from '../../kit/search.ts'
import { compareTrees, copySources } from '../../kit/trees.ts'

const MIB = 1_048_576
const REPOSITORY = fileURLToPath(new URL('../../..', import.meta.url))
const RSS_MAX = 300 * MIB

let sandbox: Sandbox
let a: Daemon
let b: Daemon

beforeAll(async () => {
  sandbox = await Sandbox.create()
  a = await sandbox.daemon('a')
  b = await sandbox.daemon('b', { bootstrap: a.addresses })
})

afterAll(async () => {
  await sandbox.clear()
})

/** Shares on A, gets on B, compares, and lets go of everything again. */
async function roundTrip(name: string, paths: string[], ...getArgs: string[]): Promise<GetResult> {
  const shared = await a.json<ShareResult>('share', ...paths)
  const out = sandbox.path(`out-${name}`)
  await mkdir(out)
  const got = await b.json<GetResult>('get', shared.link, '-o', out, ...getArgs)
  for (const path of paths) {
    const top = path.split('/').at(-1) ?? ''
    expect((await compareTrees(path, join(out, top))).differences).toEqual([])
  }
  await a.json('unseed', shared.cid)
  await b.json('unseed', shared.cid)
  await rm(out, { recursive: true })
  return got
}

const rssOf = async (daemon: Daemon): Promise<number> => {
  const status = await readFile(`/proc/${daemon.started.pid}/status`, 'utf8')
  return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) * 1024
}

describe('share and get give an identical tree', () => {
  it('of 1 GiB of random bytes, in at most 300 MiB of memory', async () => {
    const path = sandbox.path('random.bin')
    const file = await open(path, 'w')
    for (let i = 0; i < 64; i++) await file.write(randomBytes(16 * MIB))
    await file.close()
    await roundTrip('random', [path])
    await rm(path)
    expect(await rssOf(a)).toBeLessThanOrEqual(RSS_MAX)
    expect(await rssOf(b)).toBeLessThanOrEqual(RSS_MAX)
  })

  it('of 10,000 files of 0 to 200 KB in nested folders with names in several scripts', async () => {
    const top = sandbox.path('many')
    const names = ['photo', 'отчёт', '写真', 'صورة', 'größe', 'नमस्ते', '🐟']
    const pool = randomBytes(16 * MIB)
    for (let i = 0; i < 10_000; i++) {
      const dir = join(top, `${names[i % 7]}`, `${names[(i * 3) % 5]} ${i % 40}`)
      if (i < 300) await mkdir(dir, { recursive: true })
      await mkdir(dir, { recursive: true })
      const size = i % 97 === 0 ? 0 : (i * 7919) % 200_001
      const at = (i * 104_729) % (pool.byteLength - size)
      await writeFile(join(dir, `${names[(i * 5) % 7]}-${i}.dat`), pool.subarray(at, at + size), { mode: i % 50 === 0 ? 0o755 : 0o644 })
    }
    expect((await roundTrip('many', [top])).files).toBe(10_000)
    await rm(top, { recursive: true })
  })

  it('of an empty file, and of empty folders', async () => {
    const file = sandbox.path('empty')
    await writeFile(file, '')
    await roundTrip('empty-file', [file])
    const folder = sandbox.path('folders')
    await mkdir(join(folder, 'a', 'b', 'c'), { recursive: true })
    await mkdir(join(folder, 'd'))
    await roundTrip('empty-folders', [folder])
  })

  it('of a sparse file of 5 GiB, which asks for consent and stays sparse', async () => {
    const path = sandbox.path('sparse.img')
    const file = await open(path, 'w')
    await file.truncate(5 * 1024 * MIB)
    await file.write(Buffer.from('in the middle'), 0, 13, 2 * 1024 * MIB)
    await file.close()
    const shared = await a.json<ShareResult>('share', path)
    const out = sandbox.path('out-sparse')
    await mkdir(out)
    expect((await b.run('get', shared.link, '-o', out)).code).toBe(EXIT.needsConsent)
    await b.json<GetResult>('get', shared.link, '-o', out, '--yes')
    expect((await compareTrees(path, join(out, 'sparse.img'))).differences).toEqual([])
    expect((await stat(join(out, 'sparse.img'))).blocks * 512).toBeLessThan(16 * MIB)
    await rm(out, { recursive: true })
    await rm(path)
  })

  it('of several paths at once', async () => {
    const [one, two] = [sandbox.path('one.txt'), sandbox.path('two')]
    await writeFile(one, 'one')
    await mkdir(two)
    await writeFile(join(two, 'file'), randomBytes(3 * MIB))
    await roundTrip('several', [one, two])
  })

  it('of this repository', async () => {
    const copy = sandbox.path('repository')
    await copySources(REPOSITORY, copy)
    await roundTrip('repository', [copy])
  })
})

describe('sharing again', () => {
  it('re-uses unchanged blocks when a file changed', async () => {
    const top = sandbox.path('versions')
    await mkdir(top)
    await writeFile(join(top, 'large.bin'), randomBytes(64 * MIB))
    await writeFile(join(top, 'note.txt'), 'first')
    const first = await a.json<ShareResult>('share', top)
    await writeFile(join(top, 'note.txt'), 'second')
    const second = await a.json<ShareResult>('share', top)
    expect(second.link).not.toBe(first.link)
    expect(second.reusedBlocks).toBeGreaterThanOrEqual(60)
    expect(second.newBlocks).toBeLessThanOrEqual(4)
  })

  it('gives the same public link for the same file on two nodes', async () => {
    const [left, right] = [sandbox.path('left', 'song.ogg'), sandbox.path('right', 'renamed.ogg')]
    const bytes = randomBytes(5 * MIB)
    for (const path of [left, right]) {
      await mkdir(join(path, '..'), { recursive: true })
      await writeFile(path, bytes)
    }
    const one = await a.json<ShareResult>('share', '--public', left)
    const other = await b.json<ShareResult>('share', '--public', right)
    expect(one.cid).toBe(other.cid)
    expect(one.link.split(',')[0]).toBe(other.link.split(',')[0])
  })
})

describe('a blind seeder', () => {
  it('serves with the sharer gone, and neither its home, its debug log nor its traffic tells a name or a byte', async () => {
    const folder = sandbox.path('secrets')
    await mkdir(folder)
    await writeFile(join(folder, 'confession of the year.txt'), 'I ate the last biscuit and I am not sorry at all.\n'.repeat(500))
    await copySources(join(REPOSITORY, 'test'), join(folder, 'sources'))
    const sharer = await sandbox.daemon('sharer')
    const shared = await sharer.json<ShareResult>('share', folder)
    const proxy = await RecordingProxy.to(portOf(sharer.addresses[0] ?? ''))
    const blind = await sandbox.daemon('blind', { args: ['--log-level', 'debug'] })
    await blind.json<SeedResult>('seed', shared.seedLink, '--peer', `/ip4/127.0.0.1/tcp/${proxy.port}/p2p/${sharer.started.peerId}`)
    await sharer.kill('SIGKILL')
    const behind = await RecordingProxy.to(portOf(blind.addresses[0] ?? ''))
    const getter = await sandbox.daemon('getter')
    const out = sandbox.path('out-secrets')
    await mkdir(out)
    await getter.json<GetResult>('get', shared.link, '-o', out, '--peer', `/ip4/127.0.0.1/tcp/${behind.port}/p2p/${blind.started.peerId}`)
    expect((await compareTrees(folder, join(out, 'secrets'))).differences).toEqual([])
    const traffic = Buffer.concat([proxy.bytes, behind.bytes])
    expect(traffic.byteLength).toBeGreaterThan(2 * shared.wireBytes)
    const found = await findPlaintext({
      folder,
      link: shared.link,
      inDir: blind.home,
      texts: { log: blind.log },
      bytes: { traffic },
    })
    expect(found.needles).toBeGreaterThan(50)
    expect(found.hits).toEqual([])
    expect((await blind.json<StatusResult>('status')).bytesOut).toBeGreaterThan(shared.wireBytes)
    proxy.close()
    behind.close()
  })
})
