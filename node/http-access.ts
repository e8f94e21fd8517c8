/**
 * Opens the local API over HTTP for a node whose settings ask for it: its token, made once and kept in the home, and the server.
 *
 * Who may read the home may read the token, and nobody else: it stands in no argument, address or log.
 */
import { randomBytes } from 'node:crypto'
import type { Hit } from '../protocol/limit-table.ts'
import { HTTP } from '../protocol/limits.ts'
import { Secret } from '../protocol/secret.ts'
import type { Config } from './config.ts'
import { JobError, type ShoalApi } from './control/api.ts'
import { type HttpServer, serveHttp } from './control/http.ts'
import type { Log } from './log.ts'
import { httpTokenFile, readOrCreateFile } from './storage/home.ts'

/** Serves on the port of the setting `http`; null when there is none. Throws JobError PORT_TAKEN, BAD_CONFIG for a damaged token file. */
export async function openHttp(
  config: Pick<Config, 'home' | 'http' | 'httpRoots'>,
  api: ShoalApi,
  log: Log,
  hit: Hit,
): Promise<HttpServer | null> {
  if (config.http === null) return null
  const path = httpTokenFile(config.home)
  // A newline, for people who look; `curl -H "Authorization: Bearer $(cat …)"` drops it.
  const made = async (): Promise<Uint8Array> => new TextEncoder().encode(`${randomBytes(HTTP.tokenBytes).toString('hex')}\n`)
  const text = new TextDecoder().decode(await readOrCreateFile(path, made)).trim()
  if (!/^[0-9a-f]+$/.test(text) || text.length !== 2 * HTTP.tokenBytes) {
    throw new JobError('BAD_CONFIG', `${path} holds no token; remove it, and the next start makes a new one`)
  }
  const server = await serveHttp({
    api,
    port: config.http,
    token: new Secret(new TextEncoder().encode(text)),
    roots: config.httpRoots,
    log,
    hit,
  })
  log.info('the local API is offered over HTTP', { port: server.port })
  return server
}
