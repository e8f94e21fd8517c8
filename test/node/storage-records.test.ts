import { spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Key } from 'interface-datastore'
import { describe, expect, onTestFinished, test } from 'vitest'
import { silentLog } from '../../node/log.ts'
import { loadOrCreateSecret, prepareHome, readOrCreateFile } from '../../node/storage/home.ts'
import { openRecords, type Records, type ShareRecord } from '../../node/storage/records.ts'
import { STORAGE } from '../../protocol/limits.ts'
import { Secret } from '../../protocol/secret.ts'
import { freshFolder } from './storage-fakes.ts'

async function open(file: string): Promise<Records> {
  const records = await openRecords({ file, log: silentLog })
  onTestFinished(() => records.close())
  return records
}

const record = (cid: string): ShareRecord => ({
  cid,
  role: 'owner',
  readKey: new Secret(new Uint8Array(32).fill(7)),
  scope: { kind: 'random', id: null, secret: new Secret(new Uint8Array(32).fill(9)) },
  label: 'photos',
  files: 3,
  sizeBytes: 2 ** 45,
  wireBytes: 2 ** 46,
  blockCount: 12,
  state: 'partial',
  inPlace: false,
  addedMs: 1_700_000_000_000,
  announcedMs: null,
})

describe('records', () => {
  test('keep shares and settings over a restart, secrets included', async () => {
    const file = join(freshFolder(), 'records.db')
    const first = await open(file)
    const blind: ShareRecord = { ...record('b'), role: 'blind', readKey: null, scope: null, label: null, files: null, sizeBytes: null }
    await first.saveShare(record('a'))
    await first.saveShare(blind)
    await first.saveShare({ ...record('c'), state: 'complete' })
    await first.setAnnounced('a', 5)
    await first.setSetting('network', 'reef')
    expect(await first.removeShare('c')).toBe(true)
    expect(await first.removeShare('c')).toBe(false)
    await first.close()
    const second = await open(file)
    const shares = await second.listShares()
    expect(shares.map(({ cid, role, announcedMs }) => [cid, role, announcedMs])).toEqual([
      ['a', 'owner', 5],
      ['b', 'blind', null],
    ])
    expect((await second.getShare('a'))?.readKey?.reveal()).toEqual(new Uint8Array(32).fill(7))
    expect((await second.getShare('a'))?.scope?.secret?.reveal()).toEqual(new Uint8Array(32).fill(9))
    expect(await second.getShare('b')).toEqual(blind)
    expect(await second.getShare('c')).toBeNull()
    expect(await second.getSetting('network')).toBe('reef')
    expect(await second.getSetting('other')).toBeNull()
    await second.close()
    await expect(second.getSetting('network')).rejects.toMatchObject({ code: 'CLOSED' })
  })

  test('list more shares than one message holds', async () => {
    const records = await open(join(freshFolder(), 'records.db'))
    const cids = Array.from({ length: STORAGE.recordBatchMax + 3 }, (_, i) => String(i).padStart(4, '0'))
    await Promise.all(cids.map((cid) => records.saveShare(record(cid))))
    expect((await records.listShares()).map(({ cid }) => cid)).toEqual(cids)
  })

  test('are readable by their owner alone', async () => {
    const dir = freshFolder()
    const records = await open(join(dir, 'records.db'))
    await records.setSetting('a', 'b')
    for (const name of readdirSync(dir)) expect([name, statSync(join(dir, name)).mode & 0o777]).toEqual([name, 0o600])
  })

  test('refuse a second holder, and are free again after the first was killed', async () => {
    const file = join(freshFolder(), 'records.db')
    const source = new URL('../../node/storage/records.ts', import.meta.url).href
    const log = new URL('../../node/log.ts', import.meta.url).href
    const script = `const { openRecords } = await import('${source}'); const { silentLog } = await import('${log}')
      const records = await openRecords({ file: process.argv[1], log: silentLog }); await records.setSetting('held', 'yes'); console.log('held')`
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, file], { stdio: ['ignore', 'pipe', 'pipe'] })
    onTestFinished(() => void child.kill('SIGKILL'))
    let errors = ''
    child.stderr.on('data', (data) => {
      errors += String(data)
    })
    await new Promise<void>((resolve, reject) => {
      child.stdout.once('data', () => resolve())
      child.once('exit', () => reject(new Error(`the holder ended: ${errors}`)))
    })
    expect(errors).toBe('')
    await expect(openRecords({ file, log: silentLog })).rejects.toMatchObject({ name: 'FileError', code: 'LOCKED' })
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await ended
    const records = await open(file)
    expect(await records.getSetting('held')).toBe('yes')
    await expect(openRecords({ file, log: silentLog })).rejects.toMatchObject({ code: 'LOCKED' })
    expect(await records.getSetting('held')).toBe('yes')
  })

  test('refuse a file of a later version and a file that is no database, and leave them as they are', async () => {
    const dir = freshFolder()
    const newer = join(dir, 'newer.db')
    const db = new DatabaseSync(newer)
    db.exec('PRAGMA user_version = 99; PRAGMA application_id = 99')
    db.close()
    await expect(openRecords({ file: newer, log: silentLog })).rejects.toMatchObject({ code: 'NEWER' })
    const junk = join(dir, 'junk.db')
    writeFileSync(junk, 'no database at all, and long enough to be told apart from an empty file'.repeat(20), { mode: 0o600 })
    const before = readFileSync(junk)
    await expect(openRecords({ file: junk, log: silentLog })).rejects.toMatchObject({ code: 'CORRUPT' })
    expect(readFileSync(junk)).toEqual(before)
  })

  test('never stop the event loop while they write', async () => {
    const records = await open(join(freshFolder(), 'records.db'))
    let turns = 0
    const timer = setInterval(() => {
      turns += 1
    }, 1)
    for (let i = 0; i < 50; i += 1) await records.setSetting('n', String(i))
    clearInterval(timer)
    expect(turns).toBeGreaterThan(0)
  })
})

