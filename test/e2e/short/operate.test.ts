/** Running a node, with real processes: who may use it, who comes too late, what it tells of itself, how it ends. */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { LogLevelResult, ShareResult, StatusResult } from '../../../node/control/api.ts'
import { EXIT } from '../../../protocol/errors.ts'
import { type Daemon, runCli, Sandbox, startCli } from '../../kit/daemons.ts'

const CLI = resolve(import.meta.dirname, '../../../cli/shoal.js')

let sandbox: Sandbox
let node: Daemon
let port: number

beforeAll(async () => {
  sandbox = await Sandbox.create()
  node = await sandbox.daemon('operated', { args: ['--http', '0'] })
  port = (await node.json<StatusResult>('status')).httpPort ?? 0
})

afterAll(() => sandbox.clear())

/** Status and body of GET /metrics. */
async function metrics(token: string | null): Promise<{ status: number; body: string }> {
  const headers = token === null ? {} : { authorization: `Bearer ${token}` }
  const asked = request({ host: '127.0.0.1', port, path: '/metrics', headers, agent: false }).end()
  const [response] = await once(asked, 'response')
  let body = ''
  for await (const part of response) body += String(part)
  return { status: response.statusCode, body }
}

describe('a node that is operated', () => {
  it('offers its figures over HTTP to who can read the token, and over its socket', async () => {
    const file = join(node.home, 'http-token')
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect((await metrics(null)).status).toBe(401)
    const { status, body } = await metrics((await readFile(file, 'utf8')).trim())
    expect(status).toBe(200)
    expect(body).toMatch(/^process_resident_memory_bytes \d{8,}$/m)
    expect((await node.run('metrics')).stdout).toMatch(/^shoal_jobs_running 0$/m)
  })

  it('logs what it is told to while it runs', async () => {
    expect(await node.json<LogLevelResult>('log-level')).toEqual({ level: 'info' })
    expect(await node.json<LogLevelResult>('log-level', 'debug')).toEqual({ level: 'debug' })
    await writeFile(sandbox.path('x'), 'x')
    await node.json<ShareResult>('share', sandbox.path('x'))
    await expect.poll(() => node.log, { timeout: 60_000 }).toContain('"level":"debug"')
    await node.json('log-level', 'info')
  })

  it('keeps its home: another one ends with the exit code for that and says who runs, and since when', async () => {
    const run = await runCli(['daemon', '--home', node.home, '--network', sandbox.network, '--listen', '/ip4/127.0.0.1/tcp/0'])
    expect(run.code).toBe(EXIT.homeLocked)
    expect(run.stderr).toMatch(new RegExp(`process ${node.started.pid}, since \\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d UTC`))
  })

  it('lets exactly one of many that start at once have a new home, and every other one names it', async () => {
    const home = sandbox.path('home-contested')
    const args = ['daemon', '--json', '--home', home, '--network', sandbox.network, '--listen', '/ip4/127.0.0.1/tcp/0']
    const children = Array.from({ length: 4 }, () => startCli(args))
    const ends = children.map(async (child) => {
      let stdout = ''
      child.stdout?.on('data', (part: Buffer) => {
        stdout += part.toString()
      })
      const [code] = await once(child, 'close')
      return { code, stdout }
    })
    // The winner says where it is, the others what went wrong.
    const won = children.map(async (child) => {
      const [line] = await once(child.stdout!, 'data')
      return 'pid' in JSON.parse(String(line)) ? child : await new Promise<never>(() => {})
    })
    const first = await Promise.race(won)
    const losers = await Promise.all(ends.filter((_, i) => children[i] !== first))
    for (const { code, stdout } of losers) {
      expect(code).toBe(EXIT.homeLocked)
      expect(stdout).toContain(`process ${first.pid}`)
    }
    first.kill('SIGTERM')
    expect((await ends[children.indexOf(first)])?.code).toBe(EXIT.ok)
  })

  it('ends in order on SIGTERM while it works, and the next one finds its home free', async () => {
    const other = await sandbox.daemon('ending')
    const client = startCli(['--home', other.home, 'seed', `shoal:bafybei${'a'.repeat(52)}`, '--wait'])
    const ended = once(client, 'exit')
    await expect.poll(async () => (await other.json<StatusResult>('status')).jobs, { timeout: 60_000 }).toBe(1)
    other.child.kill('SIGTERM')
    expect((await once(other.child, 'exit'))[0]).toBe(EXIT.ok)
    expect((await ended)[0]).toBe(EXIT.noDaemon)
    expect((await runCli(['--home', other.home, 'id', '--json'])).code).toBe(EXIT.ok)
  })

  it('logs to a file of its own when told so', async () => {
    const quiet = await sandbox.daemon('filed', { args: ['--log-file', '--log-level', 'debug'] })
    await quiet.kill('SIGTERM')
    expect(quiet.log).not.toContain('"level"')
    const file = join(quiet.home, 'daemon.log')
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    for (const line of (await readFile(file, 'utf8')).trimEnd().split('\n')) expect(JSON.parse(line)).toHaveProperty('level')
  })
})

/** Another user of this machine can be played by root alone. */
const canBeOther =
  process.getuid?.() === 0 &&
  spawnSync('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, CLI, '--version']).status === 0

describe.skipIf(!canBeOther)('another user of the machine (needs root and setpriv)', () => {
  const asOther = (...argv: string[]): { status: number | null; text: string } => {
    const run = spawnSync('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', ...argv], { encoding: 'utf8' })
    return { status: run.status, text: run.stdout + run.stderr }
  }

  it('gets nothing from the home, the socket or HTTP', async () => {
    for (const name of ['', 'identity', 'node-secret', 'records.db', 'http-token', 'blocks', 'control.sock']) {
      expect(asOther('cat', join(node.home, name)), name).toMatchObject({ status: 1 })
    }
    for (const verb of ['status', 'ls', 'stop', 'id', 'metrics']) {
      const { status, text } = asOther(process.execPath, CLI, verb, '--home', node.home, '--json')
      expect(status, `${verb}: ${text}`).not.toBe(EXIT.ok)
      expect(text).toContain('error')
      expect(text).not.toContain(node.started.peerId)
    }
    const script = `fetch('http://127.0.0.1:${port}/metrics').then(async (r) => console.log(r.status, (await r.text()).includes('shoal_')))`
    expect(asOther(process.execPath, '-e', script)).toMatchObject({ text: '401 false\n' })
  })
})
