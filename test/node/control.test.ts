import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer as createHttpServer, request } from 'node:http'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { loadConfig } from '../../node/config.ts'
import { JobError, type JobEvent, JUST_SHOW, type ShoalApi, VERSION } from '../../node/control/api.ts'
import { connectControl } from '../../node/control/client.ts'
import { ROUTES, VERSION_HEADER } from '../../node/control/routes.ts'
import { type ControlServer, serveControl } from '../../node/control/server.ts'
import { createLog, silentLog } from '../../node/log.ts'
import { openNode } from '../../node/main.ts'
import { EXIT, FormatError } from '../../protocol/errors.ts'
import { CONTROL } from '../../protocol/limits.ts'
import { CID, fakeApi, LINK } from '../cli/fake-api.ts'
import { makeHome } from '../cli/home.ts'

const never = new AbortController().signal
const GET = { link: LINK, outputDir: '/out', path: null, force: false, consent: false, wait: false, peers: [], keep: false }
const CAT = { link: LINK, path: null, range: null, consent: false, wait: false, peers: [] }
const LIST = { link: LINK, path: null, wait: false, peers: [] }

async function serve(override: Partial<ShoalApi> = {}, log = silentLog) {
  const socketPath = join(await makeHome(), 'control.sock')
  const api = fakeApi(override)
  const server: ControlServer = await serveControl({ api, socketPath, log, signal: never })
  onTestFinished(() => server.close())
  const client = await connectControl(socketPath)
  if (client === null) throw new Error('nobody answers')
  return { socketPath, api, server, client }
}

/** A request made by hand: its status and body. */
async function post(socketPath: string, init: { path: string; method?: string; headers?: Record<string, string>; body?: string }) {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; headers: Record<string, unknown>; body: string }>()
  const headers = { host: 'localhost', 'content-type': 'application/json', ...init.headers }
  const asked = request({ socketPath, method: init.method ?? 'POST', path: init.path, headers, agent: false }, (response) => {
    let body = ''
    response.setEncoding('utf8').on('data', (text) => {
      body += text
    })
    response.once('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body }))
  })
  asked.once('error', reject)
  asked.end(init.body ?? '{}')
  return await promise
}

/** The error that a promise rejects with. */
const failureOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => 'resolved',
    (error: unknown) => error,
  )

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

/** A job that runs until its signal aborts, and says when it began and why it ended. */
function endlessJob() {
  const began = Promise.withResolvers<void>()
  const ended = Promise.withResolvers<unknown>()
  const get: ShoalApi['get'] = async (_request, _onEvent, signal) => {
    began.resolve()
    const { promise, reject } = Promise.withResolvers<never>()
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
    try {
      return await promise
    } catch (error) {
      ended.resolve(error)
      throw error
    }
  }
  return { get, began: began.promise, ended: ended.promise }
}

/** What a node that was killed leaves: a socket file that nobody answers on. */
async function leaveSocket(path: string): Promise<void> {
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
  await once(spawn(process.execPath, ['-e', script]), 'exit')
}

