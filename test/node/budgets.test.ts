/** The budgets of a node: layers of settings, the config file while it runs, and a volume of a month that outlives restarts. */
import { readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Budgets } from '../../node/budgets/budgets.ts'
import { connectionsFor, openFilesMax, socketsFor } from '../../node/budgets/descriptors.ts'
import { memoryShares } from '../../node/budgets/memory.ts'
import { type ConfigOverrides, loadConfig } from '../../node/config.ts'
import { createLog } from '../../node/log.ts'
import { RateLimiter } from '../../node/network/rate-limiter.ts'
import { BUDGETS } from '../../protocol/budget-limits.ts'
import { makeHome } from '../cli/home.ts'

const NONE = { set: {}, reset: false, save: false }
const MIB = 2 ** 20

/** A node's budgets with a clock of their own, and records that outlive it. */
class Bench {
  readonly home: string
  readonly settings = new Map<string, string>()
  readonly lines: string[] = []
  writes = 0
  wallMs = new Date(2026, 10, 25, 12).getTime()
  limiter = new RateLimiter({ uploadBytesPerSecond: null, downloadBytesPerSecond: null })

  constructor(home: string) {
    this.home = home
  }

  async open(overrides: ConfigOverrides = {}): Promise<Budgets> {
    this.limiter = new RateLimiter({ uploadBytesPerSecond: null, downloadBytesPerSecond: null })
    const records = {
      getSetting: async (name: string) => this.settings.get(name) ?? null,
      setSetting: async (name: string, value: string) => {
        this.writes++
        this.settings.set(name, value)
      },
    }
    return await Budgets.open({
      config: await loadConfig({ home: this.home, overrides }),
      limiter: this.limiter,
      records,
      log: createLog('debug', (line) => void this.lines.push(line)),
      wallMs: () => this.wallMs,
    })
  }

  file = (): Promise<unknown> => readFile(join(this.home, 'config.json'), 'utf8').then(JSON.parse)
  write = (settings: unknown): Promise<void> =>
    writeFile(join(this.home, 'config.json'), typeof settings === 'string' ? settings : JSON.stringify(settings))
  caps = (): (number | null)[] => [this.limiter.state().up.capBytesPerSecond, this.limiter.state().down.capBytesPerSecond]
}

let bench: Bench
beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  bench = new Bench(await makeHome())
})
afterEach(() => void vi.useRealTimers())

it('what is passed on for others counts in the volume of the month, in and out', async () => {
  const budgets = await bench.open({ monthlyBytes: MIB })
  budgets.countRelayed(MIB / 2 - 1)
  expect(budgets.month()).toMatchObject({ up: MIB / 2 - 1, down: MIB / 2 - 1, held: { up: false, down: false } })
  budgets.countRelayed(1)
  expect(budgets.held).toEqual({ up: true, down: true })
  await budgets.stop()
})

