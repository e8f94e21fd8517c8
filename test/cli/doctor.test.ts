import { chmod, readdir, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { examine, type Facts, isPublic } from '../../cli/doctor/checks.ts'
import { gatherFacts } from '../../cli/doctor/facts.ts'
import { loadConfig } from '../../node/config.ts'
import { JobError, VERSION } from '../../node/control/api.ts'
import { socketPathFor } from '../../node/control/client.ts'
import { serveControl } from '../../node/control/server.ts'
import { silentLog } from '../../node/log.ts'
import { fakeApi } from './fake-api.ts'
import { makeHome } from './home.ts'

const never = new AbortController().signal

async function healthy(): Promise<Facts> {
  return {
    nodeVersion: '24.1.0',
    platform: 'linux',
    home: { path: '/h', exists: true, isOpen: false, openFiles: [], version: '2' },
    disk: { freeBytes: 50 * 1024 ** 3, keptBytes: 1024 ** 3, syncMs: 2 },
    clock: { year: 2030, gainedMs: 0 },
    openFilesMax: 8192,
    memoryBytes: 8 * 1024 ** 3,
    complaint: null,
    takenPorts: [],
    status: { ...(await fakeApi().status(never)), version: VERSION, network: null, addresses: ['/ip4/9.9.9.9/tcp/4801'] },
    peers: [],
    isOtherVersion: false,
  }
}

/** Name and state of what is not well. */
const ill = (facts: Facts): string[] => examine(facts).flatMap(({ name, state }) => (state === 'ok' ? [] : [`${name} ${state}`]))

describe('the doctor', () => {
  it('finds nothing wrong where nothing is', async () => {
    expect(ill(await healthy())).toEqual([])
    expect(examine(await healthy()).every(({ todo }) => todo === null)).toBe(true)
  })

  it('finds each thing that is wrong, and says what to do', async () => {
    const well = await healthy()
    const status = well.status!
    const far = { direction: 'inbound', shares: [], connectedSeconds: 1, peerId: 'P2' }
    const cases: [Partial<Facts>, string[]][] = [
      [{ nodeVersion: '20.1.0' }, ['version fail']],
      [{ status: { ...status, version: '0.0.1' } }, ['version warn']],
      [{ status: null }, ['node warn']],
      [{ home: { ...well.home, exists: false } }, ['home warn']],
      [{ home: { ...well.home, isOpen: true } }, ['home fail']],
      [{ home: { ...well.home, openFiles: ['identity'] } }, ['home fail']],
      [{ disk: null }, ['disk warn']],
      [{ disk: { freeBytes: 1024, keptBytes: 2048, syncMs: null } }, ['disk fail']],
      [{ disk: { freeBytes: 10 * 1024 ** 3, keptBytes: 20 * 1024 ** 3, syncMs: 1 } }, ['disk fail']],
      [{ status: null, isOtherVersion: true }, ['version warn', 'node warn']],
      [{ disk: { freeBytes: 500 * 1024 ** 2, keptBytes: 1024 ** 2, syncMs: 1 } }, ['disk warn']],
      [{ disk: { freeBytes: 50 * 1024 ** 3, keptBytes: 0, syncMs: 2_000 } }, ['disk warn']],
      [{ clock: { year: 1970, gainedMs: 0 } }, ['clock fail']],
      [{ clock: { year: 2030, gainedMs: -3_600_000 } }, ['clock warn']],
      [{ openFilesMax: 256 }, ['limits warn']],
      [{ memoryBytes: 256 * 1024 ** 2 }, ['limits warn']],
      [{ complaint: 'pex must be true or false' }, ['settings fail']],
      [{ takenPorts: ['/ip4/0.0.0.0/tcp/4801'] }, ['ports fail']],
      [{ status: { ...status, addresses: ['/ip4/192.168.1.5/tcp/4801'] } }, ['reach warn']],
      [{ status: { ...status, addresses: [] }, peers: [{ ...far, address: '/ip4/9.9.9.9/tcp/5' }] }, []],
      [{ status: { ...status, addresses: [] }, peers: [{ ...far, address: '/ip4/10.0.0.9/tcp/5' }] }, ['reach warn']],
      [{ status: { ...status, connections: 0, dht: [] } }, ['peers warn']],
      [{ status: { ...status, lagP99Ms: 900 } }, ['load warn']],
    ]
    for (const [change, expected] of cases) {
      const facts = { ...well, ...change }
      expect(ill(facts), JSON.stringify(change)).toEqual(expected)
      for (const { state, todo, name } of examine(facts)) if (state !== 'ok' && name !== 'disk') expect(todo).toBeTruthy()
    }
  })

  it('tells public addresses from private ones', () => {
    for (const address of ['/ip4/9.9.9.9/tcp/1', '/ip6/2620:fe::fe/tcp/1']) expect(isPublic(address), address).toBe(true)
    const near = [
      '/ip4/127.0.0.1/tcp/1',
      '/ip4/10.1.1.1/tcp/1',
      '/ip4/100.64.0.1/tcp/1',
      '/ip6/::1/tcp/1',
      '/ip6/fe80::1/tcp/1',
      '/ip6/fd00::1/tcp/1',
      '/dns4/a/tcp/1',
      '',
    ]
    for (const address of near) expect(isPublic(address), address).toBe(false)
  })
})

describe('what the doctor looks at', () => {
  it('is seen without a node, and nothing is changed by it', async () => {
    const home = await makeHome()
    await writeFile(join(home, 'identity'), 'x', { mode: 0o600 })
    await writeFile(join(home, 'node-secret'), 'x', { mode: 0o600 })
    await chmod(join(home, 'node-secret'), 0o644)
    const before = await readdir(home)
    const facts = await gatherFacts(home, await loadConfig({ home, overrides: {} }), never)
    expect(facts).toMatchObject({
      status: null,
      complaint: null,
      takenPorts: [],
      home: { exists: true, isOpen: false, openFiles: ['node-secret'] },
    })
    expect(facts.disk?.syncMs).toBeGreaterThanOrEqual(0)
    expect(await readdir(home)).toEqual(before)
    const absent = join(home, 'absent', 'deep')
    expect(await gatherFacts(absent, new JobError('BAD_CONFIG', 'no'), never)).toMatchObject({
      complaint: 'no',
      home: { exists: false },
      disk: { syncMs: null },
    })
    await expect(stat(absent)).rejects.toMatchObject({ code: 'ENOENT' })
  })

  it('is asked of a node that runs', async () => {
    const home = await makeHome()
    const server = await serveControl({ api: fakeApi(), socketPath: socketPathFor(home), log: silentLog, signal: never })
    onTestFinished(() => server.close())
    const facts = await gatherFacts(home, await loadConfig({ home, overrides: {} }), never)
    expect(facts.status).toMatchObject({ pid: 7 })
    expect(facts.peers).toHaveLength(1)
  })

  it('includes ports that somebody else has', async () => {
    const squatter = createServer()
    await new Promise<void>((resolve) => squatter.listen({ host: '127.0.0.1', port: 0 }, resolve))
    onTestFinished(() => new Promise<void>((resolve) => squatter.close(() => resolve())))
    const { port } = squatter.address() as { port: number } // it listens on a TCP port
    const home = await makeHome()
    const listen = [`/ip4/127.0.0.1/tcp/${port}`, '/ip4/127.0.0.1/tcp/0']
    expect((await gatherFacts(home, await loadConfig({ home, overrides: { listen } }), never)).takenPorts).toEqual([listen[0]])
  })
})
