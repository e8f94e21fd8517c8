/** The records when the power fails, their worker dies, or the disk is full: what was acknowledged stays, and they go on by themselves. */
import { execFileSync, spawnSync } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Worker } from 'node:worker_threads'
import { describe, expect, onTestFinished, test } from 'vitest'
import { silentLog } from '../../node/log.ts'
import { openRecords, type Records } from '../../node/storage/records.ts'
import { Reserve } from '../../node/storage/records-reserve.ts'
import { STORAGE } from '../../protocol/limits.ts'
import { freshFolder } from './storage-fakes.ts'

async function open(file: string): Promise<Records> {
  const records = await openRecords({ file, log: silentLog })
  onTestFinished(() => records.close())
  return records
}

const hasStrace = spawnSync('strace', ['-V']).status === 0

describe('records', () => {
  test('with a log that is cut or torn anywhere open, and hold every commit up to there', async () => {
    const dir = freshFolder()
    const file = join(dir, 'records.db')
    const records = await open(file)
    const commits = 30
    /** Bytes of the log that held so many commits. */
    const ends: number[] = []
    for (let n = 0; n < commits; n++) {
      await records.setSetting('n', String(n))
      ends.push(statSync(`${file}-wal`).size)
    }
    const wholeBytes = ends.at(-1) ?? 0
    for (let trial = 0; trial < 12; trial++) {
      const copy = join(dir, `copy-${trial}`)
      mkdirSync(copy)
      // By another process: to close the file here would give the lock back.
      execFileSync('cp', [file, `${file}-wal`, copy])
      const cut = randomInt(ends[0] ?? 0, wholeBytes + 1)
      const log = join(copy, 'records.db-wal')
      if (trial % 2 === 0) truncateSync(log, cut)
      else {
        const bytes = readFileSync(log)
        bytes.fill(0x5a, cut) // a size that stayed without its data
        writeFileSync(log, bytes)
      }
      const survivor = await openRecords({ file: join(copy, 'records.db'), log: silentLog })
      const found = Number(await survivor.getSetting('n'))
      const committed = ends.filter((end) => end <= cut).length - 1
      expect(found, `cut at ${cut} of ${wholeBytes}`).toBe(committed)
      await survivor.setSetting('n', 'after')
      await survivor.close()
    }
  })

  test('whose worker dies fail what was asked, and go on with another one', async () => {
    const workers: Worker[] = []
    const onWorker = (worker: Worker): void => void workers.push(worker)
    process.on('worker', onWorker)
    onTestFinished(() => void process.off('worker', onWorker))
    const records = await open(join(freshFolder(), 'records.db'))
    await records.setSetting('before', 'yes')
    const asked = records.setSetting('meanwhile', 'perhaps').then(
      () => 'stored',
      (error: { code: string }) => error.code,
    )
    await workers[0]?.terminate()
    expect(['stored', 'IO']).toContain(await asked)
    expect(await records.getSetting('before')).toBe('yes')
    await records.setSetting('after', 'yes')
    expect(await records.getSetting('after')).toBe('yes')
    expect(workers).toHaveLength(2)
  })

  // Every sync and write of the log in turn: one caller is told, nobody else notices, and all that was acknowledged is there.
  test.skipIf(!hasStrace).each([
    ['fsync,fdatasync', 'EIO', 'IO', 2],
    ['fsync,fdatasync', 'EIO', 'IO', 5],
    ['pwrite64', 'EIO', 'IO', 4],
    ['pwrite64', 'ENOSPC', 'NO_SPACE', 4],
    ['pwrite64', 'ENOSPC', 'NO_SPACE', 9],
  ])('after a %s of their log that fails with %s go on by themselves (%s, call %i)', async (call, error, code, when) => {
    const file = join(freshFolder(), 'records.db')
    await (await openRecords({ file, log: silentLog })).close()
    const script = fileURLToPath(new URL('./records-process.ts', import.meta.url))
    const inject = `inject=${call}:error=${error}:when=${when}`
    const strace = ['-f', '-q', '-o', '/dev/null', '-P', `${file}-wal`, '-e', `trace=${call}`, '-e', inject]
    const out = execFileSync('strace', [...strace, process.execPath, script, file, '12'], { encoding: 'utf8' })
    const said = JSON.parse(out) as string[] // printed by records-process.ts
    // A full disk is met by the reserve, so that one is not even told.
    const failed = said.filter((word) => word !== 'ok')
    expect(failed).toEqual(code === 'NO_SPACE' ? [] : [code])
    expect(said.at(-1)).toBe('ok')
    const records = await open(file)
    for (const [i, word] of said.entries()) if (word === 'ok') expect(await records.getSetting(`n${i}`)).toBe(String(i))
  })
})

describe('the reserve', () => {
  test('is there from the start, goes once, and comes back when it is time', () => {
    const path = join(freshFolder(), 'reserve')
    const reserve = new Reserve(path)
    expect(reserve.release()).toBe(false)
    const fresh = new Reserve(path)
    fresh.keep()
    expect(statSync(path).size).toBe(STORAGE.reserveBytes)
    expect(statSync(path).blocks * 512).toBeGreaterThanOrEqual(STORAGE.reserveBytes)
    expect(new Reserve(path).release()).toBe(true)
    expect(existsSync(path)).toBe(false)
    fresh.keep() // believes that it is there
    expect(fresh.release()).toBe(true)
    fresh.keep() // not so soon
    expect(existsSync(path)).toBe(false)
  })

  test('that is cut short is no reserve', () => {
    const path = join(freshFolder(), 'reserve')
    writeFileSync(path, 'x')
    expect(new Reserve(path).release()).toBe(false)
  })
})
