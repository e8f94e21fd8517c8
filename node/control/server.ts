/**
 * Offers a ShoalApi on the control socket: HTTP/1.1 over a unix socket, one request a connection, routes of routes.ts.
 *
 * Not a web server: a request with a browser's headers is refused, no answer carries any for one. A client that goes away aborts its job.
 */
import { chmod } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { CONTROL, WAITS } from '../../protocol/limits.ts'
import type { Log } from '../log.ts'
import { JobError, type OnEvent, type ShoalApi, withoutKeys } from './api.ts'
import { toJobError, toWire } from './job-error.ts'
import { type AnswerLine, ERROR_TRAILER, type Route, routeOf } from './routes.ts'
import { prepareSocketFolder, removeStaleSocket } from './socket-folder.ts'

export interface ControlServer {
  /** Takes no more requests, aborts the jobs of clients, waits for their answers to end (at most WAITS.stopMs), removes the socket. */
  close(): Promise<void>
}

/**
 * Listens on `socketPath` (mode 0600, in a 0700 folder, which it creates if need be). Throws JobError HOME_LOCKED when somebody answers
 * there already, INSECURE when the folder is open to others. Aborting `signal` closes.
 */
export async function serveControl(init: { api: ShoalApi; socketPath: string; log: Log; signal: AbortSignal }): Promise<ControlServer> {
  const { api, socketPath, log, signal } = init
  signal.throwIfAborted()
  await prepareSocketFolder(socketPath)
  await removeStaleSocket(socketPath)
  const stopping = new AbortController()
  const running = new Set<Promise<void>>()
  const desk: Desk = { api, log, stopping: stopping.signal, jobs: 0 }
  const server = createServer(
    {
      maxHeaderSize: CONTROL.headerBytesMax,
      headersTimeout: CONTROL.headerMs,
      requestTimeout: CONTROL.requestMs,
      connectionsCheckingInterval: 2_000,
      keepAlive: false,
    },
    (request, response) => {
      const done = answer(desk, request, response).catch((error: unknown) => {
        log.error('a control request ended by a fault', { stack: withoutKeys(stackOf(error)) })
        response.destroy()
      })
      running.add(done)
      void done.finally(() => running.delete(done))
    },
  )
  server.maxConnections = CONTROL.connectionsMax
  await listen(server, socketPath)
  let closed: Promise<void> | undefined
  const close = (): Promise<void> => {
    closed ??= shut(server, stopping, running)
    return closed
  }
  signal.addEventListener('abort', () => void close(), { once: true })
  return { close }
}

async function listen(server: Server, socketPath: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  server.listen({ path: socketPath, backlog: CONTROL.connectionsMax }, resolve)
  try {
    await promise
    // The folder keeps others out in the moment before this.
    if (process.platform !== 'win32') await chmod(socketPath, 0o600)
  } catch (cause) {
    server.close()
    throw new JobError('DENIED', `the control socket ${socketPath} cannot be opened`, { cause })
  }
}

async function shut(server: Server, stopping: AbortController, running: Set<Promise<void>>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  server.close(() => resolve())
  stopping.abort(new JobError('STOPPED', 'the node was stopped; run the same command again to go on where it was'))
  const ended = Promise.all(running).then(() => {})
  const patience = Promise.withResolvers<void>()
  const timer = setTimeout(patience.resolve, WAITS.stopMs)
  await Promise.race([ended, patience.promise])
  clearTimeout(timer)
  server.closeAllConnections()
  await promise
}

/** What all requests share. */
interface Desk {
  api: ShoalApi
  log: Log
  stopping: AbortSignal
  jobs: number
}

async function answer(desk: Desk, request: IncomingMessage, response: ServerResponse): Promise<void> {
  response.shouldKeepAlive = false
  response.on('error', () => {}) // a client that went away; 'close' follows and aborts the job
  const gone = new AbortController()
  response.once('close', () => gone.abort(new JobError('INTERRUPTED', 'the client went away')))
  const signal = AbortSignal.any([desk.stopping, gone.signal])
  try {
    const route = admit(request)
    const body = await readBody(request)
    if (route.kind === 'call') return sendWhole(response, 200, await route.run(desk.api, body, signal))
    if (desk.jobs >= CONTROL.jobsMax) throw new Refusal(503, 'BUSY', `this node runs ${desk.jobs} jobs, its limit; try again later`)
    desk.jobs++
    try {
      await runJob(desk, route, body, response, signal)
    } finally {
      desk.jobs--
    }
  } catch (error) {
    const failure = toJobError(error, signal)
    // Not the error itself: its message may quote what the job was asked for.
    if (failure.code === 'BUG') desk.log.error('a job ended by a fault', { stack: withoutKeys(stackOf(error)) })
    sendFailure(response, failure)
  } finally {
    await flushed(response)
  }
}

const stackOf = (error: unknown): string => (error instanceof Error ? (error.stack ?? error.message) : 'no Error was thrown')

