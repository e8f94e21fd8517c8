/**
 * No key, link or token in anything that a node writes but the answer that was asked for: two daemons at the most talkative level, with
 * libp2p's own logs on, do all that takes a link and fail in all ways that quote one; then everything they said is searched.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ShareResult, StatusResult } from '../../../node/control/api.ts'
import { nodePrimitives } from '../../../node/crypto/primitives.ts'
import { EXIT } from '../../../protocol/errors.ts'
import { parseLink } from '../../../protocol/link.ts'
import { type Daemon, type Run, runCli, Sandbox } from '../../kit/daemons.ts'
import { formsOf, secretsIn } from '../../kit/secret-forms.ts'

let sandbox: Sandbox
let owner: Daemon
let reader: Daemon
let shared: ShareResult
/** All that was said, by where. */
const said: Record<string, string> = {}
const secrets: Record<string, Uint8Array> = {}

const TALKATIVE = { prefix: ['env', 'DEBUG=*', 'DEBUG_COLORS=no'], args: ['--log-level', 'debug', '--http', '0'] }

beforeAll(async () => {
  sandbox = await Sandbox.create()
  owner = await sandbox.daemon('owner', TALKATIVE)
  reader = await sandbox.daemon('reader', { ...TALKATIVE, bootstrap: owner.addresses })
  const folder = sandbox.path('letters')
  await mkdir(folder)
  await writeFile(join(folder, 'a.txt'), 'dear reader')
  await writeFile(join(folder, 'b.bin'), randomBytes(3_000_000))
  shared = await owner.json<ShareResult>('share', folder)
  // Its scope secret is kept in the records; that of the other is derived when it is needed.
  await owner.json<ShareResult>('share', '--fresh', join(folder, 'a.txt'))
  secrets['read key'] = (await parseLink(nodePrimitives, shared.link)).readKey?.reveal() ?? new Uint8Array()
  for (const daemon of [owner, reader]) {
    secrets[`node secret of ${daemon.home}`] = await readFile(join(daemon.home, 'node-secret'))
    // A protobuf: the last 64 bytes are the seed and the public key, which is no secret.
    secrets[`identity of ${daemon.home}`] = (await readFile(join(daemon.home, 'identity'))).subarray(-64, -32)
    const token = (await readFile(join(daemon.home, 'http-token'), 'utf8')).trim()
    secrets[`token of ${daemon.home}`] = Buffer.from(token, 'hex')
  }
})

afterAll(() => sandbox.clear())

/** Runs a verb and keeps what it said beside its answer. */
async function heard(what: string, run: Promise<Run>, code: number | null = null): Promise<void> {
  const done = await run
  if (code !== null) expect(done.code, `${what}: ${done.stderr}`).toBe(code)
  said[what] = code === EXIT.ok ? done.stderr : done.stdout + done.stderr
}

async function heardOverHttp(
  what: string,
  daemon: Daemon,
  path: string,
  body: string,
  headers: Record<string, string> = {},
): Promise<void> {
  const { httpPort } = await daemon.json<StatusResult>('status')
  const token = (await readFile(join(daemon.home, 'http-token'), 'utf8')).trim()
  const usual = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const method = body === '' ? 'GET' : 'POST'
  const asked = request({ host: '127.0.0.1', port: httpPort, path, method, headers: { ...usual, ...headers }, agent: false })
  asked.end(body)
  const [response] = await once(asked, 'response')
  let text = `${response.statusCode} ${JSON.stringify(response.headers)}`
  for await (const part of response) text += String(part)
  said[`${what} over HTTP`] = text
}

describe('the search for secrets', () => {
  it('finds one in every form, alone and inside something longer', () => {
    const secret = randomBytes(32)
    const name = { it: secret }
    for (const [form, text] of formsOf(secret)) expect(secretsIn(`x${text}y`, name), form).toContain(`it as ${form}`)
    for (let before = 0; before < 6; before++) {
      const inside = Buffer.concat([randomBytes(before), secret, randomBytes(7)])
      for (const encoding of ['hex', 'base64', 'base64url'] as const) expect(secretsIn(inside.toString(encoding), name)).not.toEqual([])
    }
    expect(secretsIn(shared.link, secrets)).toContain('the key of a link')
    expect(secretsIn(shared.link, secrets).length).toBeGreaterThan(1)
    expect(secretsIn(shared.seedLink, secrets)).toEqual([])
  })
})