describe('settings of a running node', () => {
  it('what is set on it holds over the file until a reset', async () => {
    await bench.write({ uploadBytesPerSecond: 4096, downloadBytesPerSecond: 8192 })
    const budgets = await bench.open()
    expect(bench.caps()).toEqual([4096, 8192])
    await budgets.change({ ...NONE, set: { uploadBytesPerSecond: null, pinnedBytes: 5 } })
    expect([bench.caps(), budgets.current.pinnedBytes, budgets.untilStop]).toEqual([
      [null, 8192],
      5,
      ['uploadBytesPerSecond', 'pinnedBytes'],
    ])
    await budgets.change({ ...NONE, reset: true })
    expect([bench.caps(), budgets.current.pinnedBytes, budgets.untilStop]).toEqual([[4096, 8192], null, []])
    expect(await bench.file()).toEqual({ uploadBytesPerSecond: 4096, downloadBytesPerSecond: 8192 })
  })

  it('save keeps every other setting of the file, and its mode', async () => {
    const schedule = [{ from: '22:00', to: '06:00', uploadBytesPerSecond: null }]
    await bench.write({ network: 'lab', schedule, uploadBytesPerSecond: 4096 })
    const { mode } = await stat(join(bench.home, 'config.json'))
    const budgets = await bench.open()
    await budgets.change({ ...NONE, set: { uploadBytesPerSecond: 8192, monthlyBytes: 7 }, save: true })
    expect(await bench.file()).toEqual({ network: 'lab', schedule, uploadBytesPerSecond: 8192, monthlyBytes: 7 })
    expect((await stat(join(bench.home, 'config.json'))).mode).toBe(mode)
    expect([bench.caps(), budgets.untilStop]).toEqual([[8192, null], []])
    await budgets.change({ set: { connectionsMax: 50 }, reset: true, save: true })
    expect(await bench.file()).toEqual({ network: 'lab', schedule, connectionsMax: 50 })
    expect([bench.caps(), budgets.current.connectionsMax]).toEqual([[null, null], 50])
  })

  it('save makes a private file where there is none, and follows a link', async () => {
    const budgets = await bench.open()
    await budgets.change({ ...NONE, set: { lanExempt: false }, save: true })
    expect(await bench.file()).toEqual({ lanExempt: false })
    expect((await stat(join(bench.home, 'config.json'))).mode & 0o777).toBe(0o600)
    const other = new Bench(await makeHome())
    await writeFile(join(bench.home, 'elsewhere.json'), '{"pex":false}')
    await symlink(join(bench.home, 'elsewhere.json'), join(other.home, 'config.json'))
    await (await other.open()).change({ ...NONE, set: { lanExempt: false }, save: true })
    expect(JSON.parse(await readFile(join(bench.home, 'elsewhere.json'), 'utf8'))).toEqual({ pex: false, lanExempt: false })
  })

  it('makes every complaint at once and changes nothing then', async () => {
    await bench.write({ uploadBytesPerSecond: 4096 })
    const budgets = await bench.open()
    const wrong = { uploadBytesPerSecond: 5, memoryBytes: 1, network: 'x' } as object
    await expect(budgets.change({ ...NONE, set: wrong, save: true })).rejects.toMatchObject({
      code: 'BAD_INPUT',
      message: expect.stringMatching(/uploadBytesPerSecond is 5.*memoryBytes is 1.*network is no limit/),
    })
    await bench.write({ colour: 1, uploadBytesPerSecond: 4096 })
    await expect(budgets.change({ ...NONE, set: { pinnedBytes: 1 }, save: true })).rejects.toMatchObject({ code: 'BAD_CONFIG' })
    expect([bench.caps(), budgets.current.pinnedBytes, await bench.file()]).toEqual([
      [4096, null],
      null,
      { colour: 1, uploadBytesPerSecond: 4096 },
    ])
  })

  it('reads the file again: a good one holds, a bad one changes nothing, and what needs a restart is said', async () => {
    const budgets = await bench.open({ downloadBytesPerSecond: 9999 })
    const seen: number[] = []
    budgets.onChange(() => seen.push(budgets.current.memoryBytes))
    await bench.write({ uploadBytesPerSecond: 2048, downloadBytesPerSecond: 2048, memoryBytes: 20 * MIB, network: 'lab' })
    await budgets.reload()
    // The command line still overrides the file.
    expect([bench.caps(), seen]).toEqual([[2048, 9999], [20 * MIB]])
    expect(bench.lines.join()).toMatch(/from its next start.*network/)
    await bench.write({ uploadBytesPerSecond: 1, memoryBytes: 'x' })
    await expect(budgets.reload()).rejects.toMatchObject({ code: 'BAD_CONFIG', message: expect.stringMatching(/upload.*memoryBytes/) })
    expect([bench.caps(), seen.length]).toEqual([[2048, 9999], 1])
  })

  it('the schedule holds over the file, what is set by hand over the schedule, and it changes by itself', async () => {
    const schedule = [{ from: '12:01', to: '13:00', uploadBytesPerSecond: 2048, downloadBytesPerSecond: null }]
    await bench.write({ schedule, uploadBytesPerSecond: 4096, downloadBytesPerSecond: 8192 })
    const budgets = await bench.open()
    expect([bench.caps(), budgets.caps().nextChangeMs]).toEqual([[4096, 8192], bench.wallMs + 60_000])
    bench.wallMs += 60_000
    vi.advanceTimersByTime(60_000)
    expect([bench.caps(), budgets.caps().from]).toEqual([[2048, null], { up: 'schedule', down: 'schedule' }])
    await budgets.change({ ...NONE, set: { uploadBytesPerSecond: 5000 } })
    expect([bench.caps(), budgets.caps().from]).toEqual([[5000, null], { up: 'set', down: 'schedule' }])
    await budgets.change({ ...NONE, reset: true })
    bench.wallMs -= 400 * 86_400_000 + 3_600_000 // a clock that jumps is noticed within a minute
    vi.advanceTimersByTime(60_000)
    expect(bench.caps()).toEqual([4096, 8192])
    await budgets.stop()
    expect(vi.getTimerCount()).toBe(0)
  })
})

