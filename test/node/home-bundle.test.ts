/** Export and import of a home: everything but blocks comes back, and nothing half. */
import { chmod, cp, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { PassThrough } from 'node:stream'
import { describe, expect, it, onTestFinished } from 'vitest'
import { runCli } from '../../cli/app.ts'
import { importHome, openLocalNode } from '../../cli/local-node.ts'
import { loadConfig } from '../../node/config.ts'
import type { HomeBundle } from '../../node/control/bundle.ts'
import { silentLog } from '../../node/log.ts'
import { openNode } from '../../node/main.ts'
import { openRecords } from '../../node/storage/records.ts'
import { EXIT } from '../../protocol/errors.ts'
import { makeHome } from '../cli/home.ts'

const never = new AbortController().signal
const CONFIG = { network: 'golden', mdns: false, listen: ['/ip4/127.0.0.1/tcp/0'] }

async function open(home: string) {
  const node = await openNode(await loadConfig({ home, overrides: {} }), { oneShot: true, offline: true, log: silentLog })
  onTestFinished(() => node.stop())
  return node
}

/** A home with records of every kind, and what is exported of it. */
async function exported(): Promise<{ folder: string; home: string; peerId: string; bundle: HomeBundle }> {
  const folder = await makeHome()
  const home = join(folder, 'home')
  await cp(resolve(import.meta.dirname, '../golden/home-0.1.0'), home, { recursive: true })
  for (const entry of await readdir(home, { recursive: true, withFileTypes: true })) {
    await chmod(join(entry.parentPath, entry.name), entry.isDirectory() ? 0o700 : 0o600)
  }
  await chmod(home, 0o700)
  await writeFile(join(home, 'config.json'), JSON.stringify(CONFIG))
  const node = await open(home)
  const bundle = await node.api.exportHome(never)
  const { peerId } = node
  await node.stop()
  return { folder, home, peerId, bundle: structuredClone(bundle) }
}

async function keysOf(home: string) {
  const records = await openRecords({ file: join(home, 'records.db'), log: silentLog })
  try {
    return (await records.listShares()).map(({ state: _state, readKey, scope, ...rest }) => {
      const secret = scope?.secret === undefined || scope.secret === null ? null : Buffer.from(scope.secret.reveal()).toString('hex')
      return {
        ...rest,
        readKey: readKey === null ? null : Buffer.from(readKey.reveal()).toString('hex'),
        scope: scope && { ...scope, secret },
      }
    })
  } finally {
    await records.close()
  }
}

describe('a home that was exported and imported', () => {
  it('has the same identity, settings, records and keys, and says that its blocks are missing', async () => {
    const { folder, home, peerId, bundle } = await exported()
    const other = join(folder, 'deep', 'other')
    // As it comes out of a file.
    expect(await importHome(other, JSON.parse(JSON.stringify(bundle)))).toEqual({ home: other, peerId, shares: 5 })
    expect(await keysOf(other)).toEqual(await keysOf(home))
    const node = await open(other)
    expect(node.peerId).toBe(peerId)
    const states = (await node.api.shares(never)).map(({ state, haveBlocks }) => ({ state, haveBlocks }))
    expect(states).toEqual(Array.from({ length: 5 }, () => ({ state: 'partial', haveBlocks: 0 })))
    expect(await loadConfig({ home: other, overrides: {} })).toMatchObject(CONFIG)
    for (const name of ['identity', 'node-secret', 'records.db', 'config.json', 'version']) {
      expect((await stat(join(other, name))).mode & 0o777, name).toBe(0o600)
    }
    expect((await stat(other)).mode & 0o777).toBe(0o700)
    // It can be exported again, and is the same.
    const { madeMs: _made, ...again } = await node.api.exportHome(never)
    for (const row of again.records.tables.share ?? []) row.state = 'complete'
    // The checksum of a row follows from its state, which an import changes.
    for (const { records } of [again, bundle]) for (const row of records.tables.share ?? []) delete row.sum
    expect(again).toEqual(expect.objectContaining({ identity: bundle.identity, records: bundle.records }))
  })

  it('is imported into an empty place only, and leaves nothing behind where it is refused', async () => {
    const { folder, home, bundle } = await exported()
    await expect(importHome(home, bundle)).rejects.toMatchObject({ code: 'EXISTS' })
    const empty = join(folder, 'empty')
    await mkdir(empty)
    await importHome(empty, bundle)
    const share = bundle.records.tables.share ?? []
    const bad: [string, unknown, string][] = [
      ['no object', 'x', 'BAD_INPUT'],
      ['something else', { ...bundle, shoal: 'share' }, 'BAD_INPUT'],
      ['a newer bundle', { ...bundle, version: 2 }, 'NEWER'],
      ['a newer home', { ...bundle, homeVersion: 1_000 }, 'NEWER'],
      ['newer records', { ...bundle, records: { ...bundle.records, version: 1_000 } }, 'NEWER'],
      ['no identity', { ...bundle, identity: null }, 'BAD_INPUT'],
      ['another identity', { ...bundle, identity: { base64: 'AAAA' } }, 'BAD_INPUT'],
      ['half a secret', { ...bundle, nodeSecret: { base64: 'AAAA' } }, 'BAD_INPUT'],
      ['settings that are none', { ...bundle, config: '{"pex":1}' }, 'BAD_CONFIG'],
      ['a strange table', { ...bundle, records: { ...bundle.records, tables: { 'x"; DROP TABLE share; --': [{ a: 1 }] } } }, 'CORRUPT'],
      ['the table of SQLite itself', { ...bundle, records: { ...bundle.records, tables: { sqlite_schema: [{ name: 'a' }] } } }, 'CORRUPT'],
      ['a strange column', { ...bundle, records: { ...bundle.records, tables: { share: [{ ...share[0], evil: 1 }] } } }, 'CORRUPT'],
      [
        'a row of the wrong kind',
        { ...bundle, records: { ...bundle.records, tables: { share: [{ ...share[0], files: 'x' }] } } },
        'CORRUPT',
      ],
      ['a share twice', { ...bundle, records: { ...bundle.records, tables: { share: [share[0], share[0]] } } }, 'CORRUPT'],
      ['rows that are none', { ...bundle, records: { ...bundle.records, tables: { share: [7] } } }, 'BAD_INPUT'],
    ]
    for (const [what, value, code] of bad) {
      await expect(importHome(join(folder, 'new'), value), what).rejects.toMatchObject({ code })
      expect((await readdir(folder)).sort(), what).toEqual(['empty', 'home'])
    }
  })

  it('takes records of an earlier version and brings them up to date', async () => {
    const { folder, bundle } = await exported()
    // The columns of 0.1.0.
    const first = ['cid', 'role', 'readKey', 'label', 'files', 'sizeBytes', 'wireBytes', 'blockCount', 'state', 'addedMs', 'announcedMs']
    const share = (bundle.records.tables.share ?? []).map((row) => Object.fromEntries(first.map((name) => [name, row[name]])))
    await importHome(join(folder, 'new'), { ...bundle, records: { version: 1, tables: { share, setting: [] } } })
    expect(await (await open(join(folder, 'new'))).api.shares(never)).toHaveLength(5)
  })
})

describe('shoal export and import', () => {
  async function shoal(cwd: string, ...argv: string[]) {
    const said = { stdout: '', stderr: '' }
    const stream = (name: 'stdout' | 'stderr'): PassThrough =>
      new PassThrough().on('data', (part: Buffer) => {
        said[name] += part.toString()
      })
    const stdin = new PassThrough()
    stdin.end()
    const io = {
      stdin,
      stdout: stream('stdout'),
      stderr: stream('stderr'),
      cwd,
      onInterrupt: () => {},
      onReload: () => {},
      exitNow: () => {},
    }
    const code = await runCli(argv, { ...io, openLocal: openLocalNode, importHome })
    return { code, ...said }
  }

  it('carry a home in one file that nobody reads without the passphrase', async () => {
    const { folder, home, peerId, bundle } = await exported()
    await writeFile(join(folder, 'pass'), 'correct horse\n')
    await writeFile(join(folder, 'wrong'), 'correct house\n')
    const made = await shoal(folder, 'export', 'saved', '--home', home, '--passphrase-file', 'pass')
    expect(made).toMatchObject({ code: EXIT.ok, stdout: `${join(folder, 'saved')}\n` })
    expect((await stat(join(folder, 'saved'))).mode & 0o777).toBe(0o600)
    expect((await readFile(join(folder, 'saved'))).includes(bundle.identity.base64)).toBe(false)
    expect((await shoal(folder, 'export', 'saved', '--home', home, '--no-passphrase')).code).toBe(EXIT.pathExists)

    const other = join(folder, 'other')
    const wrong = await shoal(folder, 'import', 'saved', '--home', other, '--passphrase-file', 'wrong')
    expect(wrong).toMatchObject({ code: EXIT.badInput, stderr: expect.stringContaining('passphrase') })
    expect((await shoal(folder, 'import', 'saved', '--home', other)).code).toBe(EXIT.usage)
    expect((await shoal(folder, 'import', 'saved', '--home', other, '--passphrase-file', 'pass')).code).toBe(EXIT.ok)
    expect((await shoal(folder, 'id', '--home', other)).stdout).toContain(peerId)
  })

  it('say plainly when a file is not encrypted, and what is no export', async () => {
    const { folder, home } = await exported()
    expect((await shoal(folder, 'export', 'saved', '--home', home)).stderr).toContain('--passphrase-file')
    const open = await shoal(folder, 'export', 'saved', '--home', home, '--no-passphrase')
    expect(open).toMatchObject({ code: EXIT.ok, stderr: expect.stringContaining('not encrypted') })
    expect((await shoal(folder, 'import', 'saved', '--home', join(folder, 'other'))).code).toBe(EXIT.ok)
    expect((await shoal(folder, 'import', join(home, 'records.db'), '--home', join(folder, 'third'))).code).toBe(EXIT.badInput)
  })
})
