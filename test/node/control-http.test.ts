/**
 * The local API over HTTP, as somebody meets it who must not be let in: every route of the table with everything that may be wrong in a
 * request, over raw sockets, because no client library sends most of it.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, symlink } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import type { ShoalApi } from '../../node/control/api.ts'
import { type HttpInit, serveHttp } from '../../node/control/http.ts'
import { HTTP_VERBS, ROUTES } from '../../node/control/routes.ts'
import { TokenGate } from '../../node/control/token-gate.ts'
import { silentLog } from '../../node/log.ts'
import { CONTROL, HTTP } from '../../protocol/limits.ts'
import { Secret } from '../../protocol/secret.ts'
import { CID, type FakeApi, fakeApi, LINK } from '../cli/fake-api.ts'
import { makeHome } from '../cli/home.ts'

const TOKEN = randomBytes(32).toString('hex')
const secret = (): Secret => new Secret(new TextEncoder().encode(TOKEN))
const ROOT = '/'

const COMMON = { wait: false, peers: [] }
/** A request for each verb that its parser takes, where that is not the empty one or the verb is not offered. */
const BODIES: Partial<Record<keyof ShoalApi, object>> = {
  share: { paths: ['/a'], scope: 'lineage', name: null },
  get: { link: LINK, outputDir: '/out', path: null, force: false, consent: false, keep: false, ...COMMON },
  cat: { link: LINK, path: null, range: null, consent: false, ...COMMON },
  seed: { link: LINK, ...COMMON },
  unseed: { cid: CID },
  list: { link: LINK, path: null, ...COMMON },
  limits: { set: {}, reset: false, save: false },
}

interface Served {
  port: number
  api: FakeApi
}

async function serve(init: Partial<HttpInit> = {}): Promise<Served> {
  const api = fakeApi()
  const server = await serveHttp({ api, port: 0, token: secret(), roots: [ROOT], log: silentLog, ...init })
  onTestFinished(() => server.close())
  return { port: server.port, api }
}

/** Everything that comes back for these bytes until the other side closes. */
async function raw(port: number, bytes: string, host = '127.0.0.1'): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  let text = ''
  const socket = connect({ host, port })
  socket.setEncoding('latin1').on('data', (part: string) => {
    text += part
  })
  socket.on('error', () => {}) // closed while we still wrote; 'close' follows
  socket.once('close', () => resolve(text))
  socket.write(bytes)
  return await promise
}

interface Ask {
  method?: string
  target?: string
  version?: string
  /** Header lines; undefined leaves a usual one out. */
  headers?: Record<string, string | string[] | undefined>
  body?: string
}

const isText = (verb: keyof ShoalApi): boolean => ROUTES[verb].kind === 'text'
const VERBS = Object.keys(ROUTES) as (keyof ShoalApi)[]

/** A proper request for a verb, with what `ask` changes of it. */
function requestFor(port: number, verb: keyof ShoalApi, ask: Ask = {}): string {
  const body = ask.body ?? (isText(verb) ? '' : JSON.stringify(BODIES[verb] ?? {}))
  const usual: Record<string, string | string[] | undefined> = {
    host: `127.0.0.1:${port}`,
    authorization: `Bearer ${TOKEN}`,
    ...(isText(verb) ? {} : { 'content-type': 'application/json', 'content-length': String(body.length) }),
  }
  const lines = Object.entries({ ...usual, ...ask.headers }).flatMap(([name, values]) =>
    (values === undefined ? [] : [values].flat()).map((value) => `${name}: ${value}\r\n`),
  )
  const head = `${ask.method ?? (isText(verb) ? 'GET' : 'POST')} ${ask.target ?? `/v1/${verb}`} HTTP/${ask.version ?? '1.1'}\r\n`
  return `${head}${lines.join('')}\r\n${body}`
}

const statusOf = (answer: string): number => Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1] ?? 0)

const hostsToRefuse = (port: number): (string | string[] | undefined)[] => [
  undefined,
  '',
  'localhost',
  '127.0.0.1',
  `127.0.0.1:${port + 1}`,
  `127.0.0.1:${port}.shoal.example`,
  `127.0.0.1:${port}@shoal.example`,
  `shoal.example:${port}`,
  `localhost.:${port}`,
  `LOCALHOST:${port}`,
  `127.1:${port}`,
  `0.0.0.0:${port}`,
  `127.0.0.2:${port}`,
  `[::ffff:127.0.0.1]:${port}`,
  [`127.0.0.1:${port}`, 'shoal.example'],
  [`127.0.0.1:${port}`, `127.0.0.1:${port}`],
]