describe('the control socket', () => {
  it('gives every verb of the API to the other side unchanged', async () => {
    const { client, api } = await serve()
    const plain = fakeApi()
    const ignore = (): void => {}
    const share = { paths: ['/a', '/b'], scope: 'node' as const, name: null }
    expect(await client.share(share, ignore, never)).toEqual(await plain.share(share, ignore, never))
    expect(await client.get(GET, ignore, never)).toEqual(await plain.get(GET, ignore, never))
    expect(await client.seed({ link: LINK, wait: true, peers: ['/p'] }, ignore, never)).toMatchObject({ blockCount: 2 })
    expect(await client.verify({ cids: [CID], repair: true, wait: false, peers: [] }, () => {}, never)).toMatchObject({ isSound: true })
    expect(await client.gc({ dryRun: true, consent: false }, () => {}, never)).toMatchObject({ blocks: 3, isDryRun: true })
    expect(await client.unseed({ cid: CID }, never)).toEqual({ cid: CID, freedBytes: 2048, removed: true, heldBackBy: null })
    expect(await client.shares(never)).toEqual(await plain.shares(never))
    expect(await all(client.list(LIST, ignore, never))).toEqual(await all(plain.list(LIST, ignore, never)))
    expect(Buffer.concat(await all(client.cat(CAT, ignore, never))).toString()).toBe('hello world')
    expect(await client.status(never)).toEqual(await plain.status(never))
    const caps = { ...JUST_SHOW, set: { uploadBytesPerSecond: 4096, downloadBytesPerSecond: null } }
    expect(await client.limitTable(never)).toEqual(await plain.limitTable(never))
    expect(await client.limits(caps, never)).toEqual(await plain.limits(caps, never))
    expect(await client.peers(never)).toEqual(await plain.peers(never))
    expect(await client.identity(never)).toEqual(await plain.identity(never))
    expect(await client.logLevel({ level: 'debug' }, never)).toEqual({ level: 'debug' })
    const out = { cid: CID, file: '/out.car', force: true }
    expect(await client.exportCar(out, ignore, never)).toEqual(await plain.exportCar(out, ignore, never))
    expect(await client.importCar({ file: '/in.car' }, ignore, never)).toEqual(await plain.importCar({ file: '/in.car' }, ignore, never))
    expect(await client.exportHome(never)).toEqual(await plain.exportHome(never))
    expect(await client.metrics(never)).toBe(await plain.metrics(never))
    await client.stop(never)
    expect(api.asked.map(({ verb }) => verb).sort()).toEqual(Object.keys(ROUTES).sort())
    expect(api.asked[0]?.request).toEqual(share)
  })

  it('passes progress and warnings on before the result', async () => {
    const { client } = await serve()
    const events: unknown[] = []
    await client.get(GET, (event) => events.push(event), never)
    await client.share({ paths: ['/a'], scope: 'fresh', name: null }, (event) => events.push(event), never)
    expect(events).toEqual([
      { type: 'progress', phase: 'fetch', doneBytes: 512, totalBytes: 1024, peers: 2 },
      { type: 'warning', message: 'a link to nowhere was skipped' },
    ])
  })

  it('reports progress a few times a second, and where a phase begins and ends', async () => {
    const steps = 1_000
    const { client } = await serve({
      async get(_request, onEvent) {
        for (const phase of ['find', 'fetch'] as const)
          for (let doneBytes = 1; doneBytes <= steps; doneBytes++) onEvent({ type: 'progress', phase, doneBytes, totalBytes: steps })
        throw new JobError('NO_SEEDER', 'no seeder is online for this link')
      },
    })
    const events: JobEvent[] = []
    const began = performance.now()
    await failureOf(client.get(GET, (event) => events.push(event), never))
    for (const phase of ['find', 'fetch']) {
      const done = events.flatMap((event) => (event.type === 'progress' && event.phase === phase ? [event.doneBytes] : []))
      expect([done[0], done.at(-1)]).toEqual([1, steps])
    }
    expect(events.length).toBeLessThanOrEqual(4 + (performance.now() - began) / CONTROL.progressEveryMs)
  })

  it('throws the same JobError on the other side, before and after events', async () => {
    const failing =
      (isLate: boolean): ShoalApi['get'] =>
      async (_request, onEvent) => {
        if (isLate) onEvent({ type: 'warning', message: 'soon' })
        throw new JobError('NO_SEEDER', 'no seeder is online for this link')
      }
    for (const isLate of [false, true]) {
      const { client } = await serve({ get: failing(isLate) })
      const error = await failureOf(client.get(GET, () => {}, never))
      expect(error).toBeInstanceOf(JobError)
      expect(error).toMatchObject({ code: 'NO_SEEDER', exitCode: EXIT.noSeeder, message: 'no seeder is online for this link' })
    }
  })

  it('turns a broken rule of the format into its code and exit code, without quoting a link', async () => {
    const { client } = await serve({
      async get() {
        throw new FormatError('L2', `wrong checksum in ${LINK}`)
      },
      async seed() {
        throw new FormatError('D4', 'tree of 3 levels')
      },
    })
    const link = await failureOf(client.get(GET, () => {}, never))
    expect(link).toMatchObject({ code: 'L2', exitCode: EXIT.badLink })
    expect(String(link)).not.toContain('shoal:')
    const share = await failureOf(client.seed({ link: LINK, wait: false, peers: [] }, () => {}, never))
    expect(share).toMatchObject({ code: 'D4', exitCode: EXIT.damagedShare })
  })

  it('keeps keys out of the errors and logs of faults', async () => {
    const lines: string[] = []
    const { client } = await serve(
      {
        async unseed() {
          throw new TypeError(`cannot read ${LINK}`)
        },
      },
      createLog('debug', (line) => lines.push(line)),
    )
    const error = await failureOf(client.unseed({ cid: CID }, never))
    expect(error).toMatchObject({ code: 'BUG', exitCode: EXIT.bug })
    expect(`${error}`).not.toContain('AAAA')
    expect(lines.join('')).not.toContain('AAAA')
    expect(lines).toHaveLength(1)
  })

  it('tells a failure after the first byte of a stream by its trailer', async () => {
    const { client } = await serve({
      async *cat() {
        yield new Uint8Array(100_000)
        throw new JobError('B2', 'damaged share: naïve “name”')
      },
    })
    let sizeBytes = 0
    const run = async (): Promise<void> => {
      for await (const bytes of client.cat(CAT, () => {}, never)) sizeBytes += bytes.length
    }
    expect(await failureOf(run())).toMatchObject({ code: 'B2', exitCode: EXIT.damagedShare, message: 'damaged share: naïve “name”' })
    expect(sizeBytes).toBe(100_000)
  })

  it('throws when a list or stream breaks off in the middle', async () => {
    const gate = Promise.withResolvers<void>()
    const socketPath = join(await makeHome(), 'control.sock')
    // A node that dies: it sends half an answer and closes.
    const halves = createServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', () => {
        const half = '{"item":{"path":"a"}}\n'
        socket.end(
          `HTTP/1.1 200 OK\r\n${VERSION_HEADER}: ${VERSION}\r\ntransfer-encoding: chunked\r\n\r\n${half.length.toString(16)}\r\n${half}\r\n`,
          gate.resolve,
        )
      })
    })
    await new Promise<void>((resolve) => halves.listen(socketPath, resolve))
    onTestFinished(() => new Promise<void>((resolve) => halves.close(() => resolve())))
    const client = await connectControl(socketPath)
    expect(await failureOf(all(client!.list(LIST, () => {}, never)))).toMatchObject({ code: 'NO_DAEMON' })
    expect(await failureOf(all(client!.cat(CAT, () => {}, never)))).toMatchObject({ code: 'NO_DAEMON' })
  })

  it('aborts the job of a client that aborts, and throws the reason there', async () => {
    const job = endlessJob()
    const { client } = await serve({ get: job.get })
    const mine = new AbortController()
    const running = failureOf(client.get(GET, () => {}, mine.signal))
    await job.began
    const reason = new JobError('INTERRUPTED', 'interrupted')
    mine.abort(reason)
    expect(await running).toBe(reason)
    expect(await job.ended).toMatchObject({ code: 'INTERRUPTED' })
  })

  it('aborts a stream that its reader leaves early', async () => {
    const ended = Promise.withResolvers<void>()
    const { client } = await serve({
      async *cat(_request, _onEvent, signal) {
        try {
          for (;;) {
            signal.throwIfAborted()
            yield new Uint8Array(65_536)
          }
        } finally {
          ended.resolve()
        }
      },
    })
    for await (const _bytes of client.cat(CAT, () => {}, never)) break
    await ended.promise
  })

  it('takes no answers of a node of another version, but stops it', async () => {
    for (const headers of [{ [VERSION_HEADER]: '0.0.9' }, {}]) {
      const socketPath = join(await makeHome(), 'control.sock')
      await (await serveControl({ api: fakeApi(), socketPath, log: silentLog, signal: never })).close() // makes the folder
      const asked: string[] = []
      const other = createHttpServer((message, response) => {
        asked.push(message.url ?? '')
        response.writeHead(200, { 'content-type': 'application/json', ...headers }).end('{}')
      })
      await new Promise<void>((resolve) => other.listen(socketPath, resolve))
      onTestFinished(() => void other.close())
      const client = await connectControl(socketPath)
      expect(await failureOf(client!.status(never))).toMatchObject({ code: 'OTHER_VERSION', exitCode: EXIT.noDaemon })
      expect(await failureOf(client!.get(GET, () => {}, never))).toMatchObject({ code: 'OTHER_VERSION' })
      await client!.stop(never)
      expect(asked.at(-1)).toBe('/v1/stop')
    }
  })

  it('waits for a slow reader instead of queueing its stream', async () => {
    let yielded = 0
    const { client } = await serve({
      async *cat() {
        for (; yielded < 1_000; yielded++) yield new Uint8Array(65_536)
      },
    })
    let first = -1
    let total = 0
    for await (const bytes of client.cat(CAT, () => {}, never)) {
      // While the reader holds its first chunk the node can go on only until the socket is full.
      if (first < 0) {
        await client.status(never)
        first = yielded
      }
      total += bytes.length
    }
    expect(first).toBeLessThan(500)
    expect(total).toBe(65_536_000)
  })

  it('aborts running jobs on close, tells their clients, and removes the socket', async () => {
    const job = endlessJob()
    const { client, server, socketPath } = await serve({ get: job.get })
    const running = failureOf(client.get(GET, () => {}, never))
    await job.began
    await server.close()
    expect(await running).toMatchObject({ code: 'STOPPED' })
    expect(await connectControl(socketPath)).toBeNull()
    await expect(stat(socketPath)).rejects.toMatchObject({ code: 'ENOENT' })
  })

  it('answers a stop that leads to its own closing', async () => {
    const closing = Promise.withResolvers<Promise<void>>()
    const { client, server } = await serve({
      async stop() {
        closing.resolve(server.close())
      },
    })
    await client.stop(never)
    await await closing.promise
  })

  it('refuses more jobs than its limit and still answers status', async () => {
    const jobs = Array.from({ length: CONTROL.jobsMax }, endlessJob)
    let next = 0
    const { client } = await serve({ get: (...args) => jobs[next++]!.get(...args) })
    const mine = new AbortController()
    const running = jobs.map(() => failureOf(client.get(GET, () => {}, mine.signal)))
    await Promise.all(jobs.map((job) => job.began))
    expect(await failureOf(client.get(GET, () => {}, never))).toMatchObject({ code: 'BUSY' })
    expect(await client.status(never)).toMatchObject({ pid: 7 })
    mine.abort(new JobError('INTERRUPTED', 'done'))
    await Promise.all(running)
  })
})

