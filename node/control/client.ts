/**
 * A ShoalApi whose node is another process: each call is one request on that process's control socket.
 *
 * Aborting a call's signal, or leaving its iterator early, closes the connection, which aborts the job over there.
 */
import { type IncomingMessage, request } from 'node:http'
import { CONTROL } from '../../protocol/limits.ts'
import {
  type GcResult,
  type GetResult,
  type IdentityResult,
  JobError,
  type JobEvent,
  type LimitRow,
  type LimitsResult,
  type ListedEntry,
  type LogLevelResult,
  type OnEvent,
  type PeerSummary,
  type SeedResult,
  type ShareResult,
  type ShareSummary,
  type ShoalApi,
  type StatusResult,
  type UnseedResult,
  VERSION,
  type VerifyResult,
} from './api.ts'
import type { CarExportResult, CarImportResult } from './api-car.ts'
import type { HomeBundle } from './bundle.ts'
import { ERROR_TRAILER, pathOf, VERSION_HEADER, type WireError } from './routes.ts'
import { isAnswered, isSocketFolderThere } from './socket-folder.ts'

export { socketPathFor } from '../paths.ts'

/** The API of the node behind a socket; null when nobody listens. Throws JobError INSECURE when others could stand there instead. */
export async function connectControl(socketPath: string): Promise<ShoalApi | null> {
  if (!(await isSocketFolderThere(socketPath))) return null
  if (!(await isAnswered(socketPath))) return null
  return new ControlClient(socketPath)
}

// Answers come from our own node, which the folder's owner and mode vouch for: their types are taken on trust.
class ControlClient implements ShoalApi {
  readonly #socketPath: string

  constructor(socketPath: string) {
    this.#socketPath = socketPath
  }

