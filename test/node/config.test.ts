import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { loadConfig } from '../../node/config.ts'
import { defaultHome, type Machine, machine, socketPathFor } from '../../node/paths.ts'
import { complaintsOf, DEFAULTS, SETTING_NAMES } from '../../node/settings.ts'
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
      message: expect.stringMatching(/pex is "no", but must be true or false; announce is "all", but must be one of/),
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
    for (const [name, value] of Object.entries(wrong)) {
      expect(problem.message).toContain(name)
      if (name !== 'color') expect(problem.message).toContain(JSON.stringify(Array.isArray(value) ? value[0] : value))
    }
  })

  it('names the value and what is allowed, and the setting that a mistyped one is nearest to', async () => {
    const message = (settings: unknown): Promise<string> =>
      homeWith(JSON.stringify(settings))
        .then((home) => problemOf(home))
        .then((problem) => problem.message)
    expect(await message({ uploadBytesPerSeconds: 4096 })).toContain(
      '"uploadBytesPerSeconds" is not a setting; did you mean "uploadBytesPerSecond"?',
    )
    expect(await message({ Mdns: true, zzzzzz: 1 })).toMatch(/"Mdns" is not a setting; did you mean "mdns"\?; "zzzzzz" is not a setting$/)
    expect(await message({ connectionsMax: 7 })).toContain('connectionsMax is 7, but must be a whole number from 8 to 10000')
    expect(await message({ listen: ['/ip4/0.0.0.0/tcp/1', 'x'] })).toContain('listen[1] is "x", but must be one of multiaddrs like')
    expect(await message({ network: 'x'.repeat(100_000).slice(0, 60_000) })).toMatch(/^.{0,300}$/)
    expect(await message('{')).toContain('must hold one JSON object')
  })

  it('checks a schedule field by field', async () => {
    const schedule = [
      { from: '08:00', to: '24:00', uploadBytesPerSecond: null },
      { from: '24:00', to: '25:00', uploadBytesPerSecond: 5 },
      { days: ['monday'], to: '09:00', downloadBytePerSecond: 4096 },
      { days: ['mon', 'mon'], from: '01:00', to: '02:00', downloadBytesPerSecond: 4096 },
      7,
    ]
    const { message } = await problemOf(await homeWith(JSON.stringify({ schedule })))
    for (const complaint of [
      'schedule[1].from is "24:00", but',
      'schedule[1].to is "25:00", but',
      'schedule[1].uploadBytesPerSecond is 5, but',
      'schedule[2].days is ["monday"], but',
      'schedule[2].downloadBytePerSecond is no field of an entry; did you mean "downloadBytesPerSecond"?',
      'schedule[2] has no "from"',
      'schedule[2] sets nothing',
      'schedule[3].days is ["mon","mon"], but',
      'schedule[4] is 7, but',
    ])
      expect(message).toContain(complaint)
    expect(message).not.toContain('schedule[0]')
  })

  it('a cap of the command line holds at all times, whatever the schedule says', async () => {
    const schedule = [{ from: '08:00', to: '18:00', uploadBytesPerSecond: 4096, downloadBytesPerSecond: 8192 }]
    const home = await homeWith(JSON.stringify({ schedule }))
    expect((await loadConfig({ home, overrides: {} })).schedule).toEqual(schedule)
    const given = await loadConfig({ home, overrides: { uploadBytesPerSecond: null } })
    expect(given.schedule).toEqual([{ from: '08:00', to: '18:00', downloadBytesPerSecond: 8192 }])
    expect(given.given).toEqual({ uploadBytesPerSecond: null })
  })

  it('refuses a file that is no JSON object, and bad options', async () => {
    for (const text of ['', '[]', 'null', '{', '"x"']) expect(await problemOf(await homeWith(text))).toMatchObject({ code: 'BAD_CONFIG' })
    expect(await problemOf('/nowhere', { listen: ['127.0.0.1:80'] })).toMatchObject({ code: 'BAD_CONFIG' })
    expect(await problemOf('/nowhere', { bootstrap: ['/ip4/127.0.0.1/tcp/1/p2p/abc'] })).toMatchObject({ code: 'BAD_CONFIG' })
    expect(await problemOf('/nowhere', { network: '-x' })).toMatchObject({ code: 'BAD_CONFIG' })
  })
})

describe('the table of settings in the README', () => {
  it('has every setting with its default, in order, and no other', async () => {
    const readme = await readFile(join(import.meta.dirname, '../../README.md'), 'utf8')
    const settings = /\n## Settings\n([\s\S]*?)\n## /.exec(readme)?.[1] ?? ''
    const rows = [...settings.matchAll(/^\| `(\w+)` \| `(.*?)` \| (.*) \|$/gm)].map(([, name, value, meaning]) => ({
      name,
      value,
      meaning,
    }))
    expect(rows.map(({ name, value }) => [name, value])).toEqual(SETTING_NAMES.map((name) => [name, JSON.stringify(DEFAULTS[name])]))
    for (const { name, meaning } of rows) expect(meaning!.length, name).toBeGreaterThan(10)
    expect(complaintsOf({ ...DEFAULTS })).toEqual([])
  })

  it('and its example is sound', async () => {
    const readme = await readFile(join(import.meta.dirname, '../../README.md'), 'utf8')
    const examples = [...readme.matchAll(/```json\n([\s\S]*?)```/g)].map(([, text]) => JSON.parse(text!))
    expect(examples.length).toBeGreaterThan(0)
    for (const example of examples) expect(complaintsOf(example)).toEqual([])
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