const BROWSERS: Record<string, string>[] = [
  { origin: 'https://shoal.example' },
  { origin: 'null' },
  { origin: 'http://127.0.0.1' },
  { origin: 'http://localhost' },
  { referer: 'https://shoal.example/page' },
  { 'sec-fetch-site': 'cross-site' },
  { 'sec-fetch-site': 'same-site' },
  { 'sec-fetch-site': 'none' },
]

const TOKENS: (string | string[] | undefined)[] = [
  undefined,
  '',
  TOKEN,
  'Bearer',
  'Bearer ',
  `Bearer ${TOKEN.slice(0, -1)}`,
  `Bearer ${TOKEN}0`,
  `Bearer ${TOKEN.toUpperCase()}`,
  `Bearer ${'0'.repeat(64)}`,
  `Basic ${Buffer.from(`x:${TOKEN}`).toString('base64')}`,
  [`Bearer ${TOKEN}`, `Bearer ${TOKEN}`],
  [`Bearer ${'0'.repeat(64)}`, `Bearer ${TOKEN}`],
]

const METHODS = ['GET', 'HEAD', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND', 'POST']
const TYPES = [
  undefined,
  'text/plain',
  'application/x-www-form-urlencoded',
  'multipart/form-data; boundary=x',
  'application/json; charset=utf-8',
  'application/jsonp',
]

describe('the local API over HTTP', () => {
  it('answers every verb that it offers, to whoever has the token, on each of its names', async () => {
    const { port, api } = await serve()
    for (const verb of HTTP_VERBS) {
      for (const host of [`127.0.0.1:${port}`, `localhost:${port}`, `[::1]:${port}`]) {
        expect(statusOf(await raw(port, requestFor(port, verb, { headers: { host } }))), `${verb} at ${host}`).toBe(200)
      }
    }
    expect(new Set(api.asked.map(({ verb }) => verb))).toEqual(HTTP_VERBS)
    const metrics = await raw(port, requestFor(port, 'metrics', { target: '/metrics' }))
    expect(metrics).toContain('shoal_up 1')
    const own = { origin: `http://127.0.0.1:${port}`, 'sec-fetch-site': 'same-origin' }
    expect(statusOf(await raw(port, requestFor(port, 'status', { headers: own })))).toBe(200)
  })

  it('refuses the verbs that are for the control socket alone', async () => {
    const { port, api } = await serve()
    const others = VERBS.filter((verb) => !HTTP_VERBS.has(verb))
    expect(others).toContain('stop')
    for (const verb of others) expect(statusOf(await raw(port, requestFor(port, verb)))).toBe(403)
    expect(api.asked).toEqual([])
  })

  it('carries the headers that keep browsers from making anything of an answer, and none for other origins', async () => {
    const { port } = await serve()
    const answers = [
      await raw(port, requestFor(port, 'status')),
      await raw(port, requestFor(port, 'cat')),
      await raw(port, requestFor(port, 'status', { headers: { authorization: undefined } })),
      await raw(port, requestFor(port, 'status', { method: 'OPTIONS', headers: { origin: 'https://shoal.example' } })),
    ]
    for (const answer of answers) {
      const head = answer.slice(0, answer.indexOf('\r\n\r\n')).toLowerCase()
      for (const line of [
        'x-content-type-options: nosniff',
        'cache-control: no-store',
        'x-frame-options: deny',
        "frame-ancestors 'none'",
      ]) {
        expect(head).toContain(line)
      }
      expect(head).not.toContain('access-control-')
      expect(head).not.toContain('set-cookie')
    }
  })
})

describe('every route of the local API over HTTP', () => {
  let cases: { what: string; ask: (port: number) => Ask; statuses: number[] }[] = []

  beforeAll(() => {
    cases = [
      ...hostsToRefuse(4802).map((_, i) => ({
        what: `host ${i}`,
        ask: (port: number): Ask => ({ headers: { host: hostsToRefuse(port)[i] } }),
        statuses: [403, 400],
      })),
      ...BROWSERS.map((headers) => ({ what: JSON.stringify(headers), ask: (): Ask => ({ headers }), statuses: [403] })),
      ...TOKENS.map((authorization) => ({
        what: `token ${authorization}`,
        ask: (): Ask => ({ headers: { authorization } }),
        statuses: [401, 429],
      })),
      { what: 'HTTP/1.0 without a host', ask: () => ({ version: '1.0', headers: { host: undefined } }), statuses: [403] },
      {
        what: 'a token in the address',
        ask: () => ({ target: `/v1/status?token=${TOKEN}`, headers: { authorization: undefined } }),
        statuses: [401, 429],
      },
      { what: 'a protocol upgrade', ask: () => ({ headers: { connection: 'upgrade', upgrade: 'websocket' } }), statuses: [400] },
      {
        what: 'both lengths',
        ask: () => ({ headers: { 'content-length': '2', 'transfer-encoding': 'chunked' }, body: '0\r\n\r\n' }),
        statuses: [400],
      },
      { what: 'two lengths', ask: () => ({ headers: { 'content-length': ['2', '40'] } }), statuses: [400] },
      {
        what: 'a coding after chunked',
        ask: () => ({ headers: { 'content-length': undefined, 'transfer-encoding': 'chunked, x' } }),
        statuses: [400],
      },
      { what: 'a folded header', ask: () => ({ headers: { authorization: `Bearer\r\n ${TOKEN}` } }), statuses: [400] },
      { what: 'a space before the colon', ask: () => ({ headers: { 'x-a ': 'b' } }), statuses: [400] },
      { what: 'a header with a bare line feed', ask: () => ({ headers: { 'x-a': `b\nhost: shoal.example` } }), statuses: [400, 403] },
      { what: 'a huge header', ask: () => ({ headers: { 'x-a': 'a'.repeat(CONTROL.headerBytesMax + 1) } }), statuses: [431] },
    ]
  })

  it('refuses other hosts, other origins, other tokens and requests that two readers would read differently', async () => {
    const { port, api } = await serve()
    for (const verb of VERBS) {
      for (const { what, ask, statuses } of cases) {
        const answer = await raw(port, requestFor(port, verb, ask(port)))
        expect(statuses, `${verb}, ${what}: ${answer.slice(0, 80)}`).toContain(statusOf(answer))
        expect(answer).not.toContain(TOKEN)
        expect(answer.toLowerCase()).not.toContain('access-control-')
      }
    }
    expect(api.asked).toEqual([])
  })

  it('refuses other methods, content types and targets', async () => {
    const { port, api } = await serve()
    for (const verb of VERBS) {
      for (const method of METHODS.filter((name) => name !== (isText(verb) ? 'GET' : 'POST'))) {
        const headers = { 'content-type': 'application/json' }
        expect([400, 403, 405], `${method} ${verb}`).toContain(statusOf(await raw(port, requestFor(port, verb, { method, headers }))))
      }
      // CONNECT asks for a tunnel: no answer at all.
      expect(await raw(port, requestFor(port, verb, { method: 'CONNECT', target: `127.0.0.1:${port}` }))).toBe('')
      for (const type of isText(verb) ? [] : TYPES) {
        expect(statusOf(await raw(port, requestFor(port, verb, { headers: { 'content-type': type } }))), `${verb} as ${type}`).toBe(415)
      }
      for (const target of [
        `http://127.0.0.1:${port}/v1/${verb}`,
        `//shoal.example/v1/${verb}`,
        `/v1/${verb}/`,
        `/v1/${verb}?x`,
        `/v1/../v1/${verb}`,
        '*',
        `/V1/${verb}`,
      ]) {
        expect([400, 404], target).toContain(statusOf(await raw(port, requestFor(port, verb, { target }))))
      }
    }
    expect(api.asked).toEqual([])
  })

  it('answers one request a connection, and never what was smuggled behind it', async () => {
    const { port, api } = await serve()
    const answer = await raw(port, requestFor(port, 'status') + requestFor(port, 'identity'))
    expect(answer.match(/HTTP\/1\.1 200/g)).toHaveLength(1)
    expect(api.asked.map(({ verb }) => verb)).toEqual(['status'])
  })
})

describe('limits of the local API over HTTP', () => {
  it('ends connections whose headers do not come', async () => {
    const { port } = await serve({ waits: { headerMs: 100, requestMs: 100 } })
    const closed = (first: string): Promise<void> => {
      const socket: Socket = connect({ host: '127.0.0.1', port })
      const { promise, resolve } = Promise.withResolvers<void>()
      socket.on('error', () => {})
      socket.resume().once('close', () => resolve())
      socket.write(first)
      return promise
    }
    // Nothing, half a line, headers without an end, a body that does not come.
    await Promise.all(['', 'POST /v1/st', 'POST /v1/status HTTP/1.1\r\nhost: x\r\n', requestFor(port, 'status').slice(0, -1)].map(closed))
  })

  it('takes no more connections than its limit, on each address', async () => {
    const { port } = await serve()
    const { promise, resolve } = Promise.withResolvers<void>()
    let closed = 0
    for (let i = 0; i < HTTP.connectionsMax + 8; i++) {
      const socket = connect({ host: '127.0.0.1', port })
      onTestFinished(() => void socket.destroy())
      socket.on('error', () => {})
      socket.resume().once('close', () => ++closed === 8 && resolve())
    }
    await promise
    expect(closed).toBe(8)
  })

  it('refuses a body over its limit without a job seeing it', async () => {
    const { port, api } = await serve()
    const headers = { 'content-length': String(CONTROL.bodyBytesMax + 1) }
    expect(statusOf(await raw(port, requestFor(port, 'get', { headers, body: '{' })))).toBe(413)
    expect(api.asked).toEqual([])
  })

  it('asks for the body only of who may send one', async () => {
    const { port } = await serve()
    const expects = { expect: '100-continue' }
    expect(await raw(port, requestFor(port, 'status', { headers: expects }))).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200/)
    const stranger = { ...expects, authorization: undefined }
    expect(await raw(port, requestFor(port, 'status', { headers: stranger }))).toMatch(/^HTTP\/1\.1 401/)
  })

  it('says so when its port is taken, and sends nothing to who has it', async () => {
    const squatter = createServer(() => expect.unreachable('nobody is to talk to it'))
    await new Promise<void>((resolve) => squatter.listen({ host: '127.0.0.1', port: 0 }, resolve))
    onTestFinished(() => new Promise<void>((resolve) => squatter.close(() => resolve())))
    const { port } = squatter.address() as { port: number } // it listens on a TCP port
    await expect(serve({ port })).rejects.toMatchObject({ code: 'PORT_TAKEN' })
  })
})

