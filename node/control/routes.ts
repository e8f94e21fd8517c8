/**
 * The routes of the local API: one table, read by the server (how to run a verb) and the client (what kind of answer to expect).
 *
 * Every request is a POST to /v1/<verb> with a JSON body, taken apart here field by field; what README.md beside this file says of each
 * verb is checked against this table. Five kinds of answer:
 *   call   one JSON value
 *   text   plain text; asked for by GET, without a body
 *   job    lines of JSON: {"event":…}*, then {"result":…} or {"error":…}
 *   list   the same, with {"item":…} lines before the end
 *   bytes  the raw bytes; a failure after the first byte stands in the trailer ERROR_TRAILER
 * A failure before anything was sent is {"error":{code,message,exitCode}} with a status of 400 or more, whatever the kind.
 */

import { KEEPING } from '../../protocol/limits.ts'
import { LOG_LEVELS } from '../log.ts'
import {
  type ByteRange,
  type CatRequest,
  type GcRequest,
  type GetRequest,
  JobError,
  type LimitsRequest,
  type ListRequest,
  type LogLevelRequest,
  type OnEvent,
  type SeedRequest,
  type ShareRequest,
  type ShoalApi,
  type UnseedRequest,
  type VerifyRequest,
} from './api.ts'
import type { CarExportRequest, CarImportRequest } from './api-car.ts'

export type Route =
  | { kind: 'call'; run(api: ShoalApi, body: unknown, signal: AbortSignal): Promise<unknown> }
  | { kind: 'text'; contentType: string; run(api: ShoalApi, signal: AbortSignal): Promise<string> }
  | { kind: 'job'; run(api: ShoalApi, body: unknown, onEvent: OnEvent, signal: AbortSignal): Promise<unknown> }
  | { kind: 'list'; run(api: ShoalApi, body: unknown, onEvent: OnEvent, signal: AbortSignal): AsyncIterable<unknown> }
  | { kind: 'bytes'; run(api: ShoalApi, body: unknown, onEvent: OnEvent, signal: AbortSignal): AsyncIterable<Uint8Array> }

/** An error as it crosses the socket. */
export interface WireError {
  code: string
  message: string
  exitCode: number
}

/** One line of a streamed answer. */
export type AnswerLine = { event: unknown } | { item: unknown } | { result: unknown } | { error: WireError }

/** Holds encodeURIComponent(JSON of a WireError): a header carries ASCII only. */
export const ERROR_TRAILER = 'shoal-error'
/** The version of the node, with each of its answers on the control socket. */
export const VERSION_HEADER = 'shoal-version'

/** Where a verb lives. */
export const pathOf = (verb: keyof ShoalApi): string => `/v1/${verb}`

type Check<T> = (value: unknown) => value is T

const text: Check<string> = (value) => typeof value === 'string'
const flag: Check<boolean> = (value) => typeof value === 'boolean'
/** For a field that may be left out. */
const flagIfGiven = (value: unknown): value is boolean => value === undefined || typeof value === 'boolean'
const lengthIfGiven = (value: unknown): value is number | null =>
  value === undefined || value === null || (Number.isSafeInteger(value) && Number(value) > 0 && Number(value) <= KEEPING.keepForMaxMs)
const textOrNull: Check<string | null> = (value) => value === null || typeof value === 'string'
const texts: Check<string[]> = (value) => Array.isArray(value) && value.every((item) => typeof item === 'string')
const textsIfGiven = (value: unknown): value is string[] => value === undefined || texts(value)
const scope: Check<ShareRequest['scope']> = (value) => value === 'lineage' || value === 'node' || value === 'fresh' || value === 'public'

// Which values will do is for the node to say, with all complaints at once.
const settings = (value: unknown): value is LimitsRequest['set'] => typeof value === 'object' && value !== null && !Array.isArray(value)
const levelOrSame = (value: unknown): value is LogLevelRequest['level'] => value === 'same' || LOG_LEVELS.some((level) => level === value)
const rangeOrNull = (value: unknown): value is ByteRange | null =>
  value === null ||
  (typeof value === 'object' &&
    'start' in value &&
    'end' in value &&
    Object.keys(value).length === 2 &&
    Number.isSafeInteger(value.start) &&
    (value.end === null || Number.isSafeInteger(value.end)))

/** A parser for an object that has exactly these fields; throws JobError USAGE naming the field. */
function request<T extends object>(checks: { [K in keyof T]: Check<T[K]> }): (body: unknown) => T {
  return (body) => {
    if (typeof body !== 'object' || body === null || Array.isArray(body)) throw new JobError('USAGE', 'the request is not a JSON object')
    const extra = Object.keys(body).find((name) => !Object.hasOwn(checks, name))
    if (extra !== undefined) throw new JobError('USAGE', 'the request has a field that this node does not know')
    for (const name of Object.keys(checks)) {
      const value: unknown = Object.getOwnPropertyDescriptor(body, name)?.value
      // `name` is a key of `checks`, which has a check for every field of T.
      if (!checks[name as keyof T]?.(value)) throw new JobError('USAGE', `the request has no proper "${name}"`)
    }
    // Every field of T was checked just above.
    return body as T
  }
}

