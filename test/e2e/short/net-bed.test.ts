/** The test bed itself: its routers do what their kind does, its cables can be pulled, and it does not start where packets could leave. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { Bed, whyNoBed } from '../../net/bed.ts'

const run = promisify(execFile)
const PROBE = fileURLToPath(new URL('../../net/probe.ts', import.meta.url))
const PORT = 4801

const TABLE = `
  # name   on        address       nat        line
  east     internet  5.9.0.2
  west     internet  62.4.0.2      -          5ms-100mbit
  cone     internet  91.7.0.2      cone
  sym      internet  81.3.0.2      symmetric
  full     internet  77.1.0.2      full
  a        cone      192.168.1.2
  a2       cone      192.168.1.3
  b        sym       192.168.2.2
  c        full      192.168.3.2
`

const why = await whyNoBed()

describe.skipIf(why !== null)(`the test bed${why === null ? '' : ` (${why})`}`, () => {
  let bed: Bed
  let folder: string
  const listeners: ChildProcess[] = []

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'shoal-net-'))
    bed = await Bed.build(TABLE, folder)
  })

  afterEach(async () => {
    for (const child of listeners.splice(0)) {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
  })

  afterAll(async () => {
    await bed?.close()
    await rm(folder, { recursive: true, force: true })
  })

  /** The lines of a listener on a machine: who came. */
  async function listen(machine: string): Promise<AsyncIterator<string>> {
    const [command = '', ...rest] = [...bed.prefix(machine), process.execPath, PROBE, 'listen', String(PORT)]
    const child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'inherit'] })
    listeners.push(child)
    const lines: Interface = createInterface({ input: child.stdout })
    const iterator = lines[Symbol.asyncIterator]()
    expect((await iterator.next()).value).toBe('ready')
    return iterator
  }

  async function dial(machine: string, address: string, from?: number): Promise<string> {
    const [command = '', ...rest] = [...bed.prefix(machine), process.execPath, PROBE, 'dial', address, String(PORT), String(from ?? '')]
    const { stdout } = await run(command, rest)
    return stdout.trim()
  }

  it('carries connections between machines on the internet, over cables and lines', async () => {
    const arrivals = await listen('west')
    expect(await dial('east', '62.4.0.2')).toBe('open')
    expect((await arrivals.next()).value).toMatch(/^5\.9\.0\.2 /)
  })

  it('a cone keeps the port of what goes out, a symmetric router gives every connection another one', async () => {
    const arrivals = { east: await listen('east'), west: await listen('west') }
    const portsOf = async (machine: string): Promise<[string, number][]> => {
      const seen: [string, number][] = []
      for (const [name, address] of [['east', '5.9.0.2'] as const, ['west', '62.4.0.2'] as const]) {
        expect(await dial(machine, address, 5555)).toBe('open')
        const [from = '', port] = String((await arrivals[name].next()).value).split(' ')
        seen.push([from, Number(port)])
      }
      return seen
    }
    expect(await portsOf('a')).toEqual([
      ['91.7.0.2', 5555],
      ['91.7.0.2', 5555],
    ])
    const symmetric = await portsOf('b')
    expect(symmetric.map(([from]) => from)).toEqual(['81.3.0.2', '81.3.0.2'])
    expect(new Set(symmetric.map(([, port]) => port)).size).toBe(2)
  })

  it('lets nobody into a home but where the router is open, and everybody out of it', async () => {
    await listen('a')
    const arrivals = await listen('c')
    expect(await dial('east', '91.7.0.2')).not.toBe('open')
    expect(await dial('east', '192.168.1.2')).not.toBe('open')
    expect(await dial('east', '77.1.0.2')).toBe('open')
    expect((await arrivals.next()).value).toMatch(/^5\.9\.0\.2 /)
    expect(await dial('a2', '192.168.1.2')).toBe('open')
    await bed.forward('a', PORT)
    expect(await dial('east', '91.7.0.2')).toBe('open')
  })

  it('a cable can be pulled and plugged in again, and an address changes', async () => {
    await listen('east')
    await bed.cut('cone')
    expect(await dial('a', '5.9.0.2')).not.toBe('open')
    await bed.mend('cone')
    // What the kernel asked for its neighbour while the cable was out may be counted against the first dial.
    await expect.poll(() => dial('a', '5.9.0.2'), { timeout: 20_000 }).toBe('open')
    await bed.move('cone', '91.8.0.9')
    const arrivals = await listen('west')
    expect(await dial('a', '62.4.0.2')).toBe('open')
    expect((await arrivals.next()).value).toMatch(/^91\.8\.0\.9 /)
  })

  it('is not built where a packet could leave: a device too many, a way out, an end on this machine', async () => {
    const refuses = async (complaint: RegExp, leak: (middle: string) => Promise<unknown>): Promise<void> => {
      const leaky = await Bed.build('only internet 5.9.0.2', folder)
      try {
        await leak(leaky.internet)
        await expect(leaky.assertClosed()).rejects.toThrow(complaint)
      } finally {
        await leaky.close()
      }
    }
    await refuses(/not made for it/, (middle) => run('ip', ['-n', middle, 'link', 'add', 'leak', 'type', 'bridge']))
    await refuses(/has a way out/, (middle) => run('ip', ['-n', middle, 'route', 'add', 'default', 'via', '5.9.0.2']))
    // The cable of the machine is put in again, with its other end outside: its name is known, only where it leads is not.
    await refuses(/leads into/, async (middle) => {
      const { stdout } = await run('ip', ['-j', '-n', middle, 'link'])
      const { ifname } = (JSON.parse(stdout) as { ifname: string }[]).find((link) => link.ifname !== 'lo')! // as ip writes it
      await run('ip', ['-n', middle, 'link', 'del', ifname])
      await run('ip', ['link', 'add', `x${ifname}`.slice(0, 15), 'type', 'veth', 'peer', 'name', ifname, 'netns', middle])
    })
  })
})