/** A request that is turned away before any job sees it. */
class Refusal extends JobError {
  readonly status: number
  constructor(status: number, code: string, message: string) {
    super(code, message)
    this.status = status
  }
}

function admit(request: IncomingMessage): Route {
  const { headers } = request
  // A command line sends none of these; a page in a browser cannot leave them out.
  if (headers.host !== 'localhost') throw new Refusal(403, 'USAGE', 'the control socket serves the host "localhost" only')
  if (headers.origin !== undefined || headers.referer !== undefined || headers['sec-fetch-site'] !== undefined) {
    throw new Refusal(403, 'USAGE', 'the control socket does not serve browsers')
  }
  const route = routeOf(request.url ?? '')
  if (route === null) throw new Refusal(404, 'USAGE', 'this node does not know that verb; client and node may differ in version')
  if (request.method !== 'POST') throw new Refusal(405, 'USAGE', 'verbs are asked for by POST')
  if (headers['content-type'] !== 'application/json') throw new Refusal(415, 'USAGE', 'a request is application/json')
  return route
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const tooLong = (): Refusal => new Refusal(413, 'USAGE', `the request is over ${CONTROL.bodyBytesMax} bytes`)
  if (Number(request.headers['content-length'] ?? 0) > CONTROL.bodyBytesMax) throw tooLong()
  const parts: Uint8Array[] = []
  let sizeBytes = 0
  for await (const part of request.iterator({ destroyOnReturn: false })) {
    // A request without an encoding set gives byte chunks.
    const bytes = part as Uint8Array
    sizeBytes += bytes.length
    if (sizeBytes > CONTROL.bodyBytesMax) throw tooLong()
    parts.push(bytes)
  }
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(parts)))
  } catch {
    // The cause would quote the request, which may hold a link.
    throw new Refusal(400, 'USAGE', 'the request is not JSON')
  }
}

async function runJob(
  desk: Desk,
  route: Exclude<Route, { kind: 'call' }>,
  body: unknown,
  response: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  if (route.kind === 'bytes') {
    for await (const bytes of route.run(desk.api, body, () => {}, signal)) {
      startBytes(response)
      await write(response, bytes, signal)
    }
    startBytes(response)
  } else if (route.kind === 'list') {
    for await (const item of route.run(desk.api, body, eventsTo(response), signal)) await write(response, line({ item }), signal)
    await write(response, line({ result: null }), signal)
  } else {
    const result = await route.run(desk.api, body, eventsTo(response), signal)
    await write(response, line({ result }), signal)
  }
  response.end()
}

const BYTES = 'application/octet-stream'

function startBytes(response: ServerResponse): void {
  if (response.headersSent) return
  response.setHeader('content-type', BYTES)
  response.setHeader('trailer', ERROR_TRAILER)
  response.writeHead(200)
}

const line = (content: AnswerLine): string => `${JSON.stringify(content)}\n`

/** Passes events on; progress that a slow client would only queue up is left out. */
function eventsTo(response: ServerResponse): OnEvent {
  let warnings = 0
  return (event) => {
    if (event.type === 'progress' && response.writableLength > CONTROL.unreadBytesMax) return
    if (event.type === 'warning' && ++warnings > CONTROL.warningsPerJobMax) return
    if (response.writable && !response.writableEnded) startLines(response).write(line({ event }))
  }
}

function startLines(response: ServerResponse): ServerResponse {
  if (!response.headersSent) response.setHeader('content-type', 'application/x-ndjson').writeHead(200)
  return response
}

/** Writes and waits until there is room for more. */
async function write(response: ServerResponse, chunk: string | Uint8Array, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  const target = typeof chunk === 'string' ? startLines(response) : response
  if (target.write(chunk)) return
  const { promise, resolve } = Promise.withResolvers<void>()
  const go = (): void => resolve()
  target.once('drain', go)
  signal.addEventListener('abort', go)
  await promise
  target.off('drain', go)
  signal.removeEventListener('abort', go)
  signal.throwIfAborted()
}

function sendWhole(response: ServerResponse, status: number, value: unknown): void {
  if (response.destroyed) return
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(value ?? null))
}

function sendFailure(response: ServerResponse, failure: JobError): void {
  if (response.destroyed || response.writableEnded) return
  const error = toWire(failure)
  if (!response.headersSent) {
    sendWhole(response, failure instanceof Refusal ? failure.status : 422, { error })
  } else if (response.getHeader('content-type') === BYTES) {
    response.addTrailers({ [ERROR_TRAILER]: encodeURIComponent(JSON.stringify(error)) })
    response.end()
  } else {
    response.end(line({ error }))
  }
}

/** Resolves when the answer is out or its client gone. */
async function flushed(response: ServerResponse): Promise<void> {
  if (response.closed || response.destroyed) return
  const { promise, resolve } = Promise.withResolvers<void>()
  response.once('close', () => resolve())
  await promise
}