const parseShare = request<ShareRequest>({
  paths: texts,
  scope,
  name: textOrNull,
  inPlace: flagIfGiven,
  replaces: flagIfGiven,
  hints: textsIfGiven,
})
const parseGet = request<GetRequest>({
  link: text,
  outputDir: text,
  path: textOrNull,
  force: flag,
  consent: flag,
  wait: flag,
  peers: texts,
  keep: flag,
  keepSealed: flagIfGiven,
})
const parseCat = request<CatRequest>({ link: text, path: textOrNull, range: rangeOrNull, consent: flag, wait: flag, peers: texts })
const parseSeed = request<SeedRequest>({ link: text, wait: flag, peers: texts, keepForMs: lengthIfGiven })
const parseUnseed = request<UnseedRequest>({ cid: text })
const parseGc = request<GcRequest>({ dryRun: flag, consent: flag })
const parseVerify = request<VerifyRequest>({ cids: texts, repair: flag, wait: flag, peers: texts })
const parseList = request<ListRequest>({ link: text, path: textOrNull, wait: flag, peers: texts })
const parseLimits = request<LimitsRequest>({ set: settings, reset: flag, save: flag })
const parseLogLevel = request<LogLevelRequest>({ level: levelOrSame })
const parseCarExport = request<CarExportRequest>({ cid: text, file: text, force: flag })
const parseCarImport = request<CarImportRequest>({ file: text })
const parseNothing = request<Record<never, never>>({})

const call = (run: (api: ShoalApi, signal: AbortSignal) => Promise<unknown>): Route => ({
  kind: 'call',
  async run(api, body, signal) {
    parseNothing(body)
    return await run(api, signal)
  },
})

/** Every verb of ShoalApi. */
export const ROUTES: Record<keyof ShoalApi, Route> = {
  share: { kind: 'job', run: async (api, body, onEvent, signal) => await api.share(parseShare(body), onEvent, signal) },
  get: { kind: 'job', run: async (api, body, onEvent, signal) => await api.get(parseGet(body), onEvent, signal) },
  seed: { kind: 'job', run: async (api, body, onEvent, signal) => await api.seed(parseSeed(body), onEvent, signal) },
  cat: { kind: 'bytes', run: (api, body, onEvent, signal) => api.cat(parseCat(body), onEvent, signal) },
  list: { kind: 'list', run: (api, body, onEvent, signal) => api.list(parseList(body), onEvent, signal) },
  unseed: { kind: 'call', run: async (api, body, signal) => await api.unseed(parseUnseed(body), signal) },
  gc: { kind: 'job', run: async (api, body, onEvent, signal) => await api.gc(parseGc(body), onEvent, signal) },
  verify: { kind: 'job', run: async (api, body, onEvent, signal) => await api.verify(parseVerify(body), onEvent, signal) },
  shares: call((api, signal) => api.shares(signal)),
  limits: { kind: 'call', run: async (api, body, signal) => await api.limits(parseLimits(body), signal) },
  status: call((api, signal) => api.status(signal)),
  limitTable: call((api, signal) => api.limitTable(signal)),
  peers: call((api, signal) => api.peers(signal)),
  identity: call((api, signal) => api.identity(signal)),
  stop: call((api, signal) => api.stop(signal)),
  logLevel: { kind: 'call', run: async (api, body, signal) => await api.logLevel(parseLogLevel(body), signal) },
  exportHome: call((api, signal) => api.exportHome(signal)),
  exportCar: { kind: 'job', run: async (api, body, onEvent, signal) => await api.exportCar(parseCarExport(body), onEvent, signal) },
  importCar: { kind: 'job', run: async (api, body, onEvent, signal) => await api.importCar(parseCarImport(body), onEvent, signal) },
  metrics: { kind: 'text', contentType: 'text/plain; version=0.0.4; charset=utf-8', run: async (api, signal) => await api.metrics(signal) },
}

/** Whoever gathers metrics looks for them here. */
const METRICS_PATH = '/metrics'

/** The verb of a request path, null when there is none. */
export function routeOf(path: string): { verb: keyof ShoalApi; route: Route; method: 'GET' | 'POST' } | null {
  const name = path === METRICS_PATH ? 'metrics' : Object.keys(ROUTES).find((verb) => path === `/v1/${verb}`)
  if (name === undefined) return null
  // `name` is a key of ROUTES.
  const verb = name as keyof ShoalApi
  const route = ROUTES[verb]
  return { verb, route, method: route.kind === 'text' ? 'GET' : 'POST' }
}

/** The paths of this machine that a request names. Throws JobError USAGE when it is none for that verb. */
export function localPathsOf(verb: keyof ShoalApi, body: unknown): string[] {
  if (verb === 'share') return parseShare(body).paths
  return verb === 'get' ? [parseGet(body).outputDir] : []
}

/**
 * What may be asked for over HTTP. A verb that is not named here is for the control socket alone: `stop` and `logLevel` are for whoever
 * runs the node, not for who was given a token.
 */
export const HTTP_VERBS: ReadonlySet<keyof ShoalApi> = new Set<keyof ShoalApi>([
  'share',
  'get',
  'cat',
  'seed',
  'unseed',
  'list',
  'shares',
  'limits',
  'status',
  'limitTable',
  'peers',
  'identity',
  'metrics',
])
