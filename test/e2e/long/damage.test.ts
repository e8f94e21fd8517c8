/**
 * Real daemons and real blocks: one bit flipped in each of many stored blocks, others cut short, exchanged, removed or replaced, and the
 * records damaged on top: all is noticed, nothing of it is served, all is mended from the one honest peer, with no key.
 *
 * BLOCKS says how many (default 1,000: 1 GiB, kept twice).
 */
import { randomBytes } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { copyFile, mkdir, open, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { ShareResult, VerifyResult } from '../../../node/control/api.ts'
import { FORMAT } from '../../../protocol/limits.ts'
import { type Daemon, Sandbox } from '../../kit/daemons.ts'
import { corruptFiles, storedFiles } from '../../kit/stored.ts'

const BLOCKS = Number(process.env.BLOCKS ?? 1_000)

let sandbox: Sandbox
let a: Daemon
let shared: ShareResult

beforeAll(async () => {
  sandbox = await Sandbox.create()
  a = await sandbox.daemon('a')
  const pieces = Readable.from(
    (function* () {
      for (let i = 0; i < BLOCKS; i++) yield randomBytes(FORMAT.pieceBytes)
    })(),
  )
  await pipeline(pieces, createWriteStream(sandbox.path('source.bin')))
  shared = await a.json<ShareResult>('share', sandbox.path('source.bin'))
}, 300_000)

afterAll(() => sandbox.clear())

async function flip(path: string, bit: number): Promise<void> {
  const file = await open(path, 'r+')
  const { size } = await file.stat()
  const byte = Buffer.alloc(1)
  const at = (bit >> 3) % size
  await file.read(byte, 0, 1, at)
  byte[0]! ^= 1 << (bit & 7)
  await file.write(byte, 0, 1, at)
  await file.close()
}

it('mends every stored block and the records from one honest peer', async () => {
  const [address = ''] = a.addresses
  const b = await sandbox.daemon('b')
  await b.json('seed', shared.seedLink, '--peer', address)
  await b.kill('SIGKILL')
  const paths = [...(await storedFiles(b.home)).values()]
  expect(paths.length).toBeGreaterThan(BLOCKS)
  for (const [i, path] of paths.entries()) {
    if (i % 50 === 10) await truncate(path, i)
    else if (i % 50 === 20) await copyFile(paths[i + 1] ?? '', path)
    else if (i % 50 === 30) await rm(path)
    else if (i % 50 === 40) {
      await rm(path)
      await (i % 100 === 40 ? mkdir(path) : symlink(paths[0] ?? '', path))
    } else await flip(path, i * 8_389)
  }
  const records = join(b.home, 'records.db')
  const bytes = await readFile(records)
  bytes.fill(0xff, 200, 3_000)
  await writeFile(records, bytes)

  const again = await sandbox.daemon('b')
  const mended = await again.json<VerifyResult>('verify', '--repair', '--wait', '--peer', address)
  expect(mended).toMatchObject({ isSound: true, shares: [{ cid: shared.cid, isSound: true, state: 'complete' }] })
  expect(await corruptFiles(b.home)).toEqual([])
  expect((await storedFiles(b.home)).size).toBe(paths.length)
  expect(await again.json<VerifyResult>('verify')).toMatchObject({ isSound: true, shares: [{ damagedBlocks: 0, missingBlocks: 0 }] })

  // The peer that was honest leaves: all comes from what was mended.
  await a.kill()
  const got = await again.run('get', shared.link, '-o', sandbox.path('out'))
  expect(got.code).toBe(0)
  const [before, after] = await Promise.all([readFile(sandbox.path('source.bin')), readFile(sandbox.path('out', 'source.bin'))])
  expect(after.equals(before)).toBe(true)
})
