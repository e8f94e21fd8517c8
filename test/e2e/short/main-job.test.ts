/** The main job with real processes, in its short form: share, host blind, get, resume, and the failures that a user meets first. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { GetResult, ListedEntry, SeedResult, ShareResult, ShareSummary, StatusResult } from '../../../node/control/api.ts'
import { EXIT } from '../../../protocol/errors.ts'
import { type Daemon, runCli, Sandbox, startCli } from '../../kit/daemons.ts'
import { compareTrees } from '../../kit/trees.ts'

let sandbox: Sandbox
let a: Daemon
let b: Daemon
let folder: string
let shared: ShareResult

beforeAll(async () => {
  sandbox = await Sandbox.create()
  a = await sandbox.daemon('a')
  b = await sandbox.daemon('b', { bootstrap: a.addresses })
  folder = sandbox.path('photos')
  await mkdir(join(folder, 'deep', 'empty'), { recursive: true })
  await writeFile(join(folder, 'big.bin'), randomBytes(9_000_000))
  await writeFile(join(folder, 'deep', 'små.txt'), 'hello '.repeat(1000))
  await writeFile(join(folder, 'zero'), '')
  await writeFile(join(folder, 'run.sh'), '#!/bin/sh\n', { mode: 0o755 })
  shared = await a.json<ShareResult>('share', folder)
})

afterAll(async () => {
  await sandbox.clear()
  for (const daemon of [a, b]) expect(daemon.log).not.toContain('nobody listened')
})

describe('share and get between two daemons', () => {
  it('answers share with the documented fields', () => {
    expect(shared).toMatchObject({ files: 4, scope: 'lineage', cid: expect.stringMatching(/^bafy/) })
    expect(shared.link.startsWith(`${shared.seedLink}#1`)).toBe(true)
  })

  it('gives the same link again, and seals nothing twice', async () => {
    const again = await a.json<ShareResult>('share', folder)
    expect(again.link).toBe(shared.link)
    expect(again.newBlocks).toBe(0)
  })

  it('gives another link with --fresh', async () => {
    const fresh = await a.json<ShareResult>('share', '--fresh', folder)
    expect(fresh.cid).not.toBe(shared.cid)
    await a.json('unseed', fresh.cid)
  })

  it('gets an identical tree', async () => {
    const out = sandbox.path('out')
    await mkdir(out)
    const got = await b.json<GetResult>('get', shared.link, '-o', out)
    expect(got.files).toBe(4)
    expect((await compareTrees(folder, join(out, 'photos'))).differences).toEqual([])
  })

  it('shares and gets a file so small that it is one block', async () => {
    const tiny = sandbox.path('tiny.txt')
    await writeFile(tiny, 'a few words')
    const { link, cid } = await a.json<ShareResult>('share', tiny)
    expect(cid).toMatch(/^bafkrei/)
    expect((await b.run('get', link, '-o', '-')).stdout).toBe('a few words')
  })

  it('never overwrites what is there, and says so with an exit code of its own', async () => {
    const run = await b.run('get', shared.link, '-o', sandbox.path('out'))
    expect(run.code).toBe(EXIT.pathExists)
    expect((await b.run('get', shared.link, '-o', sandbox.path('out'), '--force')).code).toBe(EXIT.ok)
  })

  it('gets one path of a share', async () => {
    const out = sandbox.path('part')
    await mkdir(out)
    const got = await b.json<GetResult>('get', shared.link, '-o', out, '--path', 'photos/deep/små.txt')
    expect(got.files).toBe(1)
    expect(await readFile(join(out, 'små.txt'), 'utf8')).toBe('hello '.repeat(1000))
  })

  it('lists a share, and streams one file to standard output', async () => {
    const entries = await b.json<ListedEntry[]>('ls', shared.link)
    expect(entries.map((entry) => entry.path)).toContain('photos/deep/empty')
    const run = await b.run('get', shared.link, '-o', '-', '--path', 'photos/deep/små.txt')
    expect(run).toMatchObject({ code: EXIT.ok, stdout: 'hello '.repeat(1000) })
  })

  it('streams a range of a file', async () => {
    const path = ['--path', 'photos/deep/små.txt']
    const run = await b.run('get', shared.link, '-o', '-', ...path, '--range', '6-10')
    expect(run).toMatchObject({ code: EXIT.ok, stdout: 'hello' })
    expect((await b.run('get', shared.link, '-o', '-', ...path, '--range', '-6')).stdout).toBe('hello ')
    const beyond = await b.run('get', shared.link, '-o', '-', ...path, '--range', '6000-')
    expect(beyond).toMatchObject({ code: EXIT.badInput, stdout: '', stderr: expect.stringContaining('6000 bytes') })
  })

  it('stops fetching when the reader of standard output has enough', async () => {
    const long = sandbox.path('long.bin')
    const bytes = randomBytes(100 * 1_048_560)
    await writeFile(long, bytes)
    const { link } = await a.json<ShareResult>('share', long)
    const before = (await b.json<StatusResult>('status')).bytesIn
    const child = startCli(['--home', b.home, 'get', link, '-o', '-'])
    const ended = once(child, 'exit')
    const [chunk] = (await once(child.stdout!, 'data')) as [Buffer] // no encoding is set
    child.stdout!.destroy()
    expect(chunk.equals(bytes.subarray(0, chunk.length))).toBe(true)
    expect((await ended)[0]).toBe(EXIT.interrupted)
    await expect.poll(async () => (await b.json<StatusResult>('status')).jobs).toBe(0)
    expect((await b.json<StatusResult>('status')).bytesIn - before).toBeLessThan(40 * 1_048_576)
  })

  it('takes the link from standard input and from a file', async () => {
    const file = sandbox.path('link.txt')
    await writeFile(file, `${shared.link}\n`)
    const args = ['--home', b.home, 'get', '-o', '-', '--path', 'photos/run.sh']
    expect((await runCli([...args, '-'], { input: `${shared.link}\n` })).stdout).toBe('#!/bin/sh\n')
    expect((await runCli([...args, '--link-file', file])).stdout).toBe('#!/bin/sh\n')
  })

  it('hosts a share blind', async () => {
    const c = await sandbox.daemon('c', { bootstrap: a.addresses })
    const seeded = await c.json<SeedResult>('seed', shared.seedLink)
    expect(seeded.fetchedBlocks).toBeGreaterThan(9)
    const kept = await c.json<ShareSummary[]>('ls')
    expect(kept).toMatchObject([{ cid: shared.cid, role: 'blind', state: 'complete', label: null }])
    expect((await c.json<{ freedBytes: number }>('unseed', shared.cid)).freedBytes).toBeGreaterThan(9_000_000)
    expect((await c.json<StatusResult>('status')).blocks).toBe(0)
    await c.kill()
  })
})

describe('failures have exit codes of their own', () => {
  it('refuses a link with one changed character', async () => {
    const at = shared.link.length - 20
    const damaged = `${shared.link.slice(0, at)}${shared.link[at] === 'A' ? 'B' : 'A'}${shared.link.slice(at + 1)}`
    expect((await b.run('get', damaged, '-o', sandbox.path('none'))).code).toBe(EXIT.badLink)
  })

  it('says that nobody is online', async () => {
    const fresh = await a.json<ShareResult>('share', '--fresh', join(folder, 'run.sh'))
    await a.json('unseed', fresh.cid)
    const run = await b.run('get', fresh.link, '-o', sandbox.path('none'))
    expect(run.code).toBe(EXIT.noSeeder)
    expect(run.stderr).toMatch(/no seeder is online for this link/i)
  })

  it('says that a path is not in the share', async () => {
    for (const verb of [['ls'], ['get', '-o', '-'], ['get', '-o', sandbox.path('none')]]) {
      const run = await b.run(...verb, shared.link, '--path', 'photos/nothing')
      expect(run).toMatchObject({ code: EXIT.badInput, stdout: '', stderr: expect.stringContaining('no "photos/nothing" in this share') })
    }
  })

  it('says that no daemon runs', async () => {
    expect((await runCli(['--home', sandbox.path('nowhere'), 'status'])).code).toBe(EXIT.noDaemon)
  })

  it('says that a second daemon on one home cannot start', async () => {
    const run = await runCli(['daemon', '--home', a.home, ...sandbox.networkArgs()])
    expect(run.code).toBe(EXIT.homeLocked)
  })
})

describe('without a daemon', () => {
  it('a one-shot share serves until Ctrl-C, a one-shot get leaves no sealed blocks behind', async () => {
    const sharer = startCli(['share', '--json', '--home', sandbox.path('home-one'), ...sandbox.networkArgs(a.addresses), folder])
    const [line] = (await once(sharer.stdout!, 'data')) as [Buffer] // a child's output gives Buffers
    const { link } = JSON.parse(line.toString()) as ShareResult // printed by share --json
    const out = sandbox.path('one-out')
    await mkdir(out)
    const got = await runCli(['get', '--json', '--home', sandbox.path('home-two'), ...sandbox.networkArgs(a.addresses), link, '-o', out])
    expect(got.code, got.stdout + got.stderr).toBe(EXIT.ok)
    expect((await compareTrees(folder, join(out, 'photos'))).differences).toEqual([])
    expect((JSON.parse(got.stdout) as GetResult).keptBytes).toBe(0)
    const ended = once(sharer, 'exit')
    sharer.kill('SIGINT')
    expect((await ended)[0]).toBe(EXIT.ok)
  })
})

describe('resuming', () => {
  it('fetches only what is missing after kill -9 of the getting node', async () => {
    const big = sandbox.path('resume.bin')
    const blocks = 120
    await writeFile(big, randomBytes(blocks * 1_048_560))
    const { link } = await a.json<ShareResult>('share', big)
    const out = sandbox.path('resume-out')
    await mkdir(out)
    const victim = await sandbox.daemon('victim', { bootstrap: a.addresses })
    const interrupted = victim.run('get', link, '-o', out)
    let before = 0
    while (before < blocks / 2) before = (await victim.json<ShareSummary[]>('ls'))[0]?.haveBlocks ?? 0
    await victim.kill('SIGKILL')
    await interrupted
    const again = await sandbox.daemon('victim', { bootstrap: a.addresses })
    const got = await again.json<GetResult>('get', link, '-o', out)
    expect(got.fetchedBlocks).toBeLessThanOrEqual(blocks + 3 - before)
    expect(got.reusedBlocks).toBeGreaterThanOrEqual(before - 3)
    expect((await compareTrees(big, join(out, 'resume.bin'))).differences).toEqual([])
    expect(await readdir(out)).toEqual(['resume.bin'])
    await again.kill()
  })
})
