/** Whether a connection still leads to its peer: 32 bytes that it sends back, as in the ping of libp2p. */
import { randomBytes } from 'node:crypto'
import type { Connection } from '@libp2p/interface'
import { asError, NetworkError } from './network-error.ts'

const PING = '/ipfs/ping/1.0.0'
const PING_BYTES = 32

/**
 * Ends those connections whose peer does not answer before `deadline` aborts; how many. Any answer will do, a refusal too; and on a slow
 * line, where the echo waits behind much else, whatever else came: `isHeard`, asked then.
 */
export async function endDead(connections: readonly Connection[], deadline: AbortSignal, isHeard: () => boolean): Promise<number> {
  const asked = connections.filter(({ status }) => status === 'open')
  const alive = await Promise.all(asked.map((connection) => answers(connection, deadline)))
  const dead = isHeard() ? [] : asked.filter((_, i) => !alive[i])
  for (const connection of dead) connection.abort(new NetworkError('TIMEOUT', 'the peer does not answer over this connection'))
  return dead.length
}

async function answers(connection: Connection, deadline: AbortSignal): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const late = (): void => resolve(false)
  deadline.addEventListener('abort', late, { once: true })
  if (deadline.aborted) return false
  try {
    const asking = echo(connection, deadline, () => resolve(true))
    asking.catch(() => resolve(!deadline.aborted)) // refused or reset, which is an answer; or too late
    return await promise
  } finally {
    deadline.removeEventListener('abort', late)
  }
}

async function echo(connection: Connection, signal: AbortSignal, onAnswer: () => void): Promise<void> {
  const stream = await connection.newStream(PING, { signal, runOnLimitedConnection: true })
  try {
    stream.addEventListener('message', onAnswer)
    stream.addEventListener('close', onAnswer)
    stream.send(new Uint8Array(randomBytes(PING_BYTES)))
    await stream.close({ signal })
  } catch (thrown) {
    stream.abort(asError(thrown))
    throw thrown
  }
}
