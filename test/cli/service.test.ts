import { spawnSync } from 'node:child_process'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { parseArguments } from '../../cli/program.ts'
import { installService, type ServiceMachine, serviceStatus, uninstallService } from '../../cli/service/service.ts'
import { launchdAgent, systemdUnit } from '../../cli/service/unit-files.ts'
import { holderOf, optionsOf } from '../../cli/service/verb.ts'
import { socketPathFor } from '../../node/control/client.ts'
import { serveControl } from '../../node/control/server.ts'
import { silentLog } from '../../node/log.ts'
import { fakeApi } from './fake-api.ts'
import { makeHome } from './home.ts'

const STRANGE = '/srv/my files/100%h $HOME "x" \\n; y'
const COMMAND = { node: '/usr/bin/node', script: `${STRANGE}/cli/shoal.js`, home: `${STRANGE}/home`, options: [] as string[] }

interface Fake extends ServiceMachine {
  asked: string[]
  output: string
}

/** A machine whose manager answers `codes` by command, 0 for others; null: there is no manager. */
async function machine(platform: string, codes: Record<string, number> | null = {}): Promise<Fake> {
  const asked: string[] = []
  const fake: Fake = {
    output: '',
    platform,
    homeDir: join(await makeHome(), 'my home'),
    configHome: undefined,
    uid: 1000,
    user: 'ann',
    asked,
    async run(argv) {
      if (codes === null) return null
      const text = argv.join(' ')
      asked.push(text)
      return { code: Object.entries(codes).find(([part]) => text.includes(part))?.[1] ?? 0, output: fake.output }
    },
  }
  return fake
}

/** What systemd makes of an ExecStart line, by its rules for quotes, "%%" and "$$". */
function wordsOf(line: string): string[] {
  return [...line.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, word = '']) =>
    word
      .replace(/\\(.)/g, '$1')
      .replaceAll('%%', '%')
      .replaceAll('$$', () => '$'),
  )
}

describe('the systemd unit', () => {
  it('runs exactly the command, whatever stands in its paths', () => {
    const unit = systemdUnit({ ...COMMAND, logToFile: false })
    const [line = ''] = unit.split('\n').filter((text) => text.startsWith('ExecStart='))
    expect(wordsOf(line)).toEqual([COMMAND.node, COMMAND.script, 'daemon', '--home', COMMAND.home])
    // Alone each is a mark of systemd's own.
    for (const mark of ['%', '$']) expect(line.replaceAll(mark + mark, '')).not.toContain(mark)
    expect(unit).toContain('Restart=on-failure\n')
    expect(unit).toContain('NoNewPrivileges=yes\n')
    expect(() => systemdUnit({ ...COMMAND, home: '/a\nExecStartPre=/bin/evil', logToFile: false })).toThrow(RangeError)
  })

  const hasVerify = spawnSync('systemd-analyze', ['--version']).status === 0
  it.skipIf(!hasVerify)('is what systemd itself takes for a good one (needs systemd-analyze)', async () => {
    const folder = await makeHome()
    const home = join(folder, 'a home 100% $x')
    await mkdir(home)
    const file = join(folder, 'shoal.service')
    await writeFile(
      file,
      systemdUnit({ node: process.execPath, script: join(home, 'shoal.js'), home, options: ['--network', 'a b'], logToFile: false }),
    )
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--user', '--man=no', file], {
      encoding: 'utf8',
      env: { ...process.env, XDG_RUNTIME_DIR: folder },
    })
    expect({ status, complaints: stderr.split('\n').filter((line) => line.includes('shoal.service')) }).toEqual({
      status: 0,
      complaints: [],
    })
  })
})

describe('the launchd agent', () => {
  it('runs exactly the command, and logs to the file in the home', () => {
    const agent = launchdAgent({ ...COMMAND, home: '/a & <b>', logToFile: true }, '/logs/<x>.log')
    const strings = [...agent.matchAll(/<string>(.*)<\/string>/g)].map(([, text]) => text)
    expect(strings.slice(1, 7)).toEqual([COMMAND.node, COMMAND.script, 'daemon', '--home', '/a &amp; &lt;b&gt;', '--log-file'])
    expect(agent).toContain('<key>StandardErrorPath</key>\n  <string>/logs/&lt;x&gt;.log</string>')
  })
})

