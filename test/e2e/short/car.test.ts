/** Shares in CAR files by the command line, with real processes: out of a daemon, into a home without one, and read from there. */
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ShareResult, ShareSummary } from '../../../node/control/api.ts'
import type { CarExportResult, CarImportResult } from '../../../node/control/api-car.ts'
import { EXIT } from '../../../protocol/errors.ts'
import { type Daemon, runCli, Sandbox } from '../../kit/daemons.ts'
import { compareTrees } from '../../kit/trees.ts'

let sandbox: Sandbox
let source: Daemon
let folder: string
let shared: ShareResult
let car: string

beforeAll(async () => {
  sandbox = await Sandbox.create()
  source = await sandbox.daemon('source')
  folder = sandbox.path('photos')
  await mkdir(folder)
  await writeFile(join(folder, 'a.bin'), randomBytes(5_000_000))
  await writeFile(join(folder, 'b.txt'), 'hello')
  shared = await source.json<ShareResult>('share', folder)
  car = sandbox.path('photos.car')
})

afterAll(() => sandbox.clear())

describe('a share in a CAR file', () => {
  it('is written by export, which replaces nothing without being told to', async () => {
    const result = await source.json<CarExportResult>('export', shared.link, '--car', car)
    expect(result).toEqual({ cid: shared.cid, file: car, fileBytes: (await stat(car)).size, blocks: expect.any(Number) })
    const again = await source.run('export', shared.cid, '--car', car)
    expect({ code: again.code, says: again.stderr }).toEqual({ code: EXIT.pathExists, says: expect.stringContaining('--force') })
    const forced = await source.run('export', shared.cid, '--car', car, '--force')
    expect(forced).toMatchObject({ code: EXIT.ok, stdout: `${car}\n`, stderr: expect.stringContaining(shared.cid) })
    expect((await readdir(sandbox.dir)).filter((name) => name.startsWith('photos.car'))).toEqual(['photos.car'])
    // No key, and nothing that could be read.
    const bytes = await readFile(car)
    for (const secret of [shared.link.split('#1')[1]!.slice(0, 32), 'hello', 'a.bin']) expect(bytes.includes(secret)).toBe(false)
  })

  it('is taken by a home that has no daemon, kept there, and read when one runs', async () => {
    const home = sandbox.path('home-taker')
    const run = (...args: string[]) => runCli(['--home', home, ...sandbox.networkArgs(), '--json', ...args])
    const taken = await run('import', '--car', car)
    expect(taken.code).toBe(EXIT.ok)
    expect(JSON.parse(taken.stdout) as CarImportResult).toMatchObject({ cid: shared.cid, wireBytes: shared.wireBytes, reusedBlocks: 0 })
    const kept = JSON.parse((await run('ls')).stdout) as ShareSummary[]
    expect(kept).toMatchObject([{ cid: shared.cid, role: 'blind', state: 'complete', cachedBytes: null }])
    expect((await run('verify')).code).toBe(EXIT.ok)
    const out = sandbox.path('out')
    await mkdir(out)
    const taker = await sandbox.daemon('taker')
    await taker.json('get', shared.link, '-o', out)
    expect((await compareTrees(folder, join(out, 'photos'))).differences).toEqual([])
    const again = sandbox.path('again.car')
    await taker.json('export', shared.seedLink, '--car', again)
    expect(Buffer.compare(await readFile(again), await readFile(car))).toBe(0)
  })

  it('is refused when it is cut off, and when it is something else, with a word on why', async () => {
    const cut = sandbox.path('cut.car')
    await writeFile(cut, await readFile(car))
    await truncate(cut, 3_000_000)
    const home = ['--home', sandbox.path('home-strict'), ...sandbox.networkArgs()]
    const short = await runCli([...home, 'import', '--car', cut])
    expect({ code: short.code, says: short.stderr }).toEqual({
      code: EXIT.badInput,
      says: expect.stringContaining('the file ends inside a block'),
    })
    const other = await runCli([...home, 'import', '--car', join(folder, 'b.txt')])
    expect({ code: other.code, says: other.stderr }).toEqual({
      code: EXIT.badInput,
      says: expect.stringContaining('not the CAR file of one share'),
    })
    const none = await runCli([...home, 'export', shared.cid, '--car', sandbox.path('none.car')])
    expect({ code: none.code, says: none.stderr }).toEqual({
      code: EXIT.badInput,
      says: expect.stringContaining('does not keep that share'),
    })
    expect(JSON.parse((await runCli([...home, '--json', 'ls'])).stdout)).toEqual([])
  })
})
