/** Gets that end between putting their files in place and saying so: the same command goes on from what stands there, and fetches nothing twice. */
import { randomBytes } from 'node:crypto'
import { appendFile, mkdir, open, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { GetRequest, GetResult } from '../../node/control/api.ts'
import { getJob } from '../../node/jobs/get.ts'
import { shareJob } from '../../node/jobs/share.ts'
import { diskFileSystem } from '../../node/storage/fs.ts'
import { type Host, Hosts } from '../kit/hosts.ts'
import { ignore, patience } from '../kit/nodes.ts'
import { compareTrees } from '../kit/trees.ts'

const MIB = 1_048_576

let hosts: Hosts
let a: Host
let b: Host
let out: string
let link: string

beforeEach(async () => {
  hosts = await Hosts.create()
  a = await hosts.host('a')
  b = await hosts.host('b')
  out = join(hosts.dir, 'out')
  await mkdir(out)
  const from = join(hosts.dir, 'from')
  await mkdir(join(from, 'photos', 'deep'), { recursive: true })
  await writeFile(join(from, 'photos', 'deep', 'big.bin'), randomBytes(3 * MIB + 7))
  await writeFile(join(from, 'photos', 'small.txt'), 'a few words')
  await writeFile(join(from, 'photos', 'empty'), '')
  const sparse = await open(join(from, 'photos', 'sparse.bin'), 'w')
  await sparse.write(randomBytes(MIB), 0, MIB, 4 * MIB)
  await sparse.close()
  await writeFile(join(from, 'a.bin'), randomBytes(2 * MIB))
  await writeFile(join(from, 'z.bin'), randomBytes(2 * MIB + 3))
  const paths = ['photos', 'a.bin', 'z.bin'].map((name) => join(from, name))
  link = (await shareJob(a.env, { paths, scope: 'lineage', name: null }, ignore, patience())).link
})
afterEach(async () => {
  vi.restoreAllMocks()
  await hosts.clear()
})

function getAgain(request: Partial<GetRequest> = {}): Promise<GetResult> {
  const whole = { link, outputDir: out, path: null, force: false, consent: false, wait: false, peers: a.addresses, keep: true, ...request }
  return getJob(b.env, whole, ignore, patience())
}

/** The get ends when all files are in place and nothing is said of them. */
async function endBeforeRecord(): Promise<void> {
  vi.spyOn(b.env.sources, 'adopt').mockRejectedValueOnce(new Error('killed'))
  await expect(getAgain()).rejects.toThrow('killed')
}

/** Every folder and file is as it was shared, nothing else is there, and the share is kept complete. */
async function expectAll(got: GetResult): Promise<void> {
  expect(got).toMatchObject({ files: 6, damaged: [], inPlace: true, written: ['a.bin', 'photos', 'z.bin'].map((name) => join(out, name)) })
  expect((await readdir(out)).sort()).toEqual(['a.bin', 'photos', 'z.bin'])
  expect((await compareTrees(join(hosts.dir, 'from'), out)).differences).toEqual([])
  expect(await b.env.records.listShares()).toMatchObject([{ state: 'complete', inPlace: true }])
  expect((await b.env.sources.writing((await b.env.records.listShares())[0]!.cid)).length).toBe(0)
}

describe('a get that ended', () => {
  it('with everything in place and before it was recorded fetches nothing again and rewrites nothing', async () => {
    await endBeforeRecord()
    const before = await stat(join(out, 'z.bin'), { bigint: true })
    const got = await getAgain()
    expect(got.fetchedBlocks).toBe(0)
    await expectAll(got)
    const after = await stat(join(out, 'z.bin'), { bigint: true })
    expect([after.ino, after.mtimeNs]).toEqual([before.ino, before.mtimeNs])
  })

  it('there goes on with --force as well', async () => {
    await endBeforeRecord()
    const got = await getAgain({ force: true })
    expect(got.fetchedBlocks).toBe(0)
    await expectAll(got)
  })

  it('between two moves goes on with the others', async () => {
    const link = diskFileSystem.link.bind(diskFileSystem)
    let links = 0
    vi.spyOn(diskFileSystem, 'link').mockImplementation(async (from, to) => {
      links++
      if (links === 2) {
        vi.spyOn(diskFileSystem, 'rename').mockRejectedValue(new Error('killed')) // nothing is put back by the dead
        throw new Error('killed')
      }
      await link(from, to)
    })
    await expect(getAgain()).rejects.toThrow('killed')
    vi.restoreAllMocks()
    expect((await readdir(out)).filter((name) => !name.endsWith('.part'))).toEqual(['a.bin', 'photos'])
    const got = await getAgain()
    expect(got.fetchedBlocks).toBe(0)
    await expectAll(got)
  })

  it('after it said where its files are and before the share was complete goes on, too', async () => {
    const save = b.env.records.saveShare.bind(b.env.records)
    vi.spyOn(b.env.records, 'saveShare').mockImplementation(async (record) => {
      if (record.state === 'complete') throw new Error('killed')
      await save(record)
    })
    await expect(getAgain()).rejects.toThrow('killed')
    vi.restoreAllMocks()
    const got = await getAgain()
    expect(got.fetchedBlocks).toBe(0)
    await expectAll(got)
  })
})

describe('what stands there by then', () => {
  it('is not touched where it is something else, and named; with --force only that is fetched again', async () => {
    await endBeforeRecord()
    const path = join(out, 'photos', 'deep', 'big.bin')
    const bytes = await readFile(path)
    bytes[MIB + 5]! ^= 1
    await writeFile(path, bytes)
    await expect(getAgain()).rejects.toMatchObject({ code: 'EXISTS', message: expect.stringContaining('big.bin') })
    expect((await readFile(path)).equals(bytes)).toBe(true)
    const got = await getAgain({ force: true })
    expect(got.fetchedBlocks).toBeGreaterThan(0)
    expect(got.fetchedBlocks).toBeLessThanOrEqual(5)
    await expectAll(got)
  })

  it('is in the way where it is longer, in a hole, or not all there', async () => {
    await endBeforeRecord()
    const sparse = await open(join(out, 'photos', 'sparse.bin'), 'r+')
    await sparse.write(Buffer.from([1]), 0, 1, 3 * MIB)
    await expect(getAgain()).rejects.toMatchObject({ code: 'EXISTS', message: expect.stringContaining('sparse.bin') })
    await sparse.write(Buffer.from([0]), 0, 1, 3 * MIB)
    await sparse.close()
    await appendFile(join(out, 'a.bin'), 'more')
    await expect(getAgain()).rejects.toMatchObject({ code: 'EXISTS' })
    const got = await getAgain({ force: true })
    expect(got.fetchedBlocks).toBeLessThanOrEqual(4)
    await expectAll(got)
  })

  it('is refused as ever where no get of this share was cut off here', async () => {
    await getAgain()
    await expect(getAgain()).rejects.toMatchObject({ code: 'EXISTS' })
    await mkdir(join(hosts.dir, 'elsewhere'))
    await writeFile(join(hosts.dir, 'elsewhere', 'a.bin'), 'mine')
    await expect(getAgain({ outputDir: join(hosts.dir, 'elsewhere') })).rejects.toMatchObject({ code: 'EXISTS' })
  })
})