describe('shoal service', () => {
  it('writes the unit, starts it, and says how to keep it without a session', async () => {
    const at = await machine('linux')
    const result = await installService(COMMAND, at, false)
    expect(result.file).toBe(join(at.homeDir, '.config', 'systemd', 'user', 'shoal.service'))
    expect(await readFile(result.file, 'utf8')).toBe(systemdUnit({ ...COMMAND, logToFile: false }))
    expect(at.asked.slice(0, 3)).toEqual(
      ['daemon-reload', 'enable shoal.service', 'restart shoal.service'].map((text) => `systemctl --user ${text}`),
    )
    expect(result).toMatchObject({ installed: true, running: true, todo: ['loginctl enable-linger ann'] })
    // Again is as good as once, and leaves no other file.
    await installService(COMMAND, at, false)
    expect(await readdir(join(result.file, '..'))).toEqual(['shoal.service'])
    expect(await serviceStatus(at)).toMatchObject({ installed: true, running: true })
  })

  it('writes the unit where there is no manager, and says what to run', async () => {
    const at = await machine('linux', null)
    const result = await installService(COMMAND, at, false)
    expect(result).toMatchObject({ installed: true, running: false, done: [] })
    expect(result.todo).toEqual([
      'systemctl --user daemon-reload',
      'systemctl --user enable shoal.service',
      'systemctl --user restart shoal.service',
      'loginctl enable-linger ann',
    ])
    expect(await serviceStatus(at)).toMatchObject({ installed: true, running: null })
    const removed = await uninstallService(at, false)
    expect(removed).toMatchObject({
      installed: false,
      todo: ['systemctl --user disable --now shoal.service', 'systemctl --user daemon-reload'],
    })
    expect(await serviceStatus(at)).toMatchObject({ installed: false })
  })

  it('leaves to the user what a manager refuses, from there on', async () => {
    const at = await machine('linux', { enable: 1, 'is-active': 3 })
    const result = await installService(COMMAND, at, false)
    expect(result.done).toEqual(['systemctl --user daemon-reload'])
    expect(result.todo.slice(0, 2)).toEqual(['systemctl --user enable shoal.service', 'systemctl --user restart shoal.service'])
    expect(result.running).toBe(false)
  })

  it('does nothing with --dry-run but show it', async () => {
    const at = await machine('linux')
    const result = await installService(COMMAND, at, true)
    expect(result.content).toBe(systemdUnit({ ...COMMAND, logToFile: false }))
    expect(result.todo[0]).toBe('systemctl --user daemon-reload')
    await installService(COMMAND, at, false)
    at.asked.length = 0
    const removal = await uninstallService(at, true)
    expect(removal.todo).toContain(`rm '${result.file}'`)
    expect(at.asked).toEqual([])
    expect((await serviceStatus(at)).installed).toBe(true)
  })

  it('removes what it installed and says so when there is nothing', async () => {
    const at = await machine('linux', { 'is-active': 4 })
    await installService(COMMAND, at, false)
    expect(await uninstallService(at, false)).toMatchObject({ installed: false, running: false, todo: [] })
    expect(await uninstallService(at, false)).toMatchObject({ installed: false, done: [] })
  })

  it('writes a launchd agent on macOS', async () => {
    const at = await machine('darwin')
    const result = await installService(COMMAND, at, false)
    expect(result.file).toBe(join(at.homeDir, 'Library/LaunchAgents/org.shoal.daemon.plist'))
    // What an earlier installation loaded goes first, if there is any.
    expect(at.asked.slice(0, 2)).toEqual(['launchctl bootout gui/1000/org.shoal.daemon', `launchctl bootstrap gui/1000 ${result.file}`])
  })

  it('tells an agent of macOS that is loaded from one that runs', async () => {
    const at = await machine('darwin', { bootout: 3 })
    expect(await installService(COMMAND, at, false)).toMatchObject({ installed: true, running: false, todo: [] })
    at.output = 'org.shoal.daemon = {\n\tstate = running\n}'
    expect(await serviceStatus(at)).toMatchObject({ installed: true, running: true })
  })

  it('gives the daemon the options of the node', async () => {
    const at = await machine('linux')
    const parsed = parseArguments(
      '--network friends --no-mdns --listen /ip4/0.0.0.0/tcp/4801 --up 500kB --down none --cap-lan service install'.split(' '),
    )
    if (!('call' in parsed)) throw new Error(parsed.text)
    const { file } = await installService({ ...COMMAND, options: optionsOf(parsed.globals) }, at, false)
    const [line = ''] = (await readFile(file, 'utf8')).split('\n').filter((text) => text.startsWith('ExecStart='))
    const words = wordsOf(line)
    expect(words.slice(0, 5)).toEqual([COMMAND.node, COMMAND.script, 'daemon', '--home', COMMAND.home])
    // The daemon reads them as they were given here.
    const again = parseArguments(words.slice(2))
    expect('call' in again && { ...again.globals, home: null }).toEqual(parsed.globals)
  })

  it('sees which node answers for a home, also one of another version', async () => {
    const home = await makeHome()
    expect(await holderOf(home)).toBeNull()
    const socketPath = socketPathFor(home)
    const server = await serveControl({ api: fakeApi(), socketPath, log: silentLog, signal: new AbortController().signal })
    expect(await holderOf(home)).toMatch(/^process \d+$/)
    await server.close()
    const other = createServer((_request, response) => response.writeHead(200, { 'content-type': 'application/json' }).end('{}'))
    onTestFinished(() => void other.close())
    await new Promise<void>((resolve) => other.listen(socketPath, resolve))
    expect(await holderOf(home)).toBe('of another version')
  })

  it('does not start beside a node that is no service, and restarts its own', async () => {
    const beside = await machine('linux', { 'is-active': 3 })
    await expect(installService(COMMAND, beside, false, 'process 4321')).rejects.toMatchObject({
      code: 'HOME_LOCKED',
      message: expect.stringContaining('4321'),
    })
    expect((await serviceStatus(beside)).installed).toBe(false)
    expect(await installService(COMMAND, await machine('linux'), false, 'process 4321')).toMatchObject({ running: true })
  })

  it('says what to do instead elsewhere', async () => {
    await expect(serviceStatus(await machine('win32'))).rejects.toMatchObject({
      code: 'BAD_INPUT',
      message: expect.stringContaining('shoal daemon'),
    })
  })
})