describe('what daemons at level debug, and the commands that use them, say beside their answers', () => {
  it('holds no key, no link, no secret and no token', async () => {
    const { link, seedLink, cid } = shared
    const out = sandbox.path('out')
    await heard('get', reader.run('get', link, '-o', out, '-v'), EXIT.ok)
    await heard('cat', reader.run('get', link, '-o', '-', '--path', 'letters/a.txt'), EXIT.ok)
    await heard('ls', reader.run('ls', link, '-v'), EXIT.ok)
    await heard('kept', reader.run('ls', '--json'))
    await heard('seed', reader.run('seed', seedLink), EXIT.ok)
    await heard('status', reader.run('status', '--json'))
    await heard('peers', reader.run('peers', '--json'))
    await heard('metrics', reader.run('metrics'))
    await heard('gc', reader.run('gc', '--json'))

    // Failures that have a link at hand.
    await heard('get again', reader.run('get', link, '-o', out, '--json'), EXIT.pathExists)
    await heard('no such path', reader.run('get', link, '-o', '-', '--path', 'letters/none'))
    await heard('a wrong key', reader.run('get', `${link.slice(0, -1)}${link.endsWith('A') ? 'B' : 'A'}`, '-o', out))
    await heard('half a link', reader.run('get', link.slice(0, -9), '-o', out))
    await heard('a link in an option', reader.run('get', link, `--${link}`))
    await heard('a link as a verb', reader.run(link))
    await heard('a link as a verb, in JSON', reader.run(link, '--json'))
    await heard('a link as a path', owner.run('share', link))
    await heard('a link as a peer', reader.run('get', link, '-o', sandbox.path('out2'), '--peer', link))
    await heard('a link as a home', runCli(['status', '--home', link]))
    await heard('a link as a network', runCli(['id', '--home', sandbox.path('home-n'), '--network', link]))
    await heard('a link as a level', reader.run('log-level', link))
    await heard('a file that holds no link', reader.run('get', '--link-file', join(owner.home, 'records.db')))
    await heard('unseed', reader.run('unseed', link), EXIT.ok)

    const get = { link, outputDir: '/nowhere', path: null, force: false, consent: false, wait: false, peers: [], keep: false }
    await heardOverHttp('metrics', reader, '/metrics', '')
    await heardOverHttp('a path outside the roots', reader, '/v1/get', JSON.stringify(get))
    await heardOverHttp('a field too many', reader, '/v1/get', JSON.stringify({ ...get, [link]: link }))
    await heardOverHttp('a link that is no text', reader, '/v1/get', JSON.stringify({ ...get, link: [link] }))
    await heardOverHttp('no JSON', reader, '/v1/get', link)
    await heardOverHttp('a link as a verb', reader, `/v1/${encodeURIComponent(link)}`, '{}')
    await heardOverHttp('a link as a token', reader, '/v1/status', '{}', { authorization: `Bearer ${link}` })
    await heardOverHttp('unseed of a link', reader, '/v1/unseed', JSON.stringify({ cid: link }))
    await heardOverHttp(
      'cat of a file that is not there',
      reader,
      '/v1/cat',
      JSON.stringify({ link, path: link, range: null, consent: false, wait: false, peers: [link] }),
    )

    await heard('unseed of what is not kept', reader.run('unseed', cid))
    await Promise.all([owner.kill(), reader.kill()])
    said['log of the owner'] = owner.log
    said['log of the reader'] = reader.log
    // libp2p did talk.
    expect(owner.log).toContain('libp2p:')
    expect(owner.log).toContain('a job ended')

    const { DatabaseSync } = await import('node:sqlite')
    for (const daemon of [owner, reader]) {
      const rows = new DatabaseSync(join(daemon.home, 'records.db')).prepare('SELECT scopeSecret FROM share').all()
      for (const [i, { scopeSecret }] of rows.entries()) {
        if (scopeSecret instanceof Uint8Array) secrets[`scope secret ${i} of ${daemon.home}`] = scopeSecret
      }
    }
    expect(Object.keys(secrets).length).toBeGreaterThan(7)
    for (const [where, text] of Object.entries(said)) expect(secretsIn(text, secrets), `${where}: ${text.slice(0, 300)}`).toEqual([])
  })
})
