import { describe, expect, it } from 'vitest'
import { keptSeeds } from '../kit/seeds.ts'
import { Random } from '../sim/crowd/random.ts'
import { SimDisk, SimProcess } from './disk.ts'
import { runExtractionStory } from './extraction-story.ts'
import { runGcStory } from './gc-story.ts'
import { KEPT_FILE, runAll } from './run.ts'
import { runStory, type StoryOutcome } from './story.ts'

const SEEDS = Number(process.env.SEEDS ?? 2_000)

/** Tells a story, and says which it was when it fails. */
async function tell(seed: number): Promise<StoryOutcome> {
  try {
    return await runStory(seed)
  } catch (error) {
    throw new Error(`seed ${seed}; tell its story: SEED=${seed} npm run sim:disk`, { cause: error })
  }
}

describe('a home folder on a disk that loses, tears and reorders what was not synced', () => {
  it(`keeps what it acknowledged and lists nothing half-written with every one of ${SEEDS} seeds, and all that may happen does`, async () => {
    const happened = new Map<string, number>()
    for (let seed = 1; seed <= SEEDS; seed++) {
      for (const [what, count] of (await tell(seed)).happened) happened.set(what, (happened.get(what) ?? 0) + count)
    }
    for (const what of [
      'lostData',
      'tornData',
      'sizeWithoutData',
      'lostName',
      'datasync EIO',
      'syncDirectory EIO',
      'write ENOSPC',
      'open:read EMFILE',
      'rename EIO',
    ]) {
      expect(happened.get(what) ?? 0, what).toBeGreaterThan(SEEDS / 200)
    }
  }, 240_000)

  it('passes the seeds that failed once', async () => {
    for (const { seed } of keptSeeds(KEPT_FILE)) await runAll(seed, null)
  })

  it('the same seed gives the same story, another seed another', async () => {
    const told = async (seed: number): Promise<string> => {
      const lines: string[] = []
      await runStory(seed, (line) => lines.push(line.replace(/[0-9a-f]{32}\.(block|tmp)/g, '$1'))) // random names
      return lines.join('\n')
    }
    expect(await told(7)).toBe(await told(7))
    expect(await told(7)).not.toBe(await told(8))
  })
})

describe('a get on a disk that loses, tears and reorders what was not synced', () => {
  it('has the whole folder in its place or nothing, and keeps what it acknowledged, with every one of 2000 seeds', async () => {
    const happened = new Map<string, number>()
    for (let seed = 1; seed <= 2_000; seed++) {
      try {
        for (const [what, count] of (await runExtractionStory(seed)).happened) happened.set(what, (happened.get(what) ?? 0) + count)
      } catch (error) {
        throw new Error(`seed ${seed}; tell its story: SEED=${seed} npm run sim:disk`, { cause: error })
      }
    }
    for (const what of ['lostName', 'write ENOSPC', 'datasync EIO', 'syncDirectory EIO'])
      expect(happened.get(what) ?? 0, what).toBeGreaterThan(5)
  }, 240_000)
})

describe('letting go on a disk that loses, tears and reorders what was not synced', () => {
  it('takes nothing from shares that are kept, and is finished by the next start, with every one of 2000 seeds', async () => {
    const happened = new Map<string, number>()
    for (let seed = 1; seed <= 2_000; seed++) {
      try {
        for (const [what, count] of (await runGcStory(seed)).happened) happened.set(what, (happened.get(what) ?? 0) + count)
      } catch (error) {
        throw new Error(`seed ${seed}; tell its story: SEED=${seed} npm run sim:disk`, { cause: error })
      }
    }
    for (const what of ['lostName', 'write ENOSPC', 'datasync EIO', 'syncDirectory EIO', 'open:create ENOSPC', 'rename EIO'])
      expect(happened.get(what) ?? 0, what).toBeGreaterThan(5)
  }, 240_000)
})

describe('the simulated disk itself', () => {
  /** What a power cut may leave of one small change, over many seeds. */
  async function outcomes(change: (process: SimProcess) => Promise<void>, look: (disk: SimDisk) => string): Promise<Set<string>> {
    const found = new Set<string>()
    for (let seed = 0; seed < 300; seed++) {
      const disk = new SimDisk(new Random(seed))
      disk.makeFolders('/a')
      disk.makeFolders('/b')
      const process = new SimProcess(disk)
      const result = await process.run(change(process))
      if (result.status === 'rejected') throw result.reason
      process.kill()
      disk.cut()
      found.add(look(disk))
    }
    return found
  }

  const write = async ({ fs }: SimProcess, path: string, sizeBytes: number, isSynced: boolean): Promise<void> => {
    const file = await fs.open(path, 'create')
    await file.write(new Uint8Array(sizeBytes).fill(7), 0)
    if (isSynced) await file.datasync()
    await file.close()
  }

  const contents = (disk: SimDisk, path: string): string => {
    const bytes = disk.contents(path)
    if (bytes === null) return 'absent'
    const whole = bytes.every((byte) => byte === 7)
    return `${bytes.length} ${whole ? 'whole' : 'damaged'}`
  }

  it('keeps what was synced with its folder, always', async () => {
    const found = await outcomes(
      async (process) => {
        await write(process, '/a/x', 1_000, true)
        await process.fs.syncDirectory('/a')
      },
      (disk) => contents(disk, '/a/x'),
    )
    expect(found).toEqual(new Set(['1000 whole']))
  })

  it('may lose the name of a synced file, and keep the name and the size of one without its data', async () => {
    const named = await outcomes(
      (process) => write(process, '/a/x', 1_000, true),
      (disk) => contents(disk, '/a/x'),
    )
    expect(named).toEqual(new Set(['absent', '1000 whole']))
    const unsynced = await outcomes(
      (process) => write(process, '/a/x', 1_000, false),
      (disk) => contents(disk, '/a/x'),
    )
    expect(unsynced).toEqual(new Set(['absent', '0 whole', '1000 damaged', '1000 whole']))
  })

  it('may do half of a rename between folders', async () => {
    const found = await outcomes(
      async (process) => {
        await write(process, '/a/x', 10, true)
        await process.fs.syncDirectory('/a')
        await process.fs.rename('/a/x', '/b/y')
      },
      (disk) => `${contents(disk, '/a/x')}, ${contents(disk, '/b/y')}`,
    )
    expect(found).toEqual(new Set(['10 whole, absent', 'absent, 10 whole', '10 whole, 10 whole', 'absent, absent']))
  })

  it('after a failed sync a second one succeeds and saves nothing, and the disk says that it was asked', async () => {
    let asked = 0
    const found = await outcomes(
      async (process) => {
        const file = await process.fs.open('/a/x', 'create')
        await process.fs.syncDirectory('/a')
        await file.write(new Uint8Array(100).fill(7), 0)
        process.disk.faults.push({ operation: /^datasync$/, path: /./, code: 'EIO', skip: 0 })
        await file.datasync().catch(() => {})
        await file.datasync()
        asked += process.disk.violations.length
      },
      (disk) => contents(disk, '/a/x'),
    )
    expect(found).toEqual(new Set(['0 whole', '100 damaged', '100 whole']))
    expect(asked).toBe(300)
  })
})