  share: ShoalApi['share'] = async (body, onEvent, signal) => (await this.#job('share', body, onEvent, signal)) as ShareResult
  get: ShoalApi['get'] = async (body, onEvent, signal) => (await this.#job('get', body, onEvent, signal)) as GetResult
  seed: ShoalApi['seed'] = async (body, onEvent, signal) => (await this.#job('seed', body, onEvent, signal)) as SeedResult
  unseed: ShoalApi['unseed'] = async (body, signal) => (await this.#call('unseed', body, signal)) as UnseedResult
  gc: ShoalApi['gc'] = async (body, onEvent, signal) => (await this.#job('gc', body, onEvent, signal)) as GcResult
  verify: ShoalApi['verify'] = async (body, onEvent, signal) => (await this.#job('verify', body, onEvent, signal)) as VerifyResult
  shares: ShoalApi['shares'] = async (signal) => (await this.#call('shares', {}, signal)) as ShareSummary[]
  limitTable: ShoalApi['limitTable'] = async (signal) => (await this.#call('limitTable', {}, signal)) as LimitRow[]
  limits: ShoalApi['limits'] = async (body, signal) => (await this.#call('limits', body, signal)) as LimitsResult
  status: ShoalApi['status'] = async (signal) => (await this.#call('status', {}, signal)) as StatusResult
  peers: ShoalApi['peers'] = async (signal) => (await this.#call('peers', {}, signal)) as PeerSummary[]
  identity: ShoalApi['identity'] = async (signal) => (await this.#call('identity', {}, signal)) as IdentityResult

  logLevel: ShoalApi['logLevel'] = async (body, signal) => (await this.#call('logLevel', body, signal)) as LogLevelResult

  exportCar: ShoalApi['exportCar'] = async (body, onEvent, signal) =>
    (await this.#job('exportCar', body, onEvent, signal)) as CarExportResult

  importCar: ShoalApi['importCar'] = async (body, onEvent, signal) =>
    (await this.#job('importCar', body, onEvent, signal)) as CarImportResult

  exportHome: ShoalApi['exportHome'] = async (signal) => (await this.#call('exportHome', {}, signal)) as HomeBundle

  async stop(signal: AbortSignal): Promise<void> {
    await this.#call('stop', {}, signal)
  }

  async metrics(signal: AbortSignal): Promise<string> {
    return await textOf(await this.#open('metrics', null, signal), signal)
  }

  async *cat(body: Parameters<ShoalApi['cat']>[0], onEvent: OnEvent, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const response = await this.#open('cat', body, signal)
    let doneBytes = 0
    for await (const bytes of chunksOf(response, signal)) {
      doneBytes += bytes.length
      onEvent({ type: 'progress', phase: 'fetch', doneBytes, totalBytes: null })
      yield bytes
    }
    const trailer = response.trailers[ERROR_TRAILER]
    if (trailer !== undefined) throw fromWire(JSON.parse(decodeURIComponent(trailer)) as WireError)
  }

  async *list(body: Parameters<ShoalApi['list']>[0], onEvent: OnEvent, signal: AbortSignal): AsyncGenerator<ListedEntry> {
    for await (const line of linesOf(await this.#open('list', body, signal), signal)) {
      if ('item' in line) yield line.item as ListedEntry
      else if ('event' in line) onEvent(line.event as JobEvent)
      else if ('error' in line) throw fromWire(line.error as WireError)
      else return
    }
    throw cutOff()
  }

  async #job(verb: keyof ShoalApi, body: object, onEvent: OnEvent, signal: AbortSignal): Promise<unknown> {
    for await (const line of linesOf(await this.#open(verb, body, signal), signal)) {
      if ('event' in line) onEvent(line.event as JobEvent)
      else if ('error' in line) throw fromWire(line.error as WireError)
      else if ('result' in line) return line.result
    }
    throw cutOff()
  }

  async #call(verb: keyof ShoalApi, body: object, signal: AbortSignal): Promise<unknown> {
    return await wholeOf(await this.#open(verb, body, signal), signal)
  }

  /** The answer, once its head is there and says that it is one; null for a body asks by GET. */
  async #open(verb: keyof ShoalApi, body: object | null, signal: AbortSignal): Promise<IncomingMessage> {
    signal.throwIfAborted()
    const payload = new TextEncoder().encode(body === null ? '' : JSON.stringify(body))
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const asked = request({
      socketPath: this.#socketPath,
      agent: false,
      method: body === null ? 'GET' : 'POST',
      path: pathOf(verb),
      headers: { host: 'localhost', ...(body === null ? {} : { 'content-type': 'application/json', 'content-length': payload.length }) },
      maxHeaderSize: CONTROL.headerBytesMax * 4,
      signal,
    })
    asked.once('response', resolve)
    asked.on('error', reject)
    asked.end(payload)
    let response: IncomingMessage
    try {
      response = await promise
    } catch (cause) {
      throw lost(cause, signal)
    }
    const version = response.headers[VERSION_HEADER] ?? 'of another version'
    // What it answers may lack what is expected here. To stop it works with all of them.
    if (version !== VERSION && verb !== 'stop') {
      response.destroy()
      throw new JobError('OTHER_VERSION', `the node that runs is Shoal ${version}, this command is of Shoal ${VERSION}`)
    }
    if (response.statusCode === 200) return response
    const { error } = (await wholeOf(response, signal)) as { error: WireError }
    throw fromWire(error)
  }
}

const fromWire = (error: WireError): JobError => new JobError(error.code, error.message, { exitCode: error.exitCode })

const cutOff = (cause?: unknown): JobError =>
  new JobError('NO_DAEMON', 'the node went away in the middle of its answer', cause === undefined ? {} : { cause })

/** What a broken connection means: our own abort, or a node that is gone. */
function lost(cause: unknown, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason
  return cause instanceof JobError ? cause : cutOff(cause)
}

/** The body's bytes; closes the connection when left early. */
async function* chunksOf(response: IncomingMessage, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of response) {
      // An answer without an encoding set gives byte chunks.
      yield chunk as Uint8Array
    }
    signal.throwIfAborted()
    if (!response.complete) throw cutOff()
  } catch (cause) {
    throw lost(cause, signal)
  } finally {
    response.destroy()
  }
}

async function* linesOf(response: IncomingMessage, signal: AbortSignal): AsyncGenerator<Record<string, unknown>> {
  const decoder = new TextDecoder()
  let parts: string[] = []
  let length = 0
  for await (const bytes of chunksOf(response, signal)) {
    const pieces = decoder.decode(bytes, { stream: true }).split('\n')
    const rest = pieces.pop() ?? ''
    for (const piece of pieces) {
      yield JSON.parse(parts.join('') + piece) as Record<string, unknown>
      parts = []
      length = 0
    }
    length += rest.length
    if (length > CONTROL.answerBytesMax) throw new JobError('BUG', `an answer of the node is over ${CONTROL.answerBytesMax} bytes`)
    parts.push(rest)
  }
}

const wholeOf = async (response: IncomingMessage, signal: AbortSignal): Promise<unknown> => JSON.parse(await textOf(response, signal))

async function textOf(response: IncomingMessage, signal: AbortSignal): Promise<string> {
  const parts: Uint8Array[] = []
  let sizeBytes = 0
  for await (const bytes of chunksOf(response, signal)) {
    sizeBytes += bytes.length
    if (sizeBytes > CONTROL.answerBytesMax) throw new JobError('BUG', `an answer of the node is over ${CONTROL.answerBytesMax} bytes`)
    parts.push(bytes)
  }
  return new TextDecoder().decode(Buffer.concat(parts))
}
