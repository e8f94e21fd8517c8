import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createLog } from '../../node/log.ts'
import { LogFile } from '../../node/log-file.ts'
import { LOGS } from '../../protocol/limits.ts'
import { Secret } from '../../protocol/secret.ts'
import { makeHome } from '../cli/home.ts'

describe('the log', () => {
  it('follows a change of its level', () => {
    const lines: string[] = []
    const log = createLog('warn', (line) => lines.push(line))
    log.info('not this')
    log.level = 'debug'
    log.debug('this')
    log.level = 'silent'
    log.error('nor this')
    expect(lines.map((line) => (JSON.parse(line) as { text: string }).text)).toEqual(['this'])
  })

  it('writes text for people, in which nothing steers the terminal', () => {
    const lines: string[] = []
    const log = createLog('info', (line) => lines.push(line), 'text')
    log.info('a peer came', { agent: 'evil\u001b[2J\u202e\u009b', error: new Error('no'), key: new Secret(new Uint8Array(32)) })
    expect(lines).toHaveLength(1)
    expect(lines[0]).toMatch(
      /^\d\d:\d\d:\d\d info {2}a peer came agent="evil\\u001b\[2J\\u202e\\u009b" error=\{.*"no".*\} key="\[secret\]"\n$/,
    )
  })
})

describe('the log file', () => {
  it('keeps itself and one older one within the limit, in order and whole', async () => {
    const path = join(await makeHome(), 'daemon.log')
    const file = new LogFile(path, 1_000)
    const line = (i: number): string => `${JSON.stringify({ i, text: 'x'.repeat(80) })}\n`
    for (let i = 0; i < 200; i++) {
      file.write(line(i))
      // Each a write of its own, as in a daemon's life.
      if (i % 5 === 4) await file.close()
    }
    await file.close()
    const [newer, older] = [await readFile(path, 'utf8'), await readFile(`${path}.1`, 'utf8')]
    expect(Math.max(newer.length, older.length)).toBeLessThanOrEqual(1_000)
    const numbers = (older + newer)
      .trimEnd()
      .split('\n')
      .map((text) => (JSON.parse(text) as { i: number }).i)
    expect(numbers).toEqual(Array.from({ length: numbers.length }, (_, i) => 200 - numbers.length + i))
    expect((await stat(path)).mode & 0o777).toBe(0o600)
  })

  it('drops lines rather than fill the memory, and says how many', async () => {
    const home = await makeHome()
    const path = join(home, 'absent', 'daemon.log')
    const file = new LogFile(path)
    const long = `${'x'.repeat(LOGS.pendingBytesMax / 4 - 1)}\n`
    for (let i = 0; i < 10; i++) file.write(long)
    await file.close()
    await mkdir(join(home, 'absent'))
    file.write('after\n')
    await file.close()
    const [first, second] = (await readFile(path, 'utf8')).split('\n')
    expect(JSON.parse(first!)).toMatchObject({ text: 'lines were dropped', dropped: 10 })
    expect(second).toBe('after')
  })

  it('never writes through a symbolic link', async () => {
    const home = await makeHome()
    const { symlink } = await import('node:fs/promises')
    await writeFile(join(home, 'mine'), 'mine')
    await symlink(join(home, 'mine'), join(home, 'daemon.log'))
    const file = new LogFile(join(home, 'daemon.log'))
    file.write('line\n')
    await file.close()
    expect(await readFile(join(home, 'mine'), 'utf8')).toBe('mine')
  })
})