describe('paths of this machine over HTTP', () => {
  it('are refused outside the roots, also through symbolic links and missing folders', async () => {
    const home = await makeHome()
    const root = join(home, 'root')
    await mkdir(join(root, 'in'), { recursive: true })
    await mkdir(join(home, 'root-beside'))
    await symlink(home, join(root, 'out'))
    await symlink(join(home, 'absent'), join(root, 'dangling'))
    await symlink(join(root, 'in'), join(root, 'within'))
    const { port, api } = await serve({ roots: [root] })
    const share = async (path: string): Promise<number> =>
      statusOf(await raw(port, requestFor(port, 'share', { body: JSON.stringify({ ...BODIES.share, paths: [path] }) })))
    const get = async (outputDir: string): Promise<number> =>
      statusOf(await raw(port, requestFor(port, 'get', { body: JSON.stringify({ ...BODIES.get, outputDir }) })))
    const bad = [
      home,
      '/',
      `${root}-beside`,
      `${root}/..`,
      `${root}/in/../../x`,
      'in',
      '',
      `${root}/out`,
      `${root}/out/x`,
      `${root}/dangling`,
      `${root}/dangling/x`,
      `${root}/a\0`,
    ]
    for (const path of bad) expect([await share(path), await get(path)], path).toEqual([403, 403])
    expect(api.asked).toEqual([])
    for (const path of [root, `${root}/in`, `${root}/within`, `${root}/new/deep`])
      expect([await share(path), await get(path)], path).toEqual([200, 200])
  })

  it('are refused altogether without roots', async () => {
    const { port, api } = await serve({ roots: [] })
    for (const verb of ['share', 'get'] as const) expect(statusOf(await raw(port, requestFor(port, verb)))).toBe(403)
    expect(api.asked).toEqual([])
  })
})

