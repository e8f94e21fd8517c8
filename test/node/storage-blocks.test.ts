import { appendFileSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { silentLog } from '../../node/log.ts'
import { type BlockStore, openBlockStore } from '../../node/storage/blocks.ts'
import { DigestSet } from '../../node/storage/digest-set.ts'
import type { FileSystem } from '../../node/storage/fs.ts'
import { diskFileSystem } from '../../node/storage/fs.ts'
import { GroupSync } from '../../node/storage/group-sync.ts'
import { Turns } from '../../node/storage/turns.ts'
import { freshFolder, hookedFileSystem, never, sha256, systemError } from './storage-fakes.ts'

const open = (dir: string, fs: FileSystem = diskFileSystem): Promise<BlockStore> =>
  openBlockStore({
    dir,
    fs,
    verify: async (bytes) => ({ digest: sha256(bytes), bytes }),
    allocate: (size) => new Uint8Array(size),
    log: silentLog,
    signal: never,
  })

const block = (text: string): { bytes: Uint8Array; digest: Uint8Array; path: string } => {
  const bytes = new TextEncoder().encode(text)
  const digest = sha256(bytes)
  const hex = Buffer.from(digest).toString('hex')
  return { bytes, digest, path: join('blocks', hex.slice(0, 2), hex) }
}

describe('block store', () => {
  test('gives back what was put, also after it was opened anew', async () => {
    const dir = freshFolder()
    const { bytes, digest } = block('one')
    const first = await open(dir)
    expect(await first.put(digest, bytes, never)).toBe(true)
    expect(await first.put(digest, bytes, never)).toBe(false)
    expect(first.count).toBe(1)
    await first.close()
    const second = await open(dir)
    expect([...second.digests()]).toEqual([digest])
    expect(await second.get(digest, never)).toEqual(bytes)
    expect(await second.get(block('two').digest, never)).toBeNull()
    await expect(first.get(digest, never)).rejects.toMatchObject({ code: 'CLOSED' })
  })

  test('acknowledges a block only after its bytes, its name and its folder are synced, in this order', async () => {
    const dir = freshFolder()
    const steps: string[] = []
    const { bytes, digest, path } = block('ordered')
    let isAcknowledged = (): boolean => false
    const store = await open(
      dir,
      hookedFileSystem((operation) => {
        steps.push(`${operation}${isAcknowledged() ? ' (acknowledged)' : ''}`)
      }),
    )
    isAcknowledged = () => store.has(digest)
    await store.put(block('before').digest, block('before').bytes, never) // the first one also leaves the mark of an open store
    steps.length = 0
    await store.put(digest, bytes, never)
    steps.push('resolved')
    expect(steps).toEqual(['open:create', 'write', 'datasync', 'rename', 'syncDirectory', 'resolved'])
    expect(store.has(digest)).toBe(true)
    expect(existsSync(join(dir, path))).toBe(true)
    expect(readdirSync(join(dir, 'tmp'))).toEqual(['unclean'])
    await store.close()
    expect(readdirSync(join(dir, 'tmp'))).toEqual([])
  })

  test.each([
    ['write', 'ENOSPC', 'NO_SPACE'],
    ['datasync', 'EIO', 'IO'],
    ['rename', 'EROFS', 'DENIED'],
    ['syncDirectory', 'EIO', 'IO'],
    ['open:create', 'EACCES', 'DENIED'],
  ])('forgets a block whose %s fails with %s, syncs nothing twice, and takes it later', async (operation, systemCode, code) => {
    const dir = freshFolder()
    const { bytes, digest, path } = block('failing')
    let calls = -1
    const store = await open(
      dir,
      hookedFileSystem((name) => {
        if (name !== operation || calls < 0) return
        calls += 1
        if (calls === 1) throw systemError(systemCode)
      }),
    )
    await store.put(block('before').digest, block('before').bytes, never)
    calls = 0
    await expect(store.put(digest, bytes, never)).rejects.toMatchObject({ name: 'FileError', code })
    expect(calls).toBe(1)
    expect(store.has(digest)).toBe(false)
    expect(existsSync(join(dir, path))).toBe(false)
    expect(readdirSync(join(dir, 'tmp'))).toEqual(['unclean'])
    expect(await store.put(digest, bytes, never)).toBe(true)
  })

  test.each<[string, (path: string) => unknown]>([
    ['a longer file', (path) => appendFileSync(path, 'x')],
    ['a shorter file', (path) => truncateSync(path, 2)],
    ['an empty file', (path) => truncateSync(path, 0)],
    ['a file over the block size', (path) => truncateSync(path, 2 ** 30)],
    ['other bytes', (path) => writeFileSync(path, 'ovE')],
    ['a folder', (path) => [rmSync(path), mkdirSync(path)]],
    ['a symlink', (path) => [rmSync(path), symlinkSync('/etc/passwd', path)]],
    ['nothing', (path) => rmSync(path)],
  ])('never serves a block in whose place stands %s', async (_, harm) => {
    const dir = freshFolder()
    const { bytes, digest, path } = block('one')
    const store = await open(dir)
    await store.put(digest, bytes, never)
    harm(join(dir, path))
    await expect(store.get(digest, never)).rejects.toMatchObject({ code: 'CORRUPT' })
    expect(store.has(digest)).toBe(false)
    expect(existsSync(join(dir, path))).toBe(false)
    expect(await store.put(digest, bytes, never)).toBe(true)
    expect(await store.get(digest, never)).toEqual(bytes)
  })

  test('clears unfinished writes and ignores foreign files at start', async () => {
    const dir = freshFolder()
    const { bytes, digest } = block('kept')
    await (await open(dir)).put(digest, bytes, never)
    writeFileSync(join(dir, 'tmp', 'left.block'), 'half')
    writeFileSync(join(dir, 'blocks', '00', 'README'), 'hello')
    const store = await open(dir)
    expect(store.count).toBe(1)
    expect(readdirSync(join(dir, 'tmp'))).toEqual([])
  })

  test('lets one of many puts of the same block write, and a delete in between wins or loses whole', async () => {
    const dir = freshFolder()
    let writes = 0
    const store = await open(
      dir,
      hookedFileSystem((operation) => {
        if (operation === 'write') writes += 1
      }),
    )
    const { bytes, digest, path } = block('popular')
    const stored = await Promise.all(Array.from({ length: 20 }, () => store.put(digest, bytes, never)))
    expect(stored.filter(Boolean)).toHaveLength(1)
    expect(writes).toBe(1)
    for (let i = 0; i < 20; i += 1) {
      await Promise.all([store.delete(digest, never), store.put(digest, bytes, never)])
      expect(existsSync(join(dir, path))).toBe(store.has(digest))
    }
    await store.delete(digest, never)
    expect(await store.get(digest, never)).toBeNull()
    expect(existsSync(join(dir, path))).toBe(false)
  })

  test('running out of descriptors is not taken for damage', async () => {
    const dir = freshFolder()
    const { bytes, digest } = block('fine')
    let failing = false
    const store = await open(
      dir,
      hookedFileSystem((operation) => {
        if (failing && operation === 'open:read') throw systemError('EMFILE')
      }),
    )
    await store.put(digest, bytes, never)
    failing = true
    await expect(store.get(digest, never)).rejects.toMatchObject({ code: 'IO' })
    failing = false
    expect(await store.get(digest, never)).toEqual(bytes)
  })
})

describe('grouped syncs and turns', () => {
  test('a sync that had begun before the call is never the one that counts', async () => {
    const running: (() => void)[] = []
    const fs: FileSystem = { ...diskFileSystem, syncDirectory: () => new Promise<void>((resolve) => running.push(resolve)) }
    const folders = new GroupSync(fs)
    const done: string[] = []
    const first = folders.sync('a').then(() => done.push('first'))
    const second = folders.sync('a').then(() => done.push('second'))
    const third = folders.sync('a').then(() => done.push('third'))
    expect(running).toHaveLength(1)
    running[0]?.()
    await first
    await expect.poll(() => running.length).toBe(2)
    expect(done).toEqual(['first'])
    running[1]?.()
    await Promise.all([second, third])
    expect(running).toHaveLength(2)
  })

  test('turns run a bounded number, refuse one waiter too many, and let go of aborted ones', async () => {
    const turns = new Turns(2, 2)
    const ends: (() => void)[] = []
    const work = (): Promise<void> => new Promise((resolve) => ends.push(resolve))
    const abort = new AbortController()
    const all = [turns.run(never, work), turns.run(never, work), turns.run(never, work)]
    const aborted = turns.run(abort.signal, work)
    await expect(turns.run(never, work)).rejects.toMatchObject({ code: 'BUSY' })
    expect(ends).toHaveLength(2)
    abort.abort(new Error('enough'))
    await expect(aborted).rejects.toThrow('enough')
    ends[0]?.()
    await expect.poll(() => ends.length).toBe(3)
    for (const end of ends) end()
    await Promise.all(all)
    await turns.whenIdle()
  })
})

describe('digest set', () => {
  test('behaves like a set of strings under any sequence of operations', () => {
    // Few distinct digests with equal starts, so that runs, gaps and growth are met.
    const digest = fc.tuple(fc.nat(3), fc.nat(200)).map(([a, b]) => new Uint8Array(32).fill(a, 0, 8).fill(b, 31))
    const step = fc.tuple(fc.constantFrom('add', 'delete', 'has'), digest)
    fc.assert(
      fc.property(fc.array(step, { maxLength: 600 }), (steps) => {
        const set = new DigestSet()
        const model = new Map<string, Uint8Array>()
        for (const [operation, value] of steps) {
          const key = Buffer.from(value).toString('hex')
          if (operation === 'add') {
            expect(set.add(value)).toBe(!model.has(key))
            model.set(key, value)
          } else if (operation === 'delete') expect(set.delete(value)).toBe(model.delete(key))
          else expect(set.has(value)).toBe(model.has(key))
          expect(set.size).toBe(model.size)
        }
        expect([...set].map((d) => Buffer.from(d).toString('hex')).sort()).toEqual([...model.keys()].sort())
      }),
      { numRuns: 60, seed: 11 },
    )
  })

  test('holds 100,000 digests in under 64 bytes each', () => {
    const set = new DigestSet()
    for (let i = 0; i < 100_000; i += 1) set.add(sha256(Uint8Array.of(i, i >> 8, i >> 16)))
    expect(set.size).toBe(100_000)
    expect(set.memoryBytes).toBeLessThan(6_400_000)
  })
})
