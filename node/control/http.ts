/**
 * Offers the same API over HTTP on a loopback port, for programs that cannot open a unix socket. Off unless the setting `http` names a port.
 *
 * Every user of the machine, and every page in its browsers, can reach a loopback port. So every request carries the token, names this
 * very host (a name that was made to point at 127.0.0.1 is another one), and comes from no other origin; no answer allows any. Paths of
 * this machine are limited to `roots`, verbs to HTTP_VERBS.
 */

import { type Hit, NO_HIT } from '../../protocol/limit-table.ts'
import { HTTP } from '../../protocol/limits.ts'
import type { Secret } from '../../protocol/secret.ts'
import type { Log } from '../log.ts'
import { JobError, type ShoalApi } from './api.ts'
import type { Door } from './door.ts'
import { type Front, type FrontWaits, openFront } from './front.ts'
import { pathsWithin } from './roots.ts'
import { HTTP_VERBS } from './routes.ts'
import { TokenGate } from './token-gate.ts'

export interface HttpServer {
  readonly port: number
  /** Takes no more requests, aborts the jobs of clients, waits for their answers to end. */
  close(): Promise<void>
}

export interface HttpInit {
  api: ShoalApi
  /** 0: any that is free. */
  port: number
  /** As text in ASCII. */
  token: Secret
  /** Folders below which requests may name paths. */
  roots: readonly string[]
  log: Log
  waits?: FrontWaits
  hit?: Hit
}

const ANSWER_HEADERS = {
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-store',
  'x-frame-options': 'DENY',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'; sandbox",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'content-disposition': 'attachment',
}

/** Listens on 127.0.0.1 and, where there is one, ::1. Throws JobError PORT_TAKEN when somebody else listens there. */
export async function serveHttp(init: HttpInit): Promise<HttpServer> {
  const { api, token, roots, log, waits, hit = NO_HIT } = init
  // The hosts follow from the port, which is known once the first server listens; nobody is answered before.
  const hosts: string[] = []
  const origins: string[] = []
  const door: Door = {
    hosts,
    origins,
    token: new TokenGate(token, () => hit('wrongTokens')),
    verbs: HTTP_VERBS,
    checkPaths: pathsWithin(roots),
  }
  const shared = {
    ...{ api, log, door, hit, headers: ANSWER_HEADERS },
    connections: { max: HTTP.connectionsMax, limit: 'httpConnections' as const },
    ...(waits === undefined ? {} : { waits }),
  }
  const fronts: Front[] = []
  const close = async (): Promise<void> => {
    await Promise.all(fronts.map((front) => front.close()))
  }
  let port = init.port
  try {
    for (const host of ['127.0.0.1', '::1']) {
      const front = openFront(shared)
      fronts.push(front)
      await listen(front, host, port)
      port = portOf(front) ?? port
    }
  } catch (error) {
    await close()
    throw error
  }
  hosts.push(`127.0.0.1:${port}`, `[::1]:${port}`, `localhost:${port}`)
  origins.push(...hosts.map((host) => `http://${host}`))
  return { port, close }
}

async function listen(front: Front, host: string, port: number): Promise<void> {
  try {
    await front.listen({ host, port, ipv6Only: host === '::1', exclusive: true })
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : null
    // A machine without IPv6 has no ::1.
    if (host === '::1' && (code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT')) return
    const why = code === 'EADDRINUSE' ? 'is taken by another program' : 'cannot be opened'
    throw new JobError('PORT_TAKEN', `the port ${port} of the setting "http" ${why}; choose another`, { cause })
  }
}

function portOf({ server }: Front): number | null {
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : null
}
