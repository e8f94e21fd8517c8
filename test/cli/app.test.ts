import { PassThrough } from 'node:stream'
import { describe, expect, it, onTestFinished } from 'vitest'
import { runCli } from '../../cli/app.ts'
import type { Io } from '../../cli/io.ts'
import type { Config } from '../../node/config.ts'
import { JobError, type ShoalApi } from '../../node/control/api.ts'
import { socketPathFor } from '../../node/control/client.ts'
import { serveControl } from '../../node/control/server.ts'
import { silentLog } from '../../node/log.ts'
import { EXIT } from '../../protocol/errors.ts'
import { CID, fakeApi, fakeNode, KEY, LINK } from './fake-api.ts'
import { makeHome } from './home.ts'

const X7 = new JobError('X7', 'this share unpacks to 40 TiB and weighs 1.00 MiB')

/** The command line in this process, with a home of its own; `opened` lists the options of nodes that it opened. */
async function makeTerminal(init: { api?: ShoalApi; isTTY?: boolean; openError?: (tries: number) => Error | null } = {}) {
  const home = await makeHome()
  const api = init.api ?? fakeApi()
  const node = fakeNode(api)
  const out = { stdout: '', stderr: '' }
  const stream = (name: 'stdout' | 'stderr'): PassThrough & { isTTY?: boolean } => {
    const through = new PassThrough()
    through.setEncoding('utf8').on('data', (text) => {
      out[name] += text
    })
    return through
  }
  const stdin: PassThrough & { isTTY?: boolean } = new PassThrough()
  const io = { stdin, stdout: stream('stdout'), stderr: stream('stderr') }
  if (init.isTTY) for (const each of Object.values(io)) each.isTTY = true
  let interrupt = (): void => {}
  const opened: { oneShot: boolean; offline?: boolean }[] = []
  const configs: Config[] = []
  const exits: number[] = []
  const all: Io = {
    ...io,
    cwd: '/desk/here',
    onReload: () => {},
    importHome: async (home) => ({ home, peerId: 'P1', shares: 0 }),
    onInterrupt: (handler) => {
      interrupt = handler
    },
    exitNow: (code) => exits.push(code),
    async openLocal(config, options) {
      configs.push(config)
      opened.push({ oneShot: options.oneShot, ...(options.offline === undefined ? {} : { offline: options.offline }) })
      const error = init.openError?.(opened.length)
      if (error) throw error
      return node
    },
  }
  const run = (...argv: string[]): Promise<number> => runCli(['--home', home, ...argv], all)
  /** Resolves once the text has appeared on that stream. */
  const seen = async (name: 'stdout' | 'stderr', text: string): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>()
    const look = (): void => {
      if (out[name].includes(text)) resolve()
    }
    io[name].on('data', look)
    look()
    await promise
    io[name].off('data', look)
  }
  return { run, out, stdin, stdout: io.stdout, node, api, home, opened, configs, exits, seen, interrupt: () => interrupt() }
}

/** A daemon for the home of a terminal. */
async function serveFor(home: string, api: ShoalApi) {
  const server = await serveControl({ api, socketPath: socketPathFor(home), log: silentLog, signal: new AbortController().signal })
  onTestFinished(() => server.close())
  return server
}