describe('the token gate', () => {
  it('tells who guesses quickly to wait, and lets the right token in all the same', () => {
    const gate = new TokenGate(secret())
    const wrong = `Bearer ${'0'.repeat(64)}`
    const at = (nowMs: number): string => gate.judge(wrong, nowMs)
    for (let i = 0; i < HTTP.failuresPerSecondMax; i++) expect(at(i)).toBe('wrong')
    expect(at(900)).toBe('slow')
    expect(gate.judge(`Bearer ${TOKEN}`, 901)).toBe('right')
    expect(at(902)).toBe('slow')
    expect(at(1_000)).toBe('wrong')
    expect(at(1_000)).toBe('slow')
  })
})

describe('limits that are run into', () => {
  it('are counted: wrong tokens in quick succession, and connections beyond those there may be', async () => {
    const hits: string[] = []
    const { port } = await serve({ hit: (name) => void hits.push(name) })
    const wrong = () => raw(port, requestFor(port, 'status', { headers: { authorization: `Bearer ${'0'.repeat(64)}` } }))
    const answers = await Promise.all(Array.from({ length: 4 * HTTP.failuresPerSecondMax }, wrong))
    const slow = answers.filter((answer) => statusOf(answer) === 429).length
    expect(hits).toEqual(Array.from({ length: slow }, () => 'wrongTokens'))
    expect(slow).toBeGreaterThan(0)

    hits.length = 0
    const idle = await Promise.all(
      Array.from({ length: HTTP.connectionsMax }, async () => {
        const socket = connect({ host: '127.0.0.1', port })
        socket.on('error', () => {}) // reset when the server closes
        onTestFinished(() => void socket.destroy())
        await once(socket, 'connect')
        return socket
      }),
    )
    expect(idle).toHaveLength(HTTP.connectionsMax)
    expect(await raw(port, requestFor(port, 'status'))).toBe('')
    expect(hits).toEqual(['httpConnections'])
  })
})
