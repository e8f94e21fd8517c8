/** Dials the entrances of the network whenever the node stands alone, or with nobody but neighbours on the local network. */
import { setTimeout as delay } from 'node:timers/promises'
import { WAITS } from '../../protocol/limits.ts'
import type { Stack } from '../network/stack.ts'

const RECONNECT_MIN_MS = 2_000
const RECONNECT_MAX_MS = 60_000

/** Runs until `signal` is aborted. */
export async function keepConnected(stack: Stack, signal: AbortSignal): Promise<void> {
  for (let waitMs = RECONNECT_MIN_MS; !signal.aborted; waitMs = Math.min(waitMs * 2, RECONNECT_MAX_MS)) {
    if (!isApart(stack)) waitMs = RECONNECT_MIN_MS
    else await stack.connectBootstrap(AbortSignal.any([signal, AbortSignal.timeout(WAITS.dialMs)])).catch(() => 0) // tried again below
    await delay(waitMs, undefined, { signal, ref: false }).catch(() => {}) // aborted: the loop ends
  }
}

/** Connected to nobody, or in no DHT but that of the local network. One that is empty beside others may have no servers at all. */
function isApart(stack: Stack): boolean {
  const wide = stack.dht().filter(({ name }) => name !== 'lan')
  return stack.connections().length === 0 || (wide.length > 0 && wide.every(({ peers }) => peers === 0))
}
