import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { loadConfig } from '../../node/config.ts'
import { defaultHome, type Machine, machine, socketPathFor } from '../../node/paths.ts'
import { EXIT } from '../../protocol/errors.ts'
import { makeHome } from '../cli/home.ts'

const BOOT = '/ip4/127.0.0.1/tcp/4801/p2p/12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8'

async function homeWith(text: string): Promise<string> {
  const home = await makeHome()
  await writeFile(join(home, 'config.json'), text)
  return home
}

const problemOf = (home: string, overrides = {}): Promise<{ code: string; message: string; exitCode: number }> =>
  loadConfig({ home, overrides }).then(
    () => ({ code: 'NONE', message: '', exitCode: 0 }),
    (error) => error,
  )

describe('the config', () => {
  it('has defaults, which the file overrides, which the command line overrides', async () => {
    const home = await homeWith(JSON.stringify({ network: 'lab', listen: ['/ip4/127.0.0.1/tcp/4801'], mdns: false }))
    const plain = await loadConfig({ home: join(home, 'elsewhere'), overrides: {} })
    expect(plain).toMatchObject({ home: join(home, 'elsewhere'), network: null, mdns: true, logLevel: 'info' })
    expect(await loadConfig({ home, overrides: {} })).toMatchObject({ network: 'lab', listen: ['/ip4/127.0.0.1/tcp/4801'], mdns: false })
    const both = await loadConfig({ home, overrides: { network: 'other', bootstrap: [BOOT], mdns: true } })
    expect(both).toMatchObject({ network: 'other', bootstrap: [BOOT], mdns: true, listen: ['/ip4/127.0.0.1/tcp/4801'] })
    expect(Object.isFrozen(both)).toBe(true)
  })

  it('neither asks a peer nor calls out by mDNS on a network of its own, unless told to', async () => {
    expect(await loadConfig({ home: '/nowhere', overrides: { network: 'lab' } })).toMatchObject({ bootstrap: [], mdns: false })
  })

  it('takes caps from the file, which the command line lifts', async () => {
    const home = await homeWith(JSON.stringify({ uploadBytesPerSecond: 1024, downloadBytesPerSecond: 65_536 }))
    expect(await loadConfig({ home: '/nowhere', overrides: {} })).toMatchObject({
      uploadBytesPerSecond: null,
      downloadBytesPerSecond: null,
    })
    const lifted = await loadConfig({ home, overrides: { uploadBytesPerSecond: null } })
    expect(lifted).toMatchObject({ uploadBytesPerSecond: null, downloadBytesPerSecond: 65_536 })
  })

  it('exchanges peers and announces shares unless told otherwise', async () => {
    expect(await loadConfig({ home: '/nowhere', overrides: {} })).toMatchObject({ pex: true, announce: 'share' })
    const home = await homeWith(JSON.stringify({ pex: false, announce: 'blocks' }))
    expect(await loadConfig({ home, overrides: {} })).toMatchObject({ pex: false, announce: 'blocks' })
    expect(await problemOf(await homeWith(JSON.stringify({ pex: 'no', announce: 'all' })))).toMatchObject({
      code: 'BAD_CONFIG',
      message: expect.stringMatching(/pex must.*announce must/),
    })
  })

  it('makes every complaint at once', async () => {
    const wrong = {
      network: 'No Spaces',
      listen: '/ip4/0.0.0.0/tcp/1',
      bootstrap: ['/ip4/127.0.0.1/tcp/1'],
      mdns: 1,
      logLevel: 'loud',
      uploadBytesPerSecond: 1023,
      downloadBytesPerSecond: '2MiB',
      color: 1,
    }
    const problem = await problemOf(await homeWith(JSON.stringify(wrong)))
    expect(problem).toMatchObject({ code: 'BAD_CONFIG', exitCode: EXIT.badInput })
    for (const name of Object.keys(wrong)) expect(problem.message).toContain(name)
  })

  it('refuses a file that is no JSON object, and bad options', async () => {
    for (const text of ['', '[]', 'null', '{', '"x"']) expect(await problemOf(await homeWith(text))).toMatchObject({ code: 'BAD_CONFIG' })
    expect(await problemOf('/nowhere', { listen: ['127.0.0.1:80'] })).toMatchObject({ code: 'BAD_CONFIG' })
    expect(await problemOf('/nowhere', { bootstrap: ['/ip4/127.0.0.1/tcp/1/p2p/abc'] })).toMatchObject({ code: 'BAD_CONFIG' })
    expect(await problemOf('/nowhere', { network: '-x' })).toMatchObject({ code: 'BAD_CONFIG' })
  })
})

describe('paths', () => {
  const linux: Machine = { platform: 'linux', env: {}, homeDir: '/home/u', tempDir: '/tmp', user: '1000' }

  it('put the home where the platform keeps application data', () => {
    const home = (machine: Partial<Machine>): string => defaultHome({ ...linux, ...machine })
    expect(home({})).toBe('/home/u/.local/share/shoal')
    expect(home({ env: { XDG_DATA_HOME: '/data' } })).toBe('/data/shoal')
    expect(home({ env: { XDG_DATA_HOME: 'relative' } })).toBe('/home/u/.local/share/shoal')
    expect(home({ env: { SHOAL_HOME: '/s', XDG_DATA_HOME: '/data' } })).toBe('/s')
    expect(home({ platform: 'darwin' })).toBe('/home/u/Library/Application Support/shoal')
    expect(home({ platform: 'win32', env: { LOCALAPPDATA: 'C:\\L' } })).toBe('C:\\L\\shoal')
  })

  it('keep a control socket path within what a socket address holds', () => {
    const env = { XDG_RUNTIME_DIR: '/run/user/1000' }
    const at = { ...linux, env }
    const pathOfLength = (length: number): string => `/${'h'.repeat(length - '/control.sock'.length - 1)}`
    expect(socketPathFor(pathOfLength(107), at)).toBe(`${pathOfLength(107)}/control.sock`)
    const moved = socketPathFor(pathOfLength(108), at)
    expect(moved).toMatch(/^\/run\/user\/1000\/shoal-1000-[0-9a-f]{24}\/control\.sock$/)
    expect(socketPathFor(pathOfLength(109), at)).not.toBe(moved)
    expect(socketPathFor(pathOfLength(108), linux)).toMatch(/^\/tmp\/shoal-1000-/)
    // Bytes count, not characters: 60 of these are 120 bytes.
    expect(socketPathFor(`/${'é'.repeat(60)}`, at)).toMatch(/^\/run/)
    expect(socketPathFor(pathOfLength(104), { ...at, platform: 'darwin' })).toMatch(/^\/run/)
    expect(socketPathFor('C:\\h', { ...linux, platform: 'win32' })).toMatch(/^\\\\\.\\pipe\\shoal-/)
    expect(() => socketPathFor(pathOfLength(108), { ...at, env: { XDG_RUNTIME_DIR: `/${'r'.repeat(90)}` } })).toThrow('107')
  })

  it('know the machine they run on', () => {
    expect(machine()).toMatchObject({ platform: process.platform })
  })
})