describe('datastore over the records', () => {
  test('notes on peers are there at once, in queries too, and on disk after a close', async () => {
    const file = join(freshFolder(), 'records.db')
    const records = await open(file)
    const store = records.datastore()
    const [a, b, c] = ['/peers/a', '/peers/b', '/peers/c'].map((name) => new Key(name)) as [Key, Key, Key]
    await store.put(a, Uint8Array.of(1))
    await store.put(b, Uint8Array.of(2))
    await store.put(a, Uint8Array.of(3))
    await store.delete(b)
    expect(await store.has(c)).toBe(false)
    await store.put(c, Uint8Array.of(4))
    expect(await store.get(a)).toEqual(Uint8Array.of(3))
    await expect(store.get(b)).rejects.toThrow('no value')
    const found: string[] = []
    for await (const { key } of store.query({ prefix: '/peers' })) found.push(key.toString())
    expect(found).toEqual(['/peers/a', '/peers/c'])
    await store.put(b, Uint8Array.of(5))
    await records.close()
    const again = (await open(file)).datastore()
    expect(await again.get(a)).toEqual(Uint8Array.of(3))
    expect(await again.get(b)).toEqual(Uint8Array.of(5))
  })

  test('puts, gets, deletes, and says when a key is missing', async () => {
    const store = (await open(join(freshFolder(), 'records.db'))).datastore()
    const key = new Key('/peers/a')
    // A view of a larger buffer keeps its own bytes only.
    const value = new Uint8Array(1024).fill(3).subarray(10, 14)
    await store.put(key, value)
    expect(value).toHaveLength(4)
    expect(await store.get(key)).toEqual(Uint8Array.of(3, 3, 3, 3))
    expect(await store.has(key)).toBe(true)
    await store.delete(key)
    expect(await store.has(key)).toBe(false)
    await expect(store.get(key)).rejects.toMatchObject({ name: 'NotFoundError' })
  })

  test('commits batches in order and queries by prefix, filter, order, offset and limit over many pages', async () => {
    const store = (await open(join(freshFolder(), 'records.db'))).datastore()
    const batch = store.batch()
    const count = STORAGE.recordBatchMax * 2 + 5
    for (let i = 0; i < count; i += 1) batch.put(new Key(`/n/${String(i).padStart(5, '0')}`), Uint8Array.of(i & 255))
    batch.put(new Key('/m/0'), new Uint8Array(0))
    batch.put(new Key('/nn/0'), Uint8Array.of(1))
    batch.put(new Key('/gone'), Uint8Array.of(1))
    batch.delete(new Key('/gone'))
    await batch.commit()
    const keys = async (query: Parameters<typeof store.queryKeys>[0]): Promise<string[]> => {
      const found: string[] = []
      for await (const key of store.queryKeys(query)) found.push(key.toString())
      return found
    }
    expect(await keys({ prefix: '/n/' })).toHaveLength(count)
    expect(await keys({ prefix: '/m' })).toEqual(['/m/0'])
    expect(await keys({})).toHaveLength(count + 2)
    expect(await keys({ prefix: '/n/', offset: 300, limit: 2 })).toEqual(['/n/00300', '/n/00301'])
    const values: number[] = []
    for await (const { value } of store.query({ prefix: '/n/', filters: [({ value: v }) => v[0] === 4], orders: [() => 0] })) {
      values.push(value[0] ?? -1)
    }
    expect(values.length).toBeGreaterThan(1)
    expect(new Set(values)).toEqual(new Set([4]))
  })
})