describe('with no daemon', () => {
  it('says so, with an exit code of its own, where a verb needs one', async () => {
    for (const verb of ['status', 'limits', 'peers', 'stop']) {
      const terminal = await makeTerminal()
      expect(await terminal.run(verb)).toBe(EXIT.noDaemon)
      expect(terminal.out).toEqual({ stdout: '', stderr: 'shoal: no daemon runs for this home. Start one with `shoal daemon`.\n' })
      expect(terminal.opened).toEqual([])
    }
  })

  it('runs a node for one get and stops it afterwards', async () => {
    const api = fakeApi()
    const terminal = await makeTerminal({ api })
    expect(await terminal.run('get', LINK, '-o', 'there')).toBe(EXIT.ok)
    const nothing = { path: null, force: false, consent: false, wait: false, peers: [], keep: false, keepSealed: false }
    expect(api.asked).toEqual([{ verb: 'get', request: { link: LINK, outputDir: '/desk/here/there', ...nothing } }])
    expect(terminal.opened).toEqual([{ oneShot: true, offline: false }])
    expect(terminal.node.stops).toBe(1)
    expect(terminal.out.stdout).toBe('/desk/here/there/photos\n1 file, 5 B; fetched 1 block (1.00 KiB), 0 already here\n')
    expect(terminal.out.stderr).toBe('')
  })

  it('opens the home without a network for what needs none', async () => {
    for (const argv of [['id'], ['ls'], ['unseed', LINK], ['gc']]) {
      const terminal = await makeTerminal()
      expect(await terminal.run(...argv)).toBe(EXIT.ok)
      expect(terminal.opened).toEqual([{ oneShot: true, offline: true }])
      expect(terminal.node.stops).toBe(1)
    }
    const terminal = await makeTerminal()
    expect(await terminal.run('ls', LINK)).toBe(EXIT.ok)
    expect(terminal.opened).toEqual([{ oneShot: true, offline: false }])
  })

  it('shares in the foreground: the link first and alone, then serving until Ctrl-C', async () => {
    const terminal = await makeTerminal()
    const running = terminal.run('share', 'photos')
    await terminal.seen('stderr', 'until Ctrl-C')
    expect(terminal.out.stdout).toBe(`${LINK}\n`)
    expect(terminal.out.stderr).toContain(`shoal:${CID}\n`)
    expect(terminal.out.stderr).toContain('a link to nowhere was skipped')
    expect(terminal.out.stderr.match(/nowhere/g)).toHaveLength(1)
    expect(terminal.node.stops).toBe(0)
    terminal.interrupt()
    expect(await running).toBe(EXIT.ok)
    expect(terminal.node.stops).toBe(1)
  })

  it('ends the foreground when somebody stops the node', async () => {
    const terminal = await makeTerminal()
    const running = terminal.run('seed', LINK, '--json')
    await terminal.seen('stdout', '}')
    await terminal.node.stop()
    expect(await running).toBe(EXIT.ok)
    expect(JSON.parse(terminal.out.stdout)).toMatchObject({ cid: CID, blockCount: 2 })
    expect(terminal.out.stderr).toBe('')
  })

  it('joins a node that held the lock before its socket was open', async () => {
    const api = fakeApi()
    let home = ''
    const terminal = await makeTerminal({
      openError: (tries) => {
        if (tries === 2) void serveFor(home, api)
        return new JobError('HOME_LOCKED', 'another process uses this home')
      },
    })
    home = terminal.home
    expect(await terminal.run('get', LINK)).toBe(EXIT.ok)
    expect(api.asked.map(({ verb }) => verb)).toEqual(['get'])
    expect(terminal.node.stops).toBe(0)
  })
})

