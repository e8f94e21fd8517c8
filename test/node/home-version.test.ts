/** Homes of other versions: the golden home of 0.1.0 is opened whole, newer ones are refused and stay as they are. */
import { chmod, cp, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { loadConfig } from '../../node/config.ts'
import { nodePrimitives } from '../../node/crypto/primitives.ts'
import { silentLog } from '../../node/log.ts'
import { openNode } from '../../node/main.ts'
import { diskFileSystem, type FileSystem } from '../../node/storage/fs.ts'
import { assertHomeIsKnown, HOME_VERSION, migrateHome } from '../../node/storage/home-version.ts'
import { openRecords } from '../../node/storage/records.ts'
import { parseLink } from '../../protocol/link.ts'
import { makeHome } from '../cli/home.ts'

const GOLDEN = resolve(import.meta.dirname, '../golden')
const VERSIONS = ['0.1.0']

interface Expected {
  peerId: string
  shares: { cid: string; link: string | null; state: string }[]
}

const never = new AbortController().signal

/** A copy of a golden home with the modes that git does not keep. */
async function goldenHome(version: string): Promise<{ home: string; expected: Expected }> {
  const home = join(await makeHome(), 'home')
  await cp(join(GOLDEN, `home-${version}`), home, { recursive: true })
  for (const entry of await readdir(home, { recursive: true, withFileTypes: true })) {
    await chmod(join(entry.parentPath, entry.name), entry.isDirectory() ? 0o700 : 0o600)
  }
  await chmod(home, 0o700)
  // Read from a file of this repository.
  return { home, expected: JSON.parse(await readFile(join(GOLDEN, `home-${version}.json`), 'utf8')) as Expected }
}

async function open(home: string) {
  const config = await loadConfig({ home, overrides: { network: 'golden', mdns: false, listen: ['/ip4/127.0.0.1/tcp/0'] } })
  const node = await openNode(config, { oneShot: true, offline: true, log: silentLog })
  onTestFinished(() => node.stop())
  return node
}

/** Every file with its content, size, mode and times. */
async function snapshot(home: string): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {}
  for (const entry of await readdir(home, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    const { mtimeMs, mode, size } = await stat(path)
    found[path] = [mtimeMs, mode, size, entry.isFile() ? (await readFile(path)).toString('base64') : null]
  }
  return found
}

describe.each(VERSIONS)('a home of Shoal %s', (version) => {
  it('is opened with its identity and every record and key', async () => {
    const { home, expected } = await goldenHome(version)
    const node = await open(home)
    expect(node.peerId).toBe(expected.peerId)
    const shares = await node.api.shares(never)
    for (const { link: _link, ...share } of expected.shares) expect(shares).toContainEqual(expect.objectContaining(share))
    expect(shares).toHaveLength(expected.shares.length)
    expect((await node.api.status(never)).blocks).toBe(expected.shares.length)
    await node.stop()
    const records = await openRecords({ file: join(home, 'records.db'), log: silentLog })
    onTestFinished(() => records.close())
    for (const { cid, link } of expected.shares) {
      const key = link === null ? null : (await parseLink(nodePrimitives, link)).readKey
      expect((await records.getShare(cid))?.readKey?.reveal()).toEqual(key?.reveal())
    }
    expect(await readFile(join(home, 'version'), 'utf8')).toBe(`${HOME_VERSION}\n`)
  })

  it('gives its files as before', async () => {
    const { home, expected } = await goldenHome(version)
    const node = await open(home)
    const link = expected.shares.find((share) => share.link !== null && share.cid.startsWith('bafkreib3ej3'))?.link ?? ''
    const parts: Uint8Array[] = []
    const request = { link, path: null, range: null, consent: false, wait: false, peers: [] }
    for await (const bytes of node.api.cat(request, () => {}, never)) parts.push(bytes)
    expect(Buffer.concat(parts).toString()).toBe('from somebody else\n')
  })

  it('opens a second time as it was left', async () => {
    const { home, expected } = await goldenHome(version)
    await (await open(home)).stop()
    expect(await (await open(home)).api.shares(never)).toHaveLength(expected.shares.length)
  })
})

describe('a home of a newer Shoal', () => {
  it('is refused, and nothing in it is touched', async () => {
    const { home } = await goldenHome('0.1.0')
    await writeFile(join(home, 'version'), `${HOME_VERSION + 1}\n`, { mode: 0o600 })
    await rm(join(home, 'tmp'), { recursive: true, force: true })
    const before = await snapshot(home)
    await expect(open(home)).rejects.toMatchObject({ code: 'NEWER', message: expect.stringContaining('use the newer Shoal') })
    expect(await snapshot(home)).toEqual(before)
  })

  it('is refused for newer tables too, which stay as they are', async () => {
    const { home } = await goldenHome('0.1.0')
    const { DatabaseSync } = await import('node:sqlite')
    const db = new DatabaseSync(join(home, 'records.db'))
    db.exec('PRAGMA user_version = 999; PRAGMA application_id = 999')
    db.close()
    const before = await readFile(join(home, 'records.db'))
    await expect(open(home)).rejects.toMatchObject({ code: 'NEWER' })
    expect((await readFile(join(home, 'records.db'))).equals(before)).toBe(true)
  })

  it('is not guessed at when its version cannot be read', async () => {
    for (const text of ['', '0\n', '-1\n', '1', '1.5\n', '1\n1\n', 'x\n', '99999999999999999999\n']) {
      const home = await makeHome()
      await writeFile(join(home, 'version'), text)
      await expect(assertHomeIsKnown(home), JSON.stringify(text)).rejects.toMatchObject({ code: 'CORRUPT' })
    }
  })
})

describe('bringing a home up to date', () => {
  /** The disk, until operation `last`: from then on every operation fails. */
  function failingAfter(last: number): { fs: FileSystem; count(): number } {
    let done = 0
    const guard = (): void => {
      if (done++ >= last) throw Object.assign(new Error('cut off'), { code: 'EIO' })
    }
    const guarded = <T extends object>(target: T): T =>
      new Proxy(target, {
        get: (object, name) => {
          const value: unknown = Reflect.get(object, name)
          if (typeof value !== 'function') return value
          return async (...args: unknown[]) => {
            if (name !== 'close') guard()
            const result: unknown = await value.apply(object, args)
            return name === 'open' ? guarded(result as object) : result // an open file is an object
          }
        },
      })
    return { fs: guarded(diskFileSystem), count: () => done }
  }

  it('may be cut off at every operation, and ends the same when it is run again', async () => {
    const whole = failingAfter(Number.POSITIVE_INFINITY)
    await migrateHome(await makeHome(), whole.fs)
    const count = whole.count()
    expect(count).toBeGreaterThan(4)
    for (let last = 0; last < count; last++) {
      const home = await makeHome()
      await mkdir(join(home, 'blocks'))
      await expect(migrateHome(home, failingAfter(last).fs)).rejects.toMatchObject({ code: 'IO' })
      await assertHomeIsKnown(home)
      await migrateHome(home)
      expect((await readdir(home)).sort()).toEqual(['blocks', 'version'])
      expect(await readFile(join(home, 'version'), 'utf8')).toBe(`${HOME_VERSION}\n`)
    }
  })
})
