/**
 * One request of the local API from its head to the end of its answer, whichever way it came in: check, body, job, answer or error.
 *
 * Not a web server: nothing is cached, kept alive or encoded. A client that goes away aborts its job.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Hit, NO_HIT } from '../../protocol/limit-table.ts'
import { CONTROL } from '../../protocol/limits.ts'
import type { Log } from '../log.ts'
import { JobError, type JobEvent, type JobPhase, type OnEvent, type ShoalApi, withoutKeys } from './api.ts'
import { admit, type Door, Refusal } from './door.ts'
import { toJobError, toWire } from './job-error.ts'
import { type AnswerLine, ERROR_TRAILER, localPathsOf, type Route } from './routes.ts'

type Progress = Extract<JobEvent, { type: 'progress' }>

/** What all requests of one way in share. */
export interface Desk {
  api: ShoalApi
  log: Log
  door: Door
  /** Aborts when no more is answered. */
  stopping: AbortSignal
  /** Headers of every answer. */
  headers: Readonly<Record<string, string>>
  jobs: number
  hit?: Hit
}

/** Answers one request; resolves when the answer is out or its client gone. */
export async function answer(desk: Desk, request: IncomingMessage, response: ServerResponse): Promise<void> {
  response.shouldKeepAlive = false
  response.on('error', () => {}) // a client that went away; 'close' follows and aborts the job
  const gone = new AbortController()
  response.once('close', () => gone.abort(new JobError('INTERRUPTED', 'the client went away')))
  const signal = AbortSignal.any([desk.stopping, gone.signal])
  for (const [name, value] of Object.entries(desk.headers)) response.setHeader(name, value)
  try {
    const { verb, route } = admit(request, desk.door, performance.now())
    if (route.kind === 'text') return sendText(response, await route.run(desk.api, signal), route.contentType)
    // Only who may come in is told to send a body.
    if (request.headers.expect !== undefined) response.writeContinue()
    const body = await readBody(request, desk.hit)
    await desk.door.checkPaths?.(localPathsOf(verb, body))
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

async function readBody(request: IncomingMessage, hit: Hit = NO_HIT): Promise<unknown> {
  const tooLong = (): Refusal => {
    hit('bodyBytes')
    return new Refusal(413, 'USAGE', `the request is over ${CONTROL.bodyBytesMax} bytes`)
  }
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
  route: Extract<Route, { kind: 'job' | 'list' | 'bytes' }>,
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

/** Passes events on; progress that a slow client would only queue up, or that nobody could follow, is left out. */
function eventsTo(response: ServerResponse): OnEvent {
  let warnings = 0
  let shown: { phase: JobPhase; atMs: number } | null = null
  /** The first of each phase, its end where one is known, and a few a second between them. */
  const isWorthIt = ({ phase, doneBytes, totalBytes }: Progress): boolean => {
    const nowMs = performance.now()
    const isSoon = shown?.phase === phase && nowMs < shown.atMs + CONTROL.progressEveryMs && doneBytes !== totalBytes
    if (isSoon || response.writableLength > CONTROL.unreadBytesMax) return false
    shown = { phase, atMs: nowMs }
    return true
  }
  return (event) => {
    if (event.type === 'progress' && !isWorthIt(event)) return
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

function sendText(response: ServerResponse, text: string, contentType: string): void {
  if (response.destroyed) return
  response.writeHead(200, { 'content-type': contentType })
  response.end(text)
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