describe('the door of the control socket', () => {
  it('keeps the socket 0600 in a folder that only its user can enter', async () => {
    const before = process.umask(0)
    onTestFinished(() => void process.umask(before))
    const socketPath = join(await makeHome(), 'deep', 'control.sock')
    const server = await serveControl({ api: fakeApi(), socketPath, log: silentLog, signal: never })
    onTestFinished(() => server.close())
    expect((await stat(socketPath)).mode & 0o777).toBe(0o600)
    expect((await stat(join(socketPath, '..'))).mode & 0o777).toBe(0o700)
  })

  it('refuses a folder that others can enter, on both sides', async () => {
    const folder = join(await makeHome(), 'open')
    await mkdir(folder)
    await chmod(folder, 0o755)
    const socketPath = join(folder, 'control.sock')
    const serving = serveControl({ api: fakeApi(), socketPath, log: silentLog, signal: never })
    expect(await failureOf(serving)).toMatchObject({ code: 'INSECURE' })
    expect(await failureOf(connectControl(socketPath))).toMatchObject({ code: 'INSECURE' })
  })

  it('of a node that was killed goes with the next one, also when that only looks into its home', async () => {
    const home = join(await makeHome(), 'home')
    const config = await loadConfig({ home, overrides: { network: 'control-test', mdns: false, listen: ['/ip4/127.0.0.1/tcp/0'] } })
    await mkdir(home, { mode: 0o700 })
    const stale = join(home, 'control.sock')
    await leaveSocket(stale)
    expect((await stat(stale)).isSocket()).toBe(true)
    const node = await openNode(config, { oneShot: true, offline: true, log: silentLog })
    onTestFinished(() => node.stop())
    await expect(stat(stale)).rejects.toMatchObject({ code: 'ENOENT' })
  })

  it('replaces a socket file that nobody answers on, and no other', async () => {
    const { socketPath } = await serve()
    const second = serveControl({ api: fakeApi(), socketPath, log: silentLog, signal: never })
    expect(await failureOf(second)).toMatchObject({ code: 'HOME_LOCKED', exitCode: EXIT.homeLocked })
    expect(await connectControl(socketPath)).not.toBeNull()

    const stale = join(await makeHome(), 'control.sock')
    await leaveSocket(stale)
    expect((await stat(stale)).isSocket()).toBe(true)
    expect(await connectControl(stale)).toBeNull()
    const server = await serveControl({ api: fakeApi(), socketPath: stale, log: silentLog, signal: never })
    onTestFinished(() => server.close())
    expect(await connectControl(stale)).not.toBeNull()

    const home = await makeHome()
    await writeFile(join(home, 'file'), 'mine')
    await symlink(join(home, 'file'), join(home, 'control.sock'))
    const onFile = serveControl({ api: fakeApi(), socketPath: join(home, 'control.sock'), log: silentLog, signal: never })
    expect(await failureOf(onFile)).toMatchObject({ code: 'EXISTS' })
  })

  it('finds nobody where there is no folder', async () => {
    expect(await connectControl(join(await makeHome(), 'absent', 'control.sock'))).toBeNull()
  })

  it('refuses on every route what a browser or a confused client sends', async () => {
    const { socketPath, api } = await serve()
    for (const [verb, { kind }] of Object.entries(ROUTES)) {
      if (kind === 'text') continue
      const path = `/v1/${verb}`
      const status = async (init: { method?: string; headers?: Record<string, string>; body?: string }): Promise<number> => {
        const { status, headers } = await post(socketPath, { path, ...init })
        expect(Object.keys(headers).filter((name) => name.startsWith('access-control'))).toEqual([])
        return status
      }
      for (const host of ['shoal.example', 'localhost:80', '127.0.0.1', 'localhost.example', '[::1]']) {
        expect(await status({ headers: { host } })).toBe(403)
      }
      expect(await status({ headers: { origin: 'https://a.example' } })).toBe(403)
      expect(await status({ headers: { origin: 'null' } })).toBe(403)
      expect(await status({ headers: { 'sec-fetch-site': 'same-origin' } })).toBe(403)
      expect(await status({ headers: { 'content-type': 'text/plain' } })).toBe(415)
      expect(await status({ headers: { 'content-type': 'application/x-www-form-urlencoded' } })).toBe(415)
      expect(await status({ method: 'PUT' })).toBe(405)
      expect(await status({ method: 'GET', body: '' })).toBe(405)
      expect(await status({ body: 'no JSON' })).toBe(400)
      expect(await status({ body: '[]' })).toBe(422)
      expect(await status({ body: '{"extra":1}' })).toBe(422)
    }
    expect(api.asked).toEqual([])
    for (const path of ['/', '/v1/', '/v1/toString', '/v1/get/', '/v2/get', '/v1/get?x']) {
      expect((await post(socketPath, { path })).status).toBe(404)
    }
  })

  it('checks each field of a request', async () => {
    const { socketPath, api } = await serve()
    for (const [name, value] of Object.entries({ link: 1, outputDir: null, path: 1, force: 'yes', peers: [1], keep: null })) {
      const { status, body } = await post(socketPath, { path: '/v1/get', body: JSON.stringify({ ...GET, [name]: value }) })
      expect(status).toBe(422)
      expect(body).toContain(name)
      const { [name]: _left, ...rest } = GET as Record<string, unknown>
      expect((await post(socketPath, { path: '/v1/get', body: JSON.stringify(rest) })).status).toBe(422)
    }
    expect(api.asked).toEqual([])
  })

  it('refuses a body over the limit, announced or not', async () => {
    const { socketPath, api } = await serve()
    const body = JSON.stringify({ ...GET, link: 'x'.repeat(CONTROL.bodyBytesMax) })
    const headers = { 'content-length': String(body.length) }
    const answers = [
      post(socketPath, { path: '/v1/get', headers, body }),
      post(socketPath, { path: '/v1/get', headers: { 'transfer-encoding': 'chunked' }, body }),
    ]
    for (const answer of answers) {
      // A client that is still writing may see its connection closed before it reads the refusal.
      const outcome = await answer.then(
        ({ status }) => status,
        (error: NodeJS.ErrnoException) => error.code,
      )
      expect([413, 'EPIPE', 'ECONNRESET']).toContain(outcome)
    }
    expect(api.asked).toEqual([])
  })

  it('closes connections over its limit', async () => {
    const { socketPath } = await serve()
    const outcomes = Array.from({ length: CONTROL.connectionsMax + 8 }, () => {
      const socket = connect(socketPath)
      onTestFinished(() => void socket.destroy())
      return new Promise<string>((resolve) => {
        socket.on('error', () => resolve('closed'))
        socket.on('close', () => resolve('closed'))
      })
    })
    const closed: string[] = []
    await new Promise<void>((resolve) => {
      for (const outcome of outcomes) void outcome.then((how) => closed.push(how) === 8 && resolve())
    })
    expect(closed).toHaveLength(8)
  })
})