describe('answers and failures', () => {
  it('gives exactly one JSON value on standard output for every verb', async () => {
    for (const argv of [['get', LINK], ['ls'], ['ls', LINK], ['unseed', CID], ['gc', '--dry-run'], ['id']]) {
      const terminal = await makeTerminal()
      expect(await terminal.run('--json', ...argv)).toBe(EXIT.ok)
      expect(() => JSON.parse(terminal.out.stdout)).not.toThrow()
      expect(terminal.out.stdout).not.toMatch(/[\u001b\u202e]/)
    }
  })

  it('gives an empty JSON array for an empty list, and leaves a failed one open', async () => {
    const empty = await makeTerminal({ api: fakeApi({ async *list() {} }) })
    expect(await empty.run('--json', 'ls', LINK)).toBe(EXIT.ok)
    expect(empty.out.stdout).toBe('[]\n')
    const list: ShoalApi['list'] = async function* () {
      yield { path: 'a', sizeBytes: 1, isDirectory: false, executable: false }
      throw new JobError('B2', 'damaged share')
    }
    const broken = await makeTerminal({ api: fakeApi({ list }) })
    expect(await broken.run('--json', 'ls', LINK)).toBe(EXIT.damagedShare)
    expect(() => JSON.parse(broken.out.stdout)).toThrow()
    expect(broken.out.stderr).toContain('damaged share')
  })

  it('prints names of strangers escaped', async () => {
    const kept = await makeTerminal()
    await kept.run('ls')
    expect(kept.out.stdout).toContain('evil\\x1b[2Jname')
    const listed = await makeTerminal()
    await listed.run('ls', LINK)
    expect(listed.out.stdout).toBe('            photos/\n 1.50 KiB x photos/\\u{202e}gpj.exe\n')
  })

  it('fails with the code of the cause, as a sentence or as JSON', async () => {
    const get: ShoalApi['get'] = async () => {
      throw new JobError('NO_SEEDER', `no seeder is online for ${LINK}`)
    }
    const human = await makeTerminal({ api: fakeApi({ get }) })
    expect(await human.run('get', LINK)).toBe(EXIT.noSeeder)
    expect(human.out.stderr).toMatch(
      /^shoal: no seeder is online .*\. Keep waiting with --wait, or ask the sender to run `shoal seed`\.\n$/,
    )
    const json = await makeTerminal({ api: fakeApi({ get }) })
    expect(await json.run('--json', 'get', LINK)).toBe(EXIT.noSeeder)
    expect(JSON.parse(json.out.stdout)).toEqual({ error: { code: 'NO_SEEDER', message: expect.stringContaining('--wait') } })
    for (const terminal of [human, json]) expect(terminal.out.stdout + terminal.out.stderr).not.toContain(KEY)
  })

  it('calls a fault of its own a fault, without quoting a key', async () => {
    const terminal = await makeTerminal({
      api: fakeApi({
        async get() {
          throw new TypeError(`bad ${LINK}`)
        },
      }),
    })
    expect(await terminal.run('get', LINK)).toBe(EXIT.bug)
    expect(terminal.out.stderr).toMatch(/fault in Shoal itself.*report/)
    expect(terminal.out.stderr).not.toContain(KEY)
  })

  it('reports damaged files and exits as for a damaged share', async () => {
    const got = {
      cid: CID,
      written: ['/w'],
      files: 2,
      sizeBytes: 9,
      fetchedBytes: 9,
      fetchedBlocks: 1,
      reusedBlocks: 0,
      keptBytes: 1024,
      inPlace: false,
    }
    const damaged = [{ path: 'a\u001b.txt', cause: 'wrong hash' }]
    const terminal = await makeTerminal({ api: fakeApi({ get: async () => ({ ...got, damaged }) }) })
    expect(await terminal.run('get', LINK)).toBe(EXIT.damagedShare)
    expect(terminal.out.stderr).toContain('a\\x1b.txt: wrong hash')
    expect(terminal.out.stderr).toContain('1.00 KiB of sealed blocks stay on this disk')
  })

  it('gives usage errors exit 2, also as JSON, and does not echo a link', async () => {
    const terminal = await makeTerminal()
    expect(await terminal.run('--json', LINK)).toBe(EXIT.usage)
    expect(JSON.parse(terminal.out.stdout)).toMatchObject({ error: { code: 'USAGE' } })
    expect(terminal.out.stdout).not.toContain(KEY)
    expect(await (await makeTerminal()).run('get', LINK, '-o', '-', '--json')).toBe(EXIT.usage)
  })

  it('streams one file to standard output and nothing else', async () => {
    const terminal = await makeTerminal()
    expect(await terminal.run('get', LINK, '-o', '-')).toBe(EXIT.ok)
    expect(terminal.out).toEqual({ stdout: 'hello world', stderr: '' })
  })

  it('ends quietly when its reader has enough', async () => {
    const cat: ShoalApi['cat'] = async function* (_request, _onEvent, signal) {
      for (;;) {
        signal.throwIfAborted()
        yield new Uint8Array(1000)
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
    const terminal = await makeTerminal({ api: fakeApi({ cat }) })
    terminal.stdout.once('data', () => terminal.stdout.destroy(Object.assign(new Error('closed'), { code: 'EPIPE' })))
    expect(await terminal.run('get', LINK, '-o', '-')).toBe(EXIT.interrupted)
    expect(terminal.out.stderr).toBe('')
  })
})

describe('caps', () => {
  it('limits shows them, sets those that were named, and says nothing else', async () => {
    const api = fakeApi()
    const terminal = await makeTerminal()
    await serveFor(terminal.home, api)
    expect(await terminal.run('limits', '--up', '2MiB')).toBe(EXIT.ok)
    expect(terminal.out.stderr).toBe('')
    expect(terminal.out.stdout).toBe(
      [
        'up              1.00 KiB/s, 2.00 MiB/s',
        'down            0 B/s, no cap',
        'local network   does not count',
        'month           0 B up, 0 B down, no end',
        'connections     at most 1000',
        'memory          64.0 MiB for blocks on their way',
        'pinned          no end',
        'cached          4.00 GiB',
        'relayed         at most 4.00 GiB a day for others',
        'left free       the larger of 1 GiB and 2 % of the disk',
        'until it stops  uploadBytesPerSecond',
        '',
      ].join('\n'),
    )
    expect(await terminal.run('limits', '--json', '--down', 'none', '--cap-lan', '--save')).toBe(EXIT.ok)
    expect(api.asked.map(({ request }) => request)).toEqual([
      { set: { uploadBytesPerSecond: 2_097_152 }, reset: false, save: false },
      { set: { downloadBytesPerSecond: null, lanExempt: false }, reset: false, save: true },
    ])
  })

  it('other verbs say that a running node keeps its caps, and a node of their own starts with them', async () => {
    const joined = await makeTerminal()
    await serveFor(joined.home, fakeApi())
    expect(await joined.run('get', LINK, '--down', '1MiB')).toBe(EXIT.ok)
    expect(joined.out.stderr).toContain('--down changed nothing')
    const alone = await makeTerminal()
    expect(await alone.run('get', LINK, '--up', '64KiB', '--down', 'none')).toBe(EXIT.ok)
    expect(alone.configs).toMatchObject([{ uploadBytesPerSecond: 65_536, downloadBytesPerSecond: null }])
  })
})

describe('consent', () => {
  const asking = (): { api: ReturnType<typeof fakeApi> } => {
    const plain = fakeApi()
    return {
      api: fakeApi({
        async get(request, onEvent, signal) {
          if (!request.consent) throw X7
          return await plain.get(request, onEvent, signal)
        },
      }),
    }
  }

  it('is asked for at a terminal, and the job runs again after a yes', async () => {
    const terminal = await makeTerminal({ ...asking(), isTTY: true })
    const running = terminal.run('get', LINK)
    await terminal.seen('stderr', '[y/N]')
    terminal.stdin.write('y\n')
    expect(await running).toBe(EXIT.ok)
    expect(terminal.out.stderr).toContain('40 TiB')
  })

  it('is not given by anything but a yes', async () => {
    for (const answer of ['\n', 'no\n', 'yesno\n']) {
      const terminal = await makeTerminal({ ...asking(), isTTY: true })
      const running = terminal.run('get', LINK)
      await terminal.seen('stderr', '[y/N]')
      terminal.stdin.write(answer)
      expect(await running).toBe(EXIT.needsConsent)
    }
    const closed = await makeTerminal({ ...asking(), isTTY: true })
    closed.stdin.end()
    expect(await closed.run('get', LINK)).toBe(EXIT.needsConsent)
  })

  it('is never asked for without a terminal, with JSON, or when --yes gave it', async () => {
    const piped = await makeTerminal(asking())
    expect(await piped.run('get', LINK)).toBe(EXIT.needsConsent)
    expect(piped.out.stderr).toContain('--yes')
    const json = await makeTerminal({ ...asking(), isTTY: true })
    expect(await json.run('get', LINK, '--json')).toBe(EXIT.needsConsent)
    expect(json.out.stderr).not.toContain('[y/N]')
    const given = await makeTerminal({ ...asking(), isTTY: true })
    expect(await given.run('get', LINK, '--yes')).toBe(EXIT.ok)
    expect(given.out.stderr).not.toContain('[y/N]')
  })
})

describe('Ctrl-C', () => {
  const hanging = (): { api: ReturnType<typeof fakeApi>; began: Promise<void> } => {
    const began = Promise.withResolvers<void>()
    const get: ShoalApi['get'] = async (_request, _onEvent, signal) => {
      began.resolve()
      return await new Promise<never>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    }
    return { api: fakeApi({ get }), began: began.promise }
  }

  it('aborts the job, stops the node, exits 130 and says that a second run resumes', async () => {
    const { api, began } = hanging()
    const terminal = await makeTerminal({ api })
    const running = terminal.run('get', LINK)
    await began
    terminal.interrupt()
    expect(await running).toBe(EXIT.interrupted)
    expect(api.signals[0]?.aborted).toBe(true)
    expect(terminal.node.stops).toBe(1)
    expect(terminal.out.stderr).toBe('shoal: interrupted. Run the same command again: it goes on where it stopped.\n')
  })

  it('ends the process at once the second time', async () => {
    const { api, began } = hanging()
    const terminal = await makeTerminal({ api })
    const running = terminal.run('get', LINK)
    await began
    terminal.interrupt()
    terminal.interrupt()
    expect(terminal.exits).toEqual([EXIT.interrupted])
    await running
  })
})

describe('the daemon verb', () => {
  it('says who and where it is as one JSON line, then runs until it is told to stop', async () => {
    const terminal = await makeTerminal()
    const running = terminal.run('daemon', '--json', '--network', 'lab')
    await terminal.seen('stderr', 'lab')
    expect(JSON.parse(terminal.out.stdout)).toEqual({
      peerId: 'P1',
      addresses: ['/ip4/127.0.0.1/tcp/9/p2p/P1'],
      home: terminal.home,
      socket: '/nowhere/control.sock',
      pid: process.pid,
    })
    expect(terminal.opened).toEqual([{ oneShot: false }])
    terminal.interrupt()
    expect(await running).toBe(EXIT.ok)
    expect(terminal.node.stops).toBe(1)
  })

  it('gives the exit code of a home in use', async () => {
    const terminal = await makeTerminal({ openError: () => new JobError('HOME_LOCKED', 'process 12 uses this home') })
    expect(await terminal.run('daemon')).toBe(EXIT.homeLocked)
    expect(terminal.opened).toHaveLength(1)
  })
})

describe('with a daemon', () => {
  it('hands the work over, and warns of options that come too late', async () => {
    const terminal = await makeTerminal()
    const api = fakeApi()
    await serveFor(terminal.home, api)
    expect(await terminal.run('share', 'a', '--network', 'lab')).toBe(EXIT.ok)
    expect(api.asked).toEqual([
      { verb: 'share', request: { paths: ['/desk/here/a'], scope: 'lineage', name: null, inPlace: false, replaces: false } },
    ])
    expect(terminal.opened).toEqual([])
    expect(terminal.out.stdout).toBe(`${LINK}\n`)
    expect(terminal.out.stderr).toContain('so --network changed nothing')
    expect(terminal.out.stderr).not.toContain('Ctrl-C')
  })

  it('shows who gives how much of what, and what is unfinished', async () => {
    const terminal = await makeTerminal()
    await serveFor(terminal.home, fakeApi())
    expect(await terminal.run('peers')).toBe(EXIT.ok)
    const [titles, row] = terminal.out.stdout.split('\n').map((line) => line.split(/ {2,}/))
    expect(titles).toEqual(['PEER', 'WAY', 'FOR', 'SHARE', 'FROM', 'HAS', 'GAVE', 'IN', 'IN/S', 'OUT', 'OUT/S', 'ADDRESS'])
    const cells = ['P2', 'outbound', '5 s', `…${CID.slice(-8)}`, 'exchange', 'all', '1 block', '1.00 KiB', '512 B', '0 B', '0 B']
    expect(row).toEqual([...cells, '/ip4/127.0.0.1/tcp/1'])
    expect(await terminal.run('status')).toBe(EXIT.ok)
    expect(terminal.out.stdout).toMatch(/unfinished +1 share served as far as fetched: `shoal get` with the same link goes on/)
  })

  it('waits for a stopped daemon to be gone', async () => {
    const terminal = await makeTerminal()
    const holder: { close?: () => Promise<void> } = {}
    const server = await serveFor(terminal.home, fakeApi({ stop: async () => void holder.close?.() }))
    holder.close = server.close
    expect(await terminal.run('stop', '--json')).toBe(EXIT.ok)
    expect(JSON.parse(terminal.out.stdout)).toEqual({ stopped: true })
    expect(await terminal.run('status')).toBe(EXIT.noDaemon)
  })
})
