/**
 * The HTTP/1.1 server before the local API: how many connections, how long their headers may take, and an orderly end.
 *
 * Used twice, with a door each: server.ts puts it on the control socket, http.ts on a loopback port. One request a connection.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { ListenOptions } from 'node:net'
import { type Hit, type LimitName, NO_HIT } from '../../protocol/limit-table.ts'
import { CONTROL, WAITS } from '../../protocol/limits.ts'
import type { Log } from '../log.ts'
import { answer, type Desk } from './answering.ts'
import { JobError, type ShoalApi, withoutKeys } from './api.ts'
import type { Door } from './door.ts'

export interface Front {
  /** Rejects with the system's own error. */
  listen(where: ListenOptions): Promise<void>
  /** Takes no more requests, aborts jobs, waits for their answers to end (at most WAITS.stopMs). */
  close(): Promise<void>
  readonly server: Server
}

/** How long the head of a request may take, and all of it; tests shorten them. */
export interface FrontWaits {
  headerMs: number
  requestMs: number
}

const CONTROL_CONNECTIONS: { max: number; limit: LimitName } = { max: CONTROL.connectionsMax, limit: 'controlConnections' }

/** A server that does not listen yet. */
export function openFront(init: {
  api: ShoalApi
  log: Log
  door: Door
  headers: Readonly<Record<string, string>>
  connections?: { max: number; limit: LimitName }
  waits?: FrontWaits
  hit?: Hit
}): Front {
  const { api, log, door, headers, connections = CONTROL_CONNECTIONS, waits = CONTROL, hit = NO_HIT } = init
  const stopping = new AbortController()
  const running = new Set<Promise<void>>()
  const desk: Desk = { api, log, door, headers, stopping: stopping.signal, jobs: 0, hit }
  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    const done = answer(desk, request, response).catch((error: unknown) => {
      log.error('a control request ended by a fault', { stack: withoutKeys(error instanceof Error ? (error.stack ?? '') : '') })
      response.destroy()
    })
    running.add(done)
    void done.finally(() => running.delete(done))
  }
  const server = createServer(
    {
      maxHeaderSize: CONTROL.headerBytesMax,
      headersTimeout: waits.headerMs,
      requestTimeout: waits.requestMs,
      connectionsCheckingInterval: Math.min(2_000, waits.headerMs / 2),
      keepAlive: false,
      insecureHTTPParser: false,
      // The door says itself what is wrong with a missing one, in every version of HTTP.
      requireHostHeader: false,
    },
    onRequest,
  )
  server.on('checkContinue', onRequest)
  server.maxConnections = connections.max
  server.on('drop', () => hit(connections.limit))
  server.maxRequestsPerSocket = 1
  let closed: Promise<void> | undefined
  return {
    server,
    async listen(where) {
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      server.once('error', reject)
      server.listen({ backlog: connections.max, ...where }, resolve)
      await promise
      server.off('error', reject)
      // A failed accept, as when file descriptors run out, ends nothing: the next one may do.
      server.on('error', (error) => log.warn('a connection to the local API could not be taken', { error }))
    },
    close() {
      closed ??= shut(server, stopping, running)
      return closed
    },
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