describe('home folder', () => {
  test('is made for its user alone, and one that others can enter is refused with the command that mends it', async () => {
    const dir = join(freshFolder(), 'deep', "o'home")
    const home = await prepareHome(dir)
    expect(statSync(dir).mode & 0o777).toBe(0o700)
    expect(readdirSync(home.dir).sort()).toEqual(['blocks', 'quarantine', 'tmp'])
    await prepareHome(dir)
    chmodSync(dir, 0o750)
    const error = await prepareHome(dir).catch((e: unknown) => e)
    expect(error).toMatchObject({ code: 'INSECURE' })
    expect(String(error)).toContain(`chmod 700 '${dir.replace("'", "'\\''")}'`)
  })

  test('creates a secret once, private, and refuses one that is open to others, cut short or a symlink', async () => {
    const home = await prepareHome(join(freshFolder(), 'home'))
    const secrets = await Promise.all(Array.from({ length: 5 }, () => loadOrCreateSecret(home, 'node-secret', 32)))
    const path = join(home.dir, 'node-secret')
    for (const secret of secrets) expect(secret.reveal()).toEqual(new Uint8Array(readFileSync(path)))
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(readdirSync(home.dir).filter((name) => name.endsWith('.tmp'))).toEqual([])
    chmodSync(path, 0o640)
    await expect(loadOrCreateSecret(home, 'node-secret', 32)).rejects.toMatchObject({ code: 'INSECURE' })
    chmodSync(path, 0o600)
    writeFileSync(path, 'short')
    await expect(loadOrCreateSecret(home, 'node-secret', 32)).rejects.toMatchObject({ code: 'CORRUPT' })
    symlinkSync(path, join(home.dir, 'linked'))
    await expect(readOrCreateFile(join(home.dir, 'linked'), async () => Uint8Array.of(1))).rejects.toMatchObject({ code: 'UNSAFE' })
  })

  test('clears what a killed creation left, and creates nothing when making fails', async () => {
    const dir = join(freshFolder(), 'home')
    mkdirSync(dir, { mode: 0o700 })
    writeFileSync(join(dir, '.identity.0.tmp'), 'left')
    await expect(readOrCreateFile(join(dir, 'identity'), () => Promise.reject(new Error('no entropy')))).rejects.toThrow('no entropy')
    expect(existsSync(join(dir, 'identity'))).toBe(false)
    expect(await readOrCreateFile(join(dir, 'identity'), async () => Uint8Array.of(1, 2))).toEqual(Uint8Array.of(1, 2))
    expect(readdirSync(dir)).toEqual(['identity'])
  })
})