describe('the volume of a month', () => {
  it('holds payload back when it is used up, each way and together, and lets go when the month ends or more is set', async () => {
    await bench.write({ monthlyUploadBytes: 1000, monthlyBytes: 3000 })
    const budgets = await bench.open()
    const seen: unknown[] = []
    budgets.onHold((held) => seen.push(held))
    bench.limiter.countSent(995) // and its length, four bytes
    expect([budgets.held, seen]).toEqual([{ up: false, down: false }, []])
    bench.limiter.countSent(1)
    expect(seen).toEqual([{ up: true, down: false }])
    bench.limiter.countReceived(1992, 0)
    expect(seen.at(-1)).toEqual({ up: true, down: true })
    expect(budgets.month()).toEqual({ up: 1004, down: 1996, endsMs: new Date(2026, 11, 1).getTime(), held: { up: true, down: true } })
    bench.limiter.countReceived(1, 0)
    await budgets.change({ ...NONE, set: { monthlyBytes: 4000 } })
    expect(seen.at(-1)).toEqual({ up: true, down: false })
    bench.wallMs = new Date(2026, 11, 1).getTime()
    vi.advanceTimersByTime(60_000)
    expect(seen.at(-1)).toEqual({ up: false, down: false })
    expect(budgets.month()).toMatchObject({ up: 0, down: 0 })
    await budgets.stop()
  })

  it('survives a restart and clocks that jump, and a start after the clock went back holds nothing less', async () => {
    await bench.write({ monthlyBytes: 1000 })
    let budgets = await bench.open()
    bench.limiter.countSent(1096)
    await budgets.stop()
    for (const jump of ['2026-11-25', '2025-10-21', '2026-11-26', '2024-01-31', '2026-11-30']) {
      bench.wallMs = new Date(`${jump}T12:00`).getTime()
      budgets = await bench.open()
      expect(budgets.held, jump).toEqual({ up: true, down: true })
      await budgets.stop()
    }
    bench.wallMs = new Date(2026, 11, 1, 0, 1).getTime()
    expect((await bench.open()).held).toEqual({ up: false, down: false })
  })

  it('is written down so often that a kill forgets little', async () => {
    await bench.open()
    bench.limiter.countSent(100)
    await vi.advanceTimersByTimeAsync(BUDGETS.monthWriteMs)
    const again = await bench.open()
    expect(again.month().up).toBe(104)
    const writes = bench.writes
    for (let sent = 0; sent < BUDGETS.monthWriteBytes; sent += MIB) bench.limiter.countReceived(MIB, 0)
    await vi.advanceTimersByTimeAsync(0)
    expect(bench.writes - writes).toBe(1)
    expect((await bench.open()).month().down).toBeGreaterThanOrEqual(BUDGETS.monthWriteBytes)
  })

  it('does not count what stays on the local network, unless it is told to', async () => {
    const budgets = await bench.open()
    bench.limiter.lan().countSent(100)
    bench.limiter.lan().countReceived(100, 0)
    expect(budgets.month()).toMatchObject({ up: 0, down: 0 })
    expect(bench.limiter.state().up.bytes).toBe(104)
    await budgets.change({ ...NONE, set: { lanExempt: false } })
    bench.limiter.lan().countSent(100)
    expect(budgets.month()).toMatchObject({ up: 104, down: 0 })
    await budgets.stop()
  })

  it('begins anew, with a word in the log, when what was written down is not readable', async () => {
    bench.settings.set('month', '{"entries":7}')
    expect((await bench.open()).month()).toMatchObject({ up: 0, down: 0 })
    expect(bench.lines.join()).toContain('the volume of the month is not readable')
  })
})

describe('memory and connections', () => {
  it('divides the memory', () => {
    expect(memoryShares(80 * MIB)).toEqual({ uploadBytes: 32 * MIB, creditBytes: 32 * MIB, cacheBytes: 16 * MIB })
    const least = memoryShares(BUDGETS.memoryBytesMin)
    expect(least.uploadBytes).toBeGreaterThanOrEqual(4 * MIB)
  })

  it('leaves descriptors for storage', async () => {
    expect([socketsFor(null), socketsFor(20_000), socketsFor(256), socketsFor(64)]).toEqual([null, 19_872, 128, 8])
    expect([connectionsFor(1000, null), connectionsFor(1000, 20_000), connectionsFor(1000, 256), connectionsFor(1000, 64)]).toEqual([
      1000, 1000, 106, 8,
    ])
    const path = join(bench.home, 'limits')
    await writeFile(
      path,
      'Max file size             unlimited            unlimited            bytes\nMax open files            256                  4096                 files\n',
    )
    expect([await openFilesMax(path), await openFilesMax(join(bench.home, 'nowhere'))]).toEqual([256, null])
  })
})
