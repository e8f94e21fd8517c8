/**
 * The door of the local API: the one check that every request passes before it is routed, on the control socket and over HTTP alike.
 *
 * Order: host, form of the target, browser, method, content type, token, route. A request that fails says why in its status and never
 * reaches a job, and its body is not read. What differs between the two ways in is data here (Door), so that no route can forget a check.
 */
import type { IncomingMessage } from 'node:http'
import { JobError, type ShoalApi } from './api.ts'
import { type Route, routeOf } from './routes.ts'
import type { TokenGate } from './token-gate.ts'

/** What one way in asks of a request. */
export interface Door {
  /** Served values of the Host header, letter by letter; a name that was made to point here is not among them. */
  hosts: readonly string[]
  /** Origins whose pages may ask; with none, whatever a browser sent is refused. */
  origins: readonly string[]
  /** Asked for on every request; null where the file system keeps others out. */
  token: TokenGate | null
  /** Verbs that this door offers; null: all. */
  verbs: ReadonlySet<keyof ShoalApi> | null
  /** Throws a Refusal when a request names a path of this machine that it must not; null where its user may name any. */
  checkPaths: ((paths: readonly string[]) => Promise<void>) | null
}

/** A request that is turned away before any job sees it. */
export class Refusal extends JobError {
  readonly status: number
  constructor(status: number, code: string, message: string) {
    super(code, message)
    this.status = status
  }
}

export interface Admitted {
  verb: keyof ShoalApi
  route: Route
}

/** The route of a request that may come in; throws a Refusal for any other. `nowMs` is monotonic. */
export function admit(request: IncomingMessage, door: Door, nowMs: number): Admitted {
  assertHost(request, door)
  // "http://elsewhere/v1/get" and "*" are for proxies.
  if (!request.url?.startsWith('/')) throw new Refusal(400, 'USAGE', 'the target of a request is a path')
  assertNoStranger(request, door)
  const { method, headers } = request
  if (method !== 'POST' && method !== 'GET') throw new Refusal(405, 'USAGE', 'verbs are asked for by POST')
  if (headers.upgrade !== undefined) throw new Refusal(400, 'USAGE', 'the local API speaks HTTP/1.1 and nothing else')
  if (method === 'POST' && headers['content-type'] !== 'application/json') {
    throw new Refusal(415, 'USAGE', 'a request is application/json')
  }
  if (door.token !== null) assertToken(request, door.token, nowMs)
  return assertRoute(request.url, method, door)
}

function assertHost(request: IncomingMessage, door: Door): void {
  // Of two Host headers Node would show the first; whoever sends two wants two readers to see different ones.
  const [host, ...more] = request.headersDistinct.host ?? []
  if (host === undefined || more.length > 0 || !door.hosts.includes(host)) {
    throw new Refusal(403, 'USAGE', `the local API serves the host "${door.hosts.join('" or "')}" only`)
  }
}

/** A command line sends none of these headers; a page in a browser cannot leave them out. */
function assertNoStranger({ headers }: IncomingMessage, { origins }: Door): void {
  const { origin, referer, 'sec-fetch-site': site } = headers
  const isOwn =
    (origin === undefined || origins.includes(origin)) &&
    (referer === undefined || origins.some((own) => referer === own || referer.startsWith(`${own}/`))) &&
    (site === undefined || (site === 'same-origin' && origins.length > 0))
  if (!isOwn) throw new Refusal(403, 'USAGE', 'the local API does not serve pages of other origins')
}

function assertToken(request: IncomingMessage, gate: TokenGate, nowMs: number): void {
  const given = request.headersDistinct.authorization ?? []
  const verdict = gate.judge(given.length === 1 ? (given[0] ?? null) : null, nowMs)
  if (verdict === 'slow') throw new Refusal(429, 'DENIED', 'too many requests without the right token; wait a second')
  if (verdict === 'wrong') {
    throw new Refusal(
      401,
      'DENIED',
      'a request needs the header "Authorization: Bearer TOKEN", with the token of the file http-token in the home folder',
    )
  }
}

function assertRoute(url: string, method: 'POST' | 'GET', door: Door): Admitted {
  const found = routeOf(url)
  if (found === null) throw new Refusal(404, 'USAGE', 'this node does not know that verb; client and node may differ in version')
  if (found.method !== method) throw new Refusal(405, 'USAGE', `this is asked for by ${found.method}`)
  if (door.verbs !== null && !door.verbs.has(found.verb))
    throw new Refusal(403, 'DENIED', `"${found.verb}" is not offered here; use the command line`)
  return found
}
